//! The rules of Roles and ClusterRoles.

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule, Role},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::list,
        declared::Declared,
        selectors::{Values, is_bad, selector_of},
        typed::KindRules,
    },
    names,
};

fn rules(rules: &[PolicyRule], namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = Path::new("rules").index(index);
        if rule.verbs.is_empty() {
            errors.push(field::required(
                path.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        let urls = list(&rule.non_resource_urls);
        let (groups, resources) = (list(&rule.api_groups), list(&rule.resources));
        if !urls.is_empty() {
            let at = path.child("nonResourceURLs");
            if namespaced {
                errors.push(field::invalid(
                    at.clone(),
                    urls.to_vec(),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            let names = list(&rule.resource_names);
            if !groups.is_empty() || !resources.is_empty() || !names.is_empty() {
                errors.push(field::invalid(
                    at,
                    urls.to_vec(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(field::required(
                path.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if resources.is_empty() {
            errors.push(field::required(
                path.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    errors
}

/// What is declared of rules.
fn declared(new: &Option<Vec<PolicyRule>>, old: Option<&Option<Vec<PolicyRule>>>) -> ErrorList {
    Declared::of(new, old, Path::new("rules")).then(|rules, path| {
        let rules = list(rules).iter().enumerate();
        let empty = rules.filter(|(_, rule)| rule.verbs.is_empty());
        empty
            .map(|(index, _)| field::required(path.index(index).child("verbs"), ""))
            .collect()
    })
}

/// The rules of Roles.
pub(crate) struct RoleRules;

impl KindRules for RoleRules {
    type Kind = Role;

    const CREATE_ON_UPDATE: bool = true;

    fn validate(&self, role: &Role) -> ErrorList {
        rules(list(&role.rules), true)
    }

    fn declared(&self, new: &Role, old: Option<&Role>) -> ErrorList {
        declared(&new.rules, old.map(|old| &old.rules))
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }
}

/// What selects the roles that a role is made of.
fn aggregated(role: &ClusterRole) -> &[LabelSelector] {
    let rule = role.aggregation_rule.as_ref();
    rule.map_or(&[], |rule| list(&rule.cluster_role_selectors))
}

/// Checks a role, the selectors of which have such values. Those that cannot be read are told all the same.
fn validate_cluster_role(role: &ClusterRole, values: Values) -> ErrorList {
    let mut errors = rules(list(&role.rules), false);
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = aggregated(role);
    if role.aggregation_rule.is_some() && selectors.is_empty() {
        errors.push(field::required(
            path.clone(),
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        errors.extend(selector_of(values, selector, &path));
        if is_bad(selector) {
            errors.push(field::invalid(path, Value::Null, "invalid label selector."));
        }
    }
    errors
}

/// The rules of ClusterRoles.
pub(crate) struct ClusterRoleRules;

impl KindRules for ClusterRoleRules {
    type Kind = ClusterRole;

    const CREATE_ON_UPDATE: bool = true;

    fn validate(&self, role: &ClusterRole) -> ErrorList {
        validate_cluster_role(role, Values::Labels)
    }

    fn validate_update(&self, new: &ClusterRole, old: &ClusterRole) -> ErrorList {
        let values = Values::labels_unless(aggregated(old).iter().any(is_bad));
        validate_cluster_role(new, values)
    }

    fn declared(&self, new: &ClusterRole, old: Option<&ClusterRole>) -> ErrorList {
        declared(&new.rules, old.map(|old| &old.rules))
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }
}
