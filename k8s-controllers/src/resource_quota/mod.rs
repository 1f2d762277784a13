//! ResourceQuota: the status of a quota says what its namespace may use and does use.
//!
//! Mirrors upstream's `pkg/controller/resourcequota`. Admission charges a quota for what is made; this
//! counts anew when a quota is new or changed, when something that counted is gone, and every
//! five minutes. It counts what the server lists rather than what an informer has seen:
//! charge and object are one commit there, so a count that is stale is refused as a conflict.

mod count;
mod driver;
mod triggers;

pub(crate) use driver::controller;
