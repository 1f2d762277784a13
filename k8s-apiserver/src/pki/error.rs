//! [`PkiError`]: keys and certificates that cannot be made, read or written.

use std::path::PathBuf;

/// Keys and certificates that cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file or folder is not accessible.
    #[error("{path} is not accessible")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there and is not what it should be. Nothing is overwritten: whoever put it there
    /// must take it away.
    #[error("{path}: {reason}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No certificate is made for that request, or not any more.
    #[error("{0}")]
    Request(String),
    /// The cryptographic library refused.
    #[error("certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}
