//! The Node object: registration, status, heartbeat.

mod lease;
pub(crate) mod machine;
mod register;
mod status;

pub(crate) use lease::heartbeat;
pub(crate) use register::register;
pub(crate) use status::{NodeConfig, keep_status};
