//! The reconcile runtime and the built-in controllers.

#![forbid(unsafe_code)]

mod common;
mod deployment;
mod endpoints;
mod endpointslice;
mod error;
mod garbage_collector;
mod manager;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
mod replicaset;
mod root_ca;
pub mod runtime;
mod service_account;

pub use error::Error;
pub use manager::{ControllerManager, ControllerManagerBuilder, Stopped};
pub use node_ipam::{Cidr, ClusterCidr, ParseCidrError};
