//! [`Backend`]: one group and version, and the server behind it.

use std::{cmp::Ordering, io, sync::Arc, time::Duration};

use k8s_model::openapi::v2::Foreign;
use k8s_openapi::{
    api::core::v1::Service,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec},
};
use parking_lot::RwLock;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::{
    Error,
    admission::reader::ObjectReader,
    crypto,
    pki::FrontProxy,
    proxy::{ByteStream, any_certificate, service_backends, tcp},
    webhook::{system_roots, trusting},
};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the last check found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) available: bool,
    /// The group version's `APIResourceList`.
    pub(super) resources: Option<Value>,
    /// Where its OpenAPI v3 document is.
    pub(super) openapi: Option<String>,
    /// Its OpenAPI v2 document.
    pub(super) spec: Option<Arc<Spec>>,
}

/// An OpenAPI v2 document as it was read last.
#[derive(Debug)]
pub(super) struct Spec {
    /// The tag under which the server has it; of its contents, if the server gives none.
    pub(super) tag: String,
    pub(super) document: Foreign,
}

/// An `APIService`.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) version: String,
    /// Namespace, name and port.
    pub(super) service: Option<(String, String, u16)>,
    /// The condition `Available` as it is stored: its status, reason and message.
    pub(super) stored: Option<(String, String, String)>,
    spec: APIServiceSpec,
    /// Its metadata, but for what changes with every write.
    metadata: ObjectMeta,
    found: Arc<RwLock<Found>>,
}

impl Backend {
    /// What the object says; what was found out about it before holds as long as its spec does.
    pub(super) fn new(object: APIService, before: Option<&Backend>) -> Self {
        let metadata = ObjectMeta {
            managed_fields: None,
            resource_version: None,
            ..object.metadata.clone()
        };
        let spec = object.spec.unwrap_or_default();
        let conditions = object.status.and_then(|s| s.conditions);
        let stored = conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == "Available")
            .map(|c| {
                let text = |t: Option<String>| t.unwrap_or_default();
                (c.status, text(c.reason), text(c.message))
            });
        let found = before
            .filter(|before| before.spec == spec)
            .map(|before| before.found.clone());
        Backend {
            name: object.metadata.name.unwrap_or_default(),
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone().unwrap_or_default(),
            service: spec.service.as_ref().map(|service| {
                (
                    service.namespace.clone().unwrap_or_default(),
                    service.name.clone().unwrap_or_default(),
                    service
                        .port
                        .and_then(|port| u16::try_from(port).ok())
                        .unwrap_or(443),
                )
            }),
            found: found.unwrap_or_else(|| {
                // What another server found out is good for a start.
                let available = stored.as_ref().is_some_and(|(status, ..)| status == "True");
                Arc::new(RwLock::new(Found {
                    available,
                    ..Found::default()
                }))
            }),
            stored,
            spec,
            metadata,
        }
    }

    /// Whether more than the status is another.
    pub(super) fn differs(&self, before: &Backend) -> bool {
        self.spec != before.spec || self.metadata != before.metadata
    }

    pub(super) fn is_local(&self) -> bool {
        self.service.is_none()
    }

    pub(super) fn is_behind(&self, namespace: &str, service: &str) -> bool {
        self.service
            .as_ref()
            .is_some_and(|(ns, name, _)| ns == namespace && name == service)
    }

    pub(super) fn is_available(&self) -> bool {
        self.found.read().available
    }

    pub(super) fn found(&self) -> Found {
        self.found.read().clone()
    }

    /// A server that is away for a while keeps its place in OpenAPI v2, as upstream has it.
    pub(super) fn set(&self, mut found: Found) {
        let mut before = self.found.write();
        found.spec = found.spec.or_else(|| before.spec.take());
        *before = found;
    }

    /// The most important group first, and in it the most important version.
    pub(super) fn order(&self, other: &Backend) -> Ordering {
        let group = |b: &Backend| std::cmp::Reverse(b.spec.group_priority_minimum);
        let version = |b: &Backend| std::cmp::Reverse(b.spec.version_priority);
        group(self)
            .cmp(&group(other))
            .then_with(|| self.group.cmp(&other.group))
            .then_with(|| version(self).cmp(&version(other)))
            .then_with(|| self.version.cmp(&other.version))
    }

    /// Where its group stands among groups, and its version in its group.
    pub(super) fn priorities(&self) -> (i32, i32) {
        (self.spec.group_priority_minimum, self.spec.version_priority)
    }

    /// What its discovery is asked at.
    pub(super) fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// The name that the server's certificate is for.
    pub(super) fn server_name(&self) -> String {
        match &self.service {
            Some((namespace, name, _)) => format!("{name}.{namespace}.svc"),
            None => String::new(),
        }
    }

    /// Where a server that serves it is; `None` if there is none now.
    pub(super) async fn address(
        &self,
        reader: &dyn ObjectReader,
    ) -> Result<Option<(String, u16)>, Error> {
        let Some((namespace, name, port)) = &self.service else {
            return Ok(None);
        };
        let service: Option<Service> =
            reader.get(namespace, name).await.map_err(Error::internal)?;
        let Some(spec) = service.and_then(|s| s.spec) else {
            return Ok(None);
        };
        if spec.type_.as_deref() == Some("ExternalName") {
            return Ok(spec.external_name.map(|host| (host, *port)));
        }
        let ports = spec.ports.unwrap_or_default();
        let Some(port) = ports.into_iter().find(|p| p.port == i32::from(*port)) else {
            return Ok(None);
        };
        let port = port.name.unwrap_or_default();
        let all = service_backends(reader, namespace, name, &port).await?;
        Ok(fastrand::choice(all))
    }

    /// Connects.
    pub(super) async fn dial(
        &self,
        host: &str,
        port: u16,
        identity: Option<&FrontProxy>,
    ) -> io::Result<Box<dyn ByteStream>> {
        let name = ServerName::try_from(self.server_name())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let config = self.tls(identity)?;
        let stream = tcp(host, port).await?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Box::new(stream))
    }

    fn tls(&self, identity: Option<&FrontProxy>) -> io::Result<ClientConfig> {
        let provider = Arc::new(crypto::provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = if self.spec.insecure_skip_tls_verify == Some(true) {
            builder
                .dangerous()
                .with_custom_certificate_verifier(any_certificate(provider))
        } else {
            let bundle = self
                .spec
                .ca_bundle
                .as_ref()
                .map_or(&[][..], |b| b.0.as_slice());
            // Without one, those whom this machine trusts.
            if bundle.is_empty() {
                builder.with_root_certificates(system_roots())
            } else {
                let verifier = trusting(bundle, provider).map_err(io::Error::other)?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
        };
        let mut config = match identity {
            Some(identity) => {
                let chain = vec![
                    identity
                        .client
                        .certificate_der()
                        .map_err(io::Error::other)?,
                ];
                let key = identity.client.key_der().map_err(io::Error::other)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(io::Error::other)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
