//! Which pods of a set are deleted first.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::pod;
use crate::runtime::since;

/// The annotation that makes a pod dearer to delete.
pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Orders pods by how little their loss hurts, as upstream's `ActivePodsWithRanks` does: without
/// node before with, pending before unknown before running, not ready before ready, cheap before
/// dear, on crowded nodes before lonely ones, ready for a short time before a long one, restarted
/// often before rarely, young before old. Ages are compared by order of magnitude, and within one
/// by UID, so that the choice among peers is arbitrary but stable.
///
/// `related` holds the active pods of this set and its siblings by node.
pub(crate) fn sort_by_deletion_order(
    pods: &mut [Arc<Pod>],
    related: &HashMap<&str, usize>,
    now: Timestamp,
) {
    pods.sort_by(|a, b| compare(a, b, related, now));
}

fn compare(a: &Pod, b: &Pod, related: &HashMap<&str, usize>, now: Timestamp) -> Ordering {
    let (node_a, node_b) = (node(a), node(b));
    let crowd = |node: &str| related.get(node).copied().unwrap_or(0);
    node_a
        .is_empty()
        .cmp(&node_b.is_empty())
        .reverse()
        .then_with(|| phase_order(a).cmp(&phase_order(b)))
        .then_with(|| pod::is_ready(a).cmp(&pod::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| crowd(node_b).cmp(&crowd(node_a)))
        .then_with(|| younger_first(pod::ready_since(a), pod::ready_since(b), a, b, now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(created(a), created(b), a, b, now))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn node(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

fn phase_order(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DELETION_COST));
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .max()
        .unwrap_or(0)
}

fn younger_first(
    a: Option<Timestamp>,
    b: Option<Timestamp>,
    pod_a: &Pod,
    pod_b: &Pod,
    now: Timestamp,
) -> Ordering {
    let magnitude = |time: Timestamp| {
        since(now, time)
            .as_nanos()
            .checked_ilog2()
            .map_or(-1, i64::from)
    };
    match (a, b) {
        (a, b) if a == b => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(a), Some(b)) => magnitude(a)
            .cmp(&magnitude(b))
            .then_with(|| pod_a.metadata.uid.cmp(&pod_b.metadata.uid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::fixture;

    #[test]
    fn the_least_useful_pod_goes_first() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let base = || {
            fixture::pod("default", "p")
                .ready("2026-01-01T06:00:00Z")
                .on("n1")
        };
        let pods = [
            fixture::pod("default", "unassigned").build(),
            fixture::pod("default", "pending")
                .on("n1")
                .phase("Pending")
                .build(),
            fixture::pod("default", "not-ready")
                .on("n1")
                .phase("Running")
                .build(),
            base()
                .named("cheap")
                .annotation(DELETION_COST, "-1")
                .build(),
            base().named("crowded").on("n2").build(),
            base().named("young").ready("2026-01-01T11:59:00Z").build(),
            base().named("restarted").restarts(3).build(),
            base().named("plain").build(),
        ];
        let mut shuffled: Vec<_> = pods.iter().rev().cloned().map(Arc::new).collect();
        let related = HashMap::from([("n1", 1), ("n2", 5)]);
        sort_by_deletion_order(&mut shuffled, &related, now);
        let names: Vec<_> = shuffled
            .iter()
            .map(|pod| pod.metadata.name.clone().unwrap())
            .collect();
        let expected: Vec<_> = pods
            .iter()
            .map(|pod| pod.metadata.name.clone().unwrap())
            .collect();
        assert_eq!(names, expected);
    }
}
