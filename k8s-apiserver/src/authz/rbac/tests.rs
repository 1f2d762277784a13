use serde_json::{Value, json};

use super::{bootstrap::policy, *};
use crate::admission::memory::MemoryReader;

fn load(reader: &MemoryReader) {
    let policy = policy();
    fn put<T: serde::Serialize>(reader: &MemoryReader, resource: &str, objects: &[T]) {
        for object in objects {
            reader.put(GROUP, resource, serde_json::to_value(object).unwrap());
        }
    }
    put(reader, "clusterroles", &policy.cluster_roles);
    put(reader, "clusterrolebindings", &policy.cluster_role_bindings);
    put(reader, "roles", &policy.roles);
    put(reader, "rolebindings", &policy.role_bindings);
}

fn ask<'a>(user: &'a Identity, verb: &'a str, resource: &'a str) -> Attributes<'a> {
    let (group, resource) = resource.rsplit_once('|').unwrap_or(("", resource));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        user,
        verb,
        group,
        version: "v1",
        resource,
        subresource,
        namespace: "default",
        name: "",
        path: "",
        resource_request: true,
        selectors: None,
    }
}

fn binding(name: &str, namespace: &str, role: &str, subjects: Value) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    json!({
        "metadata": { "name": name, "namespace": namespace },
        "roleRef": { "apiGroup": GROUP, "kind": kind, "name": role },
        "subjects": subjects,
    })
}

#[test]
fn the_bootstrap_policy_is_upstreams() {
    let policy = policy();
    assert!(policy.cluster_roles.len() >= 65);
    let names: Vec<&str> = policy
        .cluster_roles
        .iter()
        .filter_map(|r| r.metadata.name.as_deref())
        .collect();
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:node",
        "system:node-proxier",
        "system:kube-scheduler",
        "system:kube-dns",
        "system:controller:deployment-controller",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    for binding in &policy.cluster_role_bindings {
        let value = serde_json::to_value(binding).unwrap();
        let role = value["roleRef"]["name"].as_str().unwrap();
        assert!(names.contains(&role), "{role}");
    }
    let view = &policy.cluster_roles[names.iter().position(|n| *n == "view").unwrap()];
    assert!(view.rules.as_ref().is_some_and(|rules| rules.len() > 5));
}

#[tokio::test]
async fn bootstrap_roles_allow_what_they_allow_upstream() {
    let reader = MemoryReader::default();
    load(&reader);
    reader.put(
        GROUP,
        "clusterrolebindings",
        binding(
            "views",
            "",
            "view",
            json!([{ "kind": "User", "name": "vera" }]),
        ),
    );
    reader.put(
        GROUP,
        "clusterrolebindings",
        binding(
            "edits",
            "",
            "edit",
            json!([{ "kind": "Group", "name": "devs" }]),
        ),
    );
    let rbac = Rbac::start(&reader);
    rbac.synced().await;
    let admin = Identity::user("root").group(MASTERS);
    let vera = Identity::user("vera");
    let ed = Identity::user("ed").group("devs");
    let scheduler = Identity::user("system:kube-scheduler");
    let hpa = Identity::service_account("kube-system", "horizontal-pod-autoscaler", "");
    let cases = [
        (&admin, "delete", "secrets", true),
        (&vera, "list", "pods", true),
        (&vera, "get", "pods/log", true),
        (&vera, "get", "secrets", false),
        (&vera, "create", "pods", false),
        (&ed, "create", "pods", true),
        (&ed, "create", "pods/exec", true),
        (&ed, "get", "secrets", true),
        (&ed, "create", "rbac.authorization.k8s.io|roles", false),
        (&scheduler, "create", "pods/binding", true),
        (&scheduler, "create", "pods", false),
        (&hpa, "update", "apps|deployments/scale", true),
        (&hpa, "update", "apps|deployments", false),
    ];
    for (user, verb, resource, allowed) in cases {
        let decision = rbac.authorize(&ask(user, verb, resource)).await;
        assert_eq!(
            decision.is_allowed(),
            allowed,
            "{} {verb} {resource}",
            user.name
        );
    }
}

#[tokio::test]
async fn health_and_version_are_open_to_everybody_and_metrics_are_not() {
    let reader = MemoryReader::default();
    load(&reader);
    let rbac = Rbac::start(&reader);
    rbac.synced().await;
    let anonymous = Identity::anonymous();
    for (path, allowed) in [
        ("/healthz", true),
        ("/version", true),
        ("/readyz", true),
        ("/metrics", false),
        ("/api", false),
    ] {
        let attributes = Attributes {
            path,
            resource_request: false,
            resource: "",
            namespace: "",
            ..ask(&anonymous, "get", "")
        };
        assert_eq!(
            rbac.authorize(&attributes).await.is_allowed(),
            allowed,
            "{path}"
        );
    }
    let someone = Identity::user("someone").group("system:authenticated");
    let attributes = Attributes {
        path: "/apis/apps/v1",
        resource_request: false,
        resource: "",
        namespace: "",
        ..ask(&someone, "get", "")
    };
    assert!(rbac.authorize(&attributes).await.is_allowed());
}

/// Waits until the decision is as expected: the index follows the store.
async fn becomes(rbac: &Rbac, attributes: &Attributes<'_>, allowed: bool) {
    let wait = async {
        while rbac.authorize(attributes).await.is_allowed() != allowed {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait)
        .await
        .expect("the index follows the store");
}

#[tokio::test]
async fn bindings_hold_as_long_as_they_are_there() {
    let reader = MemoryReader::default();
    let rbac = Rbac::start(&reader);
    rbac.synced().await;
    let bob = Identity::user("bob");
    let request = Attributes {
        name: "mine",
        ..ask(&bob, "get", "configmaps")
    };
    becomes(&rbac, &request, false).await;
    reader.put(
        GROUP,
        "rolebindings",
        binding(
            "b",
            "default",
            "reader",
            json!([{ "kind": "User", "name": "bob" }]),
        ),
    );
    reader.put(
        GROUP,
        "roles",
        json!({
            "metadata": { "name": "reader", "namespace": "default" },
            "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["mine"] }],
        }),
    );
    becomes(&rbac, &request, true).await;
    let other = Attributes {
        name: "other",
        ..request
    };
    assert!(!rbac.authorize(&other).await.is_allowed());
    let elsewhere = Attributes {
        namespace: "elsewhere",
        ..request
    };
    assert!(!rbac.authorize(&elsewhere).await.is_allowed());
    reader.delete(GROUP, "roles", "default", "reader");
    becomes(&rbac, &request, false).await;
    assert_eq!(
        rbac.authorize(&request).await.reason(),
        r#"RBAC: role.rbac.authorization.k8s.io "reader" not found"#
    );
    reader.delete(GROUP, "rolebindings", "default", "b");
    let gone = async {
        while !rbac.authorize(&request).await.reason().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_role_made_of_others_has_what_they_have_now() {
    let reader = MemoryReader::default();
    load(&reader);
    let views = json!([{ "kind": "User", "name": "vera" }]);
    reader.put(
        GROUP,
        "clusterrolebindings",
        binding("views", "", "view", views),
    );
    let rbac = Rbac::start(&reader);
    rbac.synced().await;
    let vera = Identity::user("vera");
    let request = ask(&vera, "list", "example.com|lamps");
    becomes(&rbac, &request, false).await;
    let role = |verb: &str| {
        let label = "rbac.authorization.k8s.io/aggregate-to-view";
        json!({
            "metadata": { "name": "lamps", "labels": { label: "true" } },
            "rules": [{ "apiGroups": ["example.com"], "resources": ["lamps"], "verbs": [verb] }],
        })
    };
    for (verb, allowed) in [("list", true), ("get", false), ("list", true)] {
        reader.put(GROUP, "clusterroles", role(verb));
        becomes(&rbac, &request, allowed).await;
    }
    reader.delete(GROUP, "clusterroles", "", "lamps");
    becomes(&rbac, &request, false).await;
}

#[test]
fn rules_cover_their_parts_and_nothing_else() {
    let rule = |value: Value| -> PolicyRule { serde_json::from_value(value).unwrap() };
    let held = [rule(
        json!({ "apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get", "list"] }),
    )];
    let wanted = rule(json!({
        "apiGroups": ["", "apps"],
        "resources": ["pods", "replicationcontrollers/scale"],
        "verbs": ["get", "delete"],
    }));
    let missing = rules::compact(rules::uncovered(&held, &[wanted]));
    let lines: Vec<String> = missing.iter().map(rules::describe).collect();
    assert_eq!(
        lines,
        [
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#,
            r#"{APIGroups:[""], Resources:["replicationcontrollers/scale"], Verbs:["delete"]}"#,
            r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "delete"]}"#,
            r#"{APIGroups:["apps"], Resources:["replicationcontrollers/scale"], Verbs:["get" "delete"]}"#,
        ]
    );
}

#[test]
fn a_rule_of_too_many_parts_is_held_as_a_whole_or_not_at_all() {
    let many: Vec<String> = (0..2000).map(|i| format!("n{i}")).collect();
    let rule = |verb: &str| PolicyRule {
        verbs: many.iter().cloned().chain([verb.to_owned()]).collect(),
        api_groups: Some(many.clone()),
        resources: Some(many.clone()),
        resource_names: Some(many.clone()),
        ..PolicyRule::default()
    };
    let wide = rule("get");
    assert!(rules::uncovered(std::slice::from_ref(&wide), std::slice::from_ref(&wide)).is_empty());
    assert!(rules::uncovered(&super::everything(), std::slice::from_ref(&wide)).is_empty());
    let wider = rule("list");
    let missing = rules::uncovered(&[wide], std::slice::from_ref(&wider));
    assert_eq!(missing, [wider]);
}
