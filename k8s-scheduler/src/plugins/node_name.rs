//! [`NodeName`].

use crate::{
    framework::{ClusterEvent, CycleState, Filter, Plugin, Status},
    snapshot::{NodeInfo, PodInfo},
};

/// A pod that names its node goes there or nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::NodeAdd(_))
    }
}

impl Filter for NodeName {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        match pod.node_name() {
            Some(name) if name != node.name() => Err(Status::unresolvable(
                "node(s) didn't match the requested node name",
            )),
            _ => Ok(()),
        }
    }
}
