//! [`HttpExtender`]: upstream's protocol for extenders in other processes.

mod tls;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::runtime::Handle;

pub(crate) use tls::data_or_file;
pub use tls::{ExtenderTls, TlsError};

use crate::{
    framework::{Extender, Filtered, VictimIds, Victims},
    snapshot::{NodeInfo, PodInfo},
};

/// How long an extender may take, if nothing else is said (upstream's default).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes: all nodes of a large cluster.
const LONGEST_ANSWER: usize = 256 << 20;

/// What an [`HttpExtender`] does, as a section of `extenders` in a `KubeSchedulerConfiguration` says.
#[derive(Clone, Debug, Default)]
pub struct HttpExtenderConfig {
    /// Where it is, without the verb: `https://example.com/scheduler`.
    pub url_prefix: String,
    /// The last part of the path of filter calls; empty if it does not filter.
    pub filter_verb: String,
    /// The last part of the path of prioritize calls; empty if it does not score.
    pub prioritize_verb: String,
    /// The last part of the path of preempt calls; empty if it has no say in evictions.
    pub preempt_verb: String,
    /// The last part of the path of bind calls; empty if it does not bind.
    pub bind_verb: String,
    /// How often its scores count.
    pub weight: i64,
    /// How long one call may take; 5 seconds by default.
    pub timeout: Option<Duration>,
    /// Whether it knows the nodes itself, and is told their names alone.
    pub knows_nodes: bool,
    /// The extended resources that it manages: it is asked about pods that want one of them. Empty for all pods.
    pub managed_resources: BTreeSet<String>,
    /// Whether pods are scheduled without it while it fails.
    pub ignorable: bool,
    /// Whom to trust, and who the scheduler is.
    pub tls: ExtenderTls,
}

/// An extender in another process, over HTTP and JSON in upstream's protocol (`k8s.io/kube-scheduler/extender/v1`).
///
/// Unlike upstream's, nodes are sent without their images and managed fields, and victims of preemption with their
/// identity, labels, priority and node alone, unless the extender knows them itself.
///
/// Its methods must be called on a thread that may block, within a tokio runtime: that is what the driver does.
pub struct HttpExtender {
    config: HttpExtenderConfig,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl fmt::Debug for HttpExtender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExtender")
            .field("url", &self.config.url_prefix)
            .finish_non_exhaustive()
    }
}

impl HttpExtender {
    /// An extender at a URL.
    ///
    /// # Errors
    ///
    /// If certificates or keys can't be read.
    pub fn try_new(config: HttpExtenderConfig) -> Result<Self, TlsError> {
        let connector = config.tls.connector()?;
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            config,
        })
    }

    fn send(&self, verb: &str, arguments: &Value) -> Result<Value, String> {
        let url = format!("{}/{verb}", self.config.url_prefix.trim_end_matches('/'));
        let request = Request::builder()
            .method(Method::POST)
            .uri(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(arguments.to_string()))
            .map_err(|e| e.to_string())?;
        let call = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|e| format!("Post {url:?}: {}", cause(&e)))?;
            if answer.status() != StatusCode::OK {
                let code = answer.status().as_u16();
                return Err(format!(
                    "failed {verb} with extender at URL {url}, code {code}"
                ));
            }
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect();
            let body = body.await.map_err(|e| e.to_string())?;
            serde_json::from_slice(&body.to_bytes()).map_err(|e| e.to_string())
        };
        let timeout = self.config.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let handle = Handle::try_current().map_err(|e| e.to_string())?;
        handle.block_on(async {
            let call = tokio::time::timeout(timeout, call).await;
            call.unwrap_or_else(|_| Err(format!("Post {url:?}: timed out after {timeout:?}")))
        })
    }

    fn about(&self, pod: &PodInfo, nodes: &[&NodeInfo]) -> Value {
        wire::arguments(pod, nodes, self.config.knows_nodes)
    }
}

/// The innermost cause of an error: what went wrong, not where.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether a container of the pod requests or limits one of these resources.
fn wants_any(pod: &Pod, resources: &BTreeSet<String>) -> bool {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|s| {
        let init = s.init_containers.iter().flatten();
        s.containers.iter().chain(init)
    });
    let lists = containers
        .filter_map(|c| c.resources.as_ref())
        .flat_map(|r| r.requests.iter().chain(&r.limits));
    lists
        .flat_map(|list| list.keys())
        .any(|name| resources.contains(name))
}

impl Extender for HttpExtender {
    fn name(&self) -> &str {
        &self.config.url_prefix
    }

    fn is_interested(&self, pod: &PodInfo) -> bool {
        let managed = &self.config.managed_resources;
        managed.is_empty() || pod.pod().is_some_and(|pod| wants_any(pod, managed))
    }

    fn is_ignorable(&self) -> bool {
        self.config.ignorable
    }

    fn filter(&self, pod: &PodInfo, nodes: &[&NodeInfo]) -> Result<Filtered, String> {
        if self.config.filter_verb.is_empty() {
            let nodes = nodes.iter().map(|n| n.name().to_owned()).collect();
            return Ok(Filtered {
                nodes,
                ..Filtered::default()
            });
        }
        let answer = self.send(&self.config.filter_verb, &self.about(pod, nodes))?;
        wire::filtered(answer)
    }

    fn weight(&self) -> i64 {
        self.config.weight
    }

    fn prioritize(&self, pod: &PodInfo, nodes: &[&NodeInfo]) -> Result<Vec<(String, i64)>, String> {
        if self.config.prioritize_verb.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.send(&self.config.prioritize_verb, &self.about(pod, nodes))?;
        wire::priorities(answer)
    }

    fn preempts(&self) -> bool {
        !self.config.preempt_verb.is_empty()
    }

    fn preempt(
        &self,
        pod: &PodInfo,
        victims: &BTreeMap<String, Victims>,
    ) -> Result<BTreeMap<String, VictimIds>, String> {
        let arguments = wire::preemption(pod, victims, self.config.knows_nodes);
        wire::victims(self.send(&self.config.preempt_verb, &arguments)?)
    }

    fn binds(&self) -> bool {
        !self.config.bind_verb.is_empty()
    }

    fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let answer = self.send(&self.config.bind_verb, &wire::binding(pod, node))?;
        wire::bound(answer)
    }
}
