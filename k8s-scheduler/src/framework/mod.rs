//! The scheduling framework: one trait for each extension point (KEP-624).
//!
//! A plugin is a value that implements [`Plugin`] and the traits of the points that it extends. A
//! [`Profile`](crate::Profile) lists plugins by point. All points up to Permit are synchronous and pure:
//! they see a snapshot, not the API. PreBind and Bind act, and are asynchronous.
//!
//! # What is asked how often
//!
//! Pods that are alike share work. A plugin whose [`Plugin::scope`] is [`Scope::Node`] is asked
//! about a node only when that node has changed since the last pod of the same
//! [`NodeShape`](crate::snapshot::NodeShape). The others are asked about every node for
//! every pod, many nodes in one call.

mod cycle_state;
mod event;
mod extender;
mod points;
mod status;
mod verdicts;

pub use cycle_state::CycleState;
pub use event::{ClusterEvent, EventKind};
pub use extender::{Extender, Filtered, VictimIds, Victims};
pub use points::{
    Bind, ClaimRef, Filter, Nominated, Normalization, Permit, PermitDecision, Plugin, PostBind,
    PostFilter, PreBind, PreEnqueue, PreFilter, PreFilterResult, PreScore, QueueSort, Reserve,
    Scope, Score,
};
pub use status::{Code, Status};
pub use verdicts::{Feasible, Verdicts};

pub(crate) use verdicts::{ABSENT, FITS, StatusTable};

/// The highest score that a plugin may give after normalisation; the lowest is 0.
pub const MAX_NODE_SCORE: i64 = 100;
