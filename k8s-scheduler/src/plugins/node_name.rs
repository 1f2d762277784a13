//! [`NodeName`].

use crate::{
    framework::{CycleState, EventKind, Filter, Plugin, PreFilter, PreFilterResult, Status},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// A pod that names its node goes there.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn watches(&self, kind: EventKind) -> bool {
        kind == EventKind::Node
    }
}

impl PreFilter for NodeName {
    fn pre_filter(
        &self,
        _: &mut CycleState,
        pod: &PodInfo,
        _: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        Ok(match pod.node_name() {
            Some(_) => PreFilterResult::all(),
            None => PreFilterResult::skip(),
        })
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
