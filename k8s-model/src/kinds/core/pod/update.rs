//! Validation of changes to a pod: nearly all of its spec is fixed.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use serde_json::Value;

use super::{annotations, gated, scheduling, validation};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, messages, same, text},
        difference::difference,
    },
    names,
};

/// An update of a pod.
pub(super) fn update(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = validation::changed(new, old);
    errors.extend(annotations::validate_update(new, old));
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
        // Told twice.
        for (index, container) in new.iter().enumerate() {
            if text(&container.image).is_empty() {
                let path = path.child(name).index(index);
                errors.push(field::required(path.child("image"), ""));
            }
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
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
        (None, None) => {}
    }
    errors.extend(only_added_tolerations(
        new_spec,
        old_spec,
        &path.child("tolerations"),
    ));
    errors.extend(only_deleted_gates(
        new_spec,
        old_spec,
        &path.child("schedulingGates"),
    ));
    if is_gated(old_spec) {
        errors.extend(gated::narrowed(new_spec, old_spec, &path));
    }
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
    // Which gates may go, and what a gated pod may change, has findings of its own.
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    if is_gated(old) {
        gated::restore(&mut spec, old);
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

/// Whether a pod is held back from being given to a node.
fn is_gated(spec: &PodSpec) -> bool {
    !list(&spec.scheduling_gates).is_empty()
}

fn only_added_tolerations(new_spec: &PodSpec, old_spec: &PodSpec, path: &Path) -> ErrorList {
    let [new, old] = [new_spec, old_spec].map(|spec| list(&spec.tolerations));
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
    scheduling::tolerations(new, scheduling::has_comparisons(old_spec), path)
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
