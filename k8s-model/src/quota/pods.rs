//! What pods count as.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Pod, PodAffinityTerm, ScopedResourceSelectorRequirement},
    jiff::{SignedDuration, Timestamp},
};

use super::{Amounts, ONE, resized, selects};
use crate::{
    kinds::{checks::list, core::pod::has_own_resources, quantities},
    pods::qos_class,
    quantity::Amount,
};

const COUNT: &str = "count/pods";
/// What devices of a class are called where they are asked for like any resource.
const DEVICES_OF_CLASS: &str = "deviceclass.resource.kubernetes.io/";

pub(super) fn measures(name: &str) -> bool {
    matches!(
        name,
        COUNT
            | "pods"
            | "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
    ) || quantities::is_huge_pages(name)
        || name.strip_prefix("requests.").is_some_and(|rest| {
            quantities::is_huge_pages(rest)
                || is_foreign(rest)
                || rest.starts_with(DEVICES_OF_CLASS)
        })
}

/// Whether a resource is not one of Kubernetes' own.
fn is_foreign(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// A quota on CPU or memory demands that each container says how much it takes. Upstream
/// calls that a mistake, which for no other resource was repeated. A pod that says how much it takes as a
/// whole is exempt.
pub(super) fn check_constraints<'a>(
    limited: impl IntoIterator<Item = &'a str>,
    pod: &Pod,
) -> Result<(), String> {
    const DEMANDED: &[&str] = &[
        "cpu",
        "memory",
        "requests.cpu",
        "requests.memory",
        "limits.cpu",
        "limits.memory",
    ];
    let Some(spec) = &pod.spec else {
        return Ok(());
    };
    if has_own_resources(spec) {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in limited.into_iter().filter(|name| DEMANDED.contains(name)) {
        for container in spec.containers.iter().chain(list(&spec.init_containers)) {
            let resources = container.resources.as_ref();
            let (of, what) = match name.split_once('.') {
                Some(("limits", what)) => (resources.and_then(|r| r.limits.as_ref()), what),
                Some((_, what)) => (resources.and_then(|r| r.requests.as_ref()), what),
                None => (resources.and_then(|r| r.requests.as_ref()), name),
            };
            if of.is_none_or(|list| !list.contains_key(what)) {
                missing.entry(name).or_default().insert(&container.name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(format!("must specify {}", parts.join("; ")))
}

/// Whether it is to end at some time.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.active_deadline_seconds)
        .is_some_and(|seconds| seconds >= 0)
}

pub(super) fn in_scope(pod: &Pod, scope: &ScopedResourceSelectorRequirement) -> bool {
    let spec = pod.spec.as_ref();
    match scope.scope_name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => qos_class(pod) == "BestEffort",
        "NotBestEffort" => qos_class(pod) != "BestEffort",
        "PriorityClass" => {
            let class = spec.and_then(|spec| spec.priority_class_name.as_deref());
            selects(scope, class.filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        _ => false,
    }
}

/// Whether a term of its affinity or anti-affinity speaks of pods in other namespaces.
fn reaches_other_namespaces(pod: &Pod) -> bool {
    let reaches = |term: &PodAffinityTerm| {
        !list(&term.namespaces).is_empty() || term.namespace_selector.is_some()
    };
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
        return false;
    };
    let with = affinity.pod_affinity.as_ref().is_some_and(|affinity| {
        list(&affinity.required_during_scheduling_ignored_during_execution)
            .iter()
            .any(reaches)
            || list(&affinity.preferred_during_scheduling_ignored_during_execution)
                .iter()
                .any(|term| reaches(&term.pod_affinity_term))
    });
    let without = affinity.pod_anti_affinity.as_ref().is_some_and(|affinity| {
        list(&affinity.required_during_scheduling_ignored_during_execution)
            .iter()
            .any(reaches)
            || list(&affinity.preferred_during_scheduling_ignored_during_execution)
                .iter()
                .any(|term| reaches(&term.pod_affinity_term))
    });
    with || without
}

/// A pod that is over counts as an object alone.
pub(super) fn usage(pod: &Pod, now: Timestamp) -> Amounts {
    let mut out = Amounts::from([(COUNT.to_owned(), ONE)]);
    if is_over(pod, now) {
        return out;
    }
    out.insert("pods".to_owned(), ONE);
    for (name, amount) in resized::requests(pod) {
        insert_request(&mut out, &name, amount);
    }
    for (name, amount) in resized::limits(pod) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            out.insert(format!("limits.{name}"), amount);
        }
    }
    out
}

fn insert_request(out: &mut Amounts, name: &str, amount: Amount) {
    if matches!(name, "cpu" | "memory" | "ephemeral-storage") || quantities::is_huge_pages(name) {
        out.insert(name.to_owned(), amount);
        out.insert(format!("requests.{name}"), amount);
    } else if quantities::is_extended(name) || name.starts_with(DEVICES_OF_CLASS) {
        out.insert(format!("requests.{name}"), amount);
    }
}

/// Whether it has ended, or should have: a node that is lost must not keep its pods' share.
fn is_over(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return true;
    }
    let meta = &pod.metadata;
    match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(at), Some(grace)) => {
            at.0.checked_add(SignedDuration::from_secs(grace))
                .is_ok_and(|end| now > end)
        }
        _ => false,
    }
}
