//! [`Error`]: a cluster that does not come up.

/// A cluster that does not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server cannot be built.
    #[error("the API server cannot be built")]
    Server(#[from] k8s_apiserver::BuildError),
    /// A request of the set-up was refused.
    #[error("the cluster cannot be set up")]
    Client(#[from] kube::Error),
    /// A simulated node cannot be made.
    #[error("node {name} cannot be made")]
    Node {
        /// The node.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A webhook cannot be served.
    #[error("the webhook cannot be served")]
    Webhook(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something was not there in time.
    #[error("waited in vain for {0}")]
    NotReady(String),
}

impl Error {
    pub(crate) fn webhook(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::Webhook(source.into())
    }
}
