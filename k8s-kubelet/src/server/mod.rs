//! The kubelet's HTTP server: logs, exec, attach, port-forward, and what it knows of its pods.

pub(crate) mod answer;
mod listen;
mod pods;
mod service;
pub(crate) mod tls;

pub(crate) use listen::listen;
pub use service::{Body, KubeletService};
