//! What clients look for in the documents.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{components::gvk, index, place, places, v3};
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

fn parameters(value: &Value) -> Vec<(&str, &str)> {
    let all = value.as_array().into_iter().flatten();
    all.map(|p| (p["name"].as_str().unwrap(), p["in"].as_str().unwrap()))
        .collect()
}

#[test]
fn deletes_say_what_they_answer() {
    let answer = |group: &str, path: &str| {
        let document = document(group, "v1");
        let schema = &document["paths"][path]["delete"]["responses"]["200"]["content"];
        let name = schema["application/json"]["schema"]["$ref"].as_str();
        name.unwrap().rsplit('.').next().unwrap().to_owned()
    };
    let core = |resource: &str| {
        answer(
            "",
            &format!("/api/v1/namespaces/{{namespace}}/{resource}/{{name}}"),
        )
    };
    assert_eq!(core("pods"), "Pod");
    assert_eq!(core("podtemplates"), "PodTemplate");
    assert_eq!(core("configmaps"), "Status");
    assert_eq!(answer("", "/api/v1/namespaces/{name}"), "Status");
    let storage = |resource: &str| {
        answer(
            "storage.k8s.io",
            &format!("/apis/storage.k8s.io/v1/{resource}/{{name}}"),
        )
    };
    assert_eq!(storage("csinodes"), "CSINode");
    assert_eq!(storage("volumeattachments"), "VolumeAttachment");
}

#[test]
fn connections_take_what_their_options_have() {
    let document = document("", "v1");
    let path = |rest: &str| &document["paths"][format!("/api/v1/{rest}")];
    let pod = "namespaces/{namespace}/pods/{name}";
    let exec = path(&format!("{pod}/exec"));
    assert_eq!(
        parameters(&exec["parameters"]),
        [
            ("command", "query"),
            ("container", "query"),
            ("name", "path"),
            ("namespace", "path"),
            ("stderr", "query"),
            ("stdin", "query"),
            ("stdout", "query"),
            ("tty", "query")
        ]
    );
    assert_eq!(
        exec["get"]["operationId"],
        "connectCoreV1GetNamespacedPodExec"
    );
    assert_eq!(exec["post"]["parameters"], Value::Null);
    assert_eq!(
        exec["post"]["responses"]["401"]["description"],
        "Unauthorized"
    );
    assert!(
        parameters(&path(&format!("{pod}/portforward"))["parameters"])
            .contains(&("ports", "query"))
    );
    let proxy = path("nodes/{name}/proxy/{path}");
    assert_eq!(
        parameters(&proxy["parameters"]),
        [("name", "path"), ("path", "path"), ("path", "query")]
    );
    let mut methods: Vec<_> = proxy.as_object().unwrap().keys().collect();
    methods.retain(|m| *m != "parameters");
    assert_eq!(
        methods,
        ["delete", "get", "head", "options", "patch", "post", "put"]
    );
    assert_eq!(
        proxy["head"]["operationId"],
        "connectCoreV1HeadNodeProxyWithPath"
    );
    let log = path(&format!("{pod}/log"));
    let content = &log["get"]["responses"]["200"]["content"];
    assert_eq!(content["text/plain"]["schema"]["type"], "string");
}

#[test]
fn what_all_operations_of_a_path_take_is_told_once() {
    let document = document("", "v1");
    let all = &document["paths"]["/api/v1/pods"];
    assert!(parameters(&all["parameters"]).contains(&("labelSelector", "query")));
    assert_eq!(all["get"]["parameters"], Value::Null);
    let one = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"];
    assert_eq!(
        parameters(&one["parameters"]),
        [("name", "path"), ("namespace", "path"), ("pretty", "query")]
    );
    assert!(parameters(&one["put"]["parameters"]).contains(&("dryRun", "query")));
}

#[test]
fn references_are_no_kinds_and_a_claim_is_owned_field_by_field() {
    let document = document("", "v1");
    let schemas = &document["components"]["schemas"];
    let reference = &schemas["io.k8s.api.core.v1.ObjectReference"];
    assert!(reference.is_object());
    assert_eq!(reference["x-kubernetes-group-version-kind"], Value::Null);
    let volume = &schemas["io.k8s.api.core.v1.PersistentVolumeSpec"]["properties"];
    assert_eq!(volume["claimRef"]["x-kubernetes-map-type"], "granular");
}

#[test]
fn watches_have_paths_of_their_own() {
    let apps = document("apps", "v1");
    let watch = |rest: &str| &apps["paths"][format!("/apis/apps/v1/watch/{rest}")]["get"];
    let told: Vec<_> = [
        "deployments",
        "namespaces/{namespace}/deployments",
        "namespaces/{namespace}/deployments/{name}",
    ]
    .map(|rest| {
        let watch = watch(rest);
        (
            watch["operationId"].as_str().unwrap(),
            watch["x-kubernetes-action"].as_str().unwrap(),
        )
    })
    .into();
    assert_eq!(
        told,
        [
            ("watchAppsV1DeploymentListForAllNamespaces", "watchlist"),
            ("watchAppsV1NamespacedDeploymentList", "watchlist"),
            ("watchAppsV1NamespacedDeployment", "watch"),
        ]
    );
    let content = &watch("deployments")["responses"]["200"]["content"];
    assert_eq!(
        content["application/json;stream=watch"]["schema"]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"
    );
    let core = document("", "v1");
    let one = &core["paths"]["/api/v1/watch/namespaces/{name}"]["get"];
    assert_eq!(one["operationId"], "watchCoreV1Namespace");
    // What cannot be watched has none.
    let reviews = document("authorization.k8s.io", "v1");
    let mut paths = reviews["paths"].as_object().unwrap().keys();
    assert!(!paths.any(|path| path.contains("/watch/")));
}

#[test]
fn what_is_in_no_group_version_has_documents_too() {
    let table = ResourceTable::builtin();
    let known = places(table);
    for (path, id) in [
        ("api", "getCoreAPIVersions"),
        ("apis", "getAPIVersions"),
        ("apis/apps", "getAppsAPIGroup"),
        (
            "apis/rbac.authorization.k8s.io",
            "getRbacAuthorizationAPIGroup",
        ),
        ("version", "getCodeVersion"),
        ("openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset"),
        (
            ".well-known/openid-configuration",
            "getServiceAccountIssuerOpenIDConfiguration",
        ),
    ] {
        assert!(known.iter().any(|place| place == path), "{path}");
        let document: Value = serde_json::from_slice(&place(table, path).unwrap()).unwrap();
        let get = &document["paths"][format!("/{path}/")]["get"];
        assert_eq!(get["operationId"], id);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let schema = &document["components"]["schemas"][&reference];
            assert!(schema.is_object(), "{path}: {reference}");
        }
    }
    assert!(place(table, "apis/nothing").is_none());
    let index: Value = serde_json::from_slice(&index(table)).unwrap();
    assert!(index["paths"]["apis/apps"]["serverRelativeURL"].is_string());
}
