//! [`NodeAffinity`].

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, NodeSelector};

use super::selector::matches;
use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Feasible, Filter, Normalization, Plugin, PreFilter,
        PreFilterResult, PreScore, Scope, Score, Status,
    },
    snapshot::{NodeInfo, NodeShape, PodInfo, Snapshot},
};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";
const ENFORCED: &str = "node(s) didn't match scheduler-enforced node affinity";

/// `spec.nodeSelector` and `spec.affinity.nodeAffinity`.
#[derive(Clone, Debug, Default)]
pub struct NodeAffinity {
    added: Option<Arc<Affinity>>,
}

impl NodeAffinity {
    /// With an affinity that all pods of the profile have beside their own (`addedAffinity`).
    pub fn with_added(affinity: Affinity) -> Self {
        Self {
            added: Some(Arc::new(affinity)),
        }
    }

    fn added_fits(&self, node: &NodeInfo) -> bool {
        self.added
            .as_ref()
            .and_then(|a| {
                a.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .is_none_or(|required| any_term(required, node))
    }
}

fn any_term(required: &NodeSelector, node: &NodeInfo) -> bool {
    required
        .node_selector_terms
        .iter()
        .any(|term| matches(term, node))
}

/// Whether a node has what a pod's node selector and required node affinity ask for.
pub(crate) fn matches_required_affinity(shape: &NodeShape, node: &NodeInfo) -> bool {
    let mut selector = shape.node_selector.iter();
    selector.all(|(key, value)| node.label(key) == Some(value))
        && shape
            .required_node_affinity
            .as_ref()
            .is_none_or(|required| any_term(required, node))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn scope(&self) -> Scope {
        Scope::Node
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Node | EventKind::PodUpdate)
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => {
                matches_required_affinity(pod.node_shape(), node) && self.added_fits(node)
            }
            _ => true,
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
        let shape = pod.node_shape();
        let Some(required) = &shape.required_node_affinity else {
            return Ok(PreFilterResult {
                skip: shape.node_selector.is_empty() && self.added.is_none(),
                nodes: None,
            });
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
                None => return Ok(PreFilterResult::all()),
            }
        }
        if nodes.is_empty() && !required.node_selector_terms.is_empty() {
            return Err(Status::unresolvable("pod affinity terms conflict"));
        }
        Ok(PreFilterResult::only(nodes))
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        if !self.added_fits(node) {
            return Err(Status::unresolvable(ENFORCED));
        }
        if !matches_required_affinity(pod.node_shape(), node) {
            return Err(Status::unresolvable(REASON));
        }
        Ok(())
    }
}

impl NodeAffinity {
    fn preferred<'a>(
        &'a self,
        pod: &'a PodInfo,
    ) -> impl Iterator<Item = &'a k8s_openapi::api::core::v1::PreferredSchedulingTerm> {
        let added = self.added.iter().flat_map(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        });
        added.chain(&pod.node_shape().preferred_node_affinity)
    }
}

impl PreScore for NodeAffinity {
    fn pre_score(
        &self,
        _: &mut CycleState,
        pod: &PodInfo,
        _: &Feasible<'_>,
    ) -> Result<bool, Status> {
        Ok(self.preferred(pod).next().is_some())
    }
}

impl Score for NodeAffinity {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.preferred(pod)
            .filter(|term| term.weight != 0 && matches(&term.preference, node))
            .map(|term| i64::from(term.weight))
            .sum()
    }

    fn normalization(&self) -> Normalization {
        Normalization::Highest
    }
}
