//! [`Error`]: why a kubelet can't run.

use std::{io, net::SocketAddr, path::PathBuf};

/// A kubelet could not be set up or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration can't be used. Change it.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// A directory of the kubelet can't be made or read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address to listen on is taken or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate, key or client CA can't be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The container runtime does not answer. Trying again may help.
    #[error("container runtime: {0}")]
    Runtime(#[from] k8s_runtime::Error),
}
