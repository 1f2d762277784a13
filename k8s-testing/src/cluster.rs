//! [`TestCluster`]: a cluster in this process.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use k8s_apiserver::{ApiServer, auth::Identity, proxy};
use k8s_controllers::ControllerManager;
use k8s_openapi::{
    api::core::v1::{Namespace, Node, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use k8s_scheduler::{Driver, DriverConfig, Profile};
use k8s_store::MemoryStore;
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{conditions, wait::await_condition},
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Layer;

use crate::{
    Error, FaultLayer, Faults, TestClusterBuilder, builder::Change, gate::Gate, kubelets::Kubelets,
    node,
};

/// How long the set-up waits for its parts. A cluster takes a fraction of a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How far apart the seeds of a cluster's servers are: so far that clusters with neighbouring seeds share none.
const APART: u64 = 0x9e37_79b9_7f4a_7c15;

/// A cluster in this process, as long as the value lives.
///
/// Many can be there at once; they share nothing. It needs a tokio runtime, of any kind.
///
/// Dropping it stops all its tasks, cuts its clients off and removes its folder;
/// [`stop`](Self::stop) does the same and waits until it is done.
pub struct TestCluster {
    gate: Gate,
    kubelets: Kubelets,
    store: Arc<dyn k8s_store::Store>,
    change: Change,
    seed: Option<u64>,
    /// How many servers were built.
    builds: AtomicU64,
    controllers: bool,
    folder: Arc<TempDir>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCluster")
            .field("folder", &self.folder.path())
            .finish_non_exhaustive()
    }
}

impl TestCluster {
    /// Starts a whole cluster: API server, controllers, scheduler and one simulated node.
    ///
    /// # Errors
    ///
    /// See [`TestClusterBuilder::start`].
    pub async fn start() -> Result<Self, Error> {
        let whole = Self::builder().controllers().scheduler().nodes(1);
        whole.start().await
    }

    /// A cluster that is an API server and what is asked for.
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder::default()
    }

    pub(crate) async fn with(options: TestClusterBuilder) -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("k8s-testing-")
            .tempdir()
            .map_err(|source| Error::Node {
                name: "of any name".to_owned(),
                source: source.into(),
            })?;
        let mut cluster = TestCluster {
            gate: Gate::default(),
            kubelets: Kubelets::default(),
            store: options
                .store
                .unwrap_or_else(|| Arc::new(MemoryStore::new())),
            change: options.change,
            seed: options.seed,
            builds: AtomicU64::new(0),
            controllers: options.controllers,
            folder: Arc::new(folder),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        cluster.gate.open(cluster.build().await?);
        if options.controllers {
            cluster.start_controllers();
        }
        if options.scheduler {
            let client = cluster.client_as(component("system:kube-scheduler"));
            let config = DriverConfig {
                seed: options.seed.unwrap_or_default(),
                ..DriverConfig::default()
            };
            let driver = Driver::new(client, Profile::default(), config);
            cluster.tasks.spawn(driver.run(cluster.stop.clone()));
        }
        for index in 0..options.nodes {
            let admin = cluster.client();
            let stop = cluster.stop.clone();
            let ways = (&cluster.gate, &cluster.kubelets);
            let node = node::start(
                ways,
                admin,
                &cluster.folder,
                index,
                options.commands.clone(),
                stop,
            )
            .await?;
            cluster.tasks.spawn(node);
        }
        cluster.account_in("default").await?;
        for index in 0..options.nodes {
            let name = node::name(index);
            let nodes = Api::<Node>::all(cluster.client());
            let ready = await_condition(nodes, &name, is_ready).map(|found| found.map(drop));
            in_time(&format!("node {name} to be Ready"), ready).await?;
        }
        Ok(cluster)
    }

    async fn build(&self) -> Result<ApiServer, Error> {
        let mut builder = ApiServer::builder();
        if let Some(seed) = self.seed {
            // What one server has given out no later one may give out again.
            let before = self.builds.fetch_add(1, Ordering::Relaxed);
            builder = builder.seed(seed.wrapping_add(before.wrapping_mul(APART)));
        }
        let mut builder = (self.change)(builder).store(self.store.clone());
        let (reader, dialer) = (builder.reader(), Arc::new(self.kubelets.clone()));
        let dialer: Arc<dyn proxy::NodeDialer> = dialer;
        for (resource, connecter) in proxy::connecters(&reader, &dialer) {
            builder = builder.connecter("", resource, connecter);
        }
        Ok(builder.build().await?)
    }

    fn start_controllers(&mut self) {
        let gate = self.gate.clone();
        let clients = move |name: &str| {
            let identity = match name {
                ControllerManager::SHARED => component("system:kube-controller-manager"),
                name => {
                    Identity::service_account("kube-system", name, "").group("system:authenticated")
                }
            };
            Client::new(gate.service(identity), "default")
        };
        let manager = ControllerManager::builder(clients)
            .root_ca("no authority signs certificates in this cluster\n")
            .build();
        let stop = self.stop.clone();
        self.tasks.spawn(manager.run(stop).map(drop));
    }

    /// A client that may do everything. Its default namespace is `default`.
    pub fn client(&self) -> Client {
        self.client_as(Identity::system_masters())
    }

    /// A client that is somebody: what it sends is authorized and admitted as if it had come over the
    /// network. Its default namespace is `default`.
    pub fn client_as(&self, identity: Identity) -> Client {
        Client::new(self.gate.service(identity), "default")
    }

    /// A client on whose way things go wrong.
    pub fn client_with_faults(&self, identity: Identity, faults: &Faults) -> Client {
        let layer = FaultLayer::new(faults);
        Client::new(layer.layer(self.gate.service(identity)), "default")
    }

    /// The server that is up now: for requests that kube has no word for. Nothing while it restarts.
    pub fn server(&self) -> Option<ApiServer> {
        self.gate.server()
    }

    /// Where simulated nodes keep the volumes of their pods.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a namespace, and waits until pods may be made in it.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub async fn namespace(&self, name: &str) -> Result<Namespace, Error> {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        let namespaces = Api::<Namespace>::all(self.client());
        let made = namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
        self.account_in(name).await?;
        Ok(made)
    }

    /// Makes custom resource definitions, as `derive(CustomResource)` gives them, and waits until their
    /// objects are served.
    ///
    /// # Errors
    ///
    /// If one is refused.
    pub async fn define(
        &self,
        definitions: impl IntoIterator<Item = CustomResourceDefinition>,
    ) -> Result<(), Error> {
        let api = Api::<CustomResourceDefinition>::all(self.client());
        for definition in definitions {
            let made = api.create(&PostParams::default(), &definition).await?;
            let name = made.metadata.name.unwrap_or_default();
            let established = await_condition(api.clone(), &name, conditions::is_crd_established());
            in_time(&name, established.map(|found| found.map(drop))).await?;
        }
        Ok(())
    }

    /// Every pod needs a service account; without controllers nobody else makes it.
    async fn account_in(&self, namespace: &str) -> Result<(), Error> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        if self.controllers {
            let there = |found: Option<&ServiceAccount>| found.is_some();
            let made = await_condition(accounts, "default", there).map(|found| found.map(drop));
            return in_time(&format!("the service account of {namespace}"), made).await;
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".to_owned());
        match accounts.create(&PostParams::default(), &account).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops the API server and starts it again, on the same store. Watches end; what clients send
    /// meanwhile fails as if nobody listened. Clients go on working afterwards.
    ///
    /// # Errors
    ///
    /// If it cannot be built again; the cluster is without a server then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the cluster without a server; calling it again starts one.
    pub async fn restart(&self) -> Result<(), Error> {
        if let Some(server) = self.gate.close() {
            server.shutdown().await;
        }
        self.gate.open(self.build().await?);
        Ok(())
    }

    /// Stops everything and waits until it has ended.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut self.tasks);
        let ended: BoxFuture<'_, ()> = async { while tasks.join_next().await.is_some() {} }.boxed();
        if tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .is_err()
        {
            tasks.shutdown().await;
        }
        self.kubelets.clear();
        if let Some(server) = self.gate.close() {
            server.shutdown().await;
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.stop.cancel();
        // Clients may live on; the server does not.
        drop(self.gate.close());
        self.kubelets.clear();
    }
}

/// The identity of a part of the cluster.
fn component(name: &str) -> Identity {
    Identity::user(name).group("system:authenticated")
}

fn is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_ref());
    let tainted = node.is_some_and(|n| {
        let taints = n.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.is_some_and(|taints| taints.iter().any(|t| t.key.ends_with("not-ready")))
    });
    !tainted
        && conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn in_time<E: std::fmt::Display>(
    what: &str,
    done: impl Future<Output = Result<(), E>>,
) -> Result<(), Error> {
    match tokio::time::timeout(PATIENCE, done).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::NotReady(format!("{what}: {error}"))),
        Err(_) => Err(Error::NotReady(what.to_owned())),
    }
}
