//! How far a rollout may stray from the wanted number of pods.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};

use crate::common::compat;

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

/// A number, or a percentage of `total`. Something that is neither counts as zero; validation does
/// not let it in.
fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|percent| percent.parse().ok())
                .unwrap_or(0);
            let product = percent.max(0) * i64::from(total.max(0));
            let value = if round_up {
                (product + 99) / 100
            } else {
                product / 100
            };
            i32::try_from(value).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_towards_moving() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&percent("25%"), 10, true), 3);
        assert_eq!(scaled(&percent("25%"), 10, false), 2);
        assert_eq!(scaled(&percent("100%"), 7, true), 7);
        assert_eq!(scaled(&percent("nonsense"), 7, true), 0);
        assert_eq!(scaled(&IntOrString::Int(4), 1, true), 4);
    }
}
