//! What custom resource definitions publish, and what kubectl makes of it.

use serde_json::{Value, json};

use crate::{
    Entry,
    fixture::Fixture,
    rest::{JSON_PATCH, Rest},
    support::part,
};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema",
        kubectl_validates_and_explains_a_schema,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema",
        kubectl_lets_everything_in_without_a_schema,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root",
        kubectl_lets_unknown_fields_in_at_the_root,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object",
        kubectl_lets_unknown_fields_in_where_they_are_preserved,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups",
        groups_are_published,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions",
        versions_are_published,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds",
        kinds_are_published,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed",
        a_renamed_version_is_published,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served",
        a_version_that_is_not_served_is_not_published,
    ),
];

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A schema of objects, lists and values.
fn lamp() -> Value {
    let bulb = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Name of the bulb."},
            "watts": {"type": "string", "description": "Power of the bulb."},
            "colour": {"type": "string", "description": "Its colour.", "enum": ["Red", "Blue"]},
            "tags": {"type": "array", "description": "List of tags.", "items": {"type": "string"}},
        },
    });
    json!({
        "description": "Lamp that a test defines.", "type": "object",
        "properties": {
            "spec": {
                "type": "object", "description": "Specification of the lamp.",
                "properties": {"bulbs": {"type": "array", "description": "List of bulbs.", "items": bulb}},
            },
            "status": {
                "type": "object", "description": "Status of the lamp.",
                "properties": {"lit": {"type": "boolean"}},
            },
        },
    })
}

fn fan() -> Value {
    json!({
        "description": "Fan that a test defines.", "type": "object",
        "properties": {"spec": {
            "type": "object", "description": "Specification of the fan.",
            "properties": {"blades": {"type": "integer", "description": "Number of blades."}},
        }},
    })
}

/// Defines a kind in versions with that schema, and waits until they are published.
async fn define(api: &Rest, group: &str, kind: &str, versions: &[&str], schema: &Value) -> String {
    let plural = format!("{}s", kind.to_lowercase());
    let name = format!("{plural}.{group}");
    let versions_of: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(index, version)| json!({
            "name": version, "served": true, "storage": index == 0, "schema": {"openAPIV3Schema": schema},
        }))
        .collect();
    let definition = json!({
        "metadata": {"name": name},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": versions_of,
            "names": {"plural": plural, "kind": kind},
        },
    });
    api.create(DEFINITIONS, definition).await;
    for version in versions {
        is_published(api, group, version, kind, schema).await;
    }
    name
}

/// The key of a kind's definition: the group's parts from the last to the first.
fn key(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// Waits until both documents have the kind as its definition has it.
async fn is_published(api: &Rest, group: &str, version: &str, kind: &str, schema: &Value) {
    let key = key(group, version, kind);
    let gvk = json!([{"group": group, "kind": kind, "version": version}]);
    let matches = |found: &Value, schema: &Value| {
        found["x-kubernetes-group-version-kind"] == gvk
            && found["description"] == schema["description"]
            && ["spec", "status"]
                .iter()
                .all(|part| found["properties"][part] == schema["properties"][part])
    };
    let free = json!({"type": "object", "x-kubernetes-group-version-kind": gvk});
    let is_free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    api.eventually("/openapi/v2", |document| {
        let found = &document["definitions"][&key];
        if is_free {
            *found == free
        } else {
            matches(found, &in_v2(schema))
        }
    })
    .await;
    let path = format!("apis/{group}/{version}");
    let index = api
        .eventually("/openapi/v3", |index| !index["paths"][&path].is_null())
        .await;
    let url = index["paths"][&path]["serverRelativeURL"].as_str();
    let document = api.get(url.expect("an address")).await;
    let found = &document["components"]["schemas"][&key];
    assert!(matches(found, schema), "{found:#}");
}

/// In the older document, what takes any field has no type.
fn in_v2(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let spec = &mut schema["properties"]["spec"];
    if spec["x-kubernetes-preserve-unknown-fields"] == true {
        let spec = spec.as_object_mut().expect("a schema");
        spec.remove("type");
    }
    schema
}

async fn is_not_published(api: &Rest, group: &str, version: &str, kind: &str) {
    let key = key(group, version, kind);
    api.eventually("/openapi/v2", |document| {
        document["definitions"][&key].is_null()
    })
    .await;
    let path = format!("apis/{group}/{version}");
    api.eventually("/openapi/v3", |index| index["paths"][&path].is_null())
        .await;
}

fn object(kind: &str, rest: &str) -> String {
    format!(
        r#"{{"apiVersion": "example.com/v1", "kind": "{kind}", "metadata": {{"name": "it"}}, {rest}}}"#
    )
}

/// Creates an object, and applies it, and a change to it; all its fields are kept.
fn is_let_in(cluster: &Fixture, resource: &str, object: &str) {
    let stored = |wanted: &Value| {
        let said = cluster.kubectl(&["get", resource, "it", "-o", "json"]);
        let found: Value = serde_json::from_str(&said).expect("JSON");
        assert!(part(wanted, &found), "{wanted} became {found}");
    };
    let wanted: Value = serde_json::from_str(object).expect("JSON");
    let mut changed = wanted.clone();
    changed["metadata"]["labels"] = json!({"changed": "yes"});
    cluster.kubectl_with(&["create", "-f", "-"], object);
    stored(&wanted);
    cluster.kubectl(&["delete", resource, "it"]);
    for wanted in [wanted, changed] {
        cluster.apply(&wanted.to_string());
        stored(&wanted);
    }
    cluster.kubectl(&["delete", resource, "it"]);
}

fn is_kept_out(cluster: &Fixture, resource: &str, object: &str, reason: &str) {
    for verb in ["create", "apply"] {
        let said = cluster.kubectl_fails(&[verb, "-f", "-"], object);
        assert!(said.contains(reason), "{verb} {object}: {said}");
    }
    assert_eq!(cluster.kubectl(&["get", resource, "-o", "name"]), "");
}

/// Explains a path; the answer has these texts in this order.
fn explains(cluster: &Fixture, path: &str, texts: &[&str]) {
    let said = cluster.kubectl(&["explain", path]);
    let mut rest = said.as_str();
    for text in texts {
        let found = rest.find(text);
        let at = found.unwrap_or_else(|| panic!("{text:?} is not in its place in:\n{said}"));
        rest = &rest[at + text.len()..];
    }
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn kubectl_validates_and_explains_a_schema() {
    let cluster = Fixture::server().await;
    define(&cluster.api, "example.com", "Lamp", &["v1"], &lamp()).await;
    let lamp = |spec: &str| object("Lamp", &format!(r#""spec": {spec}"#));
    let whole = r#"{"bulbs": [{"name": "a", "watts": "10", "colour": "Red", "tags": ["x"]}]}"#;
    is_let_in(&cluster, "lamps", &lamp(whole));
    let unsupported = lamp(r#"{"bulbs": [{"name": "a", "colour": "Loud"}]}"#);
    is_kept_out(
        &cluster,
        "lamps",
        &unsupported,
        r#"Unsupported value: "Loud""#,
    );
    let unknown = lamp(r#"{"foo": true}"#);
    is_kept_out(&cluster, "lamps", &unknown, r#"unknown field "spec.foo""#);
    let missing = lamp(r#"{"bulbs": [{"watts": "10"}]}"#);
    is_kept_out(
        &cluster,
        "lamps",
        &missing,
        "spec.bulbs[0].name: Required value",
    );

    let apart = [
        "DESCRIPTION:",
        "Lamp that a test defines.",
        "FIELDS:",
        "apiVersion",
        "<string>",
        "APIVersion defines",
        "spec",
        "<Object>",
        "Specification of the lamp.",
    ];
    explains(&cluster, "lamps", &apart);
    let apart = [
        "DESCRIPTION:",
        "Standard object's metadata.",
        "FIELDS:",
        "creationTimestamp",
        "<string>",
        "CreationTimestamp is a timestamp",
    ];
    explains(&cluster, "lamps.metadata", &apart);
    let apart = [
        "DESCRIPTION:",
        "Specification of the lamp.",
        "FIELDS:",
        "bulbs",
        "<[]Object>",
        "List of bulbs.",
    ];
    explains(&cluster, "lamps.spec", &apart);
    let apart = [
        "bulbs",
        "<[]Object>",
        "DESCRIPTION:",
        "List of bulbs.",
        "FIELDS:",
        "name",
        "<string>",
        "Name of the bulb.",
        "tags",
        "<[]string>",
        "List of tags.",
    ];
    explains(&cluster, "lamps.spec.bulbs", &apart);
    let said = cluster.kubectl_fails(&["explain", "lamps.spec.bulbs2"], "");
    assert!(said.contains(r#"field "bulbs2" does not exist"#), "{said}");
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn kubectl_lets_everything_in_without_a_schema() {
    let cluster = Fixture::server().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    define(&cluster.api, "example.com", "Lamp", &["v1"], &schema).await;
    is_let_in(
        &cluster,
        "lamps",
        &object("Lamp", r#""a": {"b": [{"c": "d"}]}"#),
    );
    explains(&cluster, "lamps", &["DESCRIPTION:", "<empty>"]);
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn kubectl_lets_unknown_fields_in_at_the_root() {
    let cluster = Fixture::server().await;
    let mut schema = lamp();
    schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    define(&cluster.api, "example.com", "Lamp", &["v1"], &schema).await;
    is_let_in(
        &cluster,
        "lamps",
        &object("Lamp", r#""a": {"b": [{"c": "d"}]}"#),
    );
    explains(&cluster, "lamps", &["KIND:", "Lamp"]);
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn kubectl_lets_unknown_fields_in_where_they_are_preserved() {
    let cluster = Fixture::server().await;
    let mut schema = fan();
    schema["description"] = "Fan with a free part.".into();
    schema["properties"]["spec"] = json!({
        "type": "object", "description": "x-kubernetes-preserve-unknown-fields in a nested field.", "x-kubernetes-preserve-unknown-fields": true,
    });
    define(&cluster.api, "example.com", "Fan", &["v1"], &schema).await;
    is_let_in(
        &cluster,
        "fans",
        &object("Fan", r#""spec": {"a": null, "b": [{"c": "d"}]}"#),
    );
    is_kept_out(
        &cluster,
        "fans",
        &object("Fan", r#""other": 1"#),
        r#"unknown field "other""#,
    );
    explains(&cluster, "fans", &["DESCRIPTION:", "Fan with a free part."]);
    explains(
        &cluster,
        "fans.spec",
        &[
            "DESCRIPTION:",
            "x-kubernetes-preserve-unknown-fields in a nested field.",
        ],
    );
}

#[tokio::test]
async fn groups_are_published() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    define(api, "one.example.com", "Lamp", &["v1"], &lamp()).await;
    define(api, "two.example.com", "Fan", &["v1beta1"], &fan()).await;
    is_published(api, "one.example.com", "v1", "Lamp", &lamp()).await;
}

#[tokio::test]
async fn versions_are_published() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    define(api, "one.example.com", "Lamp", &["v2", "v3"], &lamp()).await;
    define(api, "two.example.com", "Lamp", &["v4"], &lamp()).await;
    define(api, "two.example.com", "Fan", &["v5"], &fan()).await;
    is_published(api, "two.example.com", "v4", "Lamp", &lamp()).await;
}

#[tokio::test]
async fn kinds_are_published() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    define(api, "example.com", "Lamp", &["v6"], &lamp()).await;
    define(api, "example.com", "Fan", &["v6"], &fan()).await;
    is_published(api, "example.com", "v6", "Lamp", &lamp()).await;
}

#[tokio::test]
async fn a_renamed_version_is_published() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let name = define(api, "example.com", "Lamp", &["v2", "v3"], &lamp()).await;
    let patch = json!([
        {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
    ]);
    api.patch(&format!("{DEFINITIONS}/{name}"), JSON_PATCH, patch)
        .await;
    is_published(api, "example.com", "v4", "Lamp", &lamp()).await;
    is_not_published(api, "example.com", "v3", "Lamp").await;
    is_published(api, "example.com", "v2", "Lamp", &lamp()).await;
}

#[tokio::test]
async fn a_version_that_is_not_served_is_not_published() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let name = define(api, "example.com", "Lamp", &["v5", "v6alpha1"], &lamp()).await;
    let hide = |definition: &mut Value| definition["spec"]["versions"][1]["served"] = false.into();
    api.change(&format!("{DEFINITIONS}/{name}"), hide).await;
    is_not_published(api, "example.com", "v6alpha1", "Lamp").await;
    is_published(api, "example.com", "v5", "Lamp", &lamp()).await;
}
