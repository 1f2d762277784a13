//! The traits of the extension points.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use kube::Client;

use super::{ClusterEvent, CycleState, EventKind, Feasible, Status, Verdicts};
use crate::{
    schedule::{Filters, NodeStatuses},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// What a plugin's verdict on a node, and its score, depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// On the node with its pods, and on the [`NodeShape`](crate::snapshot::NodeShape) of the pod, alone. Verdicts and
    /// scores are kept for other pods of that shape until the node changes.
    Node,
    /// On anything. The plugin is asked about every node for every pod.
    #[default]
    Cluster,
}

/// What every plugin has.
///
/// Plugins are shared between threads and live as long as the scheduler; what belongs to one cycle
/// goes into its [`CycleState`].
pub trait Plugin: Debug + Send + Sync + 'static {
    /// Its name, as in upstream's configuration and in a pod's diagnosis.
    fn name(&self) -> &'static str;

    /// What its verdicts and scores depend on.
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    /// The node labels that its verdicts and raw scores depend on for this pod, if they depend on nothing else of a node: two
    /// nodes with the same values of them (none counts as a value) are judged alike. Then one of them is asked
    /// in place of all. Called after PreFilter, if the scope is [`Scope::Cluster`]; `None` for anything else.
    fn topologies(
        &self,
        _state: &CycleState,
        _pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Option<Vec<Arc<str>>> {
        None
    }

    /// Whether its verdict on a node depends on the pods on that node alone, beside the node's own labels, where each value of
    /// its [`Plugin::topologies`] is one node's. Then verdicts are kept for pods of the same
    /// [`PodShape`](crate::snapshot::PodShape) until the node changes.
    fn is_about_own_pods(&self, _pod: &PodInfo) -> bool {
        false
    }

    /// Whether events of a kind can concern it at all (upstream's `EventsToRegister`).
    fn watches(&self, _kind: EventKind) -> bool {
        true
    }

    /// Whether an event could make a pod fit that this plugin turned away (the queueing hint, KEP-4247). A
    /// wrong "no" leaves the pod waiting for up to five minutes; a wrong "yes" costs one more try.
    fn may_help(&self, _event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        true
    }
}

/// Decides whether a pod enters the queue at all.
pub trait PreEnqueue: Plugin {
    /// # Errors
    ///
    /// A status keeps the pod out until it changes. Its reasons are said on the pod; one without is not.
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Status>;
}

/// Orders the active queue. A scheduler has exactly one.
pub trait QueueSort: Plugin {
    /// Whether `a` is to be scheduled before `b`. The position in time (earlier first) breaks ties.
    fn less(&self, a: &PodInfo, b: &PodInfo) -> bool;
}

/// What PreFilter found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreFilterResult {
    /// Only these nodes, by name; `None` for all.
    pub nodes: Option<BTreeSet<String>>,
    /// Whether this plugin's Filter has nothing to say of this pod, and is not called.
    pub skip: bool,
}

impl PreFilterResult {
    /// All nodes are to be looked at.
    pub fn all() -> Self {
        Self::default()
    }

    /// All nodes pass this plugin's Filter.
    pub fn skip() -> Self {
        Self {
            nodes: None,
            skip: true,
        }
    }

    /// Only these nodes are to be looked at.
    pub fn only(nodes: BTreeSet<String>) -> Self {
        Self {
            nodes: Some(nodes),
            skip: false,
        }
    }
}

/// Computes what Filter needs, once for each pod, and may narrow down the nodes.
///
/// Where the plugin's scope is [`Scope::Node`], whether it skips may depend on the pod's node shape alone.
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

    /// Takes into account, in `state`, that another pod is put on a node: for what-ifs. Not called
    /// if PreFilter said to skip.
    fn add_pod(
        &self,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _added: &PodInfo,
        _node: &NodeInfo,
        _snapshot: &Snapshot,
    ) {
    }

    /// The reverse of [`PreFilter::add_pod`].
    fn remove_pod(
        &self,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _removed: &PodInfo,
        _node: &NodeInfo,
        _snapshot: &Snapshot,
    ) {
    }
}

/// Decides whether a node can run a pod. The hot path: called for every node.
pub trait Filter: Plugin {
    /// # Errors
    ///
    /// A status rules the node out.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status>;

    /// Judges many nodes in one call. The result must be that of [`Filter::filter`] for each.
    fn filter_many(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Verdicts<'_>) {
        nodes.judge(|node| self.filter(state, pod, node));
    }
}

/// A ResourceClaim as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The state that it was in.
    pub resource_version: String,
}

/// The node where room is made, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nominated {
    /// The node; `None` takes an earlier nomination back.
    pub node: Option<String>,
    /// What to add to the pod's condition.
    pub message: Option<String>,
    /// The pods to evict.
    pub victims: Vec<Arc<PodInfo>>,
    /// The pods of lower priority whose nomination for that node is void.
    pub displaced: Vec<Arc<PodInfo>>,
    /// The claims to take the devices back from.
    pub deallocate: Vec<ClaimRef>,
}

/// Called when no node fits; may make room. It only says what is to be done.
pub trait PostFilter: Plugin {
    /// Where room can be made.
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
        filters: &Filters<'_>,
        seed: u64,
    ) -> Result<Nominated, Status>;
}

/// Computes what Score needs, once for each pod.
pub trait PreScore: Plugin {
    /// Whether it could have something to say of this pod: asked before the feasible nodes are known.
    fn applies(&self, _pod: &PodInfo, _snapshot: &Snapshot) -> bool {
        true
    }

    /// Whether this plugin's Score has something to say; if not, it is not called.
    /// `nodes` is empty for plugins with [`Scope::Node`].
    ///
    /// # Errors
    ///
    /// A status fails the cycle.
    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Feasible<'_>,
    ) -> Result<bool, Status>;
}

/// How raw scores are brought to 0..=100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalization {
    /// They are there already.
    #[default]
    None,
    /// Stretched so that the highest becomes 100.
    Highest,
    /// Stretched and turned round: 0 becomes 100, the highest 0.
    Lowest,
    /// By [`Score::normalize`].
    Custom,
}

/// Says how good a node is for a pod.
pub trait Score: Plugin {
    /// The node's score, in any range if [`Score::normalization`] brings it to 0..=100.
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64;

    /// The scores of many nodes in one call, added to the end of `scores`. The result must be that of
    /// [`Score::score`] for each.
    fn score_many(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        nodes: &Feasible<'_>,
        scores: &mut Vec<i64>,
    ) {
        scores.extend(nodes.nodes().map(|node| self.score(state, pod, node)));
    }

    /// How the scores are brought to 0..=[`MAX_NODE_SCORE`](super::MAX_NODE_SCORE).
    fn normalization(&self) -> Normalization {
        Normalization::None
    }

    /// Brings the scores of all feasible nodes to 0..=[`MAX_NODE_SCORE`](super::MAX_NODE_SCORE), where
    /// [`Score::normalization`] says [`Normalization::Custom`].
    fn normalize(&self, _state: &CycleState, _nodes: &Feasible<'_>, _scores: &mut [i64]) {}
}

/// Keeps books of what pods are about to take.
pub trait Reserve: Plugin {
    /// # Errors
    ///
    /// A status takes the placement back.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &NodeInfo)
    -> Result<(), Status>;

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
    /// The decision for this pod, whose place is taken already. `waiting` are the other pods that wait for their permission.
    fn permit(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
        snapshot: &Snapshot,
        waiting: &[Arc<PodInfo>],
    ) -> PermitDecision;

    /// Whether pods that wait for this plugin are given back along with one that was: it ran out of time, or was
    /// rejected.
    fn falls_with(&self, _waiting: &PodInfo, _rejected: &PodInfo) -> bool {
        false
    }
}

/// Does what must be done before a pod is bound, such as binding its volumes.
#[async_trait]
pub trait PreBind: Plugin {
    /// # Errors
    ///
    /// A status takes the placement back.
    async fn pre_bind(
        &self,
        client: &Client,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<(), Status>;
}

/// Binds a pod to its node.
#[async_trait]
pub trait Bind: Plugin {
    /// Whether this plugin did it; if not, the next one is asked.
    ///
    /// # Errors
    ///
    /// A status takes the placement back, and the pod is tried again.
    async fn bind(
        &self,
        client: &Client,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<bool, Status>;
}

/// Is told of a pod that was bound.
pub trait PostBind: Plugin {
    /// Tidies up.
    fn post_bind(&self, pod: &PodInfo, node: &str);
}
