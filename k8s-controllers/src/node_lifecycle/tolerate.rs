//! How long a pod may stay on a tainted node: a pure core.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

/// How long a pod may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// For ever.
    Forever,
    /// For so long since the taint was seen.
    For(Duration),
    /// Not at all.
    No,
}

/// How long a pod may stay on a node with these taints. Only `NoExecute` drives pods off.
pub(crate) fn stay(pod: &Pod, taints: &[Taint]) -> Stay {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let Some(toleration) = tolerations
            .iter()
            .find(|toleration| tolerates(toleration, taint))
        else {
            return Stay::No;
        };
        if let Some(seconds) = toleration.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |shortest| shortest.min(seconds)));
        }
    }
    match shortest {
        None => Stay::Forever,
        Some(seconds) if seconds <= 0 => Stay::No,
        Some(seconds) => Stay::For(Duration::from_secs(seconds.unsigned_abs())),
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    fn pod(tolerations: &[(&str, &str, Option<i64>)]) -> Pod {
        let tolerations = tolerations
            .iter()
            .map(|(key, operator, seconds)| Toleration {
                key: Some((*key).to_owned()).filter(|key| !key.is_empty()),
                operator: Some((*operator).to_owned()),
                toleration_seconds: *seconds,
                ..Default::default()
            })
            .collect();
        Pod {
            spec: Some(PodSpec {
                tolerations: Some(tolerations),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn taint(key: &str, effect: &str) -> Taint {
        Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn the_shortest_toleration_counts_and_an_untolerated_taint_is_at_once() {
        let taints = [
            taint("a", "NoExecute"),
            taint("b", "NoExecute"),
            taint("c", "NoSchedule"),
        ];
        assert_eq!(stay(&pod(&[("", "Exists", None)]), &taints), Stay::Forever);
        assert_eq!(stay(&pod(&[("a", "Exists", Some(300))]), &taints), Stay::No);
        assert_eq!(
            stay(
                &pod(&[("a", "Exists", Some(300)), ("b", "Exists", Some(60))]),
                &taints
            ),
            Stay::For(Duration::from_secs(60))
        );
        assert_eq!(
            stay(
                &pod(&[("a", "Exists", Some(0)), ("b", "Exists", None)]),
                &taints
            ),
            Stay::No
        );
        assert_eq!(stay(&pod(&[]), &taints[2..]), Stay::Forever);
        assert_eq!(
            stay(&pod(&[("a", "Equal", None)]), &taints[..1]),
            Stay::Forever
        );
    }
}
