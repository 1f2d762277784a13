//! Which taints a node's state calls for: a pure core.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{health, zones::Evict};
use crate::runtime::truncate;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions that keep new pods away: the condition, the state in which it does, and the taint.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The node's taints as they should be; `None` when they are right as they are. `evict` says
/// whether pods may be driven off a node that is not ready.
pub(crate) fn wanted(node: &Node, evict: Evict, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let current = spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let ours = |taint: &Taint| {
        let keeps_away = taint.effect == "NoSchedule"
            && (taint.key == UNSCHEDULABLE
                || BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key));
        keeps_away || drives(taint)
    };
    let mut needed: Vec<(&str, &str)> = BY_CONDITION
        .iter()
        .filter(|(condition, state, _)| health::state(node, condition) == *state)
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        needed.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let may_evict = match evict {
        Evict::Yes | Evict::Slowly => true,
        Evict::NoMore => drives_off(node),
        Evict::No => false,
    };
    if may_evict {
        match health::state(node, "Ready") {
            "False" => needed.push((NOT_READY, "NoExecute")),
            "Unknown" => needed.push((UNREACHABLE, "NoExecute")),
            _ => {}
        }
    }
    let is_needed = |taint: &Taint| needed.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !ours(taint) || is_needed(taint))
        .cloned()
        .collect();
    for (key, effect) in needed {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(truncate(now))),
                ..Default::default()
            });
        }
    }
    (taints != current).then_some(taints)
}

/// Whether pods are driven off the node already, because of its state.
pub(crate) fn drives_off(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(drives)
}

fn drives(taint: &Taint) -> bool {
    taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use super::{super::health::tests::node, *};

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key, taint.effect))
            .collect()
    }

    #[test]
    fn taints_follow_readiness_and_leave_others_alone() {
        let now = Timestamp::UNIX_EPOCH;
        let mut lost = node(Some(("Unknown", "2026-01-01T00:00:00Z")));
        let own = Taint {
            key: "team".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        lost.spec.get_or_insert_default().taints = Some(vec![own]);
        assert_eq!(
            wanted(&lost, Evict::NoMore, now).unwrap().len(),
            2,
            "nobody is driven off who was not"
        );
        let taints = wanted(&lost, Evict::Yes, now).unwrap();
        assert_eq!(
            keys(&taints),
            [
                "team:NoSchedule",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ]
        );
        lost.spec.as_mut().unwrap().taints = Some(taints);
        assert_eq!(wanted(&lost, Evict::Yes, now), None);
        assert_eq!(wanted(&lost, Evict::NoMore, now), None);
        assert_eq!(
            wanted(&lost, Evict::No, now).unwrap().len(),
            2,
            "a general outage evicts nobody"
        );
        lost.status = node(Some(("True", "2026-01-01T00:00:00Z"))).status;
        assert_eq!(
            keys(&wanted(&lost, Evict::Yes, now).unwrap()),
            ["team:NoSchedule"]
        );
    }
}
