//! Connections through the server to what runs in the cluster: logs, exec, attach, port-forward,
//! and the HTTP proxies of nodes, pods and services.
//!
//! The server finds the node of a pod and sends the request on to its kubelet; from an upgrade on
//! it copies bytes and understands nothing of them, but for the newest of WebSocket's protocols, which it makes SPDY
//! of for kubelets that do not declare `ExtendWebSocketsToKubelet`. [`connecters`] has one [`Connecter`] per
//! resource. How a kubelet is reached is a [`NodeDialer`]'s business: over TLS, or within the
//! process.

mod backend;
mod below;
mod copy;
mod dial;
mod forward;
mod links;
mod metrics;
mod nodes;
mod options;
mod pods;
mod services;
mod target;
mod translate;
mod tunnel;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;

pub(crate) use self::{
    backend::any_certificate,
    dial::{said, tcp},
    forward::{Forwarder, drop_connection_headers},
    services::{backends as service_backends, has_slices as has_endpoint_slices},
};
pub use self::{
    dial::{ByteStream, NodeDialer, NodeEndpoint, TlsDialer},
    nodes::Nodes,
    pods::Pods,
    services::Services,
};
use crate::{admission::reader::ObjectReader, http::Body};

/// Serves subresources that are connections and not objects.
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

    /// What it has counted, for the server's `/metrics`: text in Prometheus' format, nothing by default.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// The connecters of upstream's server, each with the plural name of its resource in the core group:
/// `pods`, `nodes`, `services`.
///
/// The connections that they open last as long as both sides want them, or until all the
/// connecters are dropped.
pub fn connecters(
    reader: &Arc<dyn ObjectReader>,
    dialer: &Arc<dyn NodeDialer>,
) -> Vec<(&'static str, Arc<dyn Connecter>)> {
    let forwarder = forward::Forwarder::default();
    vec![
        (
            "pods",
            Arc::new(Pods::new(reader.clone(), dialer.clone(), forwarder.clone())),
        ),
        (
            "nodes",
            Arc::new(Nodes::new(
                reader.clone(),
                dialer.clone(),
                forwarder.clone(),
            )),
        ),
        (
            "services",
            Arc::new(Services::new(reader.clone(), forwarder)),
        ),
    ]
}

#[cfg(test)]
mod tests;
