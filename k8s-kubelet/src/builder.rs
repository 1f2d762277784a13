//! [`KubeletBuilder`]: everything that can be said about a kubelet before it runs.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::api::resource::Quantity};
use k8s_runtime::{ContainerRuntime, ImageService};
use kube::{Client, runtime::reflector};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    Error, Kubelet, VolumePlugin,
    clock::Clock,
    context::{Context, Parts, Settings},
    events::Recorder,
    images::ImageManager,
    kubelet::Background,
    node::{NodeConfig, machine},
    pod::{dns::parse_resolv_conf, quantity, sysctl},
    server::tls::ServerTls,
    sources::Sources,
    volume::{self, manager::VolumeManager},
};

/// Certificates of a kubelet's server, in PEM.
#[derive(Clone)]
pub struct TlsOptions {
    /// The server's certificate chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authorities that sign its clients' certificates.
    pub client_ca: String,
}

impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsOptions").finish_non_exhaustive()
    }
}

/// Says what a [`Kubelet`] should be. Made by [`Kubelet::builder`].
#[derive(Clone)]
pub struct KubeletBuilder {
    client: Client,
    runtime: Arc<dyn ContainerRuntime>,
    images: Arc<dyn ImageService>,
    node_name: Option<String>,
    node_ips: Vec<IpAddr>,
    root_dir: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    system_logs: Option<PathBuf>,
    cluster_dns: Vec<IpAddr>,
    cluster_domain: String,
    capacity: BTreeMap<String, Quantity>,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    unschedulable: bool,
    listen: Option<SocketAddr>,
    tls: Option<watch::Receiver<TlsOptions>>,
    plugins: Vec<Arc<dyn VolumePlugin>>,
    epoch: Option<Timestamp>,
    stop_pods: bool,
    stop_timeout: Duration,
    storage_check_period: Duration,
    unsafe_sysctls: Vec<String>,
}

impl std::fmt::Debug for KubeletBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeletBuilder")
            .field("node_name", &self.node_name)
            .finish_non_exhaustive()
    }
}

impl KubeletBuilder {
    pub(crate) fn new(
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
        images: Arc<dyn ImageService>,
    ) -> Self {
        Self {
            client,
            runtime,
            images,
            node_name: None,
            node_ips: Vec::new(),
            root_dir: None,
            log_dir: None,
            system_logs: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            capacity: BTreeMap::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            listen: None,
            tls: None,
            plugins: Vec::new(),
            epoch: None,
            stop_pods: false,
            stop_timeout: Duration::from_secs(60),
            storage_check_period: Duration::from_secs(10),
            unsafe_sysctls: Vec::new(),
        }
    }

    /// The node's name; the machine's by default.
    #[must_use]
    pub fn node_name(mut self, name: impl Into<String>) -> Self {
        self.node_name = Some(name.into());
        self
    }

    /// One of the node's addresses. Without any, it is the one that leads out of the machine.
    #[must_use]
    pub fn node_ip(mut self, ip: IpAddr) -> Self {
        self.node_ips.push(ip);
        self
    }

    /// Where the kubelet keeps its pods' volumes. Required.
    #[must_use]
    pub fn root_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.root_dir = Some(dir.into());
        self
    }

    /// Where container logs go; `log/pods` in the root directory by default.
    #[must_use]
    pub fn log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.log_dir = Some(dir.into());
        self
    }

    /// The directory of the node's own logs, usually `/var/log`: the server shows what is in it, to
    /// those who may use `nodes/log` and `nodes/proxy`, at `/logs/`. Not set, it shows nothing.
    #[must_use]
    pub fn system_logs(mut self, dir: impl Into<PathBuf>) -> Self {
        self.system_logs = Some(dir.into());
        self
    }

    /// The address of the cluster's DNS. May be called for several.
    #[must_use]
    pub fn cluster_dns(mut self, ip: IpAddr) -> Self {
        self.cluster_dns.push(ip);
        self
    }

    /// The cluster's domain; `cluster.local` by default.
    #[must_use]
    pub fn cluster_domain(mut self, domain: impl Into<String>) -> Self {
        self.cluster_domain = domain.into();
        self
    }

    /// What the node offers: CPU (`"4"`), memory (`"16Gi"`) and a number of pods. By default what
    /// the machine has, and 110 pods.
    #[must_use]
    pub fn capacity(self, cpu: &str, memory: &str, pods: u32) -> Self {
        self.resource("cpu", cpu)
            .resource("memory", memory)
            .resource("pods", &pods.to_string())
    }

    /// One more resource that the node offers.
    #[must_use]
    pub fn resource(mut self, name: &str, amount: &str) -> Self {
        self.capacity
            .insert(name.to_owned(), Quantity(amount.to_owned()));
        self
    }

    /// A label of the node, beside those that every node has.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// A taint that the node registers with.
    #[must_use]
    pub fn taint(mut self, taint: Taint) -> Self {
        self.taints.push(taint);
        self
    }

    /// Whether the node registers as closed to new pods.
    #[must_use]
    pub fn unschedulable(mut self, unschedulable: bool) -> Self {
        self.unschedulable = unschedulable;
        self
    }

    /// Where the server listens; port 0 takes any. Needs [`tls`](Self::tls). Without an address
    /// there is no listener, and only [`Kubelet::service`] reaches the server.
    ///
    /// Who shows a certificate of the [client CA](TlsOptions::client_ca) or a bearer token that the
    /// API knows is served as far as the API's authorizer lets them use the node's subresources
    /// (`metrics`, `stats`, `pods`, `proxy`…); the kubelet's own user must be allowed to ask that.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = Some(addr);
        self
    }

    /// The certificates of the server.
    #[must_use]
    pub fn tls(self, options: TlsOptions) -> Self {
        self.renewed_tls(watch::channel(options).1)
    }

    /// The certificates of the server, which may be renewed while it runs: each connection meets
    /// the newest. Those that cannot be used are logged, and the ones before stay.
    #[must_use]
    pub fn renewed_tls(mut self, options: watch::Receiver<TlsOptions>) -> Self {
        self.tls = Some(options);
        self
    }

    /// A kind of volume. It is asked before the built-in ones.
    #[must_use]
    pub fn volume_plugin(mut self, plugin: Arc<dyn VolumePlugin>) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Runs on simulated time, which begins here and goes on with tokio's clock. Give the
    /// simulated runtime the same.
    #[must_use]
    pub fn epoch(mut self, epoch: Timestamp) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Whether pods end when the kubelet does. By default they run on, and the next kubelet with
    /// the same directories takes them over.
    #[must_use]
    pub fn stop_pods(mut self, stop: bool) -> Self {
        self.stop_pods = stop;
        self
    }

    /// How long [`Kubelet::run`] waits, once stopped, for what is under way; a minute by default.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// Lets pods set a kernel parameter beside the safe ones, or with a `*` at the end all that begin
    /// so. Only those that are namespaced can be: of `kernel.sem`, `kernel.shm`, `kernel.msg`,
    /// `fs.mqueue.` and `net.`.
    #[must_use]
    pub fn allow_unsafe_sysctl(mut self, pattern: impl Into<String>) -> Self {
        self.unsafe_sysctls.push(pattern.into());
        self
    }

    /// How often pods with limits on local storage are measured, to evict those that are past
    /// them; every 10 s by default, as upstream. Not zero.
    #[must_use]
    pub fn storage_check_period(mut self, period: Duration) -> Self {
        self.storage_check_period = period;
        self
    }

    /// Checks the configuration, makes the directories and opens the listener. Nothing is sent
    /// and no task is spawned before [`Kubelet::run`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a setting that can't be, [`Error::Io`] for a directory,
    /// [`Error::Tls`] and [`Error::Listen`] for the server.
    pub fn build(self) -> Result<Kubelet, Error> {
        let root_dir = self
            .root_dir
            .clone()
            .ok_or_else(|| Error::Config("root_dir is required".to_owned()))?;
        let root_dir = make_dir(&root_dir)?;
        let log_dir = make_dir(
            &self
                .log_dir
                .clone()
                .unwrap_or_else(|| root_dir.join("log").join("pods")),
        )?;
        let pods_dir = make_dir(&root_dir.join("pods"))?;
        let node_name = self.node_name.clone().unwrap_or_else(machine::hostname);
        if node_name.is_empty() {
            return Err(Error::Config(
                "node_name is required: this machine has none".to_owned(),
            ));
        }
        let mut node_ips = self.node_ips.clone();
        if node_ips.is_empty() {
            node_ips.push(machine::address().unwrap_or(IpAddr::from([127, 0, 0, 1])));
        }
        if self.storage_check_period.is_zero() {
            return Err(Error::Config("storage_check_period is zero".to_owned()));
        }
        let mut unsafe_sysctls = Vec::new();
        for text in &self.unsafe_sysctls {
            let pattern = sysctl::pattern(text);
            unsafe_sysctls.push(pattern.ok_or_else(|| {
                Error::Config(format!("the sysctl {text:?} is not known to be namespaced"))
            })?);
        }
        let (capacity, memory_capacity) = self.full_capacity(&root_dir)?;
        let (listener, tls) = match (self.listen, &self.tls) {
            (None, _) => (None, None),
            (Some(_), None) => return Err(Error::Config("listen needs tls".to_owned())),
            (Some(addr), Some(tls)) => {
                let tls = ServerTls::new(tls.clone())?;
                let listener = std::net::TcpListener::bind(addr)
                    .and_then(|l| l.set_nonblocking(true).map(|()| l))
                    .map_err(|source| Error::Listen { addr, source })?;
                (Some(listener), Some(tls))
            }
        };
        let local_addr = listener.as_ref().and_then(|l| l.local_addr().ok());
        let clock = match self.epoch {
            Some(epoch) => Clock::Simulated {
                epoch,
                start: Instant::now(),
            },
            None => Clock::System,
        };
        let (recorder, events) = Recorder::new(self.client.clone(), &node_name);
        let (changes_tx, changes) = mpsc::unbounded_channel();
        let sources = Arc::new(Sources::new(self.client.clone(), changes_tx));
        let (services, services_writer) = reflector::store();
        let mut plugins = self.plugins.clone();
        plugins.extend(volume::built_in());
        let simulated = self.runtime.name() == "sim";
        let resolv_conf = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let context = Context::new(Parts {
            settings: Settings {
                node_name,
                log_dir,
                system_logs: self.system_logs.clone(),
                seccomp_dir: root_dir.join("seccomp"),
                cluster_dns: self.cluster_dns.clone(),
                cluster_domain: self.cluster_domain.clone(),
                node_dns: parse_resolv_conf(&resolv_conf),
                memory_capacity,
                max_pods: capacity
                    .get("pods")
                    .and_then(quantity::value)
                    .unwrap_or_default(),
                listens: local_addr,
                taints: self.taints.clone(),
                unsafe_sysctls,
                storage_check_period: self.storage_check_period,
            },
            client: self.client.clone(),
            runtime: self.runtime.clone(),
            images: ImageManager::new(self.images.clone()),
            volumes: VolumeManager {
                plugins,
                pods_dir,
                may_mount: !simulated && volume::manager::may_mount(&root_dir),
                sources: sources.clone(),
            },
            sources,
            recorder,
            clock,
            services,
            node_ips,
        });
        let node = NodeConfig {
            labels: self.labels.clone(),
            taints: self.taints.clone(),
            unschedulable: self.unschedulable,
            capacity,
            port: local_addr.map(|a| a.port()),
            root_dir,
            watch_pressure: !simulated,
        };
        let background = Background {
            events: Box::pin(events),
            changes,
            services_writer,
        };
        Ok(Kubelet::assemble(
            context,
            node,
            background,
            listener.zip(tls),
            local_addr,
            self.stop_pods,
            self.stop_timeout,
        ))
    }

    fn full_capacity(&self, root_dir: &Path) -> Result<(BTreeMap<String, Quantity>, u64), Error> {
        let machine = machine::Machine::this();
        let mut capacity = BTreeMap::from([
            ("cpu".to_owned(), Quantity(machine.cpus.to_string())),
            (
                "memory".to_owned(),
                Quantity(format!("{}Ki", machine.memory_bytes / 1024)),
            ),
            ("pods".to_owned(), Quantity("110".to_owned())),
        ]);
        if let Some(bytes) = machine::disk_bytes(root_dir) {
            let disk = Quantity(format!("{}Ki", bytes / 1024));
            capacity.insert("ephemeral-storage".to_owned(), disk);
        }
        capacity.extend(self.capacity.clone());
        for (name, amount) in &capacity {
            if quantity::milli(amount).is_none() {
                return Err(Error::Config(format!(
                    "capacity {name}={:?} is no quantity",
                    amount.0
                )));
            }
        }
        let memory = capacity
            .get("memory")
            .and_then(quantity::value)
            .and_then(|v| u64::try_from(v).ok());
        Ok((capacity, memory.unwrap_or(machine.memory_bytes)))
    }
}

fn make_dir(dir: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::Io {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(fail)?;
    fs::canonicalize(dir).map_err(fail)
}
