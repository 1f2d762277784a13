//! What clients are told of a custom resource: its schema as OpenAPI v3 publishes it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Map, Value, json};

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const OBJECT_META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A kind's schema, with the fields that every object has.
pub(super) fn schema(
    props: Option<&JSONSchemaProps>,
    preserve: bool,
    (group, version, kind): (&str, &str, &str),
) -> Value {
    let mut schema = match props.map(serde_json::to_value) {
        Some(Ok(Value::Object(schema))) if !preserve => schema,
        _ => Map::from_iter([
            ("type".to_owned(), "object".into()),
            (
                "x-kubernetes-preserve-unknown-fields".to_owned(),
                true.into(),
            ),
        ]),
    };
    let properties = schema
        .entry("properties")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(properties) = properties {
        properties.insert(
            "apiVersion".to_owned(),
            json!({"type": "string", "description": API_VERSION}),
        );
        properties.insert(
            "kind".to_owned(),
            json!({"type": "string", "description": KIND}),
        );
        properties.insert(
            "metadata".to_owned(),
            json!({"description": METADATA, "allOf": [{"$ref": OBJECT_META}]}),
        );
        for property in properties.values_mut() {
            embedded(property);
        }
    }
    schema.insert(
        "x-kubernetes-group-version-kind".to_owned(),
        json!([{"group": group, "version": version, "kind": kind}]),
    );
    Value::Object(schema)
}

/// Resources within the resource have metadata too.
fn embedded(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    if schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        let properties = schema
            .entry("properties")
            .or_insert_with(|| Value::Object(Map::new()));
        for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            properties[name] = json!({"type": "string", "description": text});
        }
        properties["metadata"] = json!({"description": METADATA, "allOf": [{"$ref": OBJECT_META}]});
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(name) {
            embedded(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(embedded);
    }
}

/// The name of a kind in OpenAPI: `com.example.v1.Widget`.
pub(super) fn name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}
