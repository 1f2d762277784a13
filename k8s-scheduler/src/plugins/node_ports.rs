//! [`NodePorts`].

use crate::{
    framework::{ClusterEvent, CycleState, Filter, Plugin, Status},
    snapshot::{NodeInfo, PodInfo},
};

/// A pod that takes ports of its node goes where they are free.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::AssignedPodDelete(gone) => conflict(pod, gone),
            ClusterEvent::NodeAdd(_) | ClusterEvent::NodeUpdate(_) => true,
            ClusterEvent::PodUpdate => false,
        }
    }
}

fn conflict(a: &PodInfo, b: &PodInfo) -> bool {
    a.host_ports
        .iter()
        .any(|x| b.host_ports.iter().any(|y| x.conflicts(y)))
}

impl Filter for NodePorts {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        if !pod.host_ports.is_empty() && node.pods().any(|other| conflict(pod, other)) {
            return Err(Status::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}
