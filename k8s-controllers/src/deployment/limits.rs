//! How far a rollout may stray from the wanted number of pods.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};

use crate::common::{compat, share::scaled};

/// The wanted number of pods.
pub(crate) fn replicas(deployment: &Deployment) -> i32 {
    compat::deployment_spec(deployment)
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// Whether the strategy is `RollingUpdate`, the default.
pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = compat::deployment_spec(deployment).and_then(|spec| spec.strategy.as_ref());
    strategy
        .and_then(|strategy| strategy.type_.as_deref())
        .unwrap_or("RollingUpdate")
        == "RollingUpdate"
}

/// The most pods above the wanted number.
pub(crate) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) {
        resolve(deployment).0
    } else {
        0
    }
}

/// The most pods below the wanted number that need not be available.
pub(crate) fn max_unavailable(deployment: &Deployment) -> i32 {
    let replicas = replicas(deployment);
    if is_rolling(deployment) && replicas > 0 {
        resolve(deployment).1.min(replicas)
    } else {
        0
    }
}

/// Surge rounds up and unavailability down; when both come out as zero nothing could move, so one
/// pod may be unavailable (upstream's `ResolveFenceposts`).
fn resolve(deployment: &Deployment) -> (i32, i32) {
    let strategy = compat::deployment_spec(deployment).and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let default = IntOrString::String("25%".to_owned());
    let surge = rolling
        .and_then(|rolling| rolling.max_surge.as_ref())
        .unwrap_or(&default);
    let unavailable = rolling
        .and_then(|rolling| rolling.max_unavailable.as_ref())
        .unwrap_or(&default);
    let total = replicas(deployment);
    match (
        scaled(surge, total, true),
        scaled(unavailable, total, false),
    ) {
        (0, 0) => (0, 1),
        both => both,
    }
}
