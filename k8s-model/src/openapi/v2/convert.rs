//! What v3 says, in the words of v2.

use serde_json::{Map, Value, json};

use super::members;

/// A built-in type's schema in the words of v2.
pub(super) fn definition(value: Value) -> Value {
    let Value::Object(mut schema) = value else {
        return value;
    };
    if let Some(reference) = reference(&schema) {
        schema.remove("allOf");
        schema.remove("default");
        schema.insert("$ref".into(), reference.into());
        return schema.into();
    }
    let has_choice = schema.remove("oneOf").is_some();
    for unknown in JUNCTORS {
        schema.remove(unknown);
    }
    let is_either = schema.get("format").is_some_and(|f| f == "int-or-string");
    if is_either || (has_choice && !schema.contains_key("type")) {
        schema.insert("type".into(), "string".into());
    }
    below(&mut schema, definition);
    schema.into()
}

/// What v2 has no word for.
const JUNCTORS: [&str; 5] = ["allOf", "anyOf", "not", "nullable", "oneOf"];

/// Converts what is within a schema.
fn below(schema: &mut Map<String, Value>, convert: fn(Value) -> Value) {
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(part) {
            *inner = convert(inner.take());
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            *property = convert(property.take());
        }
    }
}

/// A custom resource's schema in the words of v2.
///
/// One that keeps unknown fields says no more than that it is an object: clients would take what else
/// it said for all that there is.
pub(super) fn custom_definition(value: Value) -> Value {
    if value.get(PRESERVE) != Some(&Value::Bool(true)) {
        return custom(value);
    }
    let kinds = value.get(KINDS).cloned().unwrap_or_default();
    json!({"type": "object", KINDS: kinds})
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// As upstream's `ToStructuralOpenAPIV2`: `kubectl` trips over null, over unknown fields beside known ones, and
/// over lists of it does not know what.
fn custom(value: Value) -> Value {
    let Value::Object(mut schema) = value else {
        return value;
    };
    if let Some(reference) = reference(&schema) {
        schema.remove("allOf");
        schema.insert("$ref".into(), reference.into());
        return schema.into();
    }
    let is = |schema: &Map<String, Value>, name: &str| schema.get(name) == Some(&Value::Bool(true));
    let (nullable, preserve) = (is(&schema, "nullable"), is(&schema, PRESERVE));
    for unknown in JUNCTORS.into_iter().chain(["default"]) {
        schema.remove(unknown);
    }
    // What was added for a resource within the resource would have to be there, and is not told.
    let embedded = preserve && is(&schema, "x-kubernetes-embedded-resource");
    if embedded && let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != "kind" && name != "apiVersion");
    }
    if nullable || preserve {
        schema.remove("items");
        schema.remove("properties");
    }
    let ty = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if nullable || (ty == "array" && !schema.contains_key("items")) || (preserve && ty == "object")
    {
        schema.remove("type");
    }
    // What may be null cannot be required here.
    let may_be_null = |name: &Value| {
        let property = name
            .as_str()
            .and_then(|name| schema.get("properties")?.get(name));
        property.is_some_and(|property| property.get("nullable") == Some(&Value::Bool(true)))
    };
    if let Some(Value::Array(required)) = schema.get("required") {
        let left: Vec<Value> = required
            .iter()
            .filter(|name| !may_be_null(name))
            .cloned()
            .collect();
        let values = schema.get("additionalProperties");
        let none = values.is_some_and(|v| v.get("nullable") == Some(&Value::Bool(true)));
        match left.is_empty() || none {
            true => schema.remove("required"),
            false => schema.insert("required".into(), left.into()),
        };
    }
    below(&mut schema, custom);
    schema.into()
}

/// The definition that a schema stands for.
fn reference(schema: &Map<String, Value>) -> Option<String> {
    let whole = match schema.get("allOf").and_then(Value::as_array) {
        Some(all) => match all.as_slice() {
            [one] => one.get("$ref")?,
            _ => return None,
        },
        None => schema.get("$ref")?,
    };
    let name = whole.as_str()?.strip_prefix("#/components/schemas/")?;
    Some(format!("#/definitions/{name}"))
}

/// A path in the words of v2.
pub(super) fn path_item(value: Value) -> Value {
    let Value::Object(item) = value else {
        return value;
    };
    let convert = |(name, value): (String, Value)| match name.as_str() {
        "parameters" => (name, parameters(value).into()),
        _ => (name, operation(value)),
    };
    Value::Object(item.into_iter().map(convert).collect())
}

fn parameters(value: Value) -> Vec<Value> {
    let Value::Array(parameters) = value else {
        return Vec::new();
    };
    let flat = |mut parameter: Value| {
        if let Value::Object(parameter) = &mut parameter
            && let Some(Value::Object(schema)) = parameter.remove("schema")
        {
            parameter.extend(schema);
        }
        parameter
    };
    parameters.into_iter().map(flat).collect()
}

/// Where a media type stands among others.
fn rank(media_type: &str) -> usize {
    const ORDER: [&str; 10] = [
        "text/plain",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf;stream=watch",
    ];
    let place = ORDER.iter().position(|name| *name == media_type);
    place.unwrap_or(ORDER.len())
}

fn operation(value: Value) -> Value {
    let Value::Object(mut operation) = value else {
        return value;
    };
    let mut all = parameters(operation.remove("parameters").unwrap_or_default());
    if let Some(Value::Object(mut body)) = operation.remove("requestBody") {
        let mut content = members(body.get_mut("content"));
        let mut consumes: Vec<String> = content.keys().cloned().collect();
        consumes.sort_by_key(|name| rank(name));
        let schema = content
            .values_mut()
            .next()
            .and_then(|c| c.get_mut("schema"));
        let schema = definition(schema.map(Value::take).unwrap_or_default());
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
        if body.get("required") == Some(&Value::Bool(true)) {
            parameter["required"] = true.into();
        }
        all.insert(0, parameter);
        operation.insert("consumes".into(), consumes.into());
    }
    if !all.is_empty() {
        operation.insert("parameters".into(), all.into());
    }
    let mut produces = Vec::new();
    let mut responses = Map::new();
    for (code, mut response) in members(operation.get_mut("responses")) {
        let mut plain = json!({"description": response["description"].take()});
        for (media_type, mut content) in members(response.get_mut("content")) {
            if !produces.contains(&media_type) {
                produces.push(media_type);
            }
            plain["schema"] = definition(content["schema"].take());
        }
        responses.insert(code, plain);
    }
    operation.insert("responses".into(), responses.into());
    produces.sort_by_key(|name| rank(name));
    if !operation.contains_key("consumes") {
        let id = operation.get("operationId").and_then(Value::as_str);
        let id = id.unwrap_or_default();
        let is_discovery = ["APIResources", "APIGroup", "APIVersions", "CodeVersion"]
            .iter()
            .any(|end| id.ends_with(end));
        // Without a body it says nothing, but for discovery and custom resources upstream does; and of where keys are
        // told it says not even that.
        let consumes = match produces.as_slice() {
            all if is_discovery => json!(all),
            [json, yaml] if json == "application/json" && yaml == "application/yaml" => {
                json!(produces)
            }
            _ if id.starts_with("getServiceAccountIssuer") => Value::Null,
            _ => json!(["*/*"]),
        };
        if !consumes.is_null() {
            operation.insert("consumes".into(), consumes);
        }
    }
    operation.insert("produces".into(), produces.into());
    operation.insert("schemes".into(), json!(["https"]));
    operation.into()
}
