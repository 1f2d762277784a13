//! The core group.

pub(crate) mod config_map;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;
