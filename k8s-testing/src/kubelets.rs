//! [`Kubelets`]: the API server's way to the simulated nodes, for logs, exec, attach and port-forward.

use std::{collections::HashMap, io, sync::Arc};

use async_trait::async_trait;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_apiserver::proxy::{ByteStream, NodeDialer, NodeEndpoint};
use k8s_kubelet::KubeletService;
use parking_lot::RwLock;
use tower::ServiceExt;

/// Bytes that a connection holds in each direction.
const PIPE: usize = 64 * 1024;

/// The nodes' agents by the nodes' names, reached through pipes within the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kubelets(Arc<RwLock<HashMap<String, KubeletService>>>);

impl Kubelets {
    pub(crate) fn add(&self, node: &str, service: KubeletService) {
        self.0.write().insert(node.to_owned(), service);
    }

    /// Forgets them all: who asks for one then finds nobody.
    pub(crate) fn clear(&self) {
        self.0.write().clear();
    }
}

#[async_trait]
impl NodeDialer for Kubelets {
    async fn dial(&self, endpoint: &NodeEndpoint) -> io::Result<Box<dyn ByteStream>> {
        let found = self.0.read().get(&endpoint.node).cloned();
        let kubelet = found.ok_or_else(|| {
            let text = format!("no node agent {:?} in this cluster", endpoint.node);
            io::Error::new(io::ErrorKind::ConnectionRefused, text)
        })?;
        let (near, far) = tokio::io::duplex(PIPE);
        // It ends when the API server lets go of its end.
        tokio::spawn(async move {
            let service = service_fn(move |request| kubelet.clone().oneshot(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a simulated node failed");
            }
        });
        Ok(Box::new(near))
    }

    fn dials(&self) -> bool {
        false
    }
}
