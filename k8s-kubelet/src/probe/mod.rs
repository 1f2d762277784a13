//! Probes: is a container started, alive, ready?

mod grpc;
pub(crate) mod http;
mod run;

pub(crate) use run::{ProbeKind, ProbeTask, resolve_port, run};
