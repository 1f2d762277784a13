//! The decision core: from a pod and what is there of it to what must be done, and to its status.
//!
//! Nothing in here does I/O, reads a clock or awaits. The driver (`crate::driver`) keeps a
//! [`PodState`] per pod, calls [`decide`] whenever anything changed, and carries the actions out.

pub(crate) mod backoff;
mod conditions;
mod container_status;
mod decide;
mod init;
mod state;
mod status;
mod teardown;
#[cfg(test)]
mod tests;

pub(crate) use decide::decide;
pub(crate) use state::{
    Action, End, EndKind, PodState, ProbeState, PullFailure, Retry, Start, Volumes, Waiting,
};
pub(crate) use status::pod_status;
