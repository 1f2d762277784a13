//! The Kubernetes scheduling framework and its plugins.
//!
//! Decides which node a pod goes to. The decision is a pure function of a snapshot of the cluster, the pod
//! and a seed; a driver around it follows the API and writes the bindings. It does
//! not start anything: that is the node agent's work.
//!
//! ```
//! use k8s_openapi::api::core::v1::{Node, Pod};
//! use k8s_scheduler::{Profile, Scheduler, snapshot::{PodInfo, Snapshot}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node: Node = serde_json::from_str(
//!     r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
//!         "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}}"#,
//! )?;
//! let pod: Pod = serde_json::from_str(
//!     r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
//!         "spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "3"}}}]}}"#,
//! )?;
//!
//! let scheduler = Scheduler::new(Profile::default());
//! let snapshot = Snapshot::new([node], []);
//! let error = scheduler.schedule(&snapshot, &PodInfo::from(pod), 0).unwrap_err();
//! assert_eq!(error.to_string(), "0/1 nodes are available: 1 Insufficient cpu.");
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! - [`Scheduler`] decides; [`FitError`] explains.
//! - [`snapshot`] is what it decides on.
//! - [`Profile`] lists the plugins, [`plugins`] are the bundled ones.
//! - [`framework`] has the traits of the extension points.
//! - [`config`] reads `KubeSchedulerConfiguration` files.
//! - [`SchedulingQueue`] orders the pods that wait.
//! - [`Driver`] does all of it for a cluster, through a [`kube::Client`]; [`Metrics`] says how it does.
//! - [`HttpExtender`] is another process that has a say.
//!
//! # Bring your own
//!
//! A plugin implements [`framework::Plugin`] and the traits of its extension points:
//!
//! ```
//! use std::sync::Arc;
//! use k8s_scheduler::{
//!     Profile,
//!     framework::{CycleState, Filter, Plugin, Status},
//!     snapshot::{NodeInfo, PodInfo},
//! };
//!
//! /// Keeps everything away from nodes whose name starts with "old-".
//! #[derive(Debug)]
//! struct NoOldNodes;
//!
//! impl Plugin for NoOldNodes {
//!     fn name(&self) -> &'static str {
//!         "NoOldNodes"
//!     }
//! }
//!
//! impl Filter for NoOldNodes {
//!     fn filter(&self, _: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
//!         if node.name().starts_with("old-") {
//!             return Err(Status::unresolvable("node(s) were old"));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let profile = Profile::default().with_filter(Arc::new(NoOldNodes));
//! # let _ = profile;
//! ```
//!
//! # Relation to upstream
//!
//! Mirrors kube-scheduler, its framework (KEP-624) and its default plugins. Every node is considered for every pod.
//! Of dynamic resource allocation, extended resources that are devices are not here. `docs/design.md` says how decisions come to cost so little.
#![forbid(unsafe_code)]

pub mod config;
mod driver;
mod extender;
pub mod framework;
mod metrics;
pub mod plugins;
mod profile;
mod queue;
mod schedule;
pub mod snapshot;

pub use driver::{Driver, DriverConfig, EventLimits, LeaderElection};
pub use extender::{ExtenderTls, HttpExtender, HttpExtenderConfig, TlsError};
pub use metrics::Metrics;
pub use profile::{DEFAULT_SCHEDULER_NAME, Profile, Profiles};
pub use queue::{Backoff, QueuedPod, SchedulingQueue};
pub use schedule::{Explanation, Filters, FitError, NodeScore, NodeStatuses, Placement, Scheduler};
