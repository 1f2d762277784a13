//! Validation of changes to a pod: nearly all of its spec is fixed.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, Toleration};

use super::{scheduling, validation};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{ip, list, messages, one_of_each_family, parse_ip, qualified_name, same, text},
        difference::difference,
    },
    names,
};

/// An update of a pod.
pub(super) fn update(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = validation::metadata_and_spec(new);
    errors.extend(validation::annotation_updates(
        new,
        old,
        &Path::new("metadata").child("annotations"),
    ));
    let path = Path::new("spec");
    let empty = PodSpec::default();
    let (new_spec, old_spec) = (
        new.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    for (new, old, name) in [
        (
            &new_spec.containers[..],
            &old_spec.containers[..],
            "containers",
        ),
        (
            list(&new_spec.init_containers),
            list(&old_spec.init_containers),
            "initContainers",
        ),
    ] {
        if new.len() != old.len() {
            errors.push(field::forbidden(
                path.child(name),
                "pod updates may not add or remove containers",
            ));
            return errors;
        }
    }
    match (
        new_spec.active_deadline_seconds,
        old_spec.active_deadline_seconds,
    ) {
        (Some(new), old) => {
            let path = path.child("activeDeadlineSeconds");
            let wrong = names::in_range(new, 0, i64::from(i32::MAX));
            if !wrong.is_empty() {
                errors.extend(messages(&path, new, wrong));
                return errors;
            }
            if old.is_some_and(|old| old < new) {
                errors.push(field::invalid(
                    path,
                    new,
                    "must be less than or equal to previous value",
                ));
                return errors;
            }
        }
        (None, Some(_)) => errors.push(field::invalid(
            path.child("activeDeadlineSeconds"),
            "null",
            "must not update from a positive integer to nil value",
        )),
        (None, None) => {}
    }
    errors.extend(only_added_tolerations(
        list(&new_spec.tolerations),
        list(&old_spec.tolerations),
        &path.child("tolerations"),
    ));
    errors.extend(only_deleted_gates(
        new_spec,
        old_spec,
        &path.child("schedulingGates"),
    ));
    let munged = without_what_may_change(new_spec, old_spec);
    if !same(&munged, old_spec) {
        let changes = difference("PodSpec", old_spec, &munged);
        let text = format!(
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
             additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to \
             be set to 1 if it was previously negative)\n{changes}"
        );
        errors.push(field::forbidden(path, text));
    }
    errors
}

/// The new spec with the changes undone that are allowed.
fn without_what_may_change(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    let images = |to: &mut [Container], from: &[Container]| {
        for (to, from) in to.iter_mut().zip(from) {
            to.image.clone_from(&from.image);
        }
    };
    images(&mut spec.containers, &old.containers);
    if let Some(containers) = &mut spec.init_containers {
        images(containers, list(&old.init_containers));
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    if !list(&old.scheduling_gates).is_empty() {
        // A pod that is held back may have its node selection narrowed.
        spec.scheduling_gates.clone_from(&old.scheduling_gates);
        if narrows(new, old) {
            spec.node_selector.clone_from(&old.node_selector);
        }
    }
    if old
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}

fn narrows(new: &PodSpec, old: &PodSpec) -> bool {
    let new = new.node_selector.clone().unwrap_or_default();
    old.node_selector
        .iter()
        .flatten()
        .all(|(key, value)| new.get(key) == Some(value))
}

fn only_added_tolerations(new: &[Toleration], old: &[Toleration], path: &Path) -> ErrorList {
    let kept = |old: &Toleration| {
        new.iter().any(|new| {
            let mut old = old.clone();
            old.toleration_seconds = new.toleration_seconds;
            same(&old, new)
        })
    };
    if !old.iter().all(kept) {
        return vec![field::forbidden(
            path.clone(),
            "existing toleration can not be modified except its tolerationSeconds",
        )];
    }
    scheduling::tolerations(new, path)
}

fn only_deleted_gates(new: &PodSpec, old: &PodSpec, path: &Path) -> ErrorList {
    let old = list(&old.scheduling_gates);
    list(&new.scheduling_gates)
        .iter()
        .enumerate()
        .filter(|(_, gate)| !old.iter().any(|old| old.name == gate.name))
        .map(|(index, gate)| {
            field::forbidden(
                path.index(index).child("name"),
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    gate.name
                ),
            )
        })
        .collect()
}

/// An update of a pod's status.
pub(super) fn status_update(new: &Pod, old: &Pod) -> ErrorList {
    let meta = Path::new("metadata");
    let mut errors = validation::annotation_updates(new, old, &meta.child("annotations"));
    let path = Path::new("status");
    let (new_status, old_status) = (
        new.status.clone().unwrap_or_default(),
        old.status.clone().unwrap_or_default(),
    );
    for (index, condition) in list(&new_status.conditions).iter().enumerate() {
        if !matches!(
            condition.type_.as_str(),
            "PodScheduled" | "Ready" | "Initialized"
        ) {
            let path = meta.child("conditions").index(index).child("Type");
            errors.extend(qualified_name(&condition.type_, path));
        }
    }
    let node = text(&new_status.nominated_node_name);
    if node != text(&old_status.nominated_node_name) && !node.is_empty() {
        errors.extend(messages(
            &path.child("nominatedNodeName"),
            node,
            names::dns_subdomain(node, false),
        ));
    }
    let spec = old.spec.as_ref();
    let policy = spec.map_or("", |spec| text(&spec.restart_policy));
    let sidecars = |name: &str| {
        spec.is_some_and(|spec| {
            list(&spec.init_containers)
                .iter()
                .any(|container| container.name == name && super::is_sidecar(container))
        })
    };
    for (new, old, name, policy) in [
        (
            &new_status.container_statuses,
            &old_status.container_statuses,
            "containerStatuses",
            policy,
        ),
        (
            &new_status.init_container_statuses,
            &old_status.init_container_statuses,
            "initContainerStatuses",
            policy,
        ),
        (
            &new_status.ephemeral_container_statuses,
            &old_status.ephemeral_container_statuses,
            "ephemeralContainerStatuses",
            "Never",
        ),
    ] {
        let old: Vec<_> = list(old)
            .iter()
            .filter(|old| !sidecars(&old.name))
            .collect();
        errors.extend(no_resurrection(list(new), &old, policy, &path.child(name)));
    }
    let ips = list(&new_status.pod_ips);
    let at = path.child("podIPs");
    for (index, address) in ips.iter().enumerate() {
        errors.extend(ip(&address.ip, at.index(index)));
    }
    if ips.len() > 1 && !one_of_each_family(ips.iter().filter_map(|ip| parse_ip(&ip.ip))) {
        errors.push(field::invalid(
            at,
            crate::kinds::checks::json(&new_status.pod_ips),
            "may specify no more than one IP for each IP family",
        ));
    }
    errors
}

/// A container that has ended for good stays ended.
fn no_resurrection(
    new: &[ContainerStatus],
    old: &[&ContainerStatus],
    policy: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if policy == "Always" {
        return errors;
    }
    for (index, old) in old.iter().enumerate() {
        let Some(ended) = old
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
        else {
            continue;
        };
        if ended.exit_code != 0 && policy == "OnFailure" {
            continue;
        }
        let lives = new.iter().any(|new| {
            new.name == old.name
                && new
                    .state
                    .as_ref()
                    .is_none_or(|state| state.terminated.is_none())
        });
        if lives {
            errors.push(field::forbidden(
                path.index(index).child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
    errors
}
