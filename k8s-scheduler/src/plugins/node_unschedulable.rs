//! [`NodeUnschedulable`].

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::is_tolerated;
use crate::{
    framework::{ClusterEvent, CycleState, EventKind, Filter, Plugin, Scope, Status},
    snapshot::{NodeInfo, PodInfo},
};

/// Keeps pods away from cordoned nodes, unless they tolerate that.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn scope(&self) -> Scope {
        Scope::Node
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Node | EventKind::PodUpdate)
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => {
                !node.is_unschedulable()
            }
            _ => true,
        }
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        if !node.is_unschedulable() {
            return Ok(());
        }
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if is_tolerated(pod.node_shape(), &taint) {
            return Ok(());
        }
        Err(Status::unresolvable("node(s) were unschedulable"))
    }
}
