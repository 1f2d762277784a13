//! The reconcile runtime and the built-in controllers.

#![forbid(unsafe_code)]

mod common;
mod deployment;
mod error;
mod replicaset;
pub mod runtime;

pub use error::Error;
