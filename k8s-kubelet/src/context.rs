//! What all parts of a kubelet share.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, PodStatus, Service, Taint};
use k8s_runtime::{ContainerRuntime, DnsConfig, SandboxId};
use kube::{Client, runtime::reflector::Store};
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    events::Recorder,
    images::ImageManager,
    pod::{PodView, fields::NodeFacts},
    sources::Sources,
    volume::manager::VolumeManager,
};

/// The kubelet's settings that don't change while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node_name: String,
    pub(crate) log_dir: PathBuf,
    /// The node's own logs.
    pub(crate) system_logs: Option<PathBuf>,
    pub(crate) seccomp_dir: PathBuf,
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    pub(crate) node_dns: DnsConfig,
    pub(crate) memory_capacity: u64,
    /// How many pods the node takes.
    pub(crate) max_pods: i64,
    /// Where the server listens.
    pub(crate) listens: Option<SocketAddr>,
    /// The taints that the node registers with.
    pub(crate) taints: Vec<Taint>,
    /// Kernel parameters that pods may set beside the safe ones.
    pub(crate) unsafe_sysctls: Vec<String>,
    /// How often pods' use of local storage is measured.
    pub(crate) storage_check_period: Duration,
}

/// What the kubelet's server knows of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) view: Arc<PodView>,
    pub(crate) status: PodStatus,
    pub(crate) sandbox: Option<SandboxId>,
}

/// Shared by pod workers, server and node status.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) images: ImageManager,
    pub(crate) volumes: VolumeManager,
    pub(crate) sources: Arc<Sources>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) services: Store<Service>,
    node: RwLock<(Arc<Node>, Arc<NodeFacts>)>,
    node_changed: Notify,
    /// By namespace and name.
    known: RwLock<HashMap<(String, String), Known>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("node", &self.settings.node_name)
            .finish_non_exhaustive()
    }
}

/// The parts a [`Context`] is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) images: ImageManager,
    pub(crate) volumes: VolumeManager,
    pub(crate) sources: Arc<Sources>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) services: Store<Service>,
    pub(crate) node_ips: Vec<IpAddr>,
}

impl Context {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let facts = NodeFacts {
            name: parts.settings.node_name.clone(),
            ips: parts.node_ips,
            ..Default::default()
        };
        Arc::new(Self {
            settings: parts.settings,
            client: parts.client,
            runtime: parts.runtime,
            images: parts.images,
            volumes: parts.volumes,
            sources: parts.sources,
            recorder: parts.recorder,
            clock: parts.clock,
            services: parts.services,
            node: RwLock::new((Arc::default(), Arc::new(facts))),
            node_changed: Notify::new(),
            known: RwLock::default(),
        })
    }

    /// The node as the API has it.
    pub(crate) fn node(&self) -> Arc<Node> {
        self.node.read().0.clone()
    }

    pub(crate) fn facts(&self) -> Arc<NodeFacts> {
        self.node.read().1.clone()
    }

    pub(crate) fn set_node(&self, node: Node) {
        let mut current = self.node.write();
        let mut facts = (*current.1).clone();
        facts.allocatable = node
            .status
            .as_ref()
            .and_then(|s| s.allocatable.clone())
            .unwrap_or_default();
        *current = (Arc::new(node), Arc::new(facts));
        self.node_changed.notify_one();
    }

    /// Resolves once the node has changed in the API since this was asked last. For one caller.
    pub(crate) async fn node_changed(&self) {
        self.node_changed.notified().await;
    }

    pub(crate) fn know(&self, known: Known) {
        let key = (
            known.view.namespace().to_owned(),
            known.view.name().to_owned(),
        );
        self.known.write().insert(key, known);
    }

    /// Forgets a pod, unless another one of its name has come.
    pub(crate) fn forget(&self, view: &PodView) {
        let key = (view.namespace().to_owned(), view.name().to_owned());
        let mut known = self.known.write();
        if known.get(&key).is_some_and(|k| k.view.uid() == view.uid()) {
            known.remove(&key);
        }
    }

    pub(crate) fn known(&self, namespace: &str, name: &str) -> Option<Known> {
        self.known
            .read()
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Those known pods that a test lets through.
    pub(crate) fn known_where(&self, test: impl Fn(&Known) -> bool) -> Vec<Known> {
        let known = self.known.read();
        known.values().filter(|k| test(k)).cloned().collect()
    }

    pub(crate) fn all_known(&self) -> Vec<Known> {
        self.known.read().values().cloned().collect()
    }

    /// Where a pod's container logs are.
    pub(crate) fn pod_log_dir(&self, pod: &PodView) -> PathBuf {
        self.settings
            .log_dir
            .join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }
}
