//! What clients look for in the documents.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{components::gvk, index, v3};
use crate::ResourceTable;

fn document(group: &str, version: &str) -> Value {
    serde_json::from_slice(&v3(ResourceTable::builtin(), group, version).unwrap()).unwrap()
}

fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                out.insert(
                    reference
                        .trim_start_matches("#/components/schemas/")
                        .to_owned(),
                );
            }
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[test]
fn every_document_is_json_and_every_reference_leads_somewhere() {
    let table = ResourceTable::builtin();
    for group in table.groups() {
        for version in group.versions {
            let document = document(group.name, version);
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            let schemas = document["components"]["schemas"].as_object().unwrap();
            for reference in found {
                assert!(
                    schemas.contains_key(&reference),
                    "{}/{version}: {reference}",
                    group.name
                );
            }
        }
    }
    assert!(v3(table, "nothing", "v1").is_none());
}

#[test]
fn clients_find_field_validation_in_the_patch_operation() {
    let document = document("apps", "v1");
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        gvk("apps", "v1", "Deployment")
    );
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["name"] == "fieldValidation")
    );
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
}

#[test]
fn schemas_carry_what_patches_need() {
    let document = document("", "v1");
    let schemas = &document["components"]["schemas"];
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["x-kubernetes-group-version-kind"],
        json!([gvk("", "v1", "Pod")])
    );
    assert_eq!(pod["required"], Value::Null);
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        containers["items"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.Container"
    );
    assert_eq!(
        schemas["io.k8s.api.core.v1.PodList"]["properties"]["items"]["type"],
        "array"
    );
    let eviction = &schemas["io.k8s.api.policy.v1.Eviction"];
    assert_eq!(
        eviction["x-kubernetes-group-version-kind"],
        json!([gvk("policy", "v1", "Eviction")])
    );
}

#[test]
fn the_index_names_every_group_version() {
    let index: Value = serde_json::from_slice(&index(ResourceTable::builtin())).unwrap();
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert!(
        address.starts_with("/openapi/v3/apis/apps/v1?hash="),
        "{address}"
    );
    assert!(index["paths"]["api/v1"].is_object());
}

#[test]
fn fields_with_few_values_have_them_listed() {
    let document = document("", "v1");
    let port = &document["components"]["schemas"]["io.k8s.api.core.v1.ContainerPort"];
    assert_eq!(
        port["properties"]["protocol"]["enum"],
        json!(["SCTP", "TCP", "UDP"])
    );
    assert_eq!(port["properties"]["name"]["enum"], Value::Null);
    // Those that mean more than they say are explained.
    let told = |ty: &str, field: &str| {
        let schema = &document["components"]["schemas"][format!("io.k8s.api.core.v1.{ty}")];
        let description = schema["properties"][field]["description"].as_str();
        description
            .unwrap()
            .split_once("\n\nPossible enum values:\n")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(
        told("ContainerPort", "protocol"),
        " - `\"SCTP\"` is the SCTP protocol.\n - `\"TCP\"` is the TCP protocol.\n - `\"UDP\"` is the UDP protocol."
    );
    assert_eq!(
        told("PodSpec", "restartPolicy"),
        " - `\"Always\"`\n - `\"Never\"`\n - `\"OnFailure\"`"
    );
}
