//! Connections through the server to what runs in the cluster: logs, exec, attach, port-forward,
//! and the HTTP proxies of nodes, pods and services.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::http::Body;

/// Serves a subresource that is a connection and not an object.
///
/// Requests arrive authenticated, authorized and admitted. For an upgrade the request still has
/// its `hyper::upgrade::OnUpgrade` extension; the connecter answers `101 Switching Protocols` and
/// takes the stream over from its own task.
#[async_trait]
pub trait Connecter: Debug + Send + Sync {
    /// Answers. `subresource` is `log`, `exec`, `attach`, `portforward` or `proxy`;
    /// `rest_path` is what follows it in the URL, without its leading slash (only `proxy` has any).
    async fn connect(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        rest_path: &str,
        request: http::Request<Body>,
    ) -> http::Response<Body>;
}
