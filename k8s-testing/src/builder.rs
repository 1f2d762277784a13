//! [`TestClusterBuilder`]: what is in a cluster.

use std::sync::Arc;

use k8s_apiserver::ApiServerBuilder;
use k8s_runtime::{ContainerConfig, SandboxConfig, sim::SimExec};
use k8s_store::Store;

use crate::{Error, TestCluster};

/// Changes how each server of a cluster is built.
pub(crate) type Change = Arc<dyn Fn(ApiServerBuilder) -> ApiServerBuilder + Send + Sync>;

/// Says what commands do in simulated containers.
pub(crate) type Commands =
    Arc<dyn Fn(&SandboxConfig, &ContainerConfig, &[String]) -> Option<SimExec> + Send + Sync>;

/// What is in a [`TestCluster`]: an API server on an empty store in memory, and what is asked for.
#[derive(Clone)]
pub struct TestClusterBuilder {
    /// Nothing is an empty one, which is made at the start: clones of the builder start clusters of their own.
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) change: Change,
    pub(crate) controllers: bool,
    pub(crate) scheduler: bool,
    pub(crate) nodes: usize,
    pub(crate) commands: Option<Commands>,
    pub(crate) seed: Option<u64>,
}

impl std::fmt::Debug for TestClusterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestClusterBuilder")
            .field("store", &self.store)
            .field("controllers", &self.controllers)
            .field("scheduler", &self.scheduler)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl Default for TestClusterBuilder {
    fn default() -> Self {
        TestClusterBuilder {
            store: None,
            change: Arc::new(|builder| builder),
            controllers: false,
            scheduler: false,
            nodes: 0,
            commands: None,
            seed: None,
        }
    }
}

impl TestClusterBuilder {
    /// The controllers too, each with its own identity and upstream's roles.
    #[must_use]
    pub fn controllers(mut self) -> Self {
        self.controllers = true;
        self
    }

    /// The scheduler too.
    #[must_use]
    pub fn scheduler(mut self) -> Self {
        self.scheduler = true;
        self
    }

    /// So many nodes, `node-1` and so on, that make pods Running and run nothing: 4 CPUs, 16 GiB and
    /// 110 pods each. `sim.k8s-runtime/exit-after` and its like in a pod's annotations end its
    /// containers; see [`k8s_runtime::sim`]. At most 250.
    #[must_use]
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count.min(250);
        self
    }

    /// Says what commands do in the containers of simulated nodes, for exec, probes and hooks: by the pod, the
    /// container and the command's words. Where it has no answer, the simulation has its own, see
    /// [`k8s_runtime::sim`].
    #[must_use]
    pub fn commands(
        mut self,
        commands: impl Fn(&SandboxConfig, &ContainerConfig, &[String]) -> Option<SimExec>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.commands = Some(Arc::new(commands));
        self
    }

    /// Where objects are kept, in place of an empty store in memory: a fork of one that was filled
    /// before, or a backend of your own. Nodes that are there already are run again.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Makes UIDs, generated names and allocated addresses the same in every run that makes the same objects in the
    /// same order: not where controllers, nodes or tasks of yours race to make them. It holds over
    /// [`restart`](TestCluster::restart), after which there are other ones. On a [`store`](Self::store) that was filled with
    /// a seed, take another one, or UIDs are given out twice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Changes how the API server is built, at the start and at every restart.
    #[must_use]
    pub fn server(
        mut self,
        change: impl Fn(ApiServerBuilder) -> ApiServerBuilder + Send + Sync + 'static,
    ) -> Self {
        self.change = Arc::new(change);
        self
    }

    /// Starts it. It is ready then: nodes are Ready, and pods may be made in `default`.
    ///
    /// # Errors
    ///
    /// [`Error`]; what was started is gone then.
    pub async fn start(self) -> Result<TestCluster, Error> {
        TestCluster::with(self).await
    }
}
