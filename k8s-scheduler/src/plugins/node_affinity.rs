//! [`NodeAffinity`].

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::NodeAffinity as Affinity;

use super::{normalize_by_max, selector::matches};
use crate::{
    framework::{
        ClusterEvent, CycleState, Filter, Plugin, PreFilter, PreFilterResult, Score, Status,
    },
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

/// `spec.nodeSelector` and `spec.affinity.nodeAffinity`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAffinity;

fn affinity(pod: &PodInfo) -> Option<&Affinity> {
    pod.pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    let selector = pod.pod.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    if !selector
        .into_iter()
        .flatten()
        .all(|(key, value)| node.label(key) == Some(value))
    {
        return false;
    }
    affinity(pod)
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        })
        .is_none_or(|required| {
            required
                .node_selector_terms
                .iter()
                .any(|term| matches(term, node))
        })
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => fits(pod, node),
            ClusterEvent::PodUpdate => true,
            ClusterEvent::AssignedPodDelete(_) => false,
        }
    }
}

impl PreFilter for NodeAffinity {
    /// Narrows the nodes down to those that every term names in `matchFields`: what a DaemonSet's
    /// pods look like.
    fn pre_filter(
        &self,
        _: &mut CycleState,
        pod: &PodInfo,
        _: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let required = affinity(pod).and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let Some(required) = required else {
            return Ok(PreFilterResult::default());
        };
        let mut nodes = BTreeSet::new();
        for term in &required.node_selector_terms {
            let named = term
                .match_fields
                .iter()
                .flatten()
                .filter(|r| r.key == "metadata.name" && r.operator == "In")
                .map(|r| {
                    r.values
                        .iter()
                        .flatten()
                        .cloned()
                        .collect::<BTreeSet<String>>()
                })
                .reduce(|a, b| a.intersection(&b).cloned().collect());
            match named {
                Some(names) => nodes.extend(names),
                None => return Ok(PreFilterResult::default()),
            }
        }
        if nodes.is_empty() && !required.node_selector_terms.is_empty() {
            return Err(Status::unresolvable("pod affinity terms conflict"));
        }
        Ok(PreFilterResult { nodes: Some(nodes) })
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        if fits(pod, node) {
            Ok(())
        } else {
            Err(Status::unresolvable(REASON))
        }
    }
}

impl Score for NodeAffinity {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        affinity(pod)
            .into_iter()
            .flat_map(|a| {
                a.preferred_during_scheduling_ignored_during_execution
                    .iter()
                    .flatten()
            })
            .filter(|term| term.weight != 0 && matches(&term.preference, node))
            .map(|term| i64::from(term.weight))
            .sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }
}
