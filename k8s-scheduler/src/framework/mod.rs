//! The scheduling framework: one trait for each extension point (KEP-624).
//!
//! A plugin is a value that implements [`Plugin`] and the traits of the points that it extends. A
//! [`Profile`](crate::Profile) lists plugins by point. All points up to Reserve are synchronous and pure:
//! they see a snapshot, not the API. PreBind and Bind act, and are asynchronous.

mod cycle_state;
mod points;
mod status;

pub use cycle_state::CycleState;
pub use points::{
    Bind, ClusterEvent, Filter, Permit, PermitDecision, Plugin, PostBind, PostFilter, PreBind,
    PreEnqueue, PreFilter, PreFilterResult, PreScore, QueueSort, Reserve, Score,
};
pub use status::{Code, Status};

/// The highest score that a plugin may give after normalisation; the lowest is 0.
pub const MAX_NODE_SCORE: i64 = 100;
