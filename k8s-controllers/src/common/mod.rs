//! What several controllers share: ownership, pods, claims, batches, status writes.

pub(crate) mod batch;
pub(crate) mod claim;
pub(crate) mod compat;
pub(crate) mod conditions;
pub(crate) mod context;
pub(crate) mod discovery;
pub(crate) mod ephemeral;
pub(crate) mod owner;
pub(crate) mod pod;
pub(crate) mod rank;
pub(crate) mod service;
pub(crate) mod share;
pub(crate) mod status;

#[cfg(test)]
pub(crate) mod fixture;
