//! What OpenAPI says of custom resources: `[sig-api-machinery] CustomResourcePublishOpenAPI`.

use http::StatusCode;
use k8s_apiserver::ApiServer;
use serde_json::{Value, json};

use crate::common::{call, get, server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Defines a kind of `example.com/v1`, and waits until it is published.
async fn define(server: &ApiServer, kind: &str, schema: Value) {
    let plural = format!("{}s", kind.to_lowercase());
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let (code, answer) = call(server, "POST", DEFINITIONS, definition).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let path = format!("/apis/example.com/v1/{plural}");
    let served = async {
        while get(server, &path).await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), served)
        .await
        .unwrap();
}

/// What v2 and v3 say of a kind.
async fn published(server: &ApiServer, kind: &str) -> (Value, Value) {
    let name = format!("com.example.v1.{kind}");
    let (_, v2) = get(server, "/openapi/v2").await;
    let (_, v3) = get(server, "/openapi/v3/apis/example.com/v1").await;
    (
        v2["definitions"][&name].clone(),
        v3["components"]["schemas"][&name].clone(),
    )
}

#[tokio::test]
async fn a_schema_is_published_with_the_fields_that_every_object_has() {
    let server = server().await;
    let schema = json!({"type": "object", "description": "A foo.", "properties": {
        "spec": {"type": "object", "description": "Of a foo.", "required": ["bars"], "properties": {
            "bars": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "pattern": "^a"},
                    "age": {"type": "string", "nullable": true}}}},
            "port": {"x-kubernetes-int-or-string": true},
            "n": {"type": "integer", "default": 1, "minimum": 0},
        }},
    }});
    define(&server, "Foo", schema).await;
    let (v2, v3) = published(&server, "Foo").await;
    let kinds = json!([{"group": "example.com", "version": "v1", "kind": "Foo"}]);
    for published in [&v2, &v3] {
        assert_eq!(published["description"], "A foo.");
        assert_eq!(published["x-kubernetes-group-version-kind"], kinds);
        let bars = &published["properties"]["spec"]["properties"]["bars"];
        assert_eq!(bars["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(bars["items"]["properties"]["name"]["pattern"], "^a");
        assert!(published["properties"]["apiVersion"]["description"].is_string());
    }
    assert_eq!(
        v2["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let port = |published: &Value| published["properties"]["spec"]["properties"]["port"].clone();
    assert_eq!(port(&v3)["anyOf"], either);
    // v2 has no choices, and no null: kubectl takes what has no type as it comes.
    assert_eq!(port(&v2), json!({"x-kubernetes-int-or-string": true}));
    let n = |published: &Value| published["properties"]["spec"]["properties"]["n"].to_string();
    assert_eq!(n(&v3), r#"{"default":1,"minimum":0,"type":"integer"}"#);
    assert_eq!(n(&v2), r#"{"minimum":0,"type":"integer"}"#);
    let age = &v2["properties"]["spec"]["properties"]["bars"]["items"]["properties"]["age"];
    assert_eq!(*age, json!({}));
}

#[tokio::test]
async fn what_keeps_unknown_fields_says_nothing_of_them() {
    let server = server().await;
    let keeps = "x-kubernetes-preserve-unknown-fields";
    define(
        &server,
        "Root",
        json!({"type": "object", keeps: true, "properties": {"a": {"type": "string"}}}),
    )
    .await;
    define(&server, "Nested", json!({"type": "object", "properties": {
        "spec": {"type": "object", keeps: true, "description": "Of it.", "properties": {"a": {"type": "string"}}},
        "list": {"type": "array", "items": {"type": "object", keeps: true}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, keeps: true},
    }})).await;
    let (v2, v3) = published(&server, "Root").await;
    let kinds = json!([{"group": "example.com", "version": "v1", "kind": "Root"}]);
    assert_eq!(
        v2,
        json!({"type": "object", "x-kubernetes-group-version-kind": kinds})
    );
    assert_eq!(v3["properties"]["a"]["type"], "string");
    let (v2, v3) = published(&server, "Nested").await;
    assert_eq!(
        v2["properties"]["spec"],
        json!({"description": "Of it.", keeps: true})
    );
    assert_eq!(v2["properties"]["list"]["items"], json!({keeps: true}));
    assert!(v2["properties"]["pod"]["properties"].is_null());
    assert_eq!(
        v3["properties"]["pod"]["required"],
        json!(["kind", "apiVersion"])
    );
    assert!(v3["properties"]["pod"]["properties"]["metadata"].is_object());
}

#[tokio::test]
async fn paths_and_lists_of_a_custom_resource_are_published() {
    let server = server().await;
    define(&server, "Foo", json!({"type": "object"})).await;
    let (_, v2) = get(&server, "/openapi/v2").await;
    let list = &v2["definitions"]["com.example.v1.FooList"];
    assert_eq!(list["description"], "FooList is a list of Foo");
    assert_eq!(list["required"], json!(["items"]));
    assert_eq!(
        list["properties"]["items"]["items"],
        json!({"$ref": "#/definitions/com.example.v1.Foo"})
    );
    let path = &v2["paths"]["/apis/example.com/v1/namespaces/{namespace}/foos/{name}"];
    let body = |method: &str| {
        let parameters = path[method]["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let body = parameters
            .into_iter()
            .find(|p| p["in"] == "body")
            .unwrap_or_default();
        body["schema"]["$ref"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        body("delete"),
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
    );
    assert_eq!(body("put"), "#/definitions/com.example.v1.Foo");
    assert_eq!(path["get"]["description"], "read the specified Foo");
    let all = &v2["paths"]["/apis/example.com/v1/namespaces/{namespace}/foos"];
    assert_eq!(
        all["delete"]["operationId"],
        "deleteExampleComV1CollectionNamespacedFoo"
    );
    assert_eq!(
        all["post"]["consumes"],
        json!(["application/json", "application/yaml"])
    );
    let patches = json!([
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml"
    ]);
    assert_eq!(path["patch"]["consumes"], patches);
    assert_eq!(path["get"]["consumes"], all["post"]["consumes"]);
    let kinds = &v2["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["x-kubernetes-group-version-kind"];
    let kinds = kinds.as_array().unwrap();
    assert!(kinds.contains(&json!({"group": "apps", "version": "v1", "kind": "DeleteOptions"})));
}
