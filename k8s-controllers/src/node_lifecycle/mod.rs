//! Node lifecycle: notices nodes that have gone quiet, taints them, and evicts pods that do not
//! tolerate it.
//!
//! Mirrors upstream's `pkg/controller/nodelifecycle` and `pkg/controller/tainteviction`, driven by
//! events and deadlines instead of a 5 s poll. Nothing is evicted while no node at all is ready, nor from a small zone
//! that is mostly lost, and from one node after the other elsewhere. [`health`], [`pace`], [`taints`], [`tolerate`] and
//! [`zones`] are the pure cores; [`driver`] and [`eviction`] act.

pub(crate) mod driver;
pub(crate) mod eviction;
mod health;
mod pace;
mod taints;
mod tolerate;
mod zones;
