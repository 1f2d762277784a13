//! [`TaintToleration`].

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Filter, Normalization, Plugin, Scope, Score, Status,
    },
    snapshot::{NodeInfo, NodeShape, PodInfo},
};

/// Keeps pods away from nodes with taints that they do not tolerate.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaintToleration;

/// Whether a pod tolerates a taint.
pub(super) fn is_tolerated(shape: &NodeShape, taint: &Taint) -> bool {
    shape.tolerations.iter().any(|t| tolerates(t, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    fn set(text: &Option<String>) -> Option<&str> {
        text.as_deref().filter(|t| !t.is_empty())
    }
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if set(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match set(&toleration.operator).unwrap_or("Equal") {
        "Exists" => true,
        "Equal" => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

fn untolerated<'a>(shape: &NodeShape, node: &'a NodeInfo) -> Option<&'a Taint> {
    node.taints()
        .iter()
        .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|t| !is_tolerated(shape, t))
}

/// Whether a node has a taint that keeps such pods away.
pub(crate) fn has_untolerated_taint(shape: &NodeShape, node: &NodeInfo) -> bool {
    untolerated(shape, node).is_some()
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
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
                untolerated(pod.node_shape(), node).is_none()
            }
            _ => true,
        }
    }
}

impl Filter for TaintToleration {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        match untolerated(pod.node_shape(), node) {
            None => Ok(()),
            Some(taint) => Err(Status::unresolvable(format!(
                "node(s) had untolerated taint {{{}: {}}}",
                taint.key,
                taint.value.as_deref().unwrap_or_default()
            ))),
        }
    }
}

impl Score for TaintToleration {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = node
            .taints()
            .iter()
            .filter(|t| t.effect == "PreferNoSchedule");
        soft.filter(|t| !is_tolerated(pod.node_shape(), t))
            .fold(0, |n, _| n + 1)
    }

    fn normalization(&self) -> Normalization {
        Normalization::Lowest
    }
}
