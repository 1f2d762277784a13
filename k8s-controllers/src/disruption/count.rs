//! What a budget's status says: the pure core.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::{
    common::{compat, owner, pod, share::scaled},
    runtime::since,
};

/// How long an evicted pod may take to be seen on its way out. After that it is taken to stay.
pub(super) const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

const CONDITION: &str = "DisruptionAllowed";

/// How many pods there should be, and how many of them should be healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) expected: i32,
    pub(super) healthy: i32,
}

/// Whether the budget goes by what the pods' controllers ask for, and not by the pods that are there.
pub(super) fn goes_by_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let percent = |value: &IntOrString| matches!(value, IntOrString::String(_));
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || spec.min_available.as_ref().is_some_and(percent)
    })
}

/// What the budget wants of so many pods: of those that are there, or of those that there should be, see
/// [`goes_by_scale`].
pub(super) fn wanted(budget: &PodDisruptionBudget, pods: i32) -> Wanted {
    let Some(spec) = budget.spec.as_ref() else {
        return Wanted::default();
    };
    let healthy = match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => (pods - scaled(unavailable, pods, true)).max(0),
        (None, Some(available)) => scaled(available, pods, true),
        (None, None) => return Wanted::default(),
    };
    Wanted {
        expected: pods,
        healthy,
    }
}

/// The pods that were evicted and are not yet seen on their way out.
#[derive(Debug, Default)]
pub(super) struct Disrupted {
    /// When they were evicted, by name.
    pub(super) since: BTreeMap<String, Time>,
    /// Those that stayed after all.
    pub(super) stayed: Vec<Arc<Pod>>,
    /// When to look again.
    pub(super) recheck: Option<Duration>,
}

/// Which of the pods that the status holds to be evicted still are.
pub(super) fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Disrupted {
    let mut disrupted = Disrupted::default();
    let status = budget.status.as_ref();
    let Some(told) = status.and_then(|status| status.disrupted_pods.as_ref()) else {
        return disrupted;
    };
    for pod in pods {
        let name = owner::name(&pod.metadata);
        let Some(told_at) = told.get(name) else {
            continue;
        };
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let age = since(now, told_at.0);
        let Some(left) = DELETION_TIMEOUT.checked_sub(age) else {
            disrupted.stayed.push(pod.clone());
            continue;
        };
        disrupted.since.insert(name.to_owned(), told_at.clone());
        let next = disrupted.recheck.map_or(left, |next| next.min(left));
        // The deadline itself is still in time.
        disrupted.recheck = Some(next.max(Duration::from_millis(1)));
    }
    disrupted
}

/// How many of the pods are healthy: ready, not on their way out, and not evicted.
pub(super) fn healthy(pods: &[Arc<Pod>], disrupted: &Disrupted) -> i32 {
    let healthy = pods.iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_none()
            && !disrupted.since.contains_key(owner::name(&pod.metadata))
            && pod::is_ready(pod)
    });
    i32::try_from(healthy.count()).unwrap_or(i32::MAX)
}

/// The budget with its status as it should be; `None` if it is.
pub(super) fn updated(
    budget: &PodDisruptionBudget,
    wanted: Wanted,
    healthy: i32,
    disrupted: &Disrupted,
    now: &Time,
) -> Option<PodDisruptionBudget> {
    // A budget without pods allows nothing, so that the first pods are safe until they are counted.
    let allowed = match wanted.expected {
        ..=0 => 0,
        _ => healthy.saturating_sub(wanted.healthy).max(0),
    };
    let mut changed = budget.clone();
    let status = changed.status.get_or_insert_default();
    status.current_healthy = compat::set(healthy);
    status.desired_healthy = compat::set(wanted.healthy);
    status.expected_pods = compat::set(wanted.expected);
    status.disruptions_allowed = compat::set(allowed);
    let since = &disrupted.since;
    status.disrupted_pods = (!since.is_empty()).then(|| since.clone());
    status.observed_generation = budget.metadata.generation;
    let reason = match allowed {
        0 => "InsufficientPods",
        _ => "SufficientPods",
    };
    say(&mut changed, allowed > 0, reason, "", now);
    (changed.status != budget.status).then_some(changed)
}

/// The budget as one that allows nothing, since it cannot be counted; `None` if it is.
pub(super) fn failed(
    budget: &PodDisruptionBudget,
    message: &str,
    now: &Time,
) -> Option<PodDisruptionBudget> {
    let mut changed = budget.clone();
    let status = changed.status.get_or_insert_default();
    status.disruptions_allowed = compat::set(0);
    say(&mut changed, false, "SyncFailed", message, now);
    (changed.status != budget.status).then_some(changed)
}

/// Sets the condition that says whether there may be disruptions.
fn say(budget: &mut PodDisruptionBudget, allowed: bool, reason: &str, message: &str, now: &Time) {
    let status = budget.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut condition = Condition {
        type_: CONDITION.to_owned(),
        status: if allowed { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: now.clone(),
    };
    match conditions.iter_mut().find(|c| c.type_ == CONDITION) {
        Some(found) => {
            if found.status == condition.status {
                condition.last_transition_time = found.last_transition_time.clone();
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::common::fixture;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "namespace": "n", "generation": 3}, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn ready(name: &str) -> Arc<Pod> {
        Arc::new(
            fixture::pod("n", name)
                .ready("2026-01-01T00:00:00Z")
                .build(),
        )
    }

    fn want(spec: Value, pods: i32) -> (bool, i32, i32) {
        let budget = budget(spec, json!({"disruptionsAllowed": 0}));
        let wanted = wanted(&budget, pods);
        (goes_by_scale(&budget), wanted.expected, wanted.healthy)
    }

    #[test]
    fn percentages_and_unavailability_go_by_scale_and_round_up() {
        assert_eq!(want(json!({"minAvailable": 3}), 2), (false, 2, 3));
        assert_eq!(want(json!({"minAvailable": "30%"}), 10), (true, 10, 3));
        assert_eq!(want(json!({"minAvailable": "28%"}), 10), (true, 10, 3));
        assert_eq!(want(json!({"maxUnavailable": 1}), 5), (true, 5, 4));
        assert_eq!(want(json!({"maxUnavailable": "28%"}), 10), (true, 10, 7));
        assert_eq!(want(json!({"maxUnavailable": 9}), 5), (true, 5, 0));
        assert_eq!(want(json!({}), 5), (false, 0, 0));
    }

    #[test]
    fn evicted_pods_are_not_healthy_until_they_are_overdue() {
        let now = fixture::time("2026-01-01T00:10:00Z").0;
        let told = json!({"disruptedPods": {
            "a": "2026-01-01T00:09:00Z", "b": "2026-01-01T00:07:59Z",
            "gone": "2026-01-01T00:09:00Z", "going": "2026-01-01T00:09:00Z",
        }, "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        let budget = budget(json!({"minAvailable": 1}), told);
        let going = fixture::pod("n", "going")
            .ready("2026-01-01T00:00:00Z")
            .deleting()
            .build();
        let pods = [ready("a"), ready("b"), ready("c"), Arc::new(going)];
        let disrupted = disrupted(&budget, &pods, now);
        assert_eq!(disrupted.since.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(disrupted.recheck, Some(Duration::from_secs(60)));
        assert_eq!(owner::name(&disrupted.stayed[0].metadata), "b");
        assert_eq!(disrupted.stayed.len(), 1);
        assert_eq!(healthy(&pods, &disrupted), 2);
    }

    #[test]
    fn the_status_tells_what_is_allowed_and_is_written_once() {
        let now = fixture::time("2026-01-01T00:10:00Z");
        let fresh = budget(json!({"minAvailable": 1}), Value::Null);
        let none = Disrupted::default();
        let pods = [ready("a"), ready("b")];
        let told = updated(
            &fresh,
            wanted(&fresh, 2),
            healthy(&pods, &none),
            &none,
            &now,
        )
        .unwrap();
        let status = serde_json::to_value(&told.status).unwrap();
        assert_eq!(
            status,
            json!({
                "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "disruptionsAllowed": 1,
                "observedGeneration": 3,
                "conditions": [{
                    "type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
                    "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:10:00Z",
                }],
            })
        );
        let later = fixture::time("2026-01-01T00:20:00Z");
        assert_eq!(updated(&told, wanted(&told, 2), 2, &none, &later), None);
        // None of no pods may go.
        let empty = updated(&told, wanted(&told, 0), 2, &none, &later).unwrap();
        let status = serde_json::to_value(&empty.status).unwrap();
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
        assert_eq!(
            status["conditions"][0]["lastTransitionTime"],
            "2026-01-01T00:20:00Z"
        );
    }

    #[test]
    fn what_cannot_be_counted_allows_nothing() {
        let now = fixture::time("2026-01-01T00:10:00Z");
        let fresh = budget(json!({"maxUnavailable": 1}), Value::Null);
        let told = failed(&fresh, "found no controllers for pod \"a\"", &now).unwrap();
        let status = serde_json::to_value(&told.status).unwrap();
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
        assert_eq!(
            status["conditions"][0]["message"],
            "found no controllers for pod \"a\""
        );
        assert_eq!(
            failed(&told, "found no controllers for pod \"a\"", &now),
            None
        );
    }
}
