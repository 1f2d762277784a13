//! The example cluster, and small programs that each bring a part of their own.
//!
//! [`cluster`] wires every crate of this workspace into the `cluster` binary. It is what the README's demo
//! runs, and the place to look for how the parts meet. The programs under `examples/examples`
//! show one idea each; their bodies are in [`programs`], so that tests can call them.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod programs;
