//! A Kubernetes cluster inside `cargo test`: no sockets, no root, no etcd, ready in milliseconds, gone
//! after the test.
//!
//! It is no mock. [`TestCluster`] boots the real API server of this workspace on a store in memory,
//! and with it the real controllers, the real scheduler and node agents whose containers only keep time.
//! So namespaces terminate, owner references are collected, Deployments roll, and what RBAC forbids is
//! forbidden. Nothing runs in the containers, and Services lead nowhere; logs, exec, attach and port-forward
//! answer what annotations of the pod script, see [`k8s_runtime::sim`].
//!
//! # In your `Cargo.toml`
//!
//! ```toml
//! [dependencies]
//! k8s-openapi = { version = "0.29", features = ["v1_33"] }
//! kube = { version = "5", features = ["derive", "runtime"] }
//!
//! [dev-dependencies]
//! k8s-testing = { path = "../kubernetes/k8s-testing" }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "test-util"] }
//! ```
//!
//! You choose the API level, as always with k8s-openapi: `v1_33` or a later one, or `latest`; the cluster is of that
//! level. kube and k8s-openapi must be of these versions: with others, your `Client` and `Pod` are not the cluster's.
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
//! A controller of one's own, written with kube for a `derive(CustomResource)` type, does its work
//! although the network is bad:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use futures::StreamExt;
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use k8s_testing::{Faults, Identity, TestCluster};
//! use kube::{Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
//! use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
//! use kube::runtime::{Controller, conditions, controller::Action, wait::await_condition, watcher};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! #[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
//! #[kube(group = "example.com", version = "v1", kind = "Greeting", namespaced, status = "GreetingStatus")]
//! struct GreetingSpec {
//!     whom: String,
//! }
//!
//! #[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
//! struct GreetingStatus {
//!     said: Option<String>,
//! }
//!
//! /// The controller under test: says each greeting in a ConfigMap, and in the status that it has done so.
//! async fn reconcile(greeting: Arc<Greeting>, client: Arc<Client>) -> Result<Action, kube::Error> {
//!     let (name, text) = (greeting.name_any(), format!("hello {}", greeting.spec.whom));
//!     let apply = PatchParams::apply("greeter").force();
//!     let owner = greeting.controller_owner_ref(&());
//!     let map = json!({
//!         "apiVersion": "v1", "kind": "ConfigMap",
//!         "metadata": {"name": name, "ownerReferences": [owner]}, "data": {"text": text},
//!     });
//!     let maps: Api<ConfigMap> = Api::default_namespaced(Client::clone(&client));
//!     maps.patch(&name, &apply, &Patch::Apply(map)).await?;
//!     let greetings: Api<Greeting> = Api::default_namespaced(Client::clone(&client));
//!     let status = json!({"status": {"said": text}});
//!     greetings.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
//!     Ok(Action::await_change())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = TestCluster::builder().controllers().start().await?;
//! cluster.define([Greeting::crd()]).await?;
//!
//! let faults = Faults::seeded(7).conflicts(0.2).errors_after_writes(0.2).lost_connections(0.1);
//! let client = cluster.client_with_faults(Identity::system_masters(), &faults);
//! let greetings: Api<Greeting> = Api::default_namespaced(client.clone());
//! let again = |_, _: &kube::Error, _| Action::requeue(Duration::from_millis(10));
//! let controller = Controller::new(greetings, watcher::Config::default())
//!     .run(reconcile, again, Arc::new(client))
//!     .for_each(|_| async {});
//! let controller = tokio::spawn(controller);
//!
//! let greetings: Api<Greeting> = Api::default_namespaced(cluster.client());
//! let greeting = Greeting::new("morning", GreetingSpec { whom: "world".into() });
//! greetings.create(&PostParams::default(), &greeting).await?;
//! let said = |greeting: Option<&Greeting>| {
//!     let status = greeting.and_then(|greeting| greeting.status.as_ref());
//!     status.and_then(|status| status.said.as_deref()) == Some("hello world")
//! };
//! await_condition(greetings.clone(), "morning", said).await?;
//!
//! // What it made goes with what it was made for.
//! let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
//! let map = maps.get("morning").await?;
//! controller.abort();
//! greetings.delete("morning", &DeleteParams::default()).await?;
//! let uid = map.metadata.uid.unwrap_or_default();
//! await_condition(maps, "morning", conditions::is_deleted(&uid)).await?;
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
//!   [`FaultLayer`] puts them before any other service. [`Faults::cut`] parts the network until it is healed.
//!   [`TestCluster::restart`] restarts the server.
//! - [`eventually`] waits until an object is as it should be; if that does not come about, the error shows how it is.
//! - [`Webhook`] is one that the server asks: conversions, admission.
//!
//! On a paused tokio clock (`#[tokio::test(start_paused = true)]`) leases run out, grace periods end and back-offs
//! pass as soon as nothing else is left to do.
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
mod kubelets;
mod node;
mod wait;
mod webhook;

pub use builder::TestClusterBuilder;
pub use cluster::TestCluster;
pub use error::Error;
pub use faults::{FaultLayer, Faults};
pub use k8s_apiserver::auth::Identity;
pub use k8s_runtime::sim::SimExec;
pub use wait::eventually;
pub use webhook::Webhook;
