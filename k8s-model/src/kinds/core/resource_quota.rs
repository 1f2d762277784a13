//! The rules of ResourceQuotas.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{IMMUTABLE, json, list},
        quantities::{self, ResourceList},
        typed::KindRules,
    },
};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// The rules of ResourceQuotas.
pub(crate) struct ResourceQuotaRules;

fn amounts(amounts: &Option<ResourceList>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, quantity) in amounts.iter().flatten() {
        let path = path.key(name);
        errors.extend(quantities::resource_name(name, &path));
        if !name.contains('/') && !quantities::is_standard_for_quota(name) {
            errors.push(field::invalid(
                path.clone(),
                name.as_str(),
                "must be a standard resource for quota",
            ));
        }
        errors.extend(quantities::resource_value(name, quantity, path));
    }
    errors
}

fn status(status: &Option<ResourceQuotaStatus>) -> ErrorList {
    let path = Path::new("status");
    let status = status.clone().unwrap_or_default();
    let mut errors = amounts(&status.hard, &path.child("hard"));
    errors.extend(amounts(&status.used, &path.child("used")));
    errors
}

/// Whether a scope can apply to a resource. What is no standard resource of quotas is not asked about.
fn applies(scope: &str, resource: &str) -> bool {
    if !quantities::is_standard_for_quota(resource) {
        return true;
    }
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ if SCOPES.contains(&scope) => matches!(
            resource,
            "pods"
                | "cpu"
                | "memory"
                | "limits.cpu"
                | "limits.memory"
                | "requests.cpu"
                | "requests.memory"
        ),
        _ => true,
    }
}

/// The findings about each of some scopes: that it is not known, or not fit for the resources.
fn fitting<'a>(
    spec: &ResourceQuotaSpec,
    scopes: impl Iterator<Item = &'a str>,
    path: &Path,
    shown: &Value,
    unknown: impl Fn(&str) -> field::Error,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for scope in scopes {
        if !SCOPES.contains(&scope) {
            errors.push(unknown(scope));
        }
        let hard = spec.hard.iter().flatten();
        errors.extend(hard.filter(|(name, _)| !applies(scope, name)).map(|_| {
            let text = "unsupported scope applied to resource";
            field::invalid(path.clone(), shown.clone(), text)
        }));
    }
    errors
}

/// The findings about scopes as a set: that one is contrary to another.
fn contrary<'a>(
    spec: &ResourceQuotaSpec,
    scopes: impl Iterator<Item = &'a str> + Clone,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for [one, other] in [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ] {
        if scopes.clone().any(|s| s == one) && scopes.clone().any(|s| s == other) {
            let shown = json(&spec.scopes);
            errors.push(field::invalid(path.clone(), shown, "conflicting scopes"));
        }
    }
    errors
}

fn scopes(spec: &ResourceQuotaSpec, path: &Path) -> ErrorList {
    let shown = json(&spec.scopes);
    let names = list(&spec.scopes).iter().map(String::as_str);
    let mut errors = fitting(spec, names.clone(), path, &shown, |_| {
        field::invalid(path.clone(), shown.clone(), "unsupported scope")
    });
    errors.extend(contrary(spec, names, path));
    errors
}

fn scope_selector(spec: &ResourceQuotaSpec, path: &Path) -> ErrorList {
    let selector = spec.scope_selector.as_ref();
    let terms = selector.map(|selector| list(&selector.match_expressions));
    let terms = terms.unwrap_or_default();
    let names = terms.iter().map(|term| term.scope_name.as_str());
    let shown = json(&selector);
    let mut errors = ErrorList::new();
    for term in terms {
        let name = std::iter::once(term.scope_name.as_str());
        errors.extend(fitting(spec, name, path, &shown, |scope| {
            field::invalid(path.child("scopeName"), scope, "unsupported scope")
        }));
        let (operator, at) = (term.operator.as_str(), path.child("operator"));
        let plain = SCOPES.contains(&term.scope_name.as_str())
            && !matches!(
                term.scope_name.as_str(),
                "PriorityClass" | "VolumeAttributesClass"
            );
        if plain && operator != "Exists" {
            errors.push(field::invalid(
                at.clone(),
                operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            ));
        }
        let values = list(&term.values);
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(field::required(
                path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(field::invalid(
                path.child("values"),
                values.to_vec(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(field::invalid(
                at,
                operator,
                "not a valid selector operator",
            )),
        }
    }
    errors.extend(contrary(spec, names, path));
    errors
}

/// Advice on requests of a resource that may be more than its limits.
fn requests_above_limits(hard: &ResourceList) -> Vec<String> {
    // Of the first two the plain name means requests.
    let resources = [
        ("cpu", true),
        ("memory", true),
        ("storage", false),
        ("ephemeral-storage", false),
    ];
    let advice = resources.into_iter().filter_map(|(resource, plain)| {
        let plain = plain.then(|| resource.to_owned());
        let mut names = std::iter::once(format!("requests.{resource}")).chain(plain);
        let (name, request) = names.find_map(|name| hard.get_key_value(&name))?;
        let limit = hard.get(&format!("limits.{resource}"))?;
        (quantities::parse(request)? > quantities::parse(limit)?).then(|| {
            format!(
                "ResourceQuota {name} ({}) should be less than limits.{resource} ({})",
                request.0, limit.0
            )
        })
    });
    advice.collect()
}

impl KindRules for ResourceQuotaRules {
    type Kind = ResourceQuota;

    const METADATA: (usize, usize) = (0, 1);

    fn default(&self, quota: &mut ResourceQuota) {
        if let Some(spec) = &mut quota.spec {
            quantities::normalize(&mut spec.hard);
        }
        if let Some(status) = &mut quota.status {
            quantities::normalize(&mut status.hard);
            quantities::normalize(&mut status.used);
        }
    }

    fn prepare_for_create(&self, quota: &mut ResourceQuota) {
        quota.status = Some(ResourceQuotaStatus::default());
    }

    fn validate(&self, quota: &ResourceQuota) -> ErrorList {
        let path = Path::new("spec");
        let spec = quota.spec.clone().unwrap_or_default();
        let mut errors = amounts(&spec.hard, &path.child("hard"));
        errors.extend(scopes(&spec, &path.child("scopes")));
        errors.extend(scope_selector(
            &spec,
            &path.child("scopeSelector").child("matchExpressions"),
        ));
        errors.extend(status(&quota.status));
        errors
    }

    fn warnings(&self, quota: &ResourceQuota) -> Vec<String> {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        hard.map(requests_above_limits).unwrap_or_default()
    }

    /// Only new ones are advised on.
    fn update_warnings(&self, _new: &ResourceQuota, _old: &ResourceQuota) -> Vec<String> {
        Vec::new()
    }

    fn prepare_for_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota) -> ErrorList {
        let mut errors = self.validate(new);
        let scopes = |quota: &ResourceQuota| -> BTreeSet<String> {
            let spec = quota.spec.as_ref();
            spec.map(|spec| list(&spec.scopes).iter().cloned().collect())
                .unwrap_or_default()
        };
        if scopes(new) != scopes(old) {
            errors.push(field::invalid(
                Path::new("spec").child("scopes"),
                scopes(new).into_iter().collect::<Vec<_>>(),
                IMMUTABLE,
            ));
        }
        errors
    }

    fn prepare_for_status_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &ResourceQuota, _old: &ResourceQuota) -> ErrorList {
        status(&new.status)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(spec: Value) -> Vec<String> {
        let quota = json!({"metadata": {"name": "q"}, "spec": spec});
        let quota = serde_json::from_value(quota).unwrap();
        let errors = ResourceQuotaRules.validate(&quota);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn scopes_fit_the_resources_and_each_other() {
        assert!(texts(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})).is_empty());
        assert_eq!(
            texts(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
            [
                r#"spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource"#
            ]
        );
        assert_eq!(
            texts(
                json!({"hard": {"pods": "1"}, "scopes": ["Odd", "Terminating", "NotTerminating"]})
            ),
            [
                r#"spec.scopes: Invalid value: ["Odd","Terminating","NotTerminating"]: unsupported scope"#,
                r#"spec.scopes: Invalid value: ["Odd","Terminating","NotTerminating"]: conflicting scopes"#,
            ]
        );
    }

    #[test]
    fn requests_should_be_less_than_limits() {
        let quota = |hard: Value| {
            let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
            let mut quota = serde_json::from_value(quota).unwrap();
            ResourceQuotaRules.default(&mut quota);
            quota
        };
        let odd = quota(json!({
            "limits.memory": "1Gi", "memory": "2048Mi", "cpu": "2000m", "limits.cpu": "1",
            "requests.ephemeral-storage": "2", "limits.ephemeral-storage": "1",
        }));
        assert_eq!(
            ResourceQuotaRules.warnings(&odd),
            [
                "ResourceQuota cpu (2) should be less than limits.cpu (1)",
                "ResourceQuota memory (2Gi) should be less than limits.memory (1Gi)",
                "ResourceQuota requests.ephemeral-storage (2) should be less than limits.ephemeral-storage (1)",
            ]
        );
        assert_eq!(ResourceQuotaRules.update_warnings(&odd, &odd), [""; 0]);
        for good in [
            json!({"cpu": "2"}),
            json!({"cpu": "1", "limits.cpu": "1"}),
            // The longer name counts.
            json!({"cpu": "2", "requests.cpu": "1", "limits.cpu": "1"}),
            // Elsewhere the plain name is another resource.
            json!({"ephemeral-storage": "2", "limits.ephemeral-storage": "1"}),
        ] {
            let good = quota(good);
            assert_eq!(ResourceQuotaRules.warnings(&good), [""; 0]);
        }
    }

    #[test]
    fn a_scope_selector_has_an_operator_and_the_values_it_takes() {
        let with = |name: &str, operator: &str, values: &[&str]| {
            let term = json!({"scopeName": name, "operator": operator, "values": values});
            texts(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [term]}}))
        };
        assert!(with("PriorityClass", "In", &["high"]).is_empty());
        assert_eq!(
            with("PriorityClass", "In", &[]),
            [
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            ]
        );
        assert_eq!(
            with("PriorityClass", "Is", &[]),
            [
                r#"spec.scopeSelector.matchExpressions.operator: Invalid value: "Is": not a valid selector operator"#
            ]
        );
        assert!(
            with("BestEffort", "In", &["x"])[0].contains("must be 'Exist' when scope is any of")
        );
    }
}
