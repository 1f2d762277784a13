//! The traits of the extension points.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use async_trait::async_trait;

use super::{CycleState, Status};
use crate::{
    schedule::NodeStatuses,
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// Something that changed in the cluster and could let a waiting pod fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterEvent<'a> {
    /// A node was added.
    NodeAdd(&'a NodeInfo),
    /// A node changed: its allocatable resources, labels, taints or conditions.
    NodeUpdate(&'a NodeInfo),
    /// A pod that was bound to a node is gone or has ended.
    AssignedPodDelete(&'a PodInfo),
    /// The waiting pod itself changed.
    PodUpdate,
}

/// What every plugin has.
///
/// Plugins are shared between threads and live as long as the scheduler; what belongs to one cycle
/// goes into its [`CycleState`].
pub trait Plugin: Debug + Send + Sync + 'static {
    /// Its name, as in upstream's configuration and in a pod's diagnosis.
    fn name(&self) -> &'static str;

    /// Whether an event could make a pod fit that this plugin turned away. A wrong "no" leaves the
    /// pod waiting for up to five minutes; a wrong "yes" costs one more try.
    fn may_help(&self, _event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        true
    }
}

/// Decides whether a pod enters the queue at all.
pub trait PreEnqueue: Plugin {
    /// # Errors
    ///
    /// A status keeps the pod out until it changes.
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Status>;
}

/// Orders the active queue. A scheduler has exactly one.
pub trait QueueSort: Plugin {
    /// Whether `a` is to be scheduled before `b`. The position in time (earlier first) breaks ties.
    fn less(&self, a: &PodInfo, b: &PodInfo) -> bool;
}

/// The nodes that PreFilter leaves over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreFilterResult {
    /// Only these nodes, by name; `None` for all.
    pub nodes: Option<BTreeSet<String>>,
}

/// Computes what Filter needs, once for each pod, and may narrow down the nodes.
pub trait PreFilter: Plugin {
    /// # Errors
    ///
    /// A status rejects the pod on all nodes.
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status>;
}

/// Decides whether a node can run a pod. The hot path: called for every node.
pub trait Filter: Plugin {
    /// # Errors
    ///
    /// A status rules the node out.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status>;
}

/// Called when no node fits; may make room.
pub trait PostFilter: Plugin {
    /// The name of a node that will fit soon, to be remembered as the pod's nominated node.
    ///
    /// # Errors
    ///
    /// A status with what to add to the pod's condition.
    fn post_filter(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        statuses: &NodeStatuses,
    ) -> Result<Option<String>, Status>;
}

/// Computes what Score needs, once for each pod.
pub trait PreScore: Plugin {
    /// # Errors
    ///
    /// A status fails the cycle.
    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
    ) -> Result<(), Status>;
}

/// Says how good a node is for a pod.
pub trait Score: Plugin {
    /// The node's score, in any range if [`Score::normalize`] brings it to 0..=100.
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64;

    /// Brings the scores of all feasible nodes to 0..=[`MAX_NODE_SCORE`](super::MAX_NODE_SCORE).
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Keeps books of what pods are about to take.
pub trait Reserve: Plugin {
    /// # Errors
    ///
    /// A status takes the placement back.
    fn reserve(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Result<(), Status>;

    /// Undoes [`Reserve::reserve`]. Idempotent; called for plugins whose `reserve` was not reached too.
    fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str);
}

/// What Permit decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitDecision {
    /// Go on.
    Allow,
    /// Ask again whenever another pod was permitted or rejected, and give up after so long.
    Wait(Duration),
    /// Take the placement back.
    Reject(Status),
}

/// Delays or rejects a binding, for example until a gang is complete.
pub trait Permit: Plugin {
    /// The decision for this pod.
    fn permit(&self, state: &CycleState, pod: &PodInfo, node: &str) -> PermitDecision;
}

/// Does what must be done before a pod is bound, such as binding its volumes.
#[async_trait]
pub trait PreBind: Plugin {
    /// # Errors
    ///
    /// A status takes the placement back.
    async fn pre_bind(&self, pod: &PodInfo, node: &str) -> Result<(), Status>;
}

/// Binds a pod to its node.
#[async_trait]
pub trait Bind: Plugin {
    /// Whether this plugin did it; if not, the next one is asked.
    ///
    /// # Errors
    ///
    /// A status takes the placement back, and the pod is tried again.
    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<bool, Status>;
}

/// Is told of a pod that was bound.
pub trait PostBind: Plugin {
    /// Tidies up.
    fn post_bind(&self, pod: &PodInfo, node: &str);
}
