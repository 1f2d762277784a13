//! The rules of ReplicationControllers.

use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerStatus,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        apps::workload::{default_template, name_advice, of_change, or_zero, replica_counts},
        checks::{json, non_negative, same},
        core::pod::{
            changed_long_running_template, changed_template, prepare_template, template_warnings,
        },
        declared::Declared,
        typed::KindRules,
    },
};

/// What the keys of annotations begin with that name fields of ReplicaSets which this kind does not have.
const NON_CONVERTIBLE: &str = "non-convertible.kubernetes.io";

/// The rules of ReplicationControllers.
pub(crate) struct ReplicationControllerRules;

impl KindRules for ReplicationControllerRules {
    type Kind = ReplicationController;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["status.replicas"];

    fn default(&self, controller: &mut ReplicationController) {
        let Some(spec) = &mut controller.spec else {
            return;
        };
        let labels = spec
            .template
            .as_ref()
            .and_then(|template| template.metadata.as_ref()?.labels.clone());
        if let Some(labels) = labels {
            if spec
                .selector
                .as_ref()
                .is_none_or(|selector| selector.is_empty())
            {
                spec.selector = Some(labels.clone());
            }
            if controller
                .metadata
                .labels
                .as_ref()
                .is_none_or(|labels| labels.is_empty())
            {
                controller.metadata.labels = Some(labels);
            }
        }
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            default_template(template);
        }
    }

    fn spec_changed(&self, new: &ReplicationController, old: &ReplicationController) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, controller: &mut ReplicationController) {
        prepare(controller, None);
        controller.status = Some(ReplicationControllerStatus::default());
    }

    fn validate(&self, controller: &ReplicationController) -> ErrorList {
        validate(controller, None)
    }

    fn validate_update(
        &self,
        new: &ReplicationController,
        old: &ReplicationController,
    ) -> ErrorList {
        let spec = old.spec.as_ref();
        let mut errors = validate(new, spec.and_then(|old| old.template.as_ref()));
        errors.extend(non_convertible(new, old));
        errors
    }

    fn declared(
        &self,
        new: &ReplicationController,
        old: Option<&ReplicationController>,
    ) -> ErrorList {
        fn counts(controller: &ReplicationController) -> [Option<i32>; 2] {
            let spec = controller.spec.as_ref();
            spec.map_or([None; 2], |spec| [spec.replicas, spec.min_ready_seconds])
        }
        let (new, old, path) = (counts(new), old.map(counts), Path::new("spec"));
        let names = ["replicas", "minReadySeconds"].into_iter().enumerate();
        let found = names.flat_map(|(at, name)| {
            let before = old.as_ref().map(|old| &old[at]);
            Declared::of(&new[at], before, path.child(name))
                .then(|count, path| non_negative(count.unwrap_or_default(), path))
        });
        found.collect()
    }

    fn prepare_for_update(&self, new: &mut ReplicationController, old: &ReplicationController) {
        prepare(new, Some(old));
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(
        &self,
        new: &mut ReplicationController,
        old: &ReplicationController,
    ) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(
        &self,
        new: &ReplicationController,
        _old: &ReplicationController,
    ) -> ErrorList {
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
            ],
            &path,
        )
    }

    fn warnings(&self, controller: &ReplicationController) -> Vec<String> {
        let mut advice = Vec::from_iter(name_advice(&controller.metadata.name));
        advice.extend(template_advice(controller));
        advice
    }

    fn update_warnings(
        &self,
        new: &ReplicationController,
        old: &ReplicationController,
    ) -> Vec<String> {
        of_change(new, old, template_advice)
    }

    fn selectable(&self, controller: &ReplicationController) -> Vec<String> {
        let replicas = controller.status.as_ref().map(|status| status.replicas);
        vec![replicas.unwrap_or_default().to_string()]
    }
}

/// What may not change as an annotation says that it could not be converted to the kind that took this one's place.
fn non_convertible(new: &ReplicationController, old: &ReplicationController) -> ErrorList {
    let selectors = [new, old].map(|controller| {
        let spec = controller.spec.as_ref();
        spec.and_then(|spec| spec.selector.as_ref())
            .filter(|selector| !selector.is_empty())
    });
    let mut errors = ErrorList::new();
    for (key, value) in old.metadata.annotations.iter().flatten() {
        let Some((_, broken)) = key
            .split_once('/')
            .filter(|_| key.starts_with(NON_CONVERTIBLE))
        else {
            continue;
        };
        if !broken.contains("selector") {
            let mut error = field::not_found(Path::new(broken), value.as_str());
            error.detail = "unknown non-convertible field".to_owned();
            errors.push(error);
        } else if selectors[0] != selectors[1] {
            errors.push(field::invalid(
                Path::new("spec").child("selector"),
                json(&selectors[0]),
                "cannot update non-convertible selector",
            ));
        }
    }
    errors
}

fn template_advice(controller: &ReplicationController) -> Vec<String> {
    let path = Path::new("spec").child("template");
    let spec = controller.spec.as_ref();
    let template = spec.and_then(|spec| spec.template.as_ref());
    template
        .map(|template| template_warnings(template, &path))
        .unwrap_or_default()
}

/// Drops from the template what templates cannot say, unless the stored one says it.
fn prepare(new: &mut ReplicationController, old: Option<&ReplicationController>) {
    let new = new.spec.as_mut().and_then(|new| new.template.as_mut());
    let old = old.and_then(|old| old.spec.as_ref()?.template.as_ref());
    if let Some(new) = new {
        prepare_template(new, old);
    }
}

fn validate(controller: &ReplicationController, old: Option<&PodTemplateSpec>) -> ErrorList {
    let path = Path::new("spec");
    let spec = controller.spec.clone().unwrap_or_default();
    let mut errors = non_negative(
        spec.min_ready_seconds.unwrap_or_default(),
        path.child("minReadySeconds"),
    );
    let selector = spec.selector.unwrap_or_default();
    if selector.is_empty() {
        errors.push(field::required(path.child("selector"), ""));
    }
    errors.extend(non_negative(
        spec.replicas.unwrap_or_default(),
        path.child("replicas"),
    ));
    let path = path.child("template");
    let Some(template) = &spec.template else {
        errors.push(field::required(path, ""));
        return errors;
    };
    errors.extend(changed_long_running_template(
        template,
        old.into(),
        matches(template, &selector),
        &[changed_template],
        "ReplicationController",
        &path,
    ));
    errors
}

fn matches(
    template: &PodTemplateSpec,
    selector: &std::collections::BTreeMap<String, String>,
) -> bool {
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.as_ref());
    selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_could_not_be_converted_stays() {
        let controller = |key: &str, app: &str| -> ReplicationController {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "annotations": {key: "v"}},
                "spec": {"replicas": 1, "selector": {"app": app}, "template": {
                    "metadata": {"labels": {"app": app}},
                    "spec": {"containers": [{"name": "c", "image": "x:1"}]}}},
            }))
            .map(|mut controller| {
                ReplicationControllerRules.default(&mut controller);
                controller
            })
            .unwrap()
        };
        let told = |key: &str, app: &str| -> Vec<String> {
            let old = controller(key, "a");
            let new = controller("other", app);
            let errors = ReplicationControllerRules.validate_update(&new, &old);
            errors.iter().map(ToString::to_string).collect()
        };
        let selector = "non-convertible.kubernetes.io/spec.selector";
        assert_eq!(told(selector, "a"), [""; 0]);
        assert_eq!(
            told(selector, "b"),
            [
                r#"spec.selector: Invalid value: {"app":"b"}: cannot update non-convertible selector"#
            ]
        );
        assert_eq!(
            told("non-convertible.kubernetes.io/spec.other", "a"),
            [r#"spec.other: Not found: "v": unknown non-convertible field"#]
        );
        assert_eq!(told("example.com/selector", "b"), [""; 0]);
    }
}
