//! `services/proxy`.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, Response};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
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
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
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
        let backends = backends(&*self.reader, namespace, target.name, &port).await?;
        let chosen = fastrand::choice(&backends).ok_or_else(|| {
            Error::service_unavailable(format!("no endpoints available for service {name:?}"))
        })?;
        let (ip, port) = chosen;
        let address = proxyable(ip)?;
        if let Some(answer) = with_slash(&request, DEPTH) {
            return Ok(answer);
        }
        let stream = backend::dial(target.https, ip, &[address], *port).await;
        let stream = stream.map_err(backend::unreached)?;
        let below = (DEPTH, rest);
        self.forwarder
            .below(stream, &authority(ip, *port), below, request)
            .await
    }
}

/// The addresses that serve the port of that name.
pub(crate) async fn backends(
    reader: &dyn ObjectReader,
    namespace: &str,
    service: &str,
    port: &str,
) -> Result<Vec<(String, u16)>, Error> {
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
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint.conditions.ready.unwrap_or(true) {
                out.extend(endpoint.addresses.first().map(|ip| (ip.clone(), number)));
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
