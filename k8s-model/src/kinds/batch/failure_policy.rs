//! What a job does about pods that fail (KEP-3329).

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{json, list, qualified_name, slot, supported},
};

const MAX_RULES: usize = 20;
const MAX_CONDITIONS: usize = 20;
const MAX_EXIT_CODES: usize = 255;

/// Defaults the patterns.
pub(super) fn default(policy: &mut PodFailurePolicy) {
    for rule in &mut policy.rules {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            crate::kinds::checks::fill_slot(&mut pattern.status, "True");
        }
    }
}

/// Checks the rules.
pub(super) fn validate(policy: &PodFailurePolicy, spec: &JobSpec, path: &Path) -> ErrorList {
    let path = path.child("rules");
    let mut errors = ErrorList::new();
    if policy.rules.len() > MAX_RULES {
        errors.push(field::too_many(path.clone(), policy.rules.len(), MAX_RULES));
    }
    let pod = spec.template.spec.as_ref();
    let containers: BTreeSet<&str> = pod
        .into_iter()
        .flat_map(|pod| pod.containers.iter().chain(list(&pod.init_containers)))
        .map(|container| container.name.as_str())
        .collect();
    for (index, one) in policy.rules.iter().enumerate() {
        errors.extend(rule(one, spec, &containers, &path.index(index)));
    }
    errors
}

fn rule(
    rule: &PodFailurePolicyRule,
    spec: &JobSpec,
    containers: &BTreeSet<&str>,
    path: &Path,
) -> ErrorList {
    let at = path.child("action");
    let mut errors = known(
        &rule.action,
        &["Count", "FailIndex", "FailJob", "Ignore"],
        at.clone(),
    );
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        errors.push(field::invalid(
            at,
            rule.action.as_str(),
            "requires the backoffLimitPerIndex to be set",
        ));
    }
    if let Some(codes) = &rule.on_exit_codes {
        errors.extend(exit_codes(codes, containers, &path.child("onExitCodes")));
    }
    let conditions = list(&rule.on_pod_conditions);
    errors.extend(pod_conditions(conditions, &path.child("onPodConditions")));
    let one_of = match (&rule.on_exit_codes, conditions) {
        (Some(_), [_, ..]) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (None, []) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return errors,
    };
    errors.push(field::Error {
        kind: field::ErrorType::Invalid,
        field: path.clone(),
        value: None,
        detail: one_of.to_owned(),
    });
    errors
}

fn exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    containers: &BTreeSet<&str>,
    path: &Path,
) -> ErrorList {
    let mut errors = known(&codes.operator, &["In", "NotIn"], path.child("operator"));
    if let Some(name) = &codes.container_name
        && !containers.contains(name.as_str())
    {
        errors.push(field::invalid(
            path.child("containerName"),
            name.as_str(),
            "must be one of the container or initContainer names in the pod template",
        ));
    }
    let path = path.child("values");
    let values = &codes.values;
    if values.is_empty() {
        let text = "at least one value is required";
        errors.push(field::invalid(path.clone(), json(values), text));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(field::too_many(path.clone(), values.len(), MAX_EXIT_CODES));
    }
    let mut seen = BTreeSet::new();
    for (index, value) in values.iter().enumerate() {
        if codes.operator == "In" && *value == 0 {
            errors.push(field::invalid(
                path.index(index),
                *value,
                "must not be 0 for the In operator",
            ));
        }
        if !seen.insert(*value) {
            errors.push(field::duplicate(path.index(index), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(field::invalid(path, json(values), "must be ordered"));
    }
    errors
}

fn pod_conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if patterns.len() > MAX_CONDITIONS {
        errors.push(field::too_many(
            path.clone(),
            patterns.len(),
            MAX_CONDITIONS,
        ));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        errors.extend(qualified_name(&pattern.type_, path.child("type")));
        let status = slot::<String>(&pattern.status);
        errors.extend(known(
            status.map_or("", String::as_str),
            &["False", "True", "Unknown"],
            path.child("status"),
        ));
    }
    errors
}

/// One of a closed set, which is told to who gives nothing.
fn known(value: &str, values: &[&str], path: Path) -> ErrorList {
    if value.is_empty() {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("valid values: [{}]", values.join(" "));
        return vec![field::required(path, detail)];
    }
    supported(value, values, path)
}

/// The policy as upstream's internal type is told.
pub(super) fn spelled(policy: &PodFailurePolicy) -> String {
    let rules = policy.rules.iter().map(|rule| {
        let action = json(&rule.action);
        let codes = rule.on_exit_codes.as_ref().map_or_else(null, spelled_codes);
        let conditions = rule
            .on_pod_conditions
            .as_ref()
            .map_or_else(null, |patterns| {
                spelled_list(patterns.iter().map(spelled_pattern))
            });
        format!(r#"{{"Action":{action},"OnExitCodes":{codes},"OnPodConditions":{conditions}}}"#)
    });
    format!(r#"{{"Rules":{}}}"#, spelled_list(rules))
}

fn spelled_codes(codes: &PodFailurePolicyOnExitCodesRequirement) -> String {
    let name = codes.container_name.as_ref().map_or(Value::Null, json);
    let operator = json(&codes.operator);
    let values = Some(&codes.values).filter(|values| !values.is_empty());
    let values = values.map_or(Value::Null, json);
    format!(r#"{{"ContainerName":{name},"Operator":{operator},"Values":{values}}}"#)
}

fn spelled_pattern(pattern: &PodFailurePolicyOnPodConditionsPattern) -> String {
    let status = slot::<String>(&pattern.status).map_or("", String::as_str);
    let (kind, status) = (json(&pattern.type_), json(&status));
    format!(r#"{{"Type":{kind},"Status":{status}}}"#)
}

fn spelled_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn null() -> String {
    "null".to_owned()
}
