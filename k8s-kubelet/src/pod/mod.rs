//! What the kubelet reads from a pod's specification: pure functions, no I/O.

pub(crate) mod admission;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod expansion;
pub(crate) mod fields;
pub(crate) mod hosts;
pub(crate) mod labels;
pub(crate) mod qos;
pub(crate) mod quantity;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod sysctl;
pub(crate) mod view;

pub(crate) use qos::Qos;
pub(crate) use view::{ContainerKind, PodView, RestartPolicy};
