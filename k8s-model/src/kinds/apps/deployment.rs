//! The rules of Deployments.

use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy,
            RollingUpdateDeployment,
        },
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::workload::{
    default_template, name_advice, not_decremented, of_change, or_zero, replica_counts,
    selector_and_changed_template, selector_change, spelled_rolling_update, spelled_strategy,
    unknown_strategy,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            at_most_100_percent, fill, int_or_percent, int_or_percent_value, int_or_string,
            non_negative, same, slot, slot_mut, text,
        },
        core::pod::{prepare_template, template_warnings},
        typed::KindRules,
    },
};

/// The rules of Deployments.
pub(crate) struct DeploymentRules;

impl KindRules for DeploymentRules {
    type Kind = Deployment;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;

    fn default(&self, deployment: &mut Deployment) {
        let Some(spec): Option<&mut DeploymentSpec> = slot_mut(&mut deployment.spec) else {
            return;
        };
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        fill(&mut strategy.type_, "RollingUpdate");
        if text(&strategy.type_) == "RollingUpdate" {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        default_template(&mut spec.template);
    }

    fn spec_changed(&self, new: &Deployment, old: &Deployment) -> bool {
        !same(&new.spec, &old.spec) || !same(&new.metadata.annotations, &old.metadata.annotations)
    }

    fn prepare_for_create(&self, deployment: &mut Deployment) {
        prepare(deployment, None);
        deployment.status = Some(DeploymentStatus::default());
    }

    fn validate(&self, deployment: &Deployment) -> ErrorList {
        let path = Path::new("spec");
        match slot(&deployment.spec) {
            Some(spec) => validate_spec(spec, None, &path),
            None => validate_spec(&DeploymentSpec::default(), None, &path),
        }
    }

    fn prepare_for_update(&self, new: &mut Deployment, old: &Deployment) {
        prepare(new, Some(old));
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Deployment, old: &Deployment) -> ErrorList {
        let specs: (Option<&DeploymentSpec>, Option<&DeploymentSpec>) =
            (slot(&new.spec), slot(&old.spec));
        let (Some(new_spec), Some(old)) = specs else {
            return self.validate(new);
        };
        let path = Path::new("spec");
        let mut errors = validate_spec(new_spec, Some(&old.template), &path);
        let path = path.child("selector");
        errors.extend(selector_change(&new_spec.selector, &old.selector, path));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate_status_update(&self, new: &Deployment, old: &Deployment) -> ErrorList {
        let path = Path::new("status");
        let (new, old) = (
            new.status.clone().unwrap_or_default(),
            old.status.clone().unwrap_or_default(),
        );
        let mut errors = non_negative(
            new.observed_generation.unwrap_or_default(),
            path.child("observedGeneration"),
        );
        errors.extend(replica_counts(
            new.replicas.unwrap_or_default(),
            &[
                ("updatedReplicas", or_zero(new.updated_replicas)),
                ("readyReplicas", or_zero(new.ready_replicas)),
                ("availableReplicas", or_zero(new.available_replicas)),
                ("unavailableReplicas", or_zero(new.unavailable_replicas)),
                ("terminatingReplicas", or_zero(new.terminating_replicas)),
                ("collisionCount", or_zero(new.collision_count)),
            ],
            &path,
        ));
        errors.extend(not_decremented(
            new.collision_count,
            old.collision_count,
            path.child("collisionCount"),
        ));
        errors
    }

    fn warnings(&self, deployment: &Deployment) -> Vec<String> {
        let mut advice = Vec::from_iter(name_advice(&deployment.metadata.name));
        advice.extend(template_advice(deployment));
        advice
    }

    fn update_warnings(&self, new: &Deployment, old: &Deployment) -> Vec<String> {
        of_change(new, old, template_advice)
    }
}

fn template_advice(deployment: &Deployment) -> Vec<String> {
    let path = Path::new("spec").child("template");
    let spec: Option<&DeploymentSpec> = slot(&deployment.spec);
    spec.map(|spec| template_warnings(&spec.template, &path))
        .unwrap_or_default()
}

/// Drops from the template what templates cannot say, unless the stored one says it.
fn prepare(new: &mut Deployment, old: Option<&Deployment>) {
    let new: Option<&mut DeploymentSpec> = slot_mut(&mut new.spec);
    let old: Option<&DeploymentSpec> = old.and_then(|old| slot(&old.spec));
    if let Some(new) = new {
        prepare_template(&mut new.template, old.map(|old| &old.template));
    }
}

fn validate_spec(spec: &DeploymentSpec, old: Option<&PodTemplateSpec>, path: &Path) -> ErrorList {
    let mut errors = non_negative(spec.replicas.unwrap_or_default(), path.child("replicas"));
    // Upstream names the ReplicaSet here, which makes the pods.
    errors.extend(selector_and_changed_template(
        &spec.selector,
        &spec.template,
        old.into(),
        "ReplicaSet",
        path,
    ));
    errors.extend(strategy(
        &spec.strategy.clone().unwrap_or_default(),
        &path.child("strategy"),
    ));
    let min_ready = spec.min_ready_seconds.unwrap_or_default();
    errors.extend(non_negative(min_ready, path.child("minReadySeconds")));
    errors.extend(non_negative(
        spec.revision_history_limit.unwrap_or_default(),
        path.child("revisionHistoryLimit"),
    ));
    if let Some(deadline) = spec.progress_deadline_seconds {
        let path = path.child("progressDeadlineSeconds");
        errors.extend(non_negative(deadline, path.clone()));
        if deadline <= min_ready {
            errors.push(field::invalid(
                path,
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }
    errors
}

fn strategy(strategy: &DeploymentStrategy, path: &Path) -> ErrorList {
    let at = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", None) => ErrorList::new(),
        ("Recreate", Some(_)) => vec![field::forbidden(
            at,
            "may not be specified when strategy `type` is 'Recreate'",
        )],
        ("RollingUpdate", None) => vec![field::required(
            at,
            "this should be defaulted and never be nil",
        )],
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &at),
        (_, rolling) => {
            let rolling = rolling.as_ref().map(|rolling| {
                spelled_rolling_update(&rolling.max_unavailable, &rolling.max_surge)
            });
            let spelled = spelled_strategy(&strategy.type_, rolling);
            let known = &["Recreate", "RollingUpdate"];
            vec![unknown_strategy(path.clone(), &spelled, known)]
        }
    }
}

fn rolling_update(rolling: &RollingUpdateDeployment, path: &Path) -> ErrorList {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let at = path.child("maxUnavailable");
    let mut errors = int_or_percent(unavailable, at.clone());
    errors.extend(int_or_percent(surge, path.child("maxSurge")));
    if int_or_percent_value(unavailable) == 0 && int_or_percent_value(surge) == 0 {
        errors.push(field::invalid(
            at.clone(),
            int_or_string(unavailable),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    errors.extend(at_most_100_percent(unavailable, at));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(patch: serde_json::Value) -> Deployment {
        let mut value = json!({"metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": "x:1"}]}}}});
        json_patch::merge(&mut value["spec"], &patch);
        let mut deployment = serde_json::from_value(value).unwrap();
        DeploymentRules.default(&mut deployment);
        deployment
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_deployment_rolls_by_quarters_and_is_valid() {
        let deployment = deployment(json!({}));
        let value = serde_json::to_value(&deployment.spec).unwrap();
        assert_eq!(
            value["strategy"],
            json!({"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(value["replicas"], 1);
        assert_eq!(value["template"]["spec"]["enableServiceLinks"], json!(null));
        assert_eq!(texts(DeploymentRules.validate(&deployment)), [""; 0]);
    }

    #[test]
    fn a_negative_replica_count_is_refused() {
        assert_eq!(
            texts(DeploymentRules.validate(&deployment(json!({"replicas": -1})))),
            ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
        );
    }

    #[test]
    fn the_template_must_match_the_selector() {
        let errors = texts(DeploymentRules.validate(&deployment(
            json!({"selector": {"matchLabels": {"app": "b"}}}),
        )));
        assert_eq!(
            errors,
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"
            ]
        );
    }

    #[test]
    fn the_selector_is_immutable() {
        let new = deployment(json!({"selector": {"matchLabels": {"b": "a"}},
            "template": {"metadata": {"labels": {"b": "a"}}}}));
        let old = deployment(json!({}));
        let errors = texts(DeploymentRules.validate_update(&new, &old));
        assert!(
            errors
                .iter()
                .any(|text| text.ends_with("field is immutable")),
            "{errors:?}"
        );
    }

    #[test]
    fn the_strategy_must_allow_progress() {
        let errors = texts(DeploymentRules.validate(&deployment(json!({"strategy":
            {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}))));
        assert_eq!(
            errors,
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
            ]
        );
    }
}
