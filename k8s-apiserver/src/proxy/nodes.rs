//! `nodes/proxy`, and where the kubelet of a node is.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Node;

use super::{
    Connecter, NodeDialer, NodeEndpoint, backend,
    below::with_slash,
    forward::{Forwarder, refusal},
    target::{Target, authority, resolved},
};
use crate::{Error, admission::reader::ObjectReader, http::Body};

/// The kubelet's port where its node doesn't say.
const KUBELET_PORT: u16 = 10250;
/// The segments before what is passed on: `/api/v1/nodes/NAME/proxy`.
const DEPTH: usize = 5;

/// What a kubelet declares that takes WebSockets of exec, attach and port-forward itself, as upstream's does since 1.36.
const TAKES_WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";

/// The node, and where its kubelet is.
pub(super) async fn find(
    reader: &dyn ObjectReader,
    name: &str,
) -> Result<(Node, NodeEndpoint), Error> {
    let node: Node = reader
        .get("", name)
        .await
        .map_err(Error::internal)?
        .ok_or_else(|| Error::not_found("", "nodes", name))?;
    let endpoint = endpoint(name, &node)?;
    Ok((node, endpoint))
}

/// Whether the kubelet of the node takes WebSockets itself.
pub(super) fn takes_websockets(node: &Node) -> bool {
    declared(node).iter().any(|name| name == TAKES_WEBSOCKETS)
}

k8s_openapi::k8s_if_ge_1_35! {
    fn declared(node: &Node) -> &[String] {
        let status = node.status.as_ref();
        (status.and_then(|status| status.declared_features.as_deref())).unwrap_or_default()
    }
}

k8s_openapi::k8s_if_le_1_34! {
    fn declared(_node: &Node) -> &[String] {
        &[]
    }
}

/// Which of a node's addresses lead to its kubelet, the best first.
const ADDRESSES: [&str; 5] = [
    "InternalIP",
    "ExternalIP",
    "Hostname",
    "InternalDNS",
    "ExternalDNS",
];

fn endpoint(name: &str, node: &Node) -> Result<NodeEndpoint, Error> {
    let status = node.status.clone().unwrap_or_default();
    let addresses = status.addresses.unwrap_or_default();
    let host = ADDRESSES
        .iter()
        .find_map(|kind| addresses.iter().find(|a| a.type_ == *kind))
        .map(|address| address.address.clone())
        .ok_or_else(|| {
            let known = addresses.iter();
            let known: Vec<String> = known
                .map(|known| format!("{{{} {}}}", known.type_, known.address))
                .collect();
            Error::unknown(format!(
                "no preferred addresses found; known addresses: [{}]",
                known.join(" ")
            ))
        })?;
    let port = status
        .daemon_endpoints
        .and_then(|d| d.kubelet_endpoint)
        .and_then(|e| u16::try_from(e.port).ok())
        .filter(|port| *port != 0)
        .unwrap_or(KUBELET_PORT);
    Ok(NodeEndpoint {
        node: name.to_owned(),
        host,
        port,
        addresses: Vec::new(),
    })
}

/// Connects to the kubelet.
pub(super) async fn dial(
    dialer: &dyn NodeDialer,
    endpoint: &NodeEndpoint,
) -> Result<Box<dyn super::ByteStream>, Error> {
    dialer
        .dial(endpoint)
        .await
        .map_err(|e| Error::unknown(format!("error dialing backend: {e}")))
}

/// Serves `nodes/proxy`: the kubelet's own server, or another port of the node.
#[derive(Debug)]
pub struct Nodes {
    reader: Arc<dyn ObjectReader>,
    dialer: Arc<dyn NodeDialer>,
    forwarder: Forwarder,
}

impl Nodes {
    pub(super) fn new(
        reader: Arc<dyn ObjectReader>,
        dialer: Arc<dyn NodeDialer>,
        forwarder: Forwarder,
    ) -> Self {
        Nodes {
            reader,
            dialer,
            forwarder,
        }
    }

    async fn proxy(
        &self,
        name: &str,
        rest: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let target = Target::parse("node", name)?;
        let (_, mut endpoint) = find(&*self.reader, target.name).await?;
        let wanted = target.port.parse::<u16>().ok();
        if !target.port.is_empty() && wanted.is_none() {
            return Err(Error::bad_request(format!("invalid node request {name:?}")));
        }
        let other = wanted.filter(|port| *port != endpoint.port);
        if other.is_some() || self.dialer.dials() {
            endpoint.addresses = resolved(&endpoint.host).await?;
        }
        if let Some(answer) = with_slash(&request, DEPTH) {
            return Ok(answer);
        }
        let (stream, port) = match other {
            None => (dial(&*self.dialer, &endpoint).await?, endpoint.port),
            Some(port) => {
                let (host, addresses) = (&endpoint.host, &endpoint.addresses);
                let stream = backend::dial(target.https, host, addresses, port).await;
                (stream.map_err(backend::unreached)?, port)
            }
        };
        let host = authority(&endpoint.host, port);
        let below = (DEPTH, rest);
        self.forwarder.below(stream, &host, below, request).await
    }
}

#[async_trait]
impl Connecter for Nodes {
    async fn connect(
        &self,
        _namespace: &str,
        name: &str,
        _subresource: &str,
        rest_path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        self.proxy(name, rest_path, request)
            .await
            .unwrap_or_else(|error| refusal(&error))
    }
}
