//! Deployment: rolls ReplicaSets from one pod template to the next.
//!
//! Mirrors upstream's `pkg/controller/deployment`. [`plan`] is the pure core; [`driver`] reads
//! informers and makes the requests.

pub(crate) mod driver;
mod history;
mod limits;
mod plan;
mod progress;
mod rolling;
mod scale;
mod template;

#[cfg(test)]
mod tests;

/// How a rollout is numbered.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a ReplicaSet had before a rollback made it current again.
pub(crate) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's replicas when the ReplicaSet was last scaled.
pub(crate) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same plus surge.
pub(crate) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// The label that tells one template's pods from another's.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";
