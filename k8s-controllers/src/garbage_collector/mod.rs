//! Garbage collector: deletes what has lost its owners, and carries out foreground deletion and
//! orphaning.
//!
//! Mirrors upstream's `pkg/controller/garbagecollector`. [`graph`] is the pure core: who owns
//! whom, and what must be looked at when that changes. [`monitor`] feeds it from a metadata watch
//! of every deletable resource; [`driver`] looks at the live objects and makes the requests.

pub(crate) mod driver;
mod graph;
mod monitor;

/// The finalizer of an owner that waits for its dependents to be deleted.
const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents are to be kept.
const ORPHAN: &str = "orphan";
