//! What a pod takes that is resized in place: the most of what it asks for, was allocated and has.
//!
//! See KEP-1287.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::Amounts;
use crate::{
    kinds::checks::list,
    pods::{resource_limits, resource_requests},
};

type List = BTreeMap<String, Quantity>;

/// What its containers request.
pub(super) fn requests(pod: &Pod) -> Amounts {
    most(pod, resource_requests, &[allocated_requests, held_requests])
}

/// What its containers are limited to.
pub(super) fn limits(pod: &Pod) -> Amounts {
    most(pod, resource_limits, &[held_limits])
}

/// One list of what a container takes, by its status. `None` if the status has none, and what the container asks for
/// counts.
type View = fn(&ContainerStatus) -> Option<&List>;

fn allocated_requests(status: &ContainerStatus) -> Option<&List> {
    status.allocated_resources.as_ref()
}

fn held_requests(status: &ContainerStatus) -> Option<&List> {
    let held = status.resources.as_ref();
    held.and_then(|held| held.requests.as_ref())
        .or_else(|| allocated_requests(status))
}

fn held_limits(status: &ContainerStatus) -> Option<&List> {
    status.resources.as_ref()?.limits.as_ref()
}

/// The most of each resource. What is asked for in vain does not count: no node could give it.
fn most(pod: &Pod, sum: fn(&Pod) -> Amounts, views: &[View]) -> Amounts {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
        return sum(pod);
    };
    let knows = |status: &ContainerStatus| {
        status.resources.is_some() || status.allocated_resources.is_some()
    };
    if !statuses(status).any(knows) {
        return sum(pod);
    }
    let in_vain = is_infeasible(status);
    let mut out = if in_vain { Amounts::new() } else { sum(pod) };
    for view in views {
        for (name, amount) in sum(&seen(spec, status, *view, in_vain)) {
            let most = out.entry(name).or_insert(amount);
            *most = (*most).max(amount);
        }
    }
    out
}

/// The pod as it would be if its containers asked for what a view shows, without what has no bearing on sums. The same
/// list is request and limit: no more than one of them is looked at.
fn seen(spec: &PodSpec, status: &PodStatus, view: View, in_vain: bool) -> Pod {
    let container = |container: &Container| {
        let status = statuses(status).find(|status| status.name == container.name);
        let resources = match status.and_then(view) {
            Some(list) => Some(ResourceRequirements {
                requests: Some(list.clone()),
                limits: Some(list.clone()),
                ..ResourceRequirements::default()
            }),
            None if in_vain => None,
            None => container.resources.clone(),
        };
        Container {
            name: container.name.clone(),
            restart_policy: container.restart_policy.clone(),
            resources,
            ..Container::default()
        }
    };
    let init = list(&spec.init_containers);
    Pod {
        spec: Some(PodSpec {
            containers: spec.containers.iter().map(container).collect(),
            init_containers: Some(init.iter().map(container).collect()),
            resources: spec.resources.clone(),
            overhead: spec.overhead.clone(),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = list(&status.init_container_statuses);
    list(&status.container_statuses).iter().chain(init)
}

/// Whether the node has refused the resize for good.
fn is_infeasible(status: &PodStatus) -> bool {
    let mut conditions = list(&status.conditions).iter();
    conditions
        .find(|condition| condition.type_ == "PodResizePending")
        .is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(amounts: &Amounts) -> String {
        let parts: Vec<String> = amounts.iter().map(|(n, a)| format!("{n}={a}")).collect();
        parts.join(" ")
    }

    fn pod(asked: &str, status: Value, pending: &str) -> Pod {
        let resources = json!({"requests": {"cpu": asked}, "limits": {"cpu": asked}});
        let mut container = status;
        container["name"] = json!("c");
        serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "containers": [{"name": "c", "resources": resources}, {"name": "d", "resources": {"requests": {"cpu": "1"}}}],
                "overhead": {"cpu": "100m"},
            },
            "status": {
                "containerStatuses": [container],
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": pending}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_most_of_what_is_asked_for_allocated_and_held_counts() {
        let held =
            |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
        let both = |allocated: &str, actual: &str| {
            let mut out = held(actual);
            out["allocatedResources"] = json!({"cpu": allocated});
            out
        };
        for (asked, status, pending, requested, limited) in [
            ("2", json!({}), "Deferred", "3100m", "2100m"),
            ("2", both("2", "2"), "Deferred", "3100m", "2100m"),
            // On its way down, and up.
            ("2", both("4", "4"), "Deferred", "5100m", "4100m"),
            ("2", both("2", "4"), "Deferred", "5100m", "4100m"),
            ("4", both("2", "2"), "Deferred", "5100m", "4100m"),
            (
                "4",
                json!({"allocatedResources": {"cpu": "6"}}),
                "Deferred",
                "7100m",
                "4100m",
            ),
            // In vain.
            ("8", both("2", "1"), "Infeasible", "2100m", "1100m"),
        ] {
            let pod = pod(asked, status.clone(), pending);
            let told = format!("{asked} {status} {pending}");
            assert_eq!(shown(&requests(&pod)), format!("cpu={requested}"), "{told}");
            assert_eq!(shown(&limits(&pod)), format!("cpu={limited}"), "{told}");
        }
    }
}
