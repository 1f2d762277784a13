//! `pods/log`, `exec`, `attach`, `portforward` and `proxy`.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use k8s_openapi::{
    api::core::v1::{Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::StatusDetails,
};
use k8s_streaming::{
    is_upgrade, tokens,
    websocket::{self, Protocol, TUNNEL, V5},
};

use super::{
    Connecter, NodeDialer, NodeEndpoint, backend,
    below::with_slash,
    forward::{Forwarder, refusal, text},
    nodes, options,
    options::Query,
    target::{Target, authority, proxyable},
    translate::Backend,
};
use crate::{Error, admission::reader::ObjectReader, http::Body};

/// The segments before what is passed on: `/api/v1/namespaces/NAMESPACE/pods/NAME/proxy`.
const DEPTH: usize = 7;

/// Serves the streams of pods: sends them on to the kubelet of the pod's node, and `proxy` to the pod itself.
#[derive(Debug)]
pub struct Pods {
    reader: Arc<dyn ObjectReader>,
    dialer: Arc<dyn NodeDialer>,
    forwarder: Forwarder,
}

impl Pods {
    pub(super) fn new(
        reader: Arc<dyn ObjectReader>,
        dialer: Arc<dyn NodeDialer>,
        forwarder: Forwarder,
    ) -> Self {
        Pods {
            reader,
            dialer,
            forwarder,
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Pod, Error> {
        self.reader
            .get(namespace, name)
            .await
            .map_err(Error::internal)?
            .ok_or_else(|| Error::not_found("", "pods", name))
    }

    async fn log(
        &self,
        namespace: &str,
        name: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let query = options::log(name, request.uri().query())?;
        let pod = self.pod(namespace, name).await?;
        let spec = pod.spec.unwrap_or_default();
        let container = container(name, &spec, &options::container(request.uri().query()))?;
        let node = spec.node_name.filter(|node| !node.is_empty());
        let mut response = match node {
            // Nothing has been logged where nothing runs.
            None => Response::new(Body::empty()),
            Some(node) => {
                let path = format!("/containerLogs/{namespace}/{name}/{container}");
                let mut plain = Request::new(Body::empty());
                if let Some(accepted) = request.headers().get(header::ACCEPT_ENCODING) {
                    plain
                        .headers_mut()
                        .insert(header::ACCEPT_ENCODING, accepted.clone());
                }
                let (_, endpoint) = nodes::find(&*self.reader, &node).await?;
                let response = self.to_kubelet(&endpoint, query.after(path), plain).await?;
                checked(response, name).await?
            }
        };
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    async fn stream(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let pod = self.pod(namespace, name).await?;
        let spec = pod.spec.unwrap_or_default();
        let query = request.uri().query();
        let (path, query): (String, Query) = if subresource == "portforward" {
            (
                format!("/portForward/{namespace}/{name}"),
                options::ports(query),
            )
        } else {
            let container = container(name, &spec, &options::container(query))?;
            (
                format!("/{subresource}/{namespace}/{name}/{container}"),
                options::streams(query),
            )
        };
        let path_and_query = query.after(path);
        let node = spec
            .node_name
            .filter(|node| !node.is_empty())
            .ok_or_else(|| {
                Error::bad_request(format!("pod {name} does not have a host assigned"))
            })?;
        if !is_upgrade(request.headers()) {
            return Err(Error::bad_request("Upgrade request required"));
        }
        let (node, endpoint) = nodes::find(&*self.reader, &node).await?;
        // Every kubelet understands SPDY, and only the newest these.
        let protocol = if subresource == "portforward" {
            TUNNEL
        } else {
            V5
        };
        let passed_on = !offers(&request, protocol) || nodes::takes_websockets(&node);
        if websocket::is_asked_for(request.headers()) {
            self.forwarder.streams.routed(subresource, !passed_on);
        }
        if passed_on {
            return self.to_kubelet(&endpoint, path_and_query, request).await;
        }
        if protocol == V5 {
            let backend = Backend {
                dialer: self.dialer.clone(),
                endpoint,
                path_and_query,
                streams: options::Streams::of(request.uri().query()),
            };
            return self.forwarder.translate(request, backend);
        }
        let stream = nodes::dial(&*self.dialer, &endpoint).await?;
        let host = authority(&endpoint.host, endpoint.port);
        let forwarder = &self.forwarder;
        forwarder
            .tunnel(stream, &host, &path_and_query, request)
            .await
    }

    async fn to_kubelet(
        &self,
        endpoint: &NodeEndpoint,
        path_and_query: String,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let stream = nodes::dial(&*self.dialer, endpoint).await?;
        let host = authority(&endpoint.host, endpoint.port);
        self.forwarder
            .forward(stream, &host, &path_and_query, request)
            .await
    }

    async fn proxy(
        &self,
        namespace: &str,
        name: &str,
        rest: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let target = Target::parse("pod", name)?;
        let pod = self.pod(namespace, target.name).await?;
        let status = pod.status.unwrap_or_default();
        let ip = status.pod_ip.unwrap_or_default();
        let port = if target.port.is_empty() {
            let spec = pod.spec.unwrap_or_default();
            let first = spec
                .containers
                .iter()
                .flat_map(|c| &c.ports)
                .flatten()
                .next();
            let default = if target.https { 443 } else { 80 };
            first.map_or(Ok(default), |port| u16::try_from(port.container_port))
        } else {
            target.port.parse::<u16>().or(u16::try_from(-1))
        }
        .map_err(|_| Error::bad_request(format!("invalid pod request {name:?}")))?;
        let address = proxyable(&ip)?;
        if let Some(answer) = with_slash(&request, DEPTH) {
            return Ok(answer);
        }
        let stream = backend::dial(target.https, &ip, &[address], port).await;
        let stream = stream.map_err(backend::unreached)?;
        let below = (DEPTH, rest);
        self.forwarder
            .below(stream, &authority(&ip, port), below, request)
            .await
    }
}

/// Whether the client wants a WebSocket and offers this protocol, perhaps among others.
fn offers(request: &Request<Body>, protocol: Protocol) -> bool {
    let headers = request.headers();
    websocket::is_asked_for(headers)
        && tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|name| name == protocol.name)
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &str, spec: &PodSpec, asked: &str) -> Result<String, Error> {
    let init = spec.init_containers.iter().flatten().map(|c| &c.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| &c.name);
    let mut names = init
        .chain(spec.containers.iter().map(|c| &c.name))
        .chain(ephemeral);
    if !asked.is_empty() {
        return if names.any(|name| name == asked) {
            Ok(asked.to_owned())
        } else {
            Err(Error::bad_request(format!(
                "container {asked} is not valid for pod {pod}"
            )))
        };
    }
    match spec.containers.as_slice() {
        [only] => Ok(only.name.clone()),
        [] => Err(Error::bad_request(format!(
            "a container name must be specified for pod {pod}"
        ))),
        _ => Err(Error::bad_request(format!(
            "a container name must be specified for pod {pod}, choose one of: [{}]",
            names.map(String::as_str).collect::<Vec<_>>().join(" ")
        ))),
    }
}

/// The kubelet's answer, or its refusal as an error of the API.
async fn checked(response: Response<Body>, pod: &str) -> Result<Response<Body>, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = text(response.into_body()).await;
    Err(match status {
        StatusCode::BAD_REQUEST => Error::bad_request(text),
        StatusCode::INTERNAL_SERVER_ERROR => Error::internal(text),
        status => refused_by_kubelet(status.as_u16(), &text, pod),
    })
}

/// What upstream makes of an answer that is none of the API's: `NewGenericServerResponse`.
fn refused_by_kubelet(code: u16, text: &str, pod: &str) -> Error {
    let own = |reason, text: &str| (reason, text.to_owned());
    let (reason, message) = match code {
        401 => own(
            "Unauthorized",
            "the server has asked for the client to provide credentials",
        ),
        403 => own("Forbidden", text),
        404 => own(
            "NotFound",
            "the server could not find the requested resource",
        ),
        405 => own(
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        409 => own("Conflict", "the server reported a conflict"),
        429 => own(
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => own(
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => own(
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        500.. => (
            "InternalError",
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
        code => (
            "",
            format!(
                "the server responded with the status code {code} but did not return more information"
            ),
        ),
    };
    let message = format!("{message} ( pods/log {pod})");
    let mut status = k8s_model::status::failure(i32::from(code), reason, message);
    status.details = Some(StatusDetails {
        kind: Some("pods/log".to_owned()),
        name: Some(pod.to_owned()),
        ..StatusDetails::default()
    });
    status.into()
}

#[async_trait]
impl Connecter for Pods {
    async fn connect(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        rest_path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let outcome = match subresource {
            "log" if request.method() == Method::GET => self.log(namespace, name, request).await,
            "exec" | "attach" | "portforward" => {
                self.stream(namespace, name, subresource, request).await
            }
            "proxy" => self.proxy(namespace, name, rest_path, request).await,
            _ => Err(Error::method_not_allowed()),
        };
        outcome.unwrap_or_else(|error| refusal(&error))
    }

    fn metrics(&self) -> String {
        self.forwarder.streams.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubelets_refusal_keeps_its_code() {
        for (code, reason, text) in [
            (400, "BadRequest", "why"),
            (
                401,
                "Unauthorized",
                "the server has asked for the client to provide credentials ( pods/log web)",
            ),
            (403, "Forbidden", "why ( pods/log web)"),
            (
                404,
                "NotFound",
                "the server could not find the requested resource ( pods/log web)",
            ),
            (
                429,
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later ( pods/log web)",
            ),
            (500, "InternalError", "Internal error occurred: why"),
            (
                502,
                "InternalError",
                "an error on the server (\"why\") has prevented the request from succeeding ( pods/log web)",
            ),
            (
                503,
                "ServiceUnavailable",
                "the server is currently unable to handle the request ( pods/log web)",
            ),
        ] {
            let answer = Response::builder().status(code).body("why".into()).unwrap();
            let error = checked(answer, "web").await.unwrap_err();
            assert_eq!(
                (error.code(), error.reason(), error.to_string().as_str()),
                (code, reason, text)
            );
        }
    }
}
