//! The rules of ReplicaSets.

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus},
    core::v1::PodTemplateSpec,
};

use super::workload::{
    default_template, name_advice, of_change, or_zero, replica_counts,
    selector_and_changed_template, selector_change,
};
use crate::{
    field::{ErrorList, Path},
    kinds::{
        checks::{non_negative, same, slot, slot_mut},
        core::pod::{prepare_template, template_warnings},
        typed::KindRules,
    },
};

/// The rules of ReplicaSets.
pub(crate) struct ReplicaSetRules;

impl KindRules for ReplicaSetRules {
    type Kind = ReplicaSet;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["status.replicas"];

    fn default(&self, set: &mut ReplicaSet) {
        let Some(spec): Option<&mut ReplicaSetSpec> = slot_mut(&mut set.spec) else {
            return;
        };
        spec.replicas.get_or_insert(1);
        default_template(spec.template.get_or_insert_default());
    }

    fn spec_changed(&self, new: &ReplicaSet, old: &ReplicaSet) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, set: &mut ReplicaSet) {
        prepare(set, None);
        set.status = Some(ReplicaSetStatus::default());
    }

    fn validate(&self, set: &ReplicaSet) -> ErrorList {
        validate(set, None)
    }

    fn prepare_for_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        prepare(new, Some(old));
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet) -> ErrorList {
        let specs: (Option<&ReplicaSetSpec>, Option<&ReplicaSetSpec>) =
            (slot(&new.spec), slot(&old.spec));
        let mut errors = validate(new, specs.1.and_then(|old| old.template.as_ref()));
        if let (Some(new), Some(old)) = specs {
            let path = Path::new("spec").child("selector");
            errors.extend(selector_change(&new.selector, &old.selector, path));
        }
        errors
    }

    fn prepare_for_status_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &ReplicaSet, _old: &ReplicaSet) -> ErrorList {
        let path = Path::new("status");
        let status = new.status.clone().unwrap_or_default();
        replica_counts(
            status.replicas,
            &[
                (
                    "fullyLabeledReplicas",
                    or_zero(status.fully_labeled_replicas),
                ),
                ("readyReplicas", or_zero(status.ready_replicas)),
                ("availableReplicas", or_zero(status.available_replicas)),
                ("observedGeneration", or_zero(status.observed_generation)),
                ("terminatingReplicas", or_zero(status.terminating_replicas)),
            ],
            &path,
        )
    }

    fn warnings(&self, set: &ReplicaSet) -> Vec<String> {
        let mut advice = Vec::from_iter(name_advice(&set.metadata.name));
        advice.extend(template_advice(set));
        advice
    }

    fn update_warnings(&self, new: &ReplicaSet, old: &ReplicaSet) -> Vec<String> {
        of_change(new, old, template_advice)
    }

    fn selectable(&self, set: &ReplicaSet) -> Vec<String> {
        let replicas = set.status.as_ref().map(|status| status.replicas);
        vec![replicas.unwrap_or_default().to_string()]
    }
}

fn template_advice(set: &ReplicaSet) -> Vec<String> {
    let path = Path::new("spec").child("template");
    let spec: Option<&ReplicaSetSpec> = slot(&set.spec);
    let template = spec.and_then(|spec| spec.template.as_ref());
    template
        .map(|template| template_warnings(template, &path))
        .unwrap_or_default()
}

/// Drops from the template what templates cannot say, unless the stored one says it.
fn prepare(new: &mut ReplicaSet, old: Option<&ReplicaSet>) {
    let new: Option<&mut ReplicaSetSpec> = slot_mut(&mut new.spec);
    let old: Option<&ReplicaSetSpec> = old.and_then(|old| slot(&old.spec));
    if let Some(new) = new.and_then(|new| new.template.as_mut()) {
        prepare_template(new, old.and_then(|old| old.template.as_ref()));
    }
}

fn validate(set: &ReplicaSet, old: Option<&PodTemplateSpec>) -> ErrorList {
    let path = Path::new("spec");
    let spec: Option<&ReplicaSetSpec> = slot(&set.spec);
    let spec = spec.cloned().unwrap_or_default();
    let mut errors = non_negative(spec.replicas.unwrap_or_default(), path.child("replicas"));
    errors.extend(non_negative(
        spec.min_ready_seconds.unwrap_or_default(),
        path.child("minReadySeconds"),
    ));
    let empty = PodTemplateSpec::default();
    let template = spec.template.as_ref().unwrap_or(&empty);
    errors.extend(selector_and_changed_template(
        &spec.selector,
        template,
        old.into(),
        "ReplicaSet",
        &path,
    ));
    errors
}
