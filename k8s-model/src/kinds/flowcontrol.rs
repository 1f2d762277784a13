//! The group `flowcontrol.apiserver.k8s.io`: FlowSchemas and PriorityLevelConfigurations.

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, LimitResponse, LimitedPriorityLevelConfiguration,
    PolicyRulesWithSubjects, PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
    QueuingConfiguration, Subject,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, dns_subdomain, list, same, slot, slot_mut, supported},
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
            errors.extend(supported(
                &method.type_,
                &["ByNamespace", "ByUser"],
                path.child("distinguisherMethod").child("type"),
            ));
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
        errors
    }

    fn prepare_for_update(&self, new: &mut FlowSchema, old: &FlowSchema) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut FlowSchema, old: &FlowSchema) {
        new.spec = old.spec.clone();
        metadata::keep(&mut new.metadata, &old.metadata);
    }
}

/// The rules of PriorityLevelConfigurations.
pub(crate) struct PriorityLevelConfigurationRules;

const SHARES: i32 = 30;
const QUEUES: i32 = 64;
const HAND_SIZE: i32 = 8;
const QUEUE_LENGTH: i32 = 50;
const MOST_QUEUES: i32 = 10_000_000;
/// How much of a hash the choice of queues may use up.
const HASH_BITS: u32 = 60;

/// How many bits it takes to deal a hand of so many cards.
fn entropy(deck: i32, hand: i32) -> u32 {
    (f64::from(deck).log2() * f64::from(hand)).ceil() as u32
}

fn queuing(queuing: &QueuingConfiguration, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (length, queues, hand) = (
        queuing.queue_length_limit.unwrap_or(0),
        queuing.queues.unwrap_or(0),
        queuing.hand_size.unwrap_or(0),
    );
    let positive = |value: i32, name: &str| {
        (value <= 0).then(|| field::invalid(path.child(name), value, "must be positive"))
    };
    errors.extend(positive(length, "queueLengthLimit"));
    errors.extend(positive(queues, "queues"));
    if queues > MOST_QUEUES {
        let text = format!("must not be greater than {MOST_QUEUES}");
        errors.push(field::invalid(path.child("queues"), queues, text));
    }
    errors.extend(positive(hand, "handSize"));
    let at = path.child("handSize");
    if hand > queues {
        let text = format!("should not be greater than queues ({queues})");
        errors.push(field::invalid(at, hand, text));
    } else if hand > 0 && entropy(queues, hand) > HASH_BITS {
        let text = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(field::invalid(at, hand, text));
    }
    errors
}

fn limited(limited: &LimitedPriorityLevelConfiguration, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let shares = limited.nominal_concurrency_shares.unwrap_or(0);
    if shares < 0 {
        errors.push(field::invalid(
            path.child("nominalConcurrencyShares"),
            shares,
            "must be a non-negative integer",
        ));
    }
    let response: Option<&LimitResponse> = slot(&limited.limit_response);
    let response = response.cloned().unwrap_or_default();
    let at = path.child("limitResponse");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => errors.push(field::forbidden(
            at.child("queuing"),
            "must be nil if limited.limitResponse.type is not Limited",
        )),
        ("Queue", None) => errors.push(field::required(
            at.child("queuing"),
            "must not be empty if limited.limitResponse.type is Limited",
        )),
        ("Queue", Some(config)) => errors.extend(queuing(config, &at.child("queuing"))),
        (other, _) => errors.push(field::not_supported(
            at.child("type"),
            other,
            &["Queue", "Reject"],
        )),
    }
    if let Some(percent) = limited.lendable_percent.filter(|p| !(0..=100).contains(p)) {
        errors.push(field::invalid(
            path.child("lendablePercent"),
            percent,
            "must be between 0 and 100, inclusive",
        ));
    }
    if let Some(percent) = limited.borrowing_limit_percent.filter(|p| *p < 0) {
        errors.push(field::invalid(
            path.child("borrowingLimitPercent"),
            percent,
            "if specified, must be a non-negative integer",
        ));
    }
    errors
}

impl KindRules for PriorityLevelConfigurationRules {
    type Kind = PriorityLevelConfiguration;

    const METADATA: (usize, usize) = (1, 0);

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, level: &mut PriorityLevelConfiguration) {
        let spec: Option<&mut PriorityLevelConfigurationSpec> = slot_mut(&mut level.spec);
        let Some(spec) = spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut spec.limited else {
            return;
        };
        limited.nominal_concurrency_shares.get_or_insert(SHARES);
        limited.lendable_percent.get_or_insert(0);
        let response: Option<&mut LimitResponse> = slot_mut(&mut limited.limit_response);
        if let Some(queuing) = response.and_then(|response| response.queuing.as_mut()) {
            for (value, default) in [
                (&mut queuing.hand_size, HAND_SIZE),
                (&mut queuing.queues, QUEUES),
                (&mut queuing.queue_length_limit, QUEUE_LENGTH),
            ] {
                if value.unwrap_or(0) == 0 {
                    *value = Some(default);
                }
            }
        }
    }

    fn spec_changed(
        &self,
        new: &PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, level: &mut PriorityLevelConfiguration) {
        level.status = Some(Default::default());
    }

    fn validate(&self, level: &PriorityLevelConfiguration) -> ErrorList {
        let path = Path::new("spec");
        let spec: Option<&PriorityLevelConfigurationSpec> = slot(&level.spec);
        let spec = spec.cloned().unwrap_or_default();
        let sort = spec.type_.as_str();
        let mut errors = ErrorList::new();
        let named_exempt = level.metadata.name.as_deref() == Some("exempt");
        if named_exempt != (sort == "Exempt") {
            errors.push(field::invalid(
                path.child("type"),
                sort,
                "type must be 'Exempt' if and only if name is 'exempt'",
            ));
        }
        let at = path.child("limited");
        match (sort, &spec.limited) {
            ("Exempt", None) => {}
            ("Exempt", Some(_)) => errors.push(field::forbidden(
                at,
                "must be nil if the type is not Limited",
            )),
            ("Limited", None) => errors.push(field::required(
                at,
                "must not be empty when type is Limited",
            )),
            ("Limited", Some(config)) => errors.extend(limited(config, &at)),
            (other, _) => errors.push(field::not_supported(
                path.child("type"),
                other,
                &["Exempt", "Limited"],
            )),
        }
        if sort == "Limited" && spec.exempt.is_some() {
            errors.push(field::forbidden(
                path.child("exempt"),
                "must be nil if the type is Limited",
            ));
        }
        errors
    }

    fn prepare_for_update(
        &self,
        new: &mut PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(
        &self,
        new: &mut PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) {
        new.spec = old.spec.clone();
        metadata::keep(&mut new.metadata, &old.metadata);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
                r#"spec.distinguisherMethod.type: Unsupported value: "ByColor": supported values: "ByNamespace", "ByUser""#,
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

    #[test]
    fn a_level_is_limited_within_reason() {
        let level = |name: &str, spec: Value| -> PriorityLevelConfiguration {
            let value = json!({"metadata": {"name": name}, "spec": spec});
            let mut level = serde_json::from_value(value).unwrap();
            PriorityLevelConfigurationRules.default(&mut level);
            level
        };
        let queue = |queuing: Value| json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}});
        let check = |name: &str, spec: Value| {
            texts(PriorityLevelConfigurationRules.validate(&level(name, spec)))
        };
        assert!(check("p", queue(json!({}))).is_empty());
        assert_eq!(
            check("p", json!({"type": "Exempt"})),
            [
                r#"spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if name is 'exempt'"#
            ]
        );
        assert_eq!(
            check("p", json!({"type": "Limited"})),
            ["spec.limited: Required value: must not be empty when type is Limited"]
        );
        assert_eq!(
            check("p", queue(json!({"queues": 4}))),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"
            ]
        );
        assert_eq!(
            check("p", queue(json!({"queues": 1024, "handSize": 8}))),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 1024 and handSize 8 should not be greater than 60"
            ]
        );
        let mut percent = queue(json!({}));
        percent["limited"]["lendablePercent"] = json!(101);
        assert_eq!(
            check("p", percent),
            [
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"
            ]
        );
    }
}
