//! The health of the parts of a cluster, as `componentstatuses` tell it.
//!
//! Upstream deprecated these in 1.19, and `kubectl get componentstatuses` is still what many ask first. Upstream's server
//! supposes a scheduler and a controller manager beside it, at their usual ports. A server in somebody's program may have
//! neither, so this one tells of its store, as `etcd-0`, and of the parts that it is told of:
//!
//! ```
//! use std::sync::Arc;
//! use k8s_apiserver::{ApiServer, auth::Identity, components::{Endpoint, Task}};
//! use k8s_openapi::api::core::v1::ComponentStatus;
//! use kube::{Api, api::ListParams};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One that listens at upstream's port, and one that is a task of this program.
//! let manager = Task::default();
//! let server = ApiServer::builder()
//!     .component("scheduler", Arc::new(Endpoint::scheduler()))
//!     .component("controller-manager", Arc::new(manager.clone()))
//!     .build()
//!     .await?;
//! let controllers = tokio::spawn(std::future::pending::<()>());
//! manager.set(controllers.abort_handle());
//!
//! let parts: Api<ComponentStatus> = Api::all(server.client(Identity::system_masters()));
//! let parts = parts.list(&ListParams::default()).await?;
//! let names: Vec<_> = parts.items.iter().filter_map(|p| p.metadata.name.as_deref()).collect();
//! assert_eq!(names, ["scheduler", "controller-manager", "etcd-0"]);
//! # Ok(())
//! # }
//! ```

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use http::Request;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::{ComponentCondition, ComponentStatus};
use rustls_pki_types::ServerName;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::{
    http::Body,
    proxy::{Forwarder, tcp},
    registry::Registry,
    webhook::Trust,
};

/// How long a part may take to answer; upstream's `probeTimeOut`.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long the store may take; upstream's `--etcd-healthcheck-timeout`.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of an answer is told.
const LIMIT: usize = 10 * 1024;
/// The name of the store.
pub(crate) const STORE: &str = "etcd-0";

/// How a part of a cluster does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does, and says this: `ok`, for most.
    Healthy(String),
    /// It does not, for this reason.
    Unhealthy(String),
    /// It cannot even be asked, for this reason.
    Unknown(String),
}

impl Health {
    /// The object that tells it.
    pub(crate) fn status(self, name: &str) -> ComponentStatus {
        let (status, message, error) = match self {
            Health::Healthy(message) => ("True", Some(message), None),
            Health::Unhealthy(message) => ("False", Some(message), None),
            Health::Unknown(error) => ("Unknown", None, Some(error)),
        };
        let mut out = ComponentStatus::default();
        out.metadata.name = Some(name.to_owned());
        out.conditions = Some(vec![ComponentCondition {
            type_: "Healthy".to_owned(),
            status: status.to_owned(),
            message,
            error,
        }]);
        out
    }
}

/// A part of a cluster that can be asked how it does, for
/// [`ApiServerBuilder::component`](crate::ApiServerBuilder::component).
///
/// It is asked for each request, by several at once if need be, and should answer soon: nobody else bounds that.
/// Dropping the answer before it is there must do no harm.
#[async_trait]
pub trait Component: Send + Sync {
    /// How it does.
    async fn health(&self) -> Health;
}

/// A part that tells its health over HTTPS at an address, at `/healthz`. Like upstream's server, this does not care whose
/// certificate it shows. It has 20 seconds to answer.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    forwarder: Forwarder,
}

impl Endpoint {
    /// The part at that address.
    pub fn new(address: SocketAddr) -> Self {
        Endpoint {
            address,
            forwarder: Forwarder::default(),
        }
    }

    /// A scheduler of this machine, at its usual port: `127.0.0.1:10259`.
    pub fn scheduler() -> Self {
        Endpoint::new((Ipv4Addr::LOCALHOST, 10259).into())
    }

    /// A controller manager of this machine, at its usual port: `127.0.0.1:10257`.
    pub fn controller_manager() -> Self {
        Endpoint::new((Ipv4Addr::LOCALHOST, 10257).into())
    }

    async fn ask(&self) -> Result<Health, String> {
        let trust = Trust {
            insecure: true,
            ..Trust::default()
        };
        let tls = trust.tls().map_err(|e| e.to_string())?;
        let (address, ip) = (self.address, self.address.ip());
        let dial = |what: String| format!("dial tcp {address}: {what}");
        let stream = tcp(&ip.to_string(), address.port())
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => dial("connect: connection refused".into()),
                std::io::ErrorKind::TimedOut => dial("i/o timeout".into()),
                _ => dial(error.to_string()),
            })?;
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(ServerName::from(ip), stream)
            .await
            .map_err(|e| e.to_string())?;
        let response = self
            .forwarder
            .forward(
                Box::new(stream),
                &address.to_string(),
                "/healthz",
                Request::new(Body::empty()),
            )
            .await
            .map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        let body = body.map_err(|e| e.to_string())?.to_bytes();
        Ok(match status.as_u16() {
            200..400 => Health::Healthy(String::from_utf8_lossy(&body).into_owned()),
            code => Health::Unhealthy(format!("HTTP probe failed with statuscode: {code}")),
        })
    }
}

#[async_trait]
impl Component for Endpoint {
    async fn health(&self) -> Health {
        let failed = |reason: String| {
            Health::Unhealthy(format!(
                "Get \"https://{}/healthz\": {reason}",
                self.address
            ))
        };
        match tokio::time::timeout(TIMEOUT, self.ask()).await {
            Ok(Ok(health)) => health,
            Ok(Err(reason)) => failed(reason),
            Err(_) => failed("context deadline exceeded".to_owned()),
        }
    }
}

/// A part that is a task of the same program: healthy from when it is [`set`](Task::set) until it ends. Clones are of the
/// same task.
#[derive(Clone, Debug, Default)]
pub struct Task(Arc<OnceLock<AbortHandle>>);

impl Task {
    /// Says which task it is. The first word counts.
    pub fn set(&self, task: AbortHandle) {
        let _ = self.0.set(task);
    }
}

#[async_trait]
impl Component for Task {
    async fn health(&self) -> Health {
        match self.0.get() {
            Some(task) if !task.is_finished() => Health::Healthy("ok".to_owned()),
            Some(_) => Health::Unhealthy("it has ended".to_owned()),
            None => Health::Unhealthy("it has not begun".to_owned()),
        }
    }
}

/// The store that a server keeps its objects in.
pub(crate) struct OfStore(pub(crate) Arc<Registry>);

#[async_trait]
impl Component for OfStore {
    async fn health(&self) -> Health {
        match store(&self.0).await {
            Ok(()) => Health::Healthy(r#"{"health":"true"}"#.to_owned()),
            Err(reason) => Health::Unhealthy(reason),
        }
    }
}

/// Whether the store answers; if not, why.
pub(crate) async fn store(registry: &Registry) -> Result<(), String> {
    use std::error::Error;

    let cause = match tokio::time::timeout(STORE_TIMEOUT, registry.store.revision()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
        Err(_) => "context deadline exceeded".to_owned(),
    };
    Err(format!("error getting data from etcd: {cause}"))
}
