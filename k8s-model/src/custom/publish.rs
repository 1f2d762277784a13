//! What clients are told of a custom resource: its schema as OpenAPI v3 publishes it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Map, Value, json};

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const OBJECT_META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// A kind's schema, with the fields that every object has. Without a schema it is an object of which
/// nothing is said: clients would take those fields for all that there are.
pub(super) fn schema(
    props: Option<&JSONSchemaProps>,
    preserve: bool,
    (group, version, kind): (&str, &str, &str),
) -> Value {
    let kinds = json!([{"group": group, "version": version, "kind": kind}]);
    let mut schema = match props.map(serde_json::to_value) {
        Some(Ok(Value::Object(schema))) if !preserve => schema,
        _ => {
            return json!({
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
                "x-kubernetes-group-version-kind": kinds,
            });
        }
    };
    let properties = schema
        .entry("properties")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(properties) = properties {
        let text = |description| json!({"type": "string", "description": description});
        properties.insert("apiVersion".to_owned(), text(API_VERSION));
        properties.insert("kind".to_owned(), text(KIND));
        properties.insert("metadata".to_owned(), metadata());
    }
    unfold(&mut schema);
    schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds);
    Value::Object(schema)
}

fn metadata() -> Value {
    json!({"description": METADATA, "allOf": [{"$ref": OBJECT_META}]})
}

/// Says in plain words what extensions say: resources within the resource have metadata too, and what
/// is an integer or a string is any of both. Leaves out what is not said to clients.
fn unfold(schema: &mut Map<String, Value>) {
    for name in ["example", "externalDocs", "id", "$schema"] {
        schema.remove(name);
    }
    for name in ["minimum", "maximum", "multipleOf"] {
        whole(schema.get_mut(name));
    }
    let is = |schema: &Map<String, Value>, name: &str| schema.get(name) == Some(&Value::Bool(true));
    if is(schema, "x-kubernetes-embedded-resource") {
        let properties = schema
            .entry("properties")
            .or_insert_with(|| Value::Object(Map::new()));
        for (name, text) in [
            ("apiVersion", EMBEDDED_API_VERSION),
            ("kind", EMBEDDED_KIND),
        ] {
            properties[name] = json!({"type": "string", "description": text});
        }
        properties["metadata"] = metadata();
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|known| known == name) {
                    required.push(name.into());
                }
            }
        }
    }
    if is(schema, "x-kubernetes-int-or-string") {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let said = |of: &Map<String, Value>| of.get("anyOf") == Some(&either);
        let first = schema.get("allOf").and_then(|all| all.get(0)?.as_object());
        if !said(schema) && !first.is_some_and(said) {
            if schema.contains_key("anyOf") {
                let all = schema.entry("allOf").or_insert_with(|| json!([]));
                if let Value::Array(all) = all {
                    all.insert(0, json!({"anyOf": either}));
                }
            } else {
                schema.insert("anyOf".to_owned(), either);
            }
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(name) {
            unfold(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            unfold(property);
        }
    }
}

/// Writes a number that is whole without a point, as Go does.
fn whole(value: Option<&mut Value>) {
    if let Some(value) = value
        && let Some(n) = value
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 9e15)
    {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is whole, and not too large"
        )]
        let n = n as i64;
        *value = n.into();
    }
}

/// The name of a kind in OpenAPI: `com.example.v1.Widget`.
pub(super) fn name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}
