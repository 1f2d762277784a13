//! The rules of FlowSchemas.

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, PolicyRulesWithSubjects, Subject,
};

use super::{condition_types, mandatory};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, dns_subdomain, list, same, slot, slot_mut, text},
        difference::spelled,
        typed::KindRules,
    },
    metadata,
};

/// The rules of FlowSchemas.
pub(crate) struct FlowSchemaRules;

const PRECEDENCE: i32 = 1000;
const MOST_PRECEDENCE: i32 = 10_000;
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// A `*` stands alone.
fn wildcard_alone(values: &[String], what: &str, path: &Path) -> ErrorList {
    if values.len() > 1 && values.iter().any(|value| value == "*") {
        let text = format!("if '*' is present, must not specify other {what}");
        return vec![field::invalid(path.clone(), values.to_vec(), text)];
    }
    ErrorList::new()
}

fn verbs(verbs: &[String], path: &Path) -> ErrorList {
    if verbs.is_empty() {
        return vec![field::required(
            path.clone(),
            "verbs must contain at least one value",
        )];
    }
    let alone = wildcard_alone(verbs, "verbs", path);
    let known = |verb: &String| verb == "*" || VERBS.contains(&verb.as_str());
    if alone.is_empty() && !verbs.iter().all(known) {
        return vec![field::not_supported(path.clone(), verbs.to_vec(), VERBS)];
    }
    alone
}

fn subject(subject: &Subject, path: &Path) -> ErrorList {
    const KINDS: &[(&str, &str)] = &[
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
    ];
    let kind = subject.kind.as_str();
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let kinds = ["Group", "ServiceAccount", "User"];
        return vec![field::not_supported(path.child("kind"), kind, &kinds)];
    };
    let mut errors = ErrorList::new();
    let there = |name: &str| match name {
        "group" => subject.group.is_some(),
        "user" => subject.user.is_some(),
        _ => subject.service_account.is_some(),
    };
    if !there(own) {
        let text = format!("{own} is required when subject kind is '{kind}'");
        errors.push(field::required(path.child(own), text));
    }
    match kind {
        "ServiceAccount" => {
            if let Some(account) = &subject.service_account {
                let path = path.child(own);
                if account.name.is_empty() {
                    errors.push(field::required(path.child("name"), ""));
                } else if account.name != "*" {
                    errors.extend(dns_subdomain(&account.name, path.child("name")));
                }
                if account.namespace.is_empty() {
                    errors.push(field::required(
                        path.child("namespace"),
                        "must specify namespace for service account",
                    ));
                } else {
                    errors.extend(dns_label(&account.namespace, path.child("namespace")));
                }
            }
        }
        _ => {
            let user = subject.user.as_ref().map(|user| &user.name);
            let group = subject.group.as_ref().map(|group| &group.name);
            let name = if kind == "User" { user } else { group };
            if name.is_some_and(String::is_empty) {
                errors.push(field::required(path.child(own).child("name"), ""));
            }
        }
    }
    for (other, name) in KINDS.iter().filter(|(other, _)| *other != kind) {
        if there(name) {
            let text = format!("{name} is forbidden when subject kind is not '{other}'");
            errors.push(field::forbidden(path.child(name), text));
        }
    }
    errors
}

fn url_path(url: &str, path: Path) -> ErrorList {
    let detail = if url.is_empty() {
        "must not be empty"
    } else if url == "/" {
        return ErrorList::new();
    } else if !url.starts_with('/') {
        "must start with slash"
    } else if url.contains(' ') {
        "must not contain white-space"
    } else if url.contains("//") {
        "must not contain double slash"
    } else if url.strip_suffix("/*").unwrap_or(url).contains('*') {
        "wildcard can only do suffix matching"
    } else {
        return ErrorList::new();
    };
    vec![field::invalid(path, url, detail)]
}

fn rule(rule: &PolicyRulesWithSubjects, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if rule.subjects.is_empty() {
        errors.push(field::required(
            path.child("subjects"),
            "subjects must contain at least one value",
        ));
    }
    for (index, one) in rule.subjects.iter().enumerate() {
        errors.extend(subject(one, &path.child("subjects").index(index)));
    }
    let (resources, urls) = (list(&rule.resource_rules), list(&rule.non_resource_rules));
    if resources.is_empty() && urls.is_empty() {
        errors.push(field::required(
            path.clone(),
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        ));
    }
    for (index, rule) in resources.iter().enumerate() {
        let path = path.child("resourceRules").index(index);
        errors.extend(verbs(&rule.verbs, &path.child("verbs")));
        for (values, name, what, missing) in [
            (
                &rule.api_groups,
                "apiGroups",
                "api groups",
                "resource rules must supply at least one api group",
            ),
            (
                &rule.resources,
                "resources",
                "resources",
                "resource rules must supply at least one resource",
            ),
        ] {
            if values.is_empty() {
                errors.push(field::required(path.child(name), missing));
            }
            errors.extend(wildcard_alone(values, what, &path.child(name)));
        }
        let (namespaces, path) = (list(&rule.namespaces), path.child("namespaces"));
        if namespaces.is_empty() && rule.cluster_scope != Some(true) {
            errors.push(field::required(
                path.clone(),
                "resource rules that are not cluster scoped must supply at least one namespace",
            ));
        }
        errors.extend(wildcard_alone(namespaces, "namespaces", &path));
        if !namespaces.iter().any(|namespace| namespace == "*") {
            for (index, namespace) in namespaces.iter().enumerate() {
                let wrong = crate::names::dns_label(namespace, false).into_iter();
                errors.extend(wrong.map(|text| {
                    let text =
                        format!("each member of this list must be '*' or a DNS-1123 label; {text}");
                    field::invalid(path.index(index), namespace.as_str(), text)
                }));
            }
        }
    }
    for (index, rule) in urls.iter().enumerate() {
        let path = path.child("nonResourceRules").index(index);
        errors.extend(verbs(&rule.verbs, &path.child("verbs")));
        let (urls, path) = (&rule.non_resource_urls, path.child("nonResourceURLs"));
        if urls.is_empty() {
            errors.push(field::required(
                path.clone(),
                "nonResourceURLs must contain at least one value",
            ));
        }
        errors.extend(wildcard_alone(urls, "non-resource URLs", &path));
        if !urls.iter().any(|url| url == "*") {
            for (index, url) in urls.iter().enumerate() {
                errors.extend(url_path(url, path.index(index)));
            }
        }
    }
    errors
}

impl KindRules for FlowSchemaRules {
    type Kind = FlowSchema;

    const METADATA: (usize, usize) = (1, 0);

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, schema: &mut FlowSchema) {
        let spec: Option<&mut FlowSchemaSpec> = slot_mut(&mut schema.spec);
        if let Some(spec) = spec
            && spec.matching_precedence.unwrap_or(0) == 0
        {
            spec.matching_precedence = Some(PRECEDENCE);
        }
    }

    fn spec_changed(&self, new: &FlowSchema, old: &FlowSchema) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, schema: &mut FlowSchema) {
        schema.status = Some(Default::default());
    }

    fn validate(&self, schema: &FlowSchema) -> ErrorList {
        let path = Path::new("spec");
        let spec: Option<&FlowSchemaSpec> = slot(&schema.spec);
        let spec = spec.cloned().unwrap_or_default();
        let mut errors = ErrorList::new();
        let at = path.child("matchingPrecedence");
        let precedence = spec.matching_precedence.unwrap_or(0);
        if precedence <= 0 {
            errors.push(field::invalid(at, precedence, "must be a positive value"));
        } else if precedence > MOST_PRECEDENCE {
            let text = format!("must not be greater than {MOST_PRECEDENCE}");
            errors.push(field::invalid(at, precedence, text));
        } else if precedence == 1 && schema.metadata.name.as_deref() != Some("exempt") {
            errors.push(field::invalid(
                at,
                precedence,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            ));
        }
        if let Some(method) = &spec.distinguisher_method {
            let (known, of) = (["ByNamespace", "ByUser"], method.type_.as_str());
            if !known.contains(&of) {
                // Upstream shows the method, as it is in Go.
                let at = path.child("distinguisherMethod").child("type");
                errors.push(field::not_supported(
                    at,
                    serde_json::json!({ "Type": of }),
                    &known,
                ));
            }
        }
        let level = spec.priority_level_configuration.name.as_str();
        let at = path.child("priorityLevelConfiguration").child("name");
        if level.is_empty() {
            errors.push(field::required(at, "must reference a priority level"));
        } else {
            errors.extend(dns_subdomain(level, at));
        }
        for (index, one) in list(&spec.rules).iter().enumerate() {
            errors.extend(rule(one, &path.child("rules").index(index)));
        }
        let name = text(&schema.metadata.name);
        if mandatory::schema(name).is_some_and(|fixed| !same(&fixed, &spec)) {
            let text = format!("spec of '{name}' must equal the fixed value");
            let spelled = spelled("FlowSchemaSpec", &spec);
            errors.push(field::invalid_spelled(path, &spelled, &text));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut FlowSchema, old: &FlowSchema) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut FlowSchema, old: &FlowSchema) {
        new.spec = old.spec.clone();
        metadata::keep(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(&self, new: &FlowSchema, _old: &FlowSchema) -> ErrorList {
        let conditions = new.status.as_ref().map(|status| list(&status.conditions));
        condition_types(
            conditions
                .unwrap_or_default()
                .iter()
                .map(|condition| slot(&condition.type_)),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::checks::json;

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_schema_says_whose_requests_go_where() {
        let schema = |spec: Value| -> FlowSchema {
            let mut schema =
                serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
            FlowSchemaRules.default(&mut schema);
            schema
        };
        let good = schema(json!({
            "priorityLevelConfiguration": {"name": "p"},
            "rules": [{
                "subjects": [{"kind": "Group", "group": {"name": "g"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/livez/*"]}],
            }],
        }));
        assert_eq!(texts(FlowSchemaRules.validate(&good)), Vec::<String>::new());
        let bad = schema(json!({
            "matchingPrecedence": 1,
            "priorityLevelConfiguration": {"name": ""},
            "distinguisherMethod": {"type": "ByColor"},
            "rules": [{
                "subjects": [{"kind": "User", "group": {"name": "g"}}],
                "resourceRules": [{"verbs": ["use"], "apiGroups": ["*", "apps"], "resources": []}],
                "nonResourceRules": [{"verbs": [], "nonResourceURLs": ["x", "/a*/b"]}],
            }],
        }));
        assert_eq!(
            texts(FlowSchemaRules.validate(&bad)),
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                r#"spec.distinguisherMethod.type: Unsupported value: {"Type":"ByColor"}: supported values: "ByNamespace", "ByUser""#,
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                r#"spec.rules[0].resourceRules[0].verbs: Unsupported value: ["use"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch""#,
                r#"spec.rules[0].resourceRules[0].apiGroups: Invalid value: ["*","apps"]: if '*' is present, must not specify other api groups"#,
                "spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                "spec.rules[0].nonResourceRules[0].verbs: Required value: verbs must contain at least one value",
                r#"spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "x": must start with slash"#,
                r#"spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a*/b": wildcard can only do suffix matching"#,
            ]
        );
    }

    fn schema(name: &str, spec: Value) -> FlowSchema {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_every_cluster_has_stays_as_it_is() {
        for name in ["exempt", "catch-all"] {
            let spec = mandatory::schema(name).unwrap();
            let good = schema(name, json(&spec));
            assert_eq!(texts(FlowSchemaRules.validate(&good)), [""; 0]);
            let mut changed = json(&spec);
            changed["priorityLevelConfiguration"]["name"] = json!("workload-low");
            let told = format!(
                "spec: Invalid value: {}: spec of '{name}' must equal the fixed value",
                spelled("FlowSchemaSpec", &changed)
            );
            let changed = schema(name, changed);
            assert_eq!(
                texts(FlowSchemaRules.validate_update(&changed, &good)),
                [told]
            );
        }
    }

    #[test]
    fn conditions_are_each_of_another_type() {
        let mut schema = schema("s", json!({}));
        let conditions = json!([{"type": "A"}, {"type": "A"}, {}]);
        let status = json!({"conditions": conditions});
        schema.status = Some(serde_json::from_value(status).unwrap());
        assert_eq!(
            texts(FlowSchemaRules.validate_status_update(&schema, &schema)),
            [
                r#"status.conditions[1].type: Duplicate value: "A""#,
                "status.conditions[2].type: Required value: must not be empty",
            ]
        );
    }
}
