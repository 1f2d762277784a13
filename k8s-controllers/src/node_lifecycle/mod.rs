//! Node lifecycle: notices nodes that have gone quiet, taints them, and evicts pods that do not
//! tolerate it.
//!
//! Mirrors upstream's `pkg/controller/nodelifecycle` and `pkg/controller/tainteviction`, driven by
//! events and deadlines instead of a 5 s poll, and without zones: the only disruption that is
//! told apart is the one of all nodes at once, in which nothing is evicted. [`health`], [`taints`]
//! and [`tolerate`] are the pure cores; [`driver`] and [`eviction`] act.

pub(crate) mod driver;
pub(crate) mod eviction;
mod health;
mod taints;
mod tolerate;
