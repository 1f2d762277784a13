//! `services/proxy`.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, Response};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde::Deserialize;

use super::{
    Connecter, backend,
    below::with_slash,
    forward::{Forwarder, refusal},
    target::{Target, authority, proxyable},
};
use crate::{Error, admission::reader::ObjectReader, http::Body};

/// The segments before what is passed on: `/api/v1/namespaces/NAMESPACE/services/NAME/proxy`.
const DEPTH: usize = 7;

/// Serves `services/proxy`: one of the service's ready endpoints, by chance.
#[derive(Debug)]
pub struct Services {
    reader: Arc<dyn ObjectReader>,
    forwarder: Forwarder,
}

/// An endpoint slice, as far as it matters here.
#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    metadata: Meta,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize, Default)]
struct Meta {
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    target_ref: Option<Reference>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reference {
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    name: String,
    port: Option<u16>,
}

impl Services {
    pub(super) fn new(reader: Arc<dyn ObjectReader>, forwarder: Forwarder) -> Self {
        Services { reader, forwarder }
    }

    async fn proxy(
        &self,
        namespace: &str,
        name: &str,
        rest: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let target = Target::parse("service", name)?;
        let service: Service = self
            .reader
            .get(namespace, target.name)
            .await
            .map_err(Error::internal)?
            .ok_or_else(|| Error::not_found("", "services", target.name))?;
        // Endpoints know the names of the service's ports, not their numbers.
        let mut port = target.port.to_owned();
        if let Ok(number) = port.parse::<i32>() {
            let ports = service.spec.unwrap_or_default().ports.unwrap_or_default();
            port = ports
                .into_iter()
                .find(|p| p.port == number)
                .map(|p| p.name.unwrap_or_default())
                .ok_or_else(|| {
                    Error::service_unavailable(format!(
                        "no service port {number} found for service {:?}",
                        target.name
                    ))
                })?;
        }
        let chosen = self.choose(namespace, target.name, &port).await?;
        let (ip, port) = chosen.ok_or_else(|| {
            Error::service_unavailable(format!("no endpoints available for service {name:?}"))
        })?;
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

    /// One of the service's endpoints, by chance. It must be a pod's of that namespace: slices are written by their
    /// owners, who are not to reach through the server what they cannot reach themselves.
    pub(super) async fn choose(
        &self,
        namespace: &str,
        service: &str,
        port: &str,
    ) -> Result<Option<(String, u16)>, Error> {
        let mut backends = slices(&*self.reader, namespace, service, port).await?;
        fastrand::shuffle(&mut backends);
        for backend in backends {
            let Some(pod) = backend.pod(namespace) else {
                continue;
            };
            let pod: Option<Pod> = self
                .reader
                .get(namespace, pod)
                .await
                .map_err(Error::internal)?;
            let status = pod.and_then(|pod| pod.status).unwrap_or_default();
            let mut ips = status.pod_ips.iter().flatten();
            if ips.any(|ip| ip.ip == backend.ip) {
                return Ok(Some((backend.ip, backend.port)));
            }
        }
        Ok(None)
    }
}

/// An address that serves a port of a Service, and what is there.
struct Backend {
    ip: String,
    port: u16,
    target: Option<Reference>,
}

impl Backend {
    /// The pod of that namespace which has the address, as the slice has it.
    fn pod(&self, namespace: &str) -> Option<&str> {
        let target = self.target.as_ref()?;
        (target.namespace == namespace).then_some(&target.name)
    }
}

/// The addresses that serve the port of that name.
pub(crate) async fn backends(
    reader: &dyn ObjectReader,
    namespace: &str,
    service: &str,
    port: &str,
) -> Result<Vec<(String, u16)>, Error> {
    let all = slices(reader, namespace, service, port).await?.into_iter();
    Ok(all.map(|backend| (backend.ip, backend.port)).collect())
}

async fn slices(
    reader: &dyn ObjectReader,
    namespace: &str,
    service: &str,
    port: &str,
) -> Result<Vec<Backend>, Error> {
    use k8s_openapi::Resource;
    let slices = reader
        .list_raw(
            EndpointSlice::GROUP,
            EndpointSlice::URL_PATH_SEGMENT,
            namespace,
        )
        .await
        .map_err(Error::internal)?;
    let mut out = Vec::new();
    for json in slices {
        let slice: Slice = serde_json::from_slice(&json).map_err(Error::internal)?;
        let owner = slice.metadata.labels.get("kubernetes.io/service-name");
        if owner.is_none_or(|owner| owner != service) {
            continue;
        }
        let number = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name == port)
            .and_then(|p| p.port);
        let Some(number) = number else {
            continue;
        };
        for endpoint in slice.endpoints.into_iter().flatten() {
            if endpoint.conditions.ready.unwrap_or(true)
                && let Some(ip) = endpoint.addresses.into_iter().next()
            {
                out.push(Backend {
                    ip,
                    port: number,
                    target: endpoint.target_ref,
                });
            }
        }
    }
    Ok(out)
}

/// Whether a Service has any slices with endpoints, be they empty.
pub(crate) async fn has_slices(
    reader: &dyn ObjectReader,
    namespace: &str,
    service: &str,
) -> Result<bool, Error> {
    let slices = reader.list::<EndpointSlice>(namespace).await;
    let slices = slices.map_err(Error::internal)?;
    Ok(slices.iter().any(|slice| {
        let labels = slice.metadata.labels.as_ref();
        labels
            .and_then(|l| l.get("kubernetes.io/service-name"))
            .map(String::as_str)
            == Some(service)
    }))
}

#[async_trait]
impl Connecter for Services {
    async fn connect(
        &self,
        namespace: &str,
        name: &str,
        _subresource: &str,
        rest_path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        self.proxy(namespace, name, rest_path, request)
            .await
            .unwrap_or_else(|error| refusal(&error))
    }
}
