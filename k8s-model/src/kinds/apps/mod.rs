//! The group `apps`.

pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod workload;
