//! Both forms of the document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Form, document};
use crate::ResourceTable;

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
