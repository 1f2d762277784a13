//! [`NodePorts`].

use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Filter, Plugin, PreFilter, PreFilterResult, Scope,
        Status,
    },
    snapshot::{HostPort, NodeInfo, PodInfo, Snapshot},
};

/// A pod that takes ports of its node goes where they are free.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn scope(&self) -> Scope {
        Scope::Node
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Node | EventKind::AssignedPodDelete)
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::AssignedPodDelete(gone) => conflict(pod, &gone.node_shape().host_ports),
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => {
                !conflict(pod, node.ports())
            }
            _ => true,
        }
    }
}

fn conflict(pod: &PodInfo, taken: &[HostPort]) -> bool {
    let mut wanted = pod.node_shape().host_ports.iter();
    wanted.any(|x| taken.iter().any(|y| x.conflicts(y)))
}

impl PreFilter for NodePorts {
    fn pre_filter(
        &self,
        _: &mut CycleState,
        pod: &PodInfo,
        _: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        Ok(if pod.node_shape().host_ports.is_empty() {
            PreFilterResult::skip()
        } else {
            PreFilterResult::all()
        })
    }
}

impl Filter for NodePorts {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        if conflict(pod, node.ports()) {
            return Err(Status::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}
