//! What upstream's conformance suite says of custom resource definitions
//! (`CustomResourceDefinition resources`, `CustomResourceDefinition Watch`,
//! `CustomResourcePublishOpenAPI`), entry by entry.

use http::StatusCode;
use k8s_apiserver::{ApiServer, auth::Identity, resources};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};

use crate::common::{call, get, server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(kind: &str, versions: Value) -> Value {
    let lower = kind.to_lowercase();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{lower}s.example.com"), "labels": {"of": "test"}},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": format!("{lower}s"), "kind": kind}, "versions": versions},
    })
}

fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

async fn define(server: &ApiServer, definition: &Value) {
    let (code, answer) = call(server, "POST", DEFINITIONS, definition.clone()).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let name = definition["metadata"]["name"].as_str().unwrap();
    let client = server.client(Identity::system_masters());
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    await_condition(definitions, name, conditions::is_crd_established())
        .await
        .unwrap();
}

fn of(version: &str, kind: &str) -> String {
    format!(
        "/apis/example.com/{version}/namespaces/default/{}s",
        kind.to_lowercase()
    )
}

fn object(version: &str, kind: &str, name: &str, fields: Value) -> Value {
    let mut object = json!({"apiVersion": format!("example.com/{version}"), "kind": kind, "metadata": {"name": name}});
    object
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    object
}

/// The schema of a kind as it is published.
async fn published(server: &ApiServer, version: &str, kind: &str) -> Option<Value> {
    let (code, document) = get(server, &format!("/openapi/v3/apis/example.com/{version}")).await;
    if code != StatusCode::OK {
        return None;
    }
    let name = format!("com.example.{version}.{kind}");
    document["components"]["schemas"].get(&name).cloned()
}

#[tokio::test]
async fn definitions_are_listed_and_deleted_by_label() {
    let server = server().await;
    for kind in ["A", "B", "C"] {
        define(
            &server,
            &definition(
                kind,
                json!([version("v1", true, json!({"type": "object"}))]),
            ),
        )
        .await;
    }
    let selected = format!("{DEFINITIONS}?labelSelector=of%3Dtest");
    let (_, list) = get(&server, &selected).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
    let (code, _) = call(&server, "DELETE", &selected, Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    loop {
        let (_, list) = get(&server, &selected).await;
        if list["items"].as_array().is_some_and(Vec::is_empty) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_status_of_a_definition_is_read_updated_and_patched() {
    let server = server().await;
    let made = definition("A", json!([version("v1", true, json!({"type": "object"}))]));
    define(&server, &made).await;
    let path = format!("{DEFINITIONS}/as.example.com/status");
    let (code, mut found) = get(&server, &path).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(found["status"]["acceptedNames"]["kind"], "A");
    let mine = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a test"});
    found["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(mine.clone());
    let (code, updated) = call(&server, "PUT", &path, found).await;
    assert_eq!(code, StatusCode::OK, "{updated}");
    let types = |found: &Value| {
        let all = found["status"]["conditions"].as_array().unwrap().clone();
        all.iter()
            .map(|c| c["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(types(&updated).contains(&"StatusUpdate".to_owned()));
    let patch = json!({"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}});
    let (code, patched) = call(&server, "PATCH", &path, patch).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(types(&patched), ["StatusPatched"]);
}

#[tokio::test]
async fn defaults_come_on_reads_and_stay_where_they_were_written() {
    let server = server().await;
    let schema = |a: Value, b: Value| json!({"type": "object", "properties": {"a": a, "b": b}});
    let text = || json!({"type": "string"});
    let with = |default: &str| json!({"type": "string", "default": default});
    define(
        &server,
        &definition("A", json!([version("v1", true, schema(text(), text()))])),
    )
    .await;
    let (code, _) = call(
        &server,
        "POST",
        &of("v1", "A"),
        object("v1", "A", "x", json!({})),
    )
    .await;
    assert_eq!(code, StatusCode::CREATED);
    let path = format!("{DEFINITIONS}/as.example.com");
    let change = |schema: Value| json!({"spec": {"versions": [version("v1", true, schema)]}});
    let (code, answer) = call(&server, "PATCH", &path, change(schema(with("A"), text()))).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let until = async |name: &str, field: &str| {
        loop {
            let (_, found) = get(&server, &format!("{}/{name}", of("v1", "A"))).await;
            if found[field].is_string() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(until("x", "a").await["a"], "A");
    let (_, made) = call(
        &server,
        "POST",
        &of("v1", "A"),
        object("v1", "A", "y", json!({})),
    )
    .await;
    assert_eq!(made["a"], "A");
    call(&server, "PATCH", &path, change(schema(text(), with("B")))).await;
    let found = until("y", "b").await;
    assert_eq!((&found["a"], &found["b"]), (&json!("A"), &json!("B")));
    let found = until("x", "b").await;
    assert_eq!((&found["a"], &found["b"]), (&Value::Null, &json!("B")));
}

#[tokio::test]
async fn what_is_stored_is_held_to_the_schema_of_the_stored_version() {
    let server = server().await;
    let text = json!({"type": "string"});
    let with = |default: &str| json!({"type": "string", "default": default});
    let v1 =
        json!({"type": "object", "properties": {"old": text, "both": text, "first": with("1")}});
    let v2 = json!({"type": "object", "properties": {"both": text, "second": with("2")}});
    let versions = json!([version("v1", false, v1), version("v2", true, v2)]);
    define(&server, &definition("A", versions)).await;
    let fields = json!({"old": "a", "both": "b"});
    let path = of("v1", "A");
    let (code, made) = call(&server, "POST", &path, object("v1", "A", "x", fields)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (_, read) = get(&server, &format!("{path}/x")).await;
    let (_, listed) = get(&server, &path).await;
    let change = json!({"old": "c"});
    let (code, patched) = call(&server, "PATCH", &format!("{path}/x"), change).await;
    assert_eq!(code, StatusCode::OK, "{patched}");
    for seen in [&made, &read, &listed["items"][0], &patched] {
        assert_eq!((&seen["old"], &seen["both"]), (&Value::Null, &json!("b")));
        // The stored version knows nothing of this default, and this version nothing of that one's.
        assert_eq!(
            (&seen["first"], &seen["second"]),
            (&Value::Null, &Value::Null)
        );
    }
    let (_, read) = get(&server, &format!("{}/x", of("v2", "A"))).await;
    assert_eq!((&read["both"], &read["second"]), (&json!("b"), &json!("2")));
    assert_eq!((&read["old"], &read["first"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn published_schemas_follow_the_versions() {
    let server = server().await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "description": "What it is to be.",
        "properties": {"bars": {"type": "array", "items": {"type": "object", "required": ["name"],
            "properties": {"name": {"type": "string"}}}}}}}});
    let versions = json!([
        version("v2", true, schema.clone()),
        version("v3", false, schema.clone())
    ]);
    define(&server, &definition("A", versions)).await;
    for version in ["v2", "v3"] {
        let found = published(&server, version, "A").await.unwrap();
        assert_eq!(
            found["properties"]["spec"]["description"],
            "What it is to be."
        );
        assert!(found["properties"]["metadata"].is_object());
    }
    let (_, before) = get(&server, "/openapi/v3").await;
    // One version is renamed, and then the other is served no more.
    let path = format!("{DEFINITIONS}/as.example.com");
    let renamed = json!([
        version("v2", true, schema.clone()),
        version("v4", false, schema.clone())
    ]);
    call(
        &server,
        "PATCH",
        &path,
        json!({"spec": {"versions": renamed}}),
    )
    .await;
    while published(&server, "v4", "A").await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(published(&server, "v3", "A").await.is_none());
    let (_, after) = get(&server, "/openapi/v3").await;
    assert!(before["paths"]["apis/example.com/v3"].is_object());
    assert!(after["paths"]["apis/example.com/v3"].is_null());
    let mut unserved = version("v4", false, schema.clone());
    unserved["served"] = false.into();
    let last = json!([version("v2", true, schema), unserved]);
    call(&server, "PATCH", &path, json!({"spec": {"versions": last}})).await;
    while published(&server, "v4", "A").await.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(published(&server, "v2", "A").await.is_some());
    let (code, _) = get(&server, &of("v4", "A")).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_group_of_the_communitys_says_whether_it_is_approved() {
    let server = server().await;
    let schema = json!({"type": "object"});
    let mut asked = definition("A", json!([version("v1", true, schema)]));
    asked["metadata"] = json!({"name": "as.foo.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}});
    asked["spec"]["group"] = "foo.k8s.io".into();
    define(&server, &asked).await;
    let path = format!("{DEFINITIONS}/as.foo.k8s.io");
    let says = async || {
        let (_, found) = get(&server, &path).await;
        let conditions = found["status"]["conditions"].as_array().unwrap();
        let type_ = "KubernetesAPIApprovalPolicyConformant";
        let condition = conditions.iter().find(|c| c["type"] == type_);
        let condition = condition.expect("there is one");
        ["status", "reason", "message"].map(|key| condition[key].as_str().unwrap().to_owned())
    };
    assert_eq!(
        says().await,
        [
            "False",
            "UnapprovedAnnotation",
            "not approved: \"unapproved, a test\""
        ]
    );
    let url = "https://github.com/kubernetes/kubernetes/pull/78458";
    let approved = json!({"metadata": {"annotations": {"api-approved.kubernetes.io": url}}});
    let (code, answer) = call(&server, "PATCH", &path, approved).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let approved = loop {
        let said = says().await;
        if said[0] == "True" {
            break said;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        approved[1..],
        [
            "ApprovedAnnotation".to_owned(),
            format!("approved in {url}")
        ]
    );
}

#[tokio::test]
async fn unknown_fields_stay_where_the_schema_says_so() {
    let server = server().await;
    let schema = json!({"type": "object", "properties": {
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "list": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object"}},
        "any": {"type": "object", "additionalProperties": true},
        "none": {"type": "object", "additionalProperties": false},
        "closed": {"type": "object"},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }});
    define(
        &server,
        &definition("A", json!([version("v1", true, schema)])),
    )
    .await;
    let fields = json!({"open": {"x": 1}, "list": [{"x": 1}], "any": {"x": {"y": 1}}, "closed": {"x": 1}, "inner": {"apiVersion": "v1", "kind": "B", "metadata": {"name": "b"}, "data": 1}});
    let (code, made) = call(
        &server,
        "POST",
        &of("v1", "A"),
        object("v1", "A", "x", fields),
    )
    .await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["open"], &made["closed"]),
        (&json!({"x": 1}), &json!({}))
    );
    assert_eq!(made["inner"]["data"], 1);
    assert_eq!(
        (&made["list"], &made["any"]),
        (&json!([{"x": 1}]), &json!({"x": {}}))
    );
    let path = format!("{}/x", of("v1", "A"));
    let change = json!({"list": [{"x": null, "y": 1}], "any": null});
    let (_, patched) = call(&server, "PATCH", &path, change).await;
    assert_eq!(
        (&patched["list"], &patched["any"]),
        (&json!([{"y": 1}]), &Value::Null)
    );
    let (code, answer) = call(&server, "PATCH", &path, json!({"none": {"x": 1}})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer["message"],
        "A.example.com \"x\" is invalid: none: Invalid value: \"x\": none.x in body is a forbidden property"
    );
    let wrong = json!({"inner": {"kind": "B"}});
    let (code, answer) = call(
        &server,
        "POST",
        &of("v1", "A"),
        object("v1", "A", "y", wrong),
    )
    .await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer["message"],
        "A.example.com \"y\" is invalid: inner.apiVersion: Required value"
    );
}

#[tokio::test]
async fn a_server_for_custom_resources_has_no_pods() {
    let rows = resources::for_custom_resources();
    let server = ApiServer::builder().resources(rows).build().await.unwrap();
    define(
        &server,
        &definition("A", json!([version("v1", true, json!({"type": "object"}))])),
    )
    .await;
    let (code, made) = call(
        &server,
        "POST",
        &of("v1", "A"),
        object("v1", "A", "x", json!({})),
    )
    .await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, _) = get(&server, "/api/v1/pods").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn somebodys_own_events_are_objects_like_others() {
    let server = server().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let versions = json!([version("v1", true, schema)]);
    define(&server, &definition("Event", versions)).await;
    let uri = of("v1", "Event");
    let event = json!({"apiVersion": "example.com/v1", "kind": "Event", "metadata": {"name": "e"}});
    let (code, answer) = call(&server, "POST", &uri, event).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    // Events of the cluster are gone at once, whatever they own.
    let one = format!("{uri}/e?propagationPolicy=Foreground");
    let (code, answer) = call(&server, "DELETE", &one, Value::Null).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    assert_eq!(
        answer["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
}
