//! [`Error`]: what can go wrong, as its caller can act on it.

use std::{fmt, io};

/// Why a pull failed, as far as the registry let us know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PullErrorKind {
    /// The registry has no such image, or does not say so to strangers.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry could not be reached, or broke off.
    Network,
    /// The registry answered with something that is no image for this platform.
    Malformed,
    /// Anything else, such as too many requests.
    Other,
}

impl fmt::Display for PullErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Unauthorized => "authorization failed",
            Self::Network => "registry unreachable",
            Self::Malformed => "malformed answer",
            Self::Other => "registry error",
        })
    }
}

/// An operation of a [`ContainerRuntime`](crate::ContainerRuntime) or an
/// [`ImageService`](crate::ImageService) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such thing. Making it first, or ignoring this on removal, is the way on.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// What was looked for: `sandbox`, `container`, `image`…
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// There is one already, for the same pod or container and attempt.
    #[error("{kind} {id:?} already exists")]
    AlreadyExists {
        /// What was to be made.
        kind: &'static str,
        /// The name of the one that is there.
        id: String,
    },
    /// It exists but is not in the state that the operation needs.
    #[error("{kind} {id:?} is {state}, which does not allow to {operation}")]
    InvalidState {
        /// What it is.
        kind: &'static str,
        /// Its name.
        id: String,
        /// Its state.
        state: String,
        /// What was wanted.
        operation: &'static str,
    },
    /// A field of a configuration can't be used. The same request will fail again.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),
    /// An image reference can't be parsed.
    #[error("invalid image reference {reference:?}: {message}")]
    InvalidReference {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        message: String,
    },
    /// An image is there but can't be run: no configuration, a wrong platform, no such user.
    #[error("invalid image {reference:?}: {message}")]
    InvalidImage {
        /// The image.
        reference: String,
        /// What is wrong with it.
        message: String,
    },
    /// An archive or a layer in it is damaged or hostile. Nothing of it was imported.
    #[error("broken image archive: {0}")]
    BrokenArchive(String),
    /// An image could not be pulled.
    #[error("failed to pull image {reference:?}: {kind}: {message}")]
    PullFailed {
        /// The image.
        reference: String,
        /// Why.
        kind: PullErrorKind,
        /// What the registry or the connection said.
        message: String,
    },
    /// The low-level runtime refused. The message is its own.
    #[error("{operation}: {message}")]
    RuntimeFailed {
        /// What it was asked to do: `create`, `start`, `exec`…
        operation: &'static str,
        /// Its last words.
        message: String,
    },
    /// The node's network could not be set up.
    #[error("network: {0}")]
    Network(String),
    /// An operation did not end in the time it was given. What it started was killed.
    #[error("{operation} timed out after {after:?}")]
    Timeout {
        /// What it was.
        operation: &'static str,
        /// The time it had.
        after: std::time::Duration,
    },
    /// The reader of [`events`](crate::ContainerRuntime::events) fell behind and missed this
    /// many. List again.
    #[error("{0} events were missed")]
    Lagged(u64),
    /// This backend can't do that.
    #[error("not supported by this runtime: {0}")]
    Unsupported(String),
    /// The operating system refused.
    #[error("{context}")]
    Io {
        /// What was tried.
        context: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// An [`Error::Io`] that says what was tried.
    pub fn io(context: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self::Io {
            context: format!("{}: {source}", context.into()),
            source,
        }
    }

    /// An [`Error::NotFound`].
    pub fn not_found(kind: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound {
            kind,
            id: id.into(),
        }
    }

    /// Whether it says that a thing is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Says what was being tried when an I/O call failed.
pub(crate) trait IoContext<T> {
    /// Turns the error into an [`Error::Io`].
    fn context(self, context: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::io(context(), e))
    }
}
