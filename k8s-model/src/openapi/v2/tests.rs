//! Both forms of the document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Foreign, Form, document};
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
    assert_eq!(
        patch["consumes"],
        json!([
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml"
        ])
    );
    let all = json!([
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf"
    ]);
    assert_eq!(patch["produces"], all);
    assert_eq!(document["paths"]["/apis/apps/v1/"]["get"]["consumes"], all);
    assert_eq!(document["paths"][path]["get"]["consumes"], json!(["*/*"]));
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

#[test]
fn what_others_serve_stands_beside_what_is_served_here() {
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let ours = whole();
    let same = ours["definitions"][meta].clone();
    let refers = |name: &str| json!({"schema": {"$ref": format!("#/definitions/{name}")}});
    let document = |same: Value, mine: &str, version: &str| {
        json!({
            "paths": {
                "/apis/example.com/v1/flunders": {
                    "get": {"responses": {"200": refers("Flunder")}},
                    "parameters": [{"$ref": "#/parameters/pretty"}],
                },
                "/apis/apps/v1/deployments": {"get": {"responses": {"200": refers("Mine")}}},
                "/healthz": {"get": {"responses": {"200": refers("Health")}}},
            },
            "parameters": {"pretty": {"in": "query", "name": "pretty", "type": "string"}},
            "definitions": {
                "Flunder": {
                    "properties": {
                        "metadata": {"$ref": format!("#/definitions/{meta}"), "default": {}},
                        "size": {"type": mine, "default": 1},
                    },
                    "x-kubernetes-group-version-kind": [
                        {"group": "example.com", "kind": "Flunder", "version": version},
                    ],
                },
                "Mine": {"type": "object"},
                "Health": {"type": "object"},
                "Unused": {"type": "object"},
                meta: same,
            },
        })
    };
    let first = Foreign::new(document(same, "integer", "v2"));
    assert!(!first.is_empty());
    // A second server: the same path is the first's, but it has one more.
    let mut second = document(json!({"type": "object"}), "string", "v1");
    let item = second["paths"]["/apis/example.com/v1/flunders"].clone();
    second["paths"]["/apis/example.com/v2/flunders"] = item;
    let mut third = document(json!({"type": "object"}), "integer", "v1");
    let paths =
        json!({"/apis/example.com/v3/flunders": third["paths"]["/apis/example.com/v1/flunders"]});
    third["paths"] = paths;
    for unused in ["Mine", "Health"] {
        third["definitions"].as_object_mut().unwrap().remove(unused);
    }
    let others = || {
        vec![
            first.clone(),
            Foreign::new(second.clone()),
            Foreign::new(third.clone()),
        ]
    };
    let table = ResourceTable::builtin();
    let merged = super::merged(table, Form::Json, others());
    let merged: Value = serde_json::from_slice(&merged).unwrap();
    let flunders = &merged["paths"]["/apis/example.com/v1/flunders"];
    assert_eq!(flunders["parameters"][0]["name"], "pretty");
    assert_eq!(
        flunders["get"]["responses"]["200"]["schema"]["$ref"],
        "#/definitions/Flunder"
    );
    let flunder = &merged["definitions"]["Flunder"];
    assert_eq!(flunder["properties"]["size"], json!({"type": "integer"}));
    // Other definitions of the same names have other names, once for all who mean the same.
    let other = &merged["definitions"]["Flunder_v2"];
    assert_eq!(other["properties"]["size"], json!({"type": "string"}));
    assert_eq!(
        other["properties"]["metadata"]["$ref"],
        format!("#/definitions/{meta}_v2")
    );
    let v3 = &merged["paths"]["/apis/example.com/v3/flunders"]["get"]["responses"]["200"];
    let third = v3["schema"]["$ref"].as_str().unwrap();
    let third = third.strip_prefix("#/definitions/").unwrap();
    let metadata = &merged["definitions"][third]["properties"]["metadata"]["$ref"];
    assert!(
        merged["definitions"][metadata.as_str().unwrap().rsplit('/').next().unwrap()].is_object()
    );
    // What the server serves itself stays as it is.
    let deployments = "/apis/apps/v1/namespaces/{namespace}/deployments";
    assert_eq!(merged["paths"][deployments], ours["paths"][deployments]);
    let list = &merged["paths"]["/apis/apps/v1/deployments"]["get"]["responses"]["200"]["schema"];
    assert!(list["$ref"].as_str().unwrap().contains("DeploymentList"));
    for gone in ["Mine", "Health"] {
        assert!(merged["definitions"][gone].is_null(), "{gone}");
    }
    assert!(merged["definitions"]["Unused"].is_object());
    assert!(merged["paths"]["/healthz"].is_null());
    let mut all = BTreeSet::new();
    references(&merged, &mut all);
    for reference in all {
        let name = reference.strip_prefix("#/definitions/").unwrap();
        assert!(merged["definitions"][name].is_object(), "{name}");
    }
    assert!(!super::merged(table, Form::Protobuf, others()).is_empty());
}

#[test]
fn kinds_of_definitions_that_say_the_same_are_united() {
    let document = |path: &str, kinds: Value| {
        Foreign::new(json!({
            "paths": {path: {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/Options"}}}}}},
            "definitions": {"Options": {"type": "object", "x-kubernetes-group-version-kind": kinds}},
        }))
    };
    let kind = |group: &str| json!({"group": group, "kind": "Options", "version": "v1"});
    let (mut paths, mut names, mut kept) = Default::default();
    for (path, kinds) in [
        ("/apis/b/v1", json!([kind("b")])),
        ("/apis/a/v1", json!([kind("a"), kind("b")])),
        ("/apis/c/v1", json!([kind("a")])),
    ] {
        let more = document(path, kinds).beside(&mut paths, &mut names, &mut kept);
        assert_eq!(more.len(), 1);
    }
    assert_eq!(
        kept["Options"]["x-kubernetes-group-version-kind"],
        json!([kind("a"), kind("b")])
    );
}
