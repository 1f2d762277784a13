//! [`FrontProxy`]: who the API server is to the API servers behind it.

use super::Credential;

/// What the API server shows to the API servers that it passes requests on to, and what those need to know it and
/// its clients by: they find that in the ConfigMap `extension-apiserver-authentication` in `kube-system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// The authority of clients, PEM.
    pub client_ca: String,
    /// The authority of the proxy, PEM.
    pub ca: String,
    /// What the proxy shows; its common name is [`FRONT_PROXY_CLIENT`](super::FRONT_PROXY_CLIENT).
    pub client: Credential,
}
