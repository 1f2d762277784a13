//! Which requests a webhook or policy has a say in: rules, selectors, conditions.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, RuleWithOperations,
};

use super::expressions::{Variables, compile};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, messages, repeats, supported},
    labels, names,
};

const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
/// How many conditions there may be at most.
const MAX_CONDITIONS: usize = 64;

/// What both sorts of rules say.
pub(super) struct Rule<'a> {
    groups: &'a [String],
    versions: &'a [String],
    resources: &'a [String],
    operations: &'a [String],
    scope: Option<&'a str>,
}

impl<'a> From<&'a RuleWithOperations> for Rule<'a> {
    fn from(rule: &'a RuleWithOperations) -> Self {
        Rule {
            groups: list(&rule.api_groups),
            versions: list(&rule.api_versions),
            resources: list(&rule.resources),
            operations: list(&rule.operations),
            scope: rule.scope.as_deref(),
        }
    }
}

impl<'a> From<&'a NamedRuleWithOperations> for Rule<'a> {
    fn from(rule: &'a NamedRuleWithOperations) -> Self {
        Rule {
            groups: list(&rule.api_groups),
            versions: list(&rule.api_versions),
            resources: list(&rule.resources),
            operations: list(&rule.operations),
            scope: rule.scope.as_deref(),
        }
    }
}

pub(super) fn rule(rule: &Rule<'_>, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let operations = path.child("operations");
    nonempty(rule.operations, &operations, &mut out);
    alone(rule.operations, "operations", &operations, &mut out);
    for (i, operation) in rule.operations.iter().enumerate() {
        out.extend(supported(operation, &OPERATIONS, operations.index(i)));
    }
    let groups = path.child("apiGroups");
    nonempty(rule.groups, &groups, &mut out);
    alone(rule.groups, "API groups", &groups, &mut out);
    let versions = path.child("apiVersions");
    nonempty(rule.versions, &versions, &mut out);
    alone(rule.versions, "API versions", &versions, &mut out);
    for (i, _) in rule
        .versions
        .iter()
        .enumerate()
        .filter(|(_, v)| v.is_empty())
    {
        out.push(field::required(versions.index(i), ""));
    }
    resources(rule.resources, &path.child("resources"), &mut out);
    if let Some(scope) = rule.scope {
        out.extend(supported(scope, &SCOPES, path.child("scope")));
    }
    out
}

fn nonempty(values: &[String], path: &Path, out: &mut ErrorList) {
    if values.is_empty() {
        out.push(field::required(path.clone(), ""));
    }
}

/// `*` stands alone.
fn alone(values: &[String], what: &str, path: &Path, out: &mut ErrorList) {
    if values.len() > 1 && values.iter().any(|v| v == "*") {
        let text = format!("if '*' is present, must not specify other {what}");
        out.push(field::invalid(path.clone(), values.to_vec(), text));
    }
}

fn resources(resources: &[String], path: &Path, out: &mut ErrorList) {
    nonempty(resources, path, out);
    let (mut with_all, mut of_all) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (i, name) in resources.iter().enumerate() {
        if name.is_empty() {
            out.push(field::required(path.index(i), ""));
            continue;
        }
        let Some((resource, sub)) = name.split_once('/') else {
            // As upstream has it, the last one decides.
            plain = name != "*";
            continue;
        };
        let mut covered = |by: String| {
            let text = format!("if '{by}' is present, must not specify {name}");
            out.push(field::invalid(path.index(i), name.as_str(), text));
        };
        if with_all.contains(resource) {
            covered(format!("{resource}/*"));
        }
        if of_all.contains(sub) {
            covered(format!("*/{sub}"));
        }
        if sub == "*" {
            with_all.insert(resource);
        }
        if resource == "*" {
            of_all.insert(sub);
        }
    }
    let has = |name: &str| resources.iter().any(|r| r == name);
    if resources.len() > 1 && has("*/*") {
        let text = "if '*/*' is present, must not specify other resources";
        out.push(field::invalid(path.clone(), resources.to_vec(), text));
    }
    if has("*") && plain {
        let text = "if '*' is present, must not specify other resources without subresources";
        out.push(field::invalid(path.clone(), resources.to_vec(), text));
    }
}

pub(super) fn match_policy(policy: Option<&str>, path: &Path) -> ErrorList {
    let path = path.child("matchPolicy");
    policy.map_or_else(ErrorList::new, |policy| {
        supported(policy, &MATCH_POLICIES, path)
    })
}

/// Upstream's `validateMatchResources`.
pub(super) fn match_resources(resources: &MatchResources, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    match resources.match_policy.as_deref() {
        None => out.push(field::required(path.child("matchPolicy"), "")),
        policy => out.extend(match_policy(policy, path)),
    }
    let selectors = [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ];
    for (name, selector) in selectors {
        match selector {
            None => out.push(field::required(path.child(name), "")),
            Some(selector) => out.extend(labels::validate(selector, &path.child(name))),
        }
    }
    let rules = [
        ("resourceRules", list(&resources.resource_rules)),
        (
            "excludeResourceRules",
            list(&resources.exclude_resource_rules),
        ),
    ];
    for (name, rules) in rules {
        for (i, named) in rules.iter().enumerate() {
            let path = path.child(name).index(i);
            let allowed = list(&named.resource_names);
            let repeats = repeats(allowed);
            for (j, allowed_name) in allowed.iter().enumerate() {
                let path = path.child("resourceNames").index(j);
                let texts = names::path_segment(allowed_name, false);
                out.extend(messages(&path, allowed_name.as_str(), texts));
                if repeats[j] {
                    out.push(field::duplicate(path, allowed_name.as_str()));
                }
            }
            out.extend(rule(&Rule::from(named), &path));
        }
    }
    out
}

/// What a policy applies to: `spec.matchConstraints`.
pub(super) fn constraints(resources: Option<&MatchResources>, path: &Path) -> ErrorList {
    let path = path.child("matchConstraints");
    let Some(resources) = resources else {
        return vec![field::required(path, "")];
    };
    let mut out = match_resources(resources, &path);
    if list(&resources.resource_rules).is_empty() {
        out.push(field::required(path.child("resourceRules"), ""));
    }
    out
}

/// Conditions, which must be true as well.
pub(super) fn conditions(
    conditions: &[MatchCondition],
    variables: &Variables<'_>,
    path: &Path,
) -> ErrorList {
    let path = path.child("matchConditions");
    let mut out = ErrorList::new();
    if conditions.len() > MAX_CONDITIONS {
        out.push(field::too_many(
            path.clone(),
            conditions.len(),
            MAX_CONDITIONS,
        ));
    }
    let repeats = repeats(conditions.iter().map(|condition| &condition.name));
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        let source = condition.expression.trim();
        if source.is_empty() {
            out.push(field::required(path.child("expression"), ""));
        } else {
            out.extend(compile(
                source,
                &["bool"],
                variables,
                &path.child("expression"),
            ));
        }
        let name = path.child("name");
        if condition.name.is_empty() {
            out.push(field::required(name, ""));
            continue;
        }
        let texts = names::qualified_name(&condition.name);
        out.extend(messages(&name, condition.name.as_str(), texts));
        if repeats[i] {
            out.push(field::duplicate(name, condition.name.as_str()));
        }
    }
    out
}

/// Fills in what a rule does not say.
pub(super) fn default_scope(scope: &mut Option<String>) {
    scope.get_or_insert_with(|| "*".to_owned());
}

pub(super) fn default_match_resources(resources: &mut MatchResources) {
    resources
        .match_policy
        .get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = resources.resource_rules.iter_mut().flatten();
    for rule in rules.chain(resources.exclude_resource_rules.iter_mut().flatten()) {
        default_scope(&mut rule.scope);
    }
}
