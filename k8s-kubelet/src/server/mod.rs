//! The kubelet's HTTP server: logs, exec, attach, port-forward, and what it knows of its pods.

mod access;
pub(crate) mod answer;
mod checkpoint;
mod configz;
mod exec;
mod listen;
mod logs;
mod metrics;
mod pods;
mod port_forward;
mod query;
mod resource_metrics;
mod service;
mod spdy;
mod stats;
mod system_logs;
pub(crate) mod tls;

pub(crate) use listen::listen;
pub use service::{Body, KubeletService};
