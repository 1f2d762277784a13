//! The OpenAPI v2 document of all group versions, as `/openapi/v2` serves it to older clients.
//!
//! It says what the [v3 documents](crate::openapi) say, in the words of v2, so it has the facts
//! about built-in kinds and custom resources from one place. What v2 has no word for (`oneOf`, `nullable`) is
//! left out, as upstream does. It is written one group version at a time, as JSON or in the
//! [protobuf form](https://github.com/google/gnostic) that `kubectl` and client-go ask for.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{ResourceTable, openapi, schema};

/// In which form the document is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Json,
    /// The messages of gnostic's `OpenAPIv2.proto`.
    Protobuf,
}

/// A value that changes when the document does.
pub fn hash(table: &ResourceTable) -> String {
    let mut hasher = DefaultHasher::new();
    for group in table.groups() {
        for version in group.versions {
            openapi::hash(table, group.name, version).hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

/// The document of all group versions. It is some megabytes long, and takes a while to write.
pub fn document(table: &ResourceTable, form: Form) -> Bytes {
    let mut paths = Section::new(form);
    let mut definitions = Section::new(form);
    let mut seen = BTreeSet::new();
    for group in table.groups() {
        for version in group.versions {
            let Some(v3) = openapi::v3(table, group.name, version) else {
                continue;
            };
            let Ok(Value::Object(mut v3)) = serde_json::from_slice(&v3) else {
                continue;
            };
            for (path, value) in members(v3.get_mut("paths")) {
                paths.add(&path, &path_item(value), proto::path_item);
            }
            let components = v3.get_mut("components").and_then(|c| c.get_mut("schemas"));
            for (name, value) in members(components) {
                if seen.insert(name.clone()) {
                    definitions.add(&name, &convert(value), proto::schema);
                }
            }
        }
    }
    let info = json!({"title": "Kubernetes", "version": format!("v1.{}.0", schema::MINOR)});
    Bytes::from(match form {
        Form::Json => {
            let start = format!("{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{{");
            let end = json!({"BearerToken": {
                "description": "Bearer Token authentication",
                "in": "header", "name": "authorization", "type": "apiKey",
            }});
            let end =
                format!("}},\"securityDefinitions\":{end},\"security\":[{{\"BearerToken\":[]}}]}}");
            let parts = [
                start.as_bytes(),
                &paths.out,
                b"},\"definitions\":{",
                &definitions.out,
                end.as_bytes(),
            ];
            parts.concat()
        }
        Form::Protobuf => proto::document(&info, &paths.out, &definitions.out),
    })
}

/// Named values, written one after the other.
struct Section {
    form: Form,
    out: Vec<u8>,
}

impl Section {
    fn new(form: Form) -> Self {
        Section {
            form,
            out: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, value: &Value, write: fn(&Value, &mut Vec<u8>)) {
        match self.form {
            Form::Json => {
                if !self.out.is_empty() {
                    self.out.push(b',');
                }
                let entry = format!("{}:{value}", Value::from(name));
                self.out.extend_from_slice(entry.as_bytes());
            }
            Form::Protobuf => {
                // `path` is field 2 of `Paths`, whose first are extensions; definitions are field 1.
                let number = if name.starts_with('/') { 2 } else { 1 };
                proto::named(number, name, value, write, &mut self.out);
            }
        }
    }
}

fn members(value: Option<&mut Value>) -> Map<String, Value> {
    match value.map(Value::take) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// A schema in the words of v2.
fn convert(value: Value) -> Value {
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
    for unknown in ["anyOf", "allOf", "not", "nullable"] {
        schema.remove(unknown);
    }
    let is_int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    if is_int_or_string || schema.get("format").is_some_and(|f| f == "int-or-string") {
        schema.insert("format".into(), "int-or-string".into());
        schema.insert("type".into(), "string".into());
    } else if has_choice && !schema.contains_key("type") {
        schema.insert("type".into(), "string".into());
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        // Clients would refuse what they do not find here.
        for part in [
            "type",
            "items",
            "properties",
            "additionalProperties",
            "required",
        ] {
            schema.remove(part);
        }
    }
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

fn path_item(value: Value) -> Value {
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

fn operation(value: Value) -> Value {
    let Value::Object(mut operation) = value else {
        return value;
    };
    let mut all = parameters(operation.remove("parameters").unwrap_or_default());
    if let Some(Value::Object(mut body)) = operation.remove("requestBody") {
        let mut content = members(body.get_mut("content"));
        let consumes: Vec<String> = content.keys().cloned().collect();
        let schema = content
            .values_mut()
            .next()
            .and_then(|c| c.get_mut("schema"));
        let schema = convert(schema.map(Value::take).unwrap_or_default());
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
    let mut produces = BTreeSet::new();
    let mut responses = Map::new();
    for (code, mut response) in members(operation.get_mut("responses")) {
        let mut plain = json!({"description": response["description"].take()});
        for (media_type, mut content) in members(response.get_mut("content")) {
            produces.insert(media_type);
            plain["schema"] = convert(content["schema"].take());
        }
        responses.insert(code, plain);
    }
    operation.insert("responses".into(), responses.into());
    operation.insert(
        "produces".into(),
        produces.into_iter().collect::<Vec<_>>().into(),
    );
    operation.insert("schemes".into(), json!(["https"]));
    operation.into()
}

/// The messages of gnostic's `OpenAPIv2.proto`.
mod proto {
    use serde_json::Value;

    type Write = fn(&Value, &mut Vec<u8>);

    pub(super) fn document(info: &Value, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(paths.len() + definitions.len() + 256);
        bytes(1, b"2.0", &mut out);
        nested(2, &mut out, |out| {
            text(1, &info["title"], out);
            text(2, &info["version"], out);
        });
        bytes(8, paths, &mut out);
        bytes(9, definitions, &mut out);
        // `security` and `security_definitions`: the token in the header, named twice.
        nested(12, &mut out, |out| {
            nested(1, out, |out| {
                bytes(1, b"BearerToken", out);
                bytes(2, b"", out);
            });
        });
        nested(13, &mut out, |out| {
            nested(1, out, |out| {
                bytes(1, b"BearerToken", out);
                nested(2, out, |out| {
                    nested(2, out, |out| {
                        bytes(1, b"apiKey", out);
                        bytes(2, b"authorization", out);
                        bytes(3, b"header", out);
                        bytes(4, b"Bearer Token authentication", out);
                    });
                });
            });
        });
        out
    }

    /// A field that holds a name (1) and a value (2).
    pub(super) fn named(number: u32, name: &str, value: &Value, write: Write, out: &mut Vec<u8>) {
        nested(number, out, |out| {
            bytes(1, name.as_bytes(), out);
            nested(2, out, |out| write(value, out));
        });
    }

    pub(super) fn path_item(item: &Value, out: &mut Vec<u8>) {
        for (number, method) in [
            (2, "get"),
            (3, "put"),
            (4, "post"),
            (5, "delete"),
            (6, "options"),
            (7, "head"),
            (8, "patch"),
        ] {
            if let Some(value) = item.get(method) {
                nested(number, out, |out| operation(value, out));
            }
        }
        for value in list(&item["parameters"]) {
            nested(9, out, |out| parameter(value, out));
        }
        extensions(10, item, out);
    }

    fn operation(value: &Value, out: &mut Vec<u8>) {
        texts(1, &value["tags"], out);
        text(3, &value["description"], out);
        text(5, &value["operationId"], out);
        texts(6, &value["produces"], out);
        texts(7, &value["consumes"], out);
        for value in list(&value["parameters"]) {
            nested(8, out, |out| parameter(value, out));
        }
        nested(9, out, |out| {
            for (code, value) in value["responses"].as_object().into_iter().flatten() {
                named(1, code, value, response, out);
            }
        });
        texts(10, &value["schemes"], out);
        extensions(13, value, out);
    }

    fn response(value: &Value, out: &mut Vec<u8>) {
        nested(1, out, |out| {
            text(1, &value["description"], out);
            if let Some(value) = value.get("schema") {
                nested(2, out, |out| nested(1, out, |out| schema(value, out)));
            }
        });
    }

    fn parameter(value: &Value, out: &mut Vec<u8>) {
        nested(1, out, |out| {
            if value["in"] == "body" {
                nested(1, out, |out| {
                    text(1, &value["description"], out);
                    text(2, &value["name"], out);
                    text(3, &value["in"], out);
                    flag(4, &value["required"], out);
                    nested(5, out, |out| schema(&value["schema"], out));
                });
                return;
            }
            // Parameters in the query have one field more, before their type.
            let (place, shift) = match value["in"] == "query" {
                true => (3, 1),
                false => (4, 0),
            };
            nested(2, out, |out| {
                nested(place, out, |out| {
                    flag(1, &value["required"], out);
                    text(2, &value["in"], out);
                    text(3, &value["description"], out);
                    text(4, &value["name"], out);
                    text(5 + shift, &value["type"], out);
                    text(6 + shift, &value["format"], out);
                    flag(19 + shift, &value["uniqueItems"], out);
                });
            });
        });
    }

    pub(super) fn schema(value: &Value, out: &mut Vec<u8>) {
        text(1, &value["$ref"], out);
        text(2, &value["format"], out);
        text(3, &value["title"], out);
        text(4, &value["description"], out);
        any(5, value.get("default"), out);
        number(6, &value["multipleOf"], out);
        number(7, &value["maximum"], out);
        flag(8, &value["exclusiveMaximum"], out);
        number(9, &value["minimum"], out);
        flag(10, &value["exclusiveMinimum"], out);
        integer(11, &value["maxLength"], out);
        integer(12, &value["minLength"], out);
        text(13, &value["pattern"], out);
        integer(14, &value["maxItems"], out);
        integer(15, &value["minItems"], out);
        flag(16, &value["uniqueItems"], out);
        integer(17, &value["maxProperties"], out);
        integer(18, &value["minProperties"], out);
        texts(19, &value["required"], out);
        for value in list(&value["enum"]) {
            any(20, Some(value), out);
        }
        match value.get("additionalProperties") {
            Some(Value::Bool(value)) => nested(21, out, |out| {
                varint(2 << 3, out);
                out.push(u8::from(*value));
            }),
            Some(value) => nested(21, out, |out| nested(1, out, |out| schema(value, out))),
            None => {}
        }
        if let Some(name) = value["type"].as_str() {
            nested(22, out, |out| bytes(1, name.as_bytes(), out));
        }
        if let Some(value) = value.get("items") {
            nested(23, out, |out| nested(1, out, |out| schema(value, out)));
        }
        if let Some(properties) = value["properties"].as_object() {
            nested(25, out, |out| {
                for (name, value) in properties {
                    named(1, name, value, schema, out);
                }
            });
        }
        any(30, value.get("example"), out);
        extensions(31, value, out);
    }

    fn extensions(number: u32, value: &Value, out: &mut Vec<u8>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            if name.starts_with("x-") {
                named(number, name, value, yaml, out);
            }
        }
    }

    fn any(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
        if let Some(value) = value {
            nested(number, out, |out| yaml(value, out));
        }
    }

    /// Any value, as YAML: JSON is that too.
    fn yaml(value: &Value, out: &mut Vec<u8>) {
        bytes(2, value.to_string().as_bytes(), out);
    }

    fn list(value: &Value) -> &[Value] {
        value.as_array().map_or(&[], Vec::as_slice)
    }

    fn texts(number: u32, value: &Value, out: &mut Vec<u8>) {
        for value in list(value).iter().filter_map(Value::as_str) {
            bytes(number, value.as_bytes(), out);
        }
    }

    fn text(number: u32, value: &Value, out: &mut Vec<u8>) {
        if let Some(value) = value.as_str().filter(|text| !text.is_empty()) {
            bytes(number, value.as_bytes(), out);
        }
    }

    fn flag(number: u32, value: &Value, out: &mut Vec<u8>) {
        if value == &Value::Bool(true) {
            varint(u64::from(number) << 3, out);
            out.push(1);
        }
    }

    fn integer(number: u32, value: &Value, out: &mut Vec<u8>) {
        if let Some(value) = value.as_u64() {
            varint(u64::from(number) << 3, out);
            varint(value, out);
        }
    }

    fn number(number: u32, value: &Value, out: &mut Vec<u8>) {
        if let Some(value) = value.as_f64() {
            varint(u64::from(number) << 3 | 1, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
        varint(u64::from(number) << 3 | 2, out);
        varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }

    fn nested(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = Vec::new();
        write(&mut inner);
        bytes(number, &inner, out);
    }

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, out: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for gone in ["oneOf", "anyOf", "allOf", "requestBody", "content"] {
                    // A schema may have a property of that name, but none of ours has.
                    assert!(
                        !map.get(gone).is_some_and(Value::is_array),
                        "{gone}: {value}"
                    );
                }
                if let Some(Value::String(reference)) = map.get("$ref") {
                    out.insert(reference.clone());
                }
                map.values().for_each(|value| references(value, out));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, out)),
            _ => {}
        }
    }

    fn whole() -> Value {
        serde_json::from_slice(&document(ResourceTable::builtin(), Form::Json)).unwrap()
    }

    #[test]
    fn every_reference_leads_to_a_definition() {
        let document = whole();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 300, "{}", found.len());
        let definitions = document["definitions"].as_object().unwrap();
        for reference in found {
            let name = reference.strip_prefix("#/definitions/").unwrap();
            assert!(definitions.contains_key(name), "{reference}");
        }
    }

    #[test]
    fn definitions_and_operations_are_in_the_words_of_v2() {
        let document = whole();
        assert_eq!(document["swagger"], "2.0");
        let definitions = &document["definitions"];
        let spec = &definitions["io.k8s.api.core.v1.PodSpec"];
        let containers = &spec["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(
            containers["items"],
            json!({"$ref": "#/definitions/io.k8s.api.core.v1.Container"})
        );
        assert_eq!(spec["required"], json!(["containers"]));
        let quantity = &definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"];
        assert_eq!(quantity["type"], "string");
        let either = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
        assert_eq!(
            (&either["type"], &either["format"]),
            (&json!("string"), &json!("int-or-string"))
        );
        let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["parameters"][0]["in"], "body");
        assert_eq!(
            patch["responses"]["200"]["schema"]["$ref"],
            "#/definitions/io.k8s.api.apps.v1.Deployment"
        );
        let consumes = patch["consumes"].as_array().unwrap();
        assert!(consumes.contains(&json!("application/merge-patch+json")));
        assert_eq!(document["paths"][path]["parameters"][0]["type"], "string");
    }

    /// The fields of a message: numbers and, where they have any, bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (first, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(first & 0x7f) << shift;
                if first & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => {
                    varint(&mut bytes);
                    &[]
                }
                1 => {
                    let (value, rest) = bytes.split_at(8);
                    bytes = rest;
                    value
                }
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    value
                }
                other => panic!("wire type {other}"),
            };
            out.push((tag >> 3, value));
        }
        out
    }

    fn field(bytes: &[u8], number: u64) -> &[u8] {
        let found = fields(bytes).into_iter().find(|(n, _)| *n == number);
        found.unwrap_or_else(|| panic!("no field {number}")).1
    }

    #[test]
    fn the_protobuf_form_says_what_the_json_says() {
        let json = whole();
        let document = document(ResourceTable::builtin(), Form::Protobuf);
        assert_eq!(field(&document, 1), b"2.0");
        let paths = fields(field(&document, 8));
        assert_eq!(paths.len(), json["paths"].as_object().unwrap().len());
        assert!(paths.iter().all(|(number, _)| *number == 2));
        let definitions = fields(field(&document, 9));
        let expected = json["definitions"].as_object().unwrap();
        assert_eq!(definitions.len(), expected.len());
        for (_, named) in definitions {
            let name = std::str::from_utf8(field(named, 1)).unwrap();
            let schema = field(named, 2);
            let properties = expected[name]["properties"].as_object();
            let found = fields(schema).into_iter().find(|(n, _)| *n == 25);
            let found: Vec<&str> = found
                .map(|(_, bytes)| fields(bytes))
                .unwrap_or_default()
                .into_iter()
                .map(|(_, named)| std::str::from_utf8(field(named, 1)).unwrap())
                .collect();
            let names: Vec<&str> = properties
                .into_iter()
                .flatten()
                .map(|(n, _)| n.as_str())
                .collect();
            assert_eq!(found, names, "{name}");
            if let Some(text) = expected[name]["description"]
                .as_str()
                .filter(|t| !t.is_empty())
            {
                assert_eq!(field(schema, 4), text.as_bytes());
            }
        }
    }
}
