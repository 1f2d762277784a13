//! [`ControllerManager`]: all built-in controllers as one value.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::ReplicationController};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    certificates::{self, CertificateSigner},
    cluster_role_aggregation,
    common::context::Context,
    deployment, disruption, endpoints, endpointslice, endpointslice_mirroring, ephemeral_volume,
    garbage_collector, legacy_token_cleaner, namespace, node_ipam,
    node_ipam::ClusterCidr,
    node_lifecycle, node_ttl, pod_gc, policy_status, replicaset, resource_quota, root_ca,
    runtime::{
        Clock, Controller, EventRecorder, InformerFactory, LeaderElection, LeaderElectionConfig,
        Reconciler,
    },
    selection::Selection,
    service_account,
    service_account_tokens::{self, ServiceAccountTokenSigner},
    service_cidr, storage_protection, token_cleaner, ttl_after_finished,
};

/// Gives a controller the client with its own identity.
type Clients = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// All built-in controllers as one value: upstream's kube-controller-manager.
///
/// Every controller speaks to the API with an identity of its own. See
/// [`builder`](Self::builder) for how they are named.
pub struct ControllerManager {
    clients: Clients,
    clock: Clock,
    selection: Selection,
    root_ca: Option<Arc<str>>,
    signer: Option<Arc<dyn CertificateSigner>>,
    signing_duration: Duration,
    token_signer: Option<Arc<dyn ServiceAccountTokenSigner>>,
    legacy_token_period: Duration,
    cluster_cidrs: Vec<ClusterCidr>,
    election: Option<LeaderElectionConfig>,
}

impl fmt::Debug for ControllerManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerManager")
            .field("selection", &self.selection)
            .field("root_ca", &self.root_ca.is_some())
            .field("cluster_cidrs", &self.cluster_cidrs)
            .field("election", &self.election)
            .finish_non_exhaustive()
    }
}

/// Options of a [`ControllerManager`].
#[derive(Debug)]
pub struct ControllerManagerBuilder(ControllerManager);

impl ControllerManager {
    /// The name under which the client for the shared informers and for leader election is asked
    /// for. Upstream uses its own identity for these, `system:kube-controller-manager`.
    pub const SHARED: &'static str = "kube-controller-manager";

    /// Starts building a manager. `clients` gives the client for a name: for
    /// [`SHARED`](Self::SHARED), the identity `system:kube-controller-manager`; for any other, the
    /// service account of that name in `kube-system`, that is
    /// `system:serviceaccount:kube-system:NAME` with the groups `system:serviceaccounts`,
    /// `system:serviceaccounts:kube-system` and `system:authenticated`. The names are those that
    /// upstream's bootstrap policy has a `system:controller:NAME` role for:
    ///
    /// `deployment-controller`, `replicaset-controller`, `replication-controller`,
    /// `endpoint-controller`, `endpointslice-controller`, `endpointslicemirroring-controller`, `namespace-controller`,
    /// `service-account-controller`, `root-ca-cert-publisher`, `generic-garbage-collector`,
    /// `node-controller`, `pod-garbage-collector`, `clusterrole-aggregation-controller`, `token-cleaner`,
    /// `legacy-service-account-token-cleaner`,
    /// `resourcequota-controller`, `certificate-controller`, `storage-version-migrator-controller`,
    /// `resource-claim-controller`, `disruption-controller`, `ephemeral-volume-controller`,
    /// `ttl-after-finished-controller`, `ttl-controller`, `pvc-protection-controller`, `pv-protection-controller`,
    /// `volumeattributesclass-protection-controller`, `service-cidrs-controller`,
    /// `validatingadmissionpolicy-status-controller`.
    pub fn builder(
        clients: impl Fn(&str) -> Client + Send + Sync + 'static,
    ) -> ControllerManagerBuilder {
        ControllerManagerBuilder(ControllerManager {
            clients: Arc::new(clients),
            clock: Clock::system(),
            selection: Selection::all(),
            root_ca: None,
            signer: None,
            signing_duration: certificates::sign::LONGEST,
            token_signer: None,
            legacy_token_period: legacy_token_cleaner::PERIOD,
            cluster_cidrs: Vec::new(),
            election: None,
        })
    }

    /// Runs all controllers until `stop` is cancelled, or until the lead is lost where leader
    /// election is on. Gives the reason.
    ///
    /// Stopping is in two stages, as for each [`Controller`]: no more work is taken, running
    /// reconciles get 5 s, then they are dropped. Events that wait are sent last.
    ///
    /// # Cancel safety
    /// Dropping the future aborts everything at once.
    pub async fn run(self, stop: CancellationToken) -> Stopped {
        match self.election.clone() {
            None => {
                self.run_controllers(stop).await;
                Stopped::Asked
            }
            Some(config) => {
                let election =
                    LeaderElection::new((self.clients)(Self::SHARED), config, self.clock);
                let lost = election
                    .run(stop, |leading| self.run_controllers(leading))
                    .await;
                if lost {
                    Stopped::LostLead
                } else {
                    Stopped::Asked
                }
            }
        }
    }

    async fn run_controllers(self, stop: CancellationToken) {
        let informers = InformerFactory::new((self.clients)(Self::SHARED));
        let mut running = Running {
            tasks: JoinSet::new(),
            stop: stop.clone(),
        };
        let mut sinks = JoinSet::new();
        let events_stop = CancellationToken::new();
        let mut context = |identity: &str, component: &'static str| {
            let client = (self.clients)(identity);
            let (events, sink) = EventRecorder::new(client.clone(), component, self.clock);
            sinks.spawn(sink.run(events_stop.clone()));
            Context {
                client,
                informers: informers.clone(),
                events,
                clock: self.clock,
            }
        };

        let runs = |name| self.selection.runs(name);
        if runs("deployment-controller") {
            let own = context("deployment-controller", "deployment-controller");
            running.add(deployment::driver::controller(&own));
        }
        if runs("replicaset-controller") {
            let own = context("replicaset-controller", "replicaset-controller");
            running.add(replicaset::driver::controller::<ReplicaSet>(&own));
        }
        if runs("replicationcontroller-controller") {
            let own = context("replication-controller", "replication-controller");
            running.add(replicaset::driver::controller::<ReplicationController>(
                &own,
            ));
        }
        if runs("endpoints-controller") {
            let own = context("endpoint-controller", "endpoint-controller");
            running.add(endpoints::driver::controller(&own));
        }
        if runs("endpointslice-controller") {
            let own = context("endpointslice-controller", "endpoint-slice-controller");
            running.add(endpointslice::driver::controller(&own));
        }
        if runs("endpointslice-mirroring-controller") {
            let own = context(
                "endpointslicemirroring-controller",
                "endpoint-slice-mirroring-controller",
            );
            running.add(endpointslice_mirroring::driver::controller(&own));
        }
        if runs("namespace-controller") {
            let own = context("namespace-controller", "namespace-controller");
            running.add(namespace::driver::controller(&own));
        }
        if runs("serviceaccount-controller") {
            let own = context("service-account-controller", "serviceaccount-controller");
            running.add(service_account::controller(&own));
        }
        if let Some(bundle) = self.root_ca.clone()
            && runs("root-ca-certificate-publisher-controller")
        {
            let own = context("root-ca-cert-publisher", "root-ca-cert-publisher");
            running.add(root_ca::controller(&own, bundle));
        }
        if let Some(signer) = self.token_signer.clone()
            && runs("serviceaccount-token-controller")
        {
            // Upstream's has no identity of its own: it makes those of the others.
            let own = context(Self::SHARED, "serviceaccount-token-controller");
            let bundle = self.root_ca.clone();
            running.add(service_account_tokens::controller(&own, signer, bundle));
        }
        if runs("garbage-collector-controller") {
            let own = context("generic-garbage-collector", "garbage-collector-controller");
            let (collector, feed) = garbage_collector::driver::controller(&own);
            running.add(collector);
            running.add_future(feed);
        }
        if runs("node-lifecycle-controller") {
            let own = context("node-controller", "node-controller");
            running.add(node_lifecycle::driver::controller(&own));
        }
        if runs("taint-eviction-controller") {
            let own = context("node-controller", "taint-eviction-controller");
            running.add(node_lifecycle::eviction::controller(&own));
        }
        if !self.cluster_cidrs.is_empty() && runs("node-ipam-controller") {
            let own = context("node-controller", "cidrAllocator");
            running.add(node_ipam::controller(&own, self.cluster_cidrs.clone()));
        }
        if runs("pod-garbage-collector-controller") {
            let own = context("pod-garbage-collector", "pod-garbage-collector");
            running.add(pod_gc::controller(&own));
        }
        let name = "clusterrole-aggregation-controller";
        if runs(name) {
            let own = context(name, name);
            running.add(cluster_role_aggregation::controller(&own));
        }
        let name = "validatingadmissionpolicy-status-controller";
        if runs(name) {
            let own = context(name, name);
            running.add(policy_status::controller(&own));
        }
        if runs("token-cleaner-controller") {
            let own = context("token-cleaner", "token-cleaner");
            running.add(token_cleaner::controller(&own));
        }
        if runs("legacy-serviceaccount-token-cleaner-controller") {
            let name = "legacy-service-account-token-cleaner";
            running.add(legacy_token_cleaner::controller(
                &context(name, name),
                self.legacy_token_period,
            ));
        }
        if runs("resourcequota-controller") {
            let own = context("resourcequota-controller", "resourcequota-controller");
            running.add(resource_quota::controller(&own));
        }
        if runs("disruption-controller") {
            let own = context("disruption-controller", disruption::COMPONENT);
            running.add(disruption::driver::controller(&own));
            running.add(disruption::stale::controller(&own));
        }
        if runs(ephemeral_volume::NAME) {
            let own = context(ephemeral_volume::NAME, ephemeral_volume::COMPONENT);
            running.add(ephemeral_volume::controller(&own));
        }
        let name = ttl_after_finished::NAME;
        if runs(name) {
            running.add(ttl_after_finished::controller(&context(name, name)));
        }
        let name = node_ttl::NAME;
        if runs(name) {
            running.add(node_ttl::controller(&context(name, name)));
        }
        let name = service_cidr::NAME;
        if runs(name) {
            running.add(service_cidr::controller(&context(
                "service-cidrs-controller",
                name,
            )));
        }
        if runs("persistentvolumeclaim-protection-controller") {
            let name = "pvc-protection-controller";
            let own = context(name, name);
            running.add(storage_protection::claims::controller(&own));
        }
        if runs("persistentvolume-protection-controller") {
            let name = "pv-protection-controller";
            let own = context(name, name);
            running.add(storage_protection::volumes::controller(&own));
        }
        k8s_openapi::k8s_if_ge_1_34! {
            let name = storage_protection::classes::NAME;
            if runs(name) {
                let own = context(name, name);
                running.add(storage_protection::classes::controller(&own));
            }
        }
        let name = "certificate-controller";
        if runs("certificatesigningrequest-approving-controller") {
            running.add(certificates::approve::controller(&context(name, name)));
        }
        if runs("certificatesigningrequest-cleaner-controller") {
            running.add(certificates::clean::controller(&context(name, name)));
        }
        if let Some(signer) = self.signer.clone()
            && runs("certificatesigningrequest-signing-controller")
        {
            let own = context(name, name);
            running.add(certificates::sign::controller(
                &own,
                signer,
                self.signing_duration,
            ));
        }
        k8s_openapi::k8s_if_ge_1_34! {
            if runs("resourceclaim-controller") {
                let own = context(
                    crate::resource_claim::NAME,
                    crate::resource_claim::COMPONENT,
                );
                running.add(crate::resource_claim::controller(&own));
            }
        }
        k8s_openapi::k8s_if_ge_1_37! {
            let name = crate::storage_version_migration::NAME;
            if runs("storage-version-migrator-controller") {
                let own = context(name, name);
                running.add(crate::storage_version_migration::controller(&own));
            }
        }

        informers.start();
        stop.cancelled().await;
        while running.tasks.join_next().await.is_some() {}
        informers.stop().await;
        events_stop.cancel();
        while sinks.join_next().await.is_some() {}
    }
}

/// Why a [`ControllerManager`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to.
    Asked,
    /// Another replica leads now.
    LostLead,
}

/// The tasks of the controllers.
struct Running {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Running {
    fn add<R: Reconciler>(&mut self, controller: Controller<R>) {
        self.tasks.spawn(controller.run(self.stop.clone()));
    }

    fn add_future(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        let (stop, future): (_, BoxFuture<'static, ()>) = (self.stop.clone(), Box::pin(future));
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = future => {}
            }
        });
    }
}

impl ControllerManagerBuilder {
    /// Which controllers run; upstream's `--controllers`. All by default. What others run, as upstream's
    /// kube-controller-manager, is left out here.
    #[must_use]
    pub fn controllers(mut self, selection: Selection) -> Self {
        self.0.selection = selection;
        self
    }

    /// The PEM bundle by which pods know the API server. Without it no `kube-root-ca.crt` is
    /// published.
    #[must_use]
    pub fn root_ca(mut self, pem: impl Into<Arc<str>>) -> Self {
        self.0.root_ca = Some(pem.into());
        self
    }

    /// Who issues the certificates that are asked for with a CertificateSigningRequest of one of
    /// Kubernetes' own signers. Without, approved requests wait for another signer.
    #[must_use]
    pub fn signer(mut self, signer: Arc<dyn CertificateSigner>) -> Self {
        self.0.signer = Some(signer);
        self
    }

    /// How long certificates are good that are issued for CertificateSigningRequests, at most;
    /// a request may ask for less. A year by default; upstream's `--cluster-signing-duration`.
    #[must_use]
    pub fn signing_duration(mut self, duration: Duration) -> Self {
        self.0.signing_duration = duration;
        self
    }

    /// Who signs the tokens in Secrets of the type `kubernetes.io/service-account-token`. Without, such Secrets stay as
    /// they are.
    #[must_use]
    pub fn token_signer(mut self, signer: Arc<dyn ServiceAccountTokenSigner>) -> Self {
        self.0.token_signer = Some(signer);
        self
    }

    /// For how long nobody may have used a token that was once made for a service account (in a Secret that the account
    /// names) before it is marked invalid, and then again before it is removed. A year by default; upstream's
    /// `--legacy-service-account-token-clean-up-period`.
    #[must_use]
    pub fn legacy_token_clean_up_period(mut self, period: Duration) -> Self {
        self.0.legacy_token_period = period;
        self
    }

    /// The range that nodes get their pod addresses from; call it a second time for a second
    /// family. Without any, nodes get none from here.
    #[must_use]
    pub fn cluster_cidr(mut self, cidr: ClusterCidr) -> Self {
        self.0.cluster_cidrs.push(cidr);
        self
    }

    /// Runs the controllers only while this replica holds a Lease. Off by default.
    #[must_use]
    pub fn leader_election(mut self, config: LeaderElectionConfig) -> Self {
        self.0.election = Some(config);
        self
    }

    /// The time of day. The machine's by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.0.clock = clock;
        self
    }

    /// The manager. Nothing runs before [`ControllerManager::run`].
    pub fn build(self) -> ControllerManager {
        self.0
    }
}
