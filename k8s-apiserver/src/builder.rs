//! [`ApiServerBuilder`]: what a server is made of.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use k8s_model::{Resource, ResourceTable};
use k8s_store::{MemoryStore, Store};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ApiServer, TypedResource, TypedResourceError,
    admission::{
        AdmissionPlugin, metrics::AdmissionMetrics, plugins::default_plugins, reader::ObjectReader,
    },
    aggregation::{Aggregation, registration},
    audit::{Audit, AuditSink, Policy},
    auth::{
        Authenticator, DEFAULT_ISSUER, Impersonation, ServiceAccountTokens, Standard, TokenKeyError,
    },
    authz::{
        AllowMasters, Authorizer, Chain,
        node::NodeAuthorizer,
        rbac::{EscalationCheck, Rbac},
    },
    bootstrap,
    cache::Caches,
    compaction,
    components::{self, Component, OfStore},
    definitions,
    flow::{self, FlowControl, MaxInFlight},
    identity_lease, legacy_tokens,
    metrics::{Metrics, More, Requests},
    pki::{FrontProxy, Pki, PkiError},
    proxy::Connecter,
    registry::{Clock, Registry, Served, Written, reader::LateReader},
    reviews::{self, CreateOnly},
    server::{Ending, Inner},
    services::{self, Cidr, NodePortRange, Services},
    webhook::Clients,
};

/// A server could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The store does not answer.
    #[error("the store cannot be read")]
    Store(#[from] k8s_store::Error),
    /// An object that every cluster has could not be made.
    #[error("the cluster's first objects cannot be made")]
    Bootstrap(#[source] crate::Error),
    /// A role that every cluster has could not be made.
    #[error("the cluster's first roles cannot be made")]
    Roles(#[from] kube::Error),
    /// No key for tokens could be made.
    #[error("no key for tokens can be made")]
    Key(#[from] PkiError),
    /// No thread for the audit log could be started.
    #[error("the audit log cannot be written")]
    Audit(#[source] std::io::Error),
    /// The two ranges of Services are of one family.
    #[error("the ranges of Services must be of different families: {0} and {1}")]
    ServiceCidrs(Cidr, Cidr),
    /// A Rust type cannot be served as a resource.
    #[error(transparent)]
    Typed(#[from] TypedResourceError),
    /// The key for tokens is not good.
    #[error(transparent)]
    Tokens(#[from] TokenKeyError),
}

/// Where the `kubernetes` Service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The server's addresses, as pods reach them, all of one family.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// What an [`ApiServer`] is made of. Everything has a default.
///
/// | part | default |
/// |---|---|
/// | [`store`](Self::store) | a new [`MemoryStore`] |
/// | [`resources`](Self::resources) | all built-in ones |
/// | [`typed`](Self::typed) | no others |
/// | [`tokens`](Self::tokens) | signed with a key that is made for the occasion |
/// | [`authenticator`](Self::authenticator) | [`Standard`]: client certificates, tokens of service accounts |
/// | [`authorizer`](Self::authorizer) | the node authorizer, then RBAC with upstream's roles |
/// | [`admission`](Self::admission) | upstream's default plugins |
/// | [`create_only`](Self::create_only) | the reviews and the tokens of service accounts |
/// | [`component`](Self::component) | the store alone tells its health |
/// | [`audit`](Self::audit) | nothing is recorded |
/// | [`max_in_flight`](Self::max_in_flight) | 600 seats, shared out by priority and fairness |
/// | [`compaction_interval`](Self::compaction_interval) | five minutes |
/// | [`identity`](Self::identity) | none: no Lease |
/// | [`service_cidr`](Self::service_cidr) | `10.96.0.0/16` |
/// | [`secondary_service_cidr`](Self::secondary_service_cidr) | none: one family |
/// | [`node_port_range`](Self::node_port_range) | 30000-32767 |
pub struct ApiServerBuilder {
    store: Option<Arc<dyn Store>>,
    resources: Vec<Arc<Resource>>,
    typed: Vec<Arc<Resource>>,
    /// What is wrong with the first of them that cannot be served.
    failed: Option<TypedResourceError>,
    reader: Arc<LateReader>,
    authenticator: Option<Arc<dyn Authenticator>>,
    tokens: Option<Arc<ServiceAccountTokens>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    admission: Option<Vec<Arc<dyn AdmissionPlugin>>>,
    create_only: Vec<(
        &'static str,
        &'static str,
        &'static str,
        Arc<dyn CreateOnly>,
    )>,
    connecters: Vec<(&'static str, &'static str, Arc<dyn Connecter>)>,
    components: Vec<(String, Arc<dyn Component>)>,
    service_cidr: Cidr,
    secondary_service_cidr: Option<Cidr>,
    node_ports: NodePortRange,
    advertised: Option<Advertised>,
    audit: Option<(Policy, Box<dyn AuditSink>)>,
    max_in_flight: MaxInFlight,
    fair: bool,
    metrics: Vec<More>,
    front_proxy: Option<FrontProxy>,
    bootstrap: bool,
    clock: Clock,
    seed: Option<u64>,
    compaction: Duration,
    identity: Option<String>,
}

impl std::fmt::Debug for ApiServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServerBuilder")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Default for ApiServerBuilder {
    fn default() -> Self {
        ApiServerBuilder {
            store: None,
            resources: ResourceTable::builtin().rows().to_vec(),
            typed: Vec::new(),
            failed: None,
            reader: Arc::default(),
            authenticator: None,
            tokens: None,
            authorizer: None,
            admission: None,
            create_only: Vec::new(),
            connecters: Vec::new(),
            components: Vec::new(),
            service_cidr: Cidr::default(),
            secondary_service_cidr: None,
            node_ports: NodePortRange::default(),
            advertised: None,
            audit: None,
            max_in_flight: MaxInFlight::default(),
            fair: true,
            metrics: Vec::new(),
            front_proxy: None,
            bootstrap: true,
            clock: Arc::new(k8s_openapi::jiff::Timestamp::now),
            seed: None,
            compaction: compaction::INTERVAL,
            identity: None,
        }
    }
}

impl ApiServerBuilder {
    /// Where objects are kept.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Which resources are served, besides those that custom resource definitions add: rows of
    /// [`ResourceTable::builtin`], of your own, or both. Their order is the order in discovery:
    /// rows of a group together, the preferred version of a group first.
    #[must_use]
    pub fn resources(mut self, resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        self.resources = resources.into_iter().collect();
        self
    }

    /// A Rust type of your own as a resource, besides the others. One that cannot be served fails
    /// [`build`](Self::build).
    #[must_use]
    pub fn typed<K>(mut self, resource: TypedResource<K>) -> Self
    where
        K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        match resource.into_rows() {
            Ok(rows) => self.typed.extend(rows),
            Err(error) => self.failed = self.failed.or(Some(error)),
        }
        self
    }

    /// What the server's parts read objects with. It may be handed to authorizers and plugins
    /// before the server is built; it answers once that is done.
    pub fn reader(&self) -> Arc<dyn ObjectReader> {
        self.reader.clone()
    }

    /// Who finds out who a request comes from.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Who signs and checks the tokens of service accounts.
    #[must_use]
    pub fn tokens(mut self, tokens: Arc<ServiceAccountTokens>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Who says what users may do.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// The plugins that every write passes, in order, in place of
    /// [`default_plugins`](crate::admission::plugins::default_plugins) and the check of
    /// privilege escalation.
    #[must_use]
    pub fn admission(mut self, plugins: Vec<Arc<dyn AdmissionPlugin>>) -> Self {
        self.admission = Some(plugins);
        self
    }

    /// Who answers for a resource, or a subresource, that can only be created. The subresource is
    /// empty for the resource itself.
    #[must_use]
    pub fn create_only(
        mut self,
        group: &'static str,
        resource: &'static str,
        subresource: &'static str,
        handler: Arc<dyn CreateOnly>,
    ) -> Self {
        self.create_only
            .push((group, resource, subresource, handler));
        self
    }

    /// Who opens connections to the objects of a resource: `log`, `exec`, `attach`, `portforward` and
    /// `proxy`. Without one they are answered with 503.
    #[must_use]
    pub fn connecter(
        mut self,
        group: &'static str,
        resource: &'static str,
        connecter: Arc<dyn Connecter>,
    ) -> Self {
        self.connecters.push((group, resource, connecter));
        self
    }

    /// A part of the cluster whose health `componentstatuses` tell, by its name: `scheduler` and
    /// `controller-manager` are upstream's. The store is told of without that.
    #[must_use]
    pub fn component(mut self, name: impl Into<String>, part: Arc<dyn Component>) -> Self {
        self.components.push((name.into(), part));
        self
    }

    /// The range of the addresses of Services: the ServiceCIDR `kubernetes` is made of it if there is none, and others add
    /// to it. Where there is one with another range, that one counts. Its family is the one that Services get which do not
    /// say otherwise.
    #[must_use]
    pub fn service_cidr(mut self, cidr: Cidr) -> Self {
        self.service_cidr = cidr;
        self
    }

    /// A range of the other family: [dual-stack](https://kubernetes.io/docs/concepts/services-networking/dual-stack/)
    /// Services can have an address of each then. The ServiceCIDR `kubernetes` gets it too, also where a server without it
    /// made that.
    #[must_use]
    pub fn secondary_service_cidr(mut self, cidr: Cidr) -> Self {
        self.secondary_service_cidr = Some(cidr);
        self
    }

    /// The range of the node ports of Services.
    #[must_use]
    pub fn node_port_range(mut self, range: NodePortRange) -> Self {
        self.node_ports = range;
        self
    }

    /// Where the `kubernetes` Service in `default` leads to. Without, there is no such Service.
    #[must_use]
    pub fn advertise(mut self, advertised: Advertised) -> Self {
        self.advertised = Some(advertised);
        self
    }

    /// Records what the policy chooses; by default nothing is. A thread of its own writes, until the server is
    /// dropped.
    #[must_use]
    pub fn audit(mut self, policy: Policy, sink: impl AuditSink + 'static) -> Self {
        self.audit = Some((policy, Box::new(sink)));
        self
    }

    /// What the server shows to the API servers behind it (`APIService`s). Without, it shows nothing, and
    /// they will not believe it whom it asks for.
    #[must_use]
    pub fn front_proxy(mut self, identity: FrontProxy) -> Self {
        self.front_proxy = Some(identity);
        self
    }

    /// Whether priority and fairness decide which requests are served when there are too many: FlowSchemas and
    /// PriorityLevelConfigurations. They do by default.
    #[must_use]
    pub fn priority_and_fairness(mut self, on: bool) -> Self {
        self.fair = on;
        self
    }

    /// Adds to what `/metrics` says: text in Prometheus' format, with metrics that nobody else writes.
    #[must_use]
    pub fn metrics(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics.push(Arc::new(text));
        self
    }

    /// How many requests are served at once.
    #[must_use]
    pub fn max_in_flight(mut self, limits: MaxInFlight) -> Self {
        self.max_in_flight = limits;
        self
    }

    /// How long the store keeps history at least, and less than twice as long: lists can be continued, and watches
    /// resumed, from revisions of that age. Upstream's `--etcd-compaction-interval`, 0 for never.
    #[must_use]
    pub fn compaction_interval(mut self, interval: Duration) -> Self {
        self.compaction = interval;
        self
    }

    /// The name of the machine that the server runs on: under one that is made of it, the server keeps a Lease in
    /// `kube-system` by which others know that it is there, as upstream's does. Without a name it keeps none.
    #[must_use]
    pub fn identity(mut self, hostname: impl Into<String>) -> Self {
        self.identity = Some(hostname.into());
        self
    }

    /// Whether the objects that every cluster has are made: system namespaces, priority
    /// classes, roles, the ServiceCIDR of the server's own range; and whether IPAddresses are made that Services lack,
    /// and deleted that no Service has. They are by default.
    #[must_use]
    pub fn bootstrap(mut self, bootstrap: bool) -> Self {
        self.bootstrap = bootstrap;
        self
    }

    /// What the time is, for time stamps in objects.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes UIDs, generated names and allocated addresses the same in every run that makes the same objects in the
    /// same order. A server on a store that was filled with a seed needs another one, or UIDs are given out twice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the server, and makes the objects that every cluster has if they are not there. Starts
    /// one task, which follows the store until the server is shut down or dropped.
    ///
    /// # Errors
    /// Fails if the store does, or a typed resource cannot be served.
    pub async fn build(mut self) -> Result<ApiServer, BuildError> {
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        if let Some(second) = self.secondary_service_cidr
            && second.family() == self.service_cidr.family()
        {
            return Err(BuildError::ServiceCidrs(self.service_cidr, second));
        }
        for row in std::mem::take(&mut self.typed) {
            // Rows of a group stay together.
            let last = self.resources.iter().rposition(|r| r.group == row.group);
            let at = last.map_or(self.resources.len(), |last| last + 1);
            self.resources.insert(at, row);
        }
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let caches = Caches::start(store.clone(), stop.clone(), tasks.clone()).await?;
        if !self.compaction.is_zero() {
            let (store, stop) = (store.clone(), stop.clone());
            tasks.spawn(compaction::run(store, self.compaction, stop));
        }
        let reader: Arc<dyn ObjectReader> = self.reader.clone();
        let tokens = match self.tokens {
            Some(tokens) => tokens,
            None => Arc::new(own_tokens(reader.clone())?),
        };
        let mut rbac = None;
        let mut nodes = None;
        let authorizer = match self.authorizer {
            Some(authorizer) => authorizer,
            None => {
                let roles = Arc::new(Rbac::start(&*reader));
                let node = Arc::new(NodeAuthorizer::start(&*reader));
                rbac = Some(roles.clone());
                nodes = Some(node.clone());
                Arc::new(Chain::new(vec![Arc::new(AllowMasters), node, roles]))
                    as Arc<dyn Authorizer>
            }
        };
        let admission = self.admission.unwrap_or_else(|| {
            let mut plugins = default_plugins(&reader, &authorizer);
            if let Some(rbac) = &rbac {
                plugins.push(Arc::new(EscalationCheck::new(
                    rbac.clone(),
                    authorizer.clone(),
                )));
            }
            plugins
        });
        let authenticator = self
            .authenticator
            .unwrap_or_else(|| Arc::new(Standard::new(Some(tokens.clone()))));
        let mut create_only = self.create_only;
        for served in reviews::all(&authorizer, &authenticator, &tokens, &reader) {
            create_only.push((served.group, served.resource, served.subresource, served.by));
        }
        let aggregation = Aggregation::new(reader.clone(), self.front_proxy);
        let address = self
            .advertised
            .as_ref()
            .and_then(|a| a.addresses.first().map(|ip| format!("{ip}:{}", a.port)))
            .unwrap_or_default();
        let registry = Arc::new(Registry {
            store,
            caches,
            written: Written::default(),
            served_changed: Notify::new(),
            fixed: self
                .resources
                .iter()
                .map(|r| (r.group, r.version))
                .collect(),
            served: ArcSwap::from_pointee(Served::new(
                self.resources,
                address.clone(),
                Arc::new(Clients::new(reader.clone())),
            )),
            admission_metrics: AdmissionMetrics::new(&admission),
            requests: Requests::default(),
            admission,
            services: Services {
                cidr: self.service_cidr,
                second_cidr: self.secondary_service_cidr,
                node_ports: self.node_ports,
                allocations: Arc::default(),
            },
            clock: self.clock,
            random: parking_lot::Mutex::new(
                self.seed
                    .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            ),
        });
        if self.bootstrap {
            bootstrap::run(&registry, self.advertised.as_ref())
                .await
                .map_err(BuildError::Bootstrap)?;
            registration::at_start(&registry)
                .await
                .map_err(BuildError::Bootstrap)?;
            if let Some(map) = aggregation.authentication() {
                bootstrap::authentication(&registry, map)
                    .await
                    .map_err(BuildError::Bootstrap)?;
            }
        }
        if self.bootstrap {
            flow::make(&registry).await.map_err(BuildError::Bootstrap)?;
        }
        self.reader.bind(&registry);
        let flow = Arc::new(FlowControl::new(self.max_in_flight, self.fair));
        let mut flowing = flow::start(&flow, &registry, &*reader, self.bootstrap, &stop, &tasks);
        let mut defined = definitions::start(&registry, &*reader, &stop, &tasks);
        let register = self.bootstrap.then(|| defined.clone());
        aggregation.start(&registry, &stop, &tasks, register);
        let repaired = (self.bootstrap).then(|| services::start(&registry, &reader, &stop, &tasks));
        legacy_tokens::start(&registry, &tokens, self.bootstrap, &stop, &tasks);
        if let Some(hostname) = self.identity {
            identity_lease::start(&registry, hostname, &stop, &tasks);
        }
        let mut parts = self.components;
        let kept = Arc::new(OfStore(registry.clone()));
        parts.push((components::STORE.to_owned(), kept));
        let server = ApiServer::new(Inner {
            registry,
            authenticator,
            authorizer,
            impersonation: Impersonation::default(),
            metrics: Metrics {
                more: self.metrics,
                ..Metrics::default()
            },
            flow,
            aggregation,
            tokens,
            address,
            audit: self
                .audit
                .map(|(policy, sink)| Audit::start(policy, sink))
                .transpose()
                .map_err(BuildError::Audit)?,
            create_only,
            connecters: self.connecters,
            components: parts,
            ending: Ending::default(),
            checked: Default::default(),
            stop,
            tasks,
        });
        if self.bootstrap && rbac.is_some() {
            bootstrap::roles(&server).await?;
        }
        // Its sender goes away with the server alone.
        let _ = defined.wait_for(|synced| *synced).await;
        let _ = flowing.wait_for(|synced| *synced).await;
        if let Some(mut repaired) = repaired {
            // Nothing is handed out before each address that a Service has is known to be taken.
            let _ = repaired.wait_for(|looked| *looked).await;
        }
        if let Some(rbac) = rbac {
            rbac.synced().await;
        }
        if let Some(nodes) = nodes {
            nodes.synced().await;
        }
        Ok(server)
    }
}

/// Tokens under a key that nobody else knows: they are good as long as the server lives.
fn own_tokens(reader: Arc<dyn ObjectReader>) -> Result<ServiceAccountTokens, BuildError> {
    let pki = Pki::in_memory()?;
    Ok(ServiceAccountTokens::new(
        pki.service_account_key(),
        DEFAULT_ISSUER,
        reader,
    )?)
}
