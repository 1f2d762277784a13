//! Definitions that come, change and go: what clients see of that meanwhile.

use futures::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const LAMPS: &str = "/apis/example.com/v1/namespaces/default/lamps";

fn version(name: &str, storage: bool) -> Value {
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}})
}

fn definition(kind: &str, versions: Value) -> Value {
    let lower = kind.to_lowercase();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{lower}s.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": format!("{lower}s"), "singular": lower, "kind": kind, "listKind": format!("{kind}List")}}})
}

fn lamp(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name}})
}

/// The names of the resources of a version, with what is told of them.
async fn told(cluster: &Cluster, path: &str) -> Vec<(String, Value)> {
    let list = cluster.get(path).await.expect(200);
    let resources = list["resources"].as_array().unwrap().iter();
    resources
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone()))
        .collect()
}

#[tokio::test]
async fn nothing_comes_to_a_definition_that_goes() {
    let cluster = Cluster::start().await;
    cluster
        .define(definition("Lamp", json!([version("v1", true)])))
        .await;
    let mut held = lamp("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(LAMPS, held).await.expect(201);
    let path = format!("{DEFINITIONS}/lamps.example.com");
    cluster.delete(&path).await.expect(200);
    let is_told = |answer: &Answer| {
        let resources = answer.body["resources"].as_array();
        let row = resources.and_then(|all| all.iter().find(|row| row["name"] == "lamps"));
        row.is_some_and(|row| {
            row["verbs"] == json!(["delete", "deletecollection", "get", "list", "watch"])
        })
    };
    let list = "/apis/example.com/v1";
    cluster.until("GET", list, Value::Null, is_told).await;
    let text = "lamps.example.com \"new\" is forbidden: create not allowed while custom resource definition is terminating";
    let refused = cluster.post(LAMPS, lamp("new")).await;
    assert_eq!((refused.code.as_u16(), refused.message()), (403, text));
    let apply = "application/apply-patch+yaml";
    let who = cluster.user("admin", &["system:masters"]);
    let new = format!("{LAMPS}/new?fieldManager=m");
    let refused = cluster
        .ask_as(&who, "PATCH", &new, apply, lamp("new"))
        .await;
    assert_eq!((refused.code.as_u16(), refused.message()), (403, text));
    // What is there can still be changed, and is let go.
    let change = json!({"metadata": {"labels": {"a": "b"}}});
    let held = format!("{LAMPS}/held");
    cluster.ask("PATCH", &held, change).await.expect(200);
    let release = json!({"metadata": {"finalizers": null}});
    cluster.ask("PATCH", &held, release).await.expect(200);
    cluster
        .until("GET", &path, Value::Null, |answer| {
            answer.code == StatusCode::NOT_FOUND
        })
        .await;
    cluster
        .until("GET", list, Value::Null, |answer| {
            answer.code == StatusCode::NOT_FOUND
        })
        .await;
}

#[tokio::test]
async fn what_is_stored_in_a_version_that_is_gone_is_not_read() {
    let cluster = Cluster::start().await;
    let versions = json!([version("v1", true), version("v2", false)]);
    cluster.define(definition("Lamp", versions)).await;
    cluster.post(LAMPS, lamp("a")).await.expect(201);
    let path = format!("{DEFINITIONS}/lamps.example.com");
    let versions = json!([version("v1", false), version("v2", true)]);
    let change = json!({"spec": {"versions": versions}});
    cluster.ask("PATCH", &path, change).await.expect(200);
    // It was stored once, whether that is said or not.
    let only = json!({"spec": {"versions": [version("v2", true)]}});
    let refused = cluster.ask("PATCH", &path, only.clone()).await;
    let text = "missing from spec.versions; v1 was previously a storage version";
    assert!(refused.message().contains(text), "{}", refused.message());
    let status = format!("{path}/status");
    let stored = json!({"status": {"storedVersions": ["v2"]}});
    cluster.ask("PATCH", &status, stored).await.expect(200);
    cluster.ask("PATCH", &path, only).await.expect(200);
    let lamp = "/apis/example.com/v2/namespaces/default/lamps/a";
    let text = "request to convert CR from an invalid group/version: example.com/v1";
    let told = cluster
        .until("GET", lamp, Value::Null, |answer| answer.message() == text)
        .await;
    assert_eq!(told.code, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn stored_versions_that_are_taken_back_are_said_again() {
    let cluster = Cluster::start().await;
    cluster
        .define(definition("Lamp", json!([version("v1", true)])))
        .await;
    let status = format!("{DEFINITIONS}/lamps.example.com/status");
    for none in [json!([]), Value::Null] {
        let change = json!({"status": {"storedVersions": none}});
        let answer = cluster.ask("PATCH", &status, change).await.expect(200);
        assert_eq!(answer["status"]["storedVersions"], json!(["v1"]));
    }
}

#[tokio::test]
async fn columns_whose_path_is_none_are_left_out_with_all_that_follow() {
    let cluster = Cluster::start().await;
    let mut v1 = version("v1", true);
    v1["additionalPrinterColumns"] = json!([
        {"name": "First", "type": "integer", "jsonPath": ".spec.sizes[::2]"},
        {"name": "Other", "type": "string", "jsonPath": ".spec..size"},
        {"name": "Wrong", "type": "string", "jsonPath": ".spec.sizes[a]"},
        {"name": "Last", "type": "string", "jsonPath": ".spec.sizes"},
    ]);
    cluster.define(definition("Lamp", json!([v1]))).await;
    let mut lamp = lamp("a");
    lamp["spec"] = json!({"sizes": [7, 8, 9], "inner": {"size": 1_234_567.5}});
    cluster.post(LAMPS, lamp).await.expect(201);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = cluster.wanting(LAMPS, accept).await.expect(200);
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let names: Vec<&Value> = columns.map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "First", "Other"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 7, "1.2345675e+06"]));
}

#[tokio::test]
async fn objects_are_selected_by_fields_as_they_are_read() {
    let cluster = Cluster::start().await;
    let with = |colour: Value| {
        let spec = json!({"type": "object", "properties": {"colour": colour}});
        let schema = json!({"type": "object", "properties": {"spec": spec}});
        json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            "selectableFields": [{"jsonPath": ".spec.colour"}]}])
    };
    let plain = json!({"type": "string", "nullable": true});
    cluster.define(definition("Lamp", with(plain))).await;
    for (name, spec) in [
        ("none", json!({})),
        ("null", json!({"colour": null})),
        ("blue", json!({"colour": "blue"})),
    ] {
        let mut lamp = lamp(name);
        lamp["spec"] = spec;
        cluster.post(LAMPS, lamp).await.expect(201);
    }
    let selected = async |colour: &str| -> Vec<Value> {
        let path = format!("{LAMPS}?fieldSelector=spec.colour%3D{colour}");
        let list = cluster.get(&path).await.expect(200);
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].clone()).collect()
    };
    assert_eq!(selected("").await, ["none", "null"]);
    assert_eq!(selected("blue").await, ["blue"]);
    let red = json!({"type": "string", "nullable": true, "default": "red"});
    let change = json!({"spec": {"versions": with(red)}});
    let path = format!("{DEFINITIONS}/lamps.example.com");
    cluster.ask("PATCH", &path, change).await.expect(200);
    let none = format!("{LAMPS}/none");
    cluster
        .until("GET", &none, Value::Null, |answer| {
            answer.body["spec"]["colour"] == "red"
        })
        .await;
    assert_eq!(selected("red").await, ["none"]);
    assert_eq!(selected("").await, ["null"]);
}

#[tokio::test]
async fn a_version_selects_by_its_own_fields_whichever_is_stored() {
    let cluster = Cluster::start().await;
    let spec = json!({"type": "object", "properties": {"colour": {"type": "string"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let stored = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    let served = json!({"name": "v2", "served": true, "storage": false, "schema": schema,
        "selectableFields": [{"jsonPath": ".spec.colour"}]});
    cluster
        .define(definition("Lamp", json!([stored, served])))
        .await;
    for colour in ["red", "blue"] {
        let mut lamp = lamp(colour);
        lamp["spec"] = json!({"colour": colour});
        cluster.post(LAMPS, lamp).await.expect(201);
    }
    let selected = "?fieldSelector=spec.colour%3Dblue";
    let list = cluster
        .get(&format!("{}{selected}", LAMPS.replace("/v1/", "/v2/")))
        .await
        .expect(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{list}");
    assert_eq!(items[0]["metadata"]["name"], "blue");
    let refused = cluster.get(&format!("{LAMPS}{selected}")).await.expect(400);
    assert_eq!(refused["message"], "field label not supported: spec.colour");
}

/// Whoever sees that a definition is established finds its resource, however many come at once.
#[tokio::test]
async fn many_definitions_are_discovered_as_they_are_established() {
    const COUNT: usize = 200;
    let cluster = Cluster::start().await;
    let kind = |at: usize| format!("Lamp{at:03}");
    let all = (0..COUNT).map(|at| {
        let definition = definition(&kind(at), json!([version("v1", true)]));
        let cluster = &cluster;
        async move {
            cluster.post(DEFINITIONS, definition).await.expect(201);
        }
    });
    let coming = futures::stream::iter(all).buffer_unordered(16).count();
    let established = async || -> Vec<String> {
        let list = cluster.get(DEFINITIONS).await.expect(200);
        let is_established = |definition: &&Value| {
            let conditions = definition["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Established" && c["status"] == "True")
            })
        };
        let found = list["items"].as_array().unwrap().iter();
        let plural = |d: &Value| d["spec"]["names"]["plural"].as_str().unwrap().to_owned();
        found.filter(is_established).map(plural).collect()
    };
    let watching = async {
        loop {
            let names = established().await;
            if names.is_empty() {
                continue;
            }
            let resources = told(&cluster, "/apis/example.com/v1").await;
            for name in &names {
                let is_there = resources.iter().any(|(known, _)| known == name);
                assert!(is_there, "{name} is established and is not told of");
            }
            if names.len() == COUNT {
                return;
            }
        }
    };
    futures::future::join(coming, watching).await;
    for at in [0, COUNT / 2, COUNT - 1] {
        let name = kind(at).to_lowercase();
        let object =
            json!({"apiVersion": "example.com/v1", "kind": kind(at), "metadata": {"name": "x"}});
        let path = format!("/apis/example.com/v1/namespaces/default/{name}s");
        cluster.post(&path, object).await.expect(201);
    }
}
