//! A Kubernetes cluster inside `cargo test`: no sockets, no root, no etcd, ready in milliseconds, gone
//! after the test.
//!
//! It is no mock. [`TestCluster`] boots the real API server of this workspace on a store in memory,
//! and with it the real controllers, the real scheduler and node agents whose containers only keep time.
//! So namespaces terminate, owner references are collected, Deployments roll, and what RBAC forbids is
//! forbidden. Nothing runs in the containers, and Services lead nowhere.
//!
//! # Three tests of an operator's author
//!
//! A Deployment rolls:
//!
//! ```
//! use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
//! use k8s_testing::TestCluster;
//! use kube::{Api, api::{ListParams, Patch, PatchParams, PostParams}, runtime::wait::await_condition};
//! use serde_json::json;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = TestCluster::start().await?;
//! let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
//! let web = serde_json::from_value(json!({
//!     "metadata": {"name": "web"},
//!     "spec": {
//!         "replicas": 2,
//!         "selector": {"matchLabels": {"app": "web"}},
//!         "template": {
//!             "metadata": {"labels": {"app": "web"}},
//!             "spec": {"containers": [{"name": "web", "image": "web:1"}]},
//!         },
//!     },
//! }))?;
//! deployments.create(&PostParams::default(), &web).await?;
//!
//! let available = |generation| move |found: Option<&Deployment>| {
//!     found.and_then(|d| d.status.as_ref()).is_some_and(|status| {
//!         status.observed_generation == Some(generation)
//!             && status.updated_replicas == Some(2)
//!             && status.available_replicas == Some(2)
//!             && status.replicas == Some(2)
//!     })
//! };
//! await_condition(deployments.clone(), "web", available(1)).await?;
//!
//! let next = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}});
//! deployments.patch("web", &PatchParams::default(), &Patch::Strategic(next)).await?;
//! await_condition(deployments, "web", available(2)).await?;
//!
//! let pods: Api<Pod> = Api::default_namespaced(cluster.client());
//! let running = pods.list(&ListParams::default().labels("app=web")).await?;
//! let images: Vec<_> = running.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).filter_map(|p| {
//!     p.spec.as_ref()?.containers[0].image.as_deref()
//! }).collect();
//! assert_eq!(images, ["web:2", "web:2"]);
//! # Ok(())
//! # }
//! ```
//!
//! What is owned goes with its owner:
//!
//! ```
//! use k8s_openapi::api::core::v1::{ConfigMap, Secret};
//! use k8s_testing::TestCluster;
//! use kube::{Api, Resource, api::{DeleteParams, PostParams}, runtime::{conditions, wait::await_condition}};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Controllers without nodes are enough for that.
//! let cluster = TestCluster::builder().controllers().start().await?;
//! let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
//! let secrets: Api<Secret> = Api::default_namespaced(cluster.client());
//!
//! let mut owner = ConfigMap::default();
//! owner.metadata.name = Some("owner".into());
//! let owner = maps.create(&PostParams::default(), &owner).await?;
//! let mut owned = Secret::default();
//! owned.metadata.name = Some("owned".into());
//! owned.metadata.owner_references = owner.owner_ref(&()).map(|reference| vec![reference]);
//! let owned = secrets.create(&PostParams::default(), &owned).await?;
//!
//! maps.delete("owner", &DeleteParams::default()).await?;
//! let uid = owned.metadata.uid.unwrap_or_default();
//! await_condition(secrets, "owned", conditions::is_deleted(&uid)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A controller written with kube does its work although the network is bad:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use futures::StreamExt;
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use k8s_testing::{Faults, Identity, TestCluster};
//! use kube::{Api, Client, ResourceExt, api::{Patch, PatchParams, PostParams}};
//! use kube::runtime::{Controller, controller::Action, wait::await_condition, watcher};
//!
//! /// The controller under test: labels every ConfigMap with the number of its entries.
//! async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, kube::Error> {
//!     let maps: Api<ConfigMap> = Api::namespaced(Client::clone(&client), "default");
//!     let count = map.data.as_ref().map_or(0, |data| data.len()).to_string();
//!     let label = serde_json::json!({"metadata": {"labels": {"entries": count}}});
//!     maps.patch(&map.name_any(), &PatchParams::default(), &Patch::Merge(label)).await?;
//!     Ok(Action::await_change())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = TestCluster::builder().start().await?;
//! let faults = Faults::seeded(7).conflicts(0.2).errors_after_writes(0.2).lost_connections(0.1);
//! let client = cluster.client_with_faults(Identity::system_masters(), &faults);
//! let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
//! let again = |_, _: &kube::Error, _| Action::requeue(Duration::from_millis(10));
//! let controller = Controller::new(maps, watcher::Config::default())
//!     .run(reconcile, again, Arc::new(client))
//!     .for_each(|_| async {});
//! let controller = tokio::spawn(controller);
//!
//! let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
//! let mut map = ConfigMap::default();
//! map.metadata.name = Some("colours".into());
//! map.data = Some([("sky".to_owned(), "blue".to_owned())].into());
//! maps.create(&PostParams::default(), &map).await?;
//! let counted = |map: Option<&ConfigMap>| map.is_some_and(|map| map.labels().get("entries").is_some_and(|n| n == "1"));
//! await_condition(maps, "colours", counted).await?;
//! controller.abort();
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! - [`TestCluster`] is the cluster, and [`TestClusterBuilder`] says what is in it.
//! - [`Identity`] is who a client is: a user with groups, a service account, a node.
//! - [`Faults`] says what goes wrong on a client's way: delayed, dropped and repeated watch events, stale
//!   reads, conflicts, errors after writes, lost connections. A seed decides, so that a failure replays;
//!   [`FaultLayer`] puts them before any other service. [`TestCluster::restart`] restarts the server.
//!
//! # Bring your own
//!
//! The store is any [`k8s_store::Store`]; [`TestClusterBuilder::server`] has the server's whole builder:
//! further resources, admission plugins, an authorizer. A scheduler or controllers of your own take a
//! client, as any program does.
//!
//! # Relation to upstream
//!
//! It is what envtest is to controller-runtime, without processes, and with the controllers that envtest does
//! not have.
#![forbid(unsafe_code)]

mod builder;
mod cluster;
mod error;
pub mod faults;
mod gate;
mod node;

pub use builder::TestClusterBuilder;
pub use cluster::TestCluster;
pub use error::Error;
pub use faults::{FaultLayer, Faults};
pub use k8s_apiserver::auth::Identity;
