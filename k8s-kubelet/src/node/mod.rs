//! The Node object: registration, status, heartbeat.

mod lease;
pub(crate) mod machine;
mod register;
mod status;

pub(crate) use lease::{DURATION_SECONDS, heartbeat};
pub(crate) use register::register;
pub(crate) use status::{LOOK, MAX_IMAGES, NodeConfig, REPORT_SECONDS, keep_status};
