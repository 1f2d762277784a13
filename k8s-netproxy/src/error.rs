//! [`Error`]: what can go wrong between a Service and the kernel.

use std::{io, net::SocketAddr};

/// A failure of the proxy or of the cluster DNS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dataplane refused the rules. They are as they were; try again with the newest.
    #[error("dataplane refused the rules: {0}")]
    Dataplane(String),
    /// A program that the dataplane needs could not be run. Install it.
    #[error("cannot run {program}: {source}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The DNS server can't listen there.
    #[error("cannot listen for DNS on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The cluster domain is not a domain name.
    #[error("{0:?} is not a domain name")]
    Domain(String),
}
