//! The reconcile runtime of Kubernetes controllers, and the built-in controllers that run on it.
//!
//! It is not an API server, a scheduler or a kubelet: it speaks to the API through a
//! [`kube::Client`] and nothing else, so every controller here also works against an upstream
//! cluster, and an upstream kube-controller-manager can stand in for all of them.
//!
//! # Example
//! A controller of one's own that keeps a ConfigMap called `hello` in every namespace, run against
//! an API server in the same process:
//!
//! ```
//! use std::time::Duration;
//! use k8s_controllers::runtime::{Controller, InformerFactory, ObjectKey, Reconciler, Requeue, WorkQueue};
//! use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
//! use kube::{Api, Client, api::PostParams};
//!
//! struct Hello(Client);
//!
//! impl Reconciler for Hello {
//!     type Key = ObjectKey;
//!     type Error = kube::Error;
//!
//!     async fn reconcile(&self, namespace: ObjectKey) -> Result<Requeue, kube::Error> {
//!         let maps = Api::<ConfigMap>::namespaced(self.0.clone(), namespace.name());
//!         if maps.get_opt("hello").await?.is_none() {
//!             let mut map = ConfigMap::default();
//!             map.metadata.name = Some("hello".to_owned());
//!             maps.create(&PostParams::default(), &map).await?;
//!         }
//!         Ok(Requeue::OnChange)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let server = k8s_apiserver::ApiServer::builder().build().await?;
//! let client = server.client(k8s_apiserver::auth::Identity::system_masters());
//!
//! let informers = InformerFactory::new(client.clone());
//! let namespaces = informers.informer::<Namespace>();
//! let queue = WorkQueue::new();
//! let adds = queue.clone();
//! namespaces.add_handler(move |change| adds.add(ObjectKey::of(&change.object().metadata)));
//! informers.start();
//!
//! let stop = tokio_util::sync::CancellationToken::new();
//! let controller = Controller::new("hello", Hello(client.clone()), queue).wait_for(namespaces.synced());
//! let running = tokio::spawn(controller.run(stop.clone()));
//!
//! let maps = Api::<ConfigMap>::namespaced(client, "default");
//! let made = kube::runtime::wait::await_condition(maps, "hello", |map: Option<&ConfigMap>| map.is_some());
//! tokio::time::timeout(Duration::from_secs(10), made).await??;
//! stop.cancel();
//! running.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//! - [`runtime`]: what a controller is made of. [`runtime::InformerFactory`] gives one
//!   [`runtime::Informer`] per kind to all who ask; its handlers put keys into a
//!   [`runtime::WorkQueue`]; a [`runtime::Controller`] drives a [`runtime::Reconciler`] from that.
//!   [`runtime::Expectations`], [`runtime::EventRecorder`] and [`runtime::LeaderElection`] are
//!   what most controllers need besides.
//! - [`ControllerManager`]: all built-in controllers as one value. Deployment, ReplicaSet,
//!   ReplicationController, Endpoints, EndpointSlice and its mirroring, Namespace, ServiceAccount and the tokens in
//!   Secrets, root CA, garbage collector, node lifecycle with taint-based eviction, node address ranges, pod garbage
//!   collection, aggregation of cluster roles, removal of expired bootstrap tokens and of legacy tokens that
//!   nobody uses, resource quotas, certificate signing requests, resource claims, storage version migration,
//!   disruption budgets, protection of storage in use, generic ephemeral volumes, TTL after finished, TTLs of nodes,
//!   ServiceCIDRs. Each has a folder with a pure decision core and a thin driver.
//!
//! # Bring your own
//! Implement [`runtime::Reconciler`] to run a controller of your own on the same machinery; its
//! documentation is the contract. Time comes from tokio's clock and a [`runtime::Clock`], so tests
//! can pause it.
//!
//! # Relation to upstream
//! Mirrors kube-controller-manager (`pkg/controller`) and client-go's informers, work queues,
//! event correlation and leader election, in behaviour, names and texts. Differences: controllers
//! that poll upstream (node lifecycle, pod garbage collection, discovery for garbage collection)
//! react to events and deadlines here; EndpointSlices get no topology hints. StatefulSet, DaemonSet, Job, CronJob
//! and the binding of volumes to claims are not here yet.
//!
//! # Features
//! | name | what it adds | default |
//! |---|---|---|
//! | `testing` | module `testing`: checks that a reconciler keeps its contract | no |

#![forbid(unsafe_code)]

mod certificates;
mod cluster_role_aggregation;
mod common;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod ephemeral_volume;
mod error;
mod garbage_collector;
mod legacy_token_cleaner;
mod manager;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod node_ttl;
mod pod_gc;
mod policy_status;
mod replicaset;
mod resource_quota;
mod root_ca;
pub mod runtime;
mod selection;
mod service_account;
k8s_openapi::k8s_if_ge_1_34! { mod resource_claim; }
mod service_account_tokens;
mod service_cidr;
mod storage_protection;
k8s_openapi::k8s_if_ge_1_37! { mod storage_version_migration; }
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token_cleaner;
mod ttl_after_finished;

pub use certificates::CertificateSigner;
pub use error::Error;
pub use manager::{ControllerManager, ControllerManagerBuilder, Stopped};
pub use node_ipam::{Cidr, ClusterCidr, ParseCidrError};
pub use selection::{Selection, UnknownController};
pub use service_account_tokens::ServiceAccountTokenSigner;
