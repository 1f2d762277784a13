//! What kubectl and scripts around it look at, as upstream's own suite for kubectl does.

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::{
    call, get,
    hooks::{Answer, Cluster},
    send, server, text,
};

/// The document at a path, as it is written.
async fn written(path: &str) -> String {
    let server = server().await;
    let (status, text) = text(send(&server, "GET", path, &[], "").await).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    text
}

#[tokio::test]
async fn discovery_is_written_in_upstreams_order() {
    let core = written("/api/v1").await;
    assert!(
        core.starts_with(
            r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"bindings","#
        ),
        "{core}"
    );
    let pieces = [
        r#","namespaced":true,"kind":"ConfigMap","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["cm"],"storageVersionHash":"#,
        r#","shortNames":["po"],"categories":["all"],"#,
    ];
    for piece in pieces {
        assert!(core.contains(piece), "{piece}");
    }
    let apps = written("/apis/apps").await;
    let group = r#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":"#;
    assert!(apps.starts_with(group), "{apps}");
    let version = written("/version").await;
    let start = "{\n  \"major\": \"1\",\n  \"minor\": ";
    assert!(version.starts_with(start), "{version}");
}

#[tokio::test]
async fn a_strategic_merge_patch_of_another_type_is_told_as_upstreams_converter_does() {
    let server = server().await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let set = json!({
        "metadata": {"name": "a"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    let (status, _) = call(&server, "POST", sets, set).await;
    assert_eq!(status, StatusCode::CREATED);
    for (patch, told) in [
        (
            json!({"metadata": {"labels": "x"}}),
            "cannot restore map from string",
        ),
        (
            json!({"spec": {"replicas": "x"}}),
            "unrecognized type: int32",
        ),
    ] {
        let strategic = [("content-type", "application/strategic-merge-patch+json")];
        let uri = format!("{sets}/a");
        let response = send(&server, "PATCH", &uri, &strategic, patch.to_string()).await;
        let (status, told_back) = text(response).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let answer: Value = serde_json::from_str(&told_back).unwrap();
        let message = answer["message"].as_str().unwrap();
        assert!(message.ends_with(told), "{message}");
    }
}

#[tokio::test]
async fn generations_start_where_upstreams_do() {
    let server = server().await;
    let class = json!({"metadata": {"name": "c"}, "value": 5});
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let (_, class) = call(&server, "POST", path, class).await;
    assert_eq!(class["metadata"]["generation"], 1);
    // Those of drivers count changes alone.
    let path = "/apis/storage.k8s.io/v1/csidrivers";
    let driver = json!({"metadata": {"name": "d.example.com"}, "spec": {"podInfoOnMount": true}});
    let (_, mut driver) = call(&server, "POST", path, driver).await;
    assert_eq!(driver["metadata"]["generation"], Value::Null);
    driver["spec"]["podInfoOnMount"] = false.into();
    let path = format!("{path}/d.example.com");
    let (status, driver) = call(&server, "PUT", &path, driver).await;
    assert_eq!(
        (status, &driver["metadata"]["generation"]),
        (StatusCode::OK, &json!(1))
    );
}

fn widget_versions() -> Value {
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        })
    };
    let mut versions = vec![
        version("v1", true),
        version("v1beta1", false),
        version("v1alpha1", false),
    ];
    versions[1]["deprecated"] = true.into();
    versions[2]["deprecated"] = true.into();
    versions[2]["deprecationWarning"] = "gone soon".into();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"}, "versions": versions,
        },
    })
}

#[tokio::test]
async fn whoever_asks_for_a_deprecated_version_is_told_what_to_use() {
    let cluster = Cluster::start().await;
    cluster.define(widget_versions()).await;
    for (version, told) in [
        ("v1", Vec::new()),
        (
            "v1beta1",
            vec!["example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"],
        ),
        ("v1alpha1", vec!["gone soon"]),
    ] {
        let told: Vec<String> = told
            .iter()
            .map(|text| format!("299 - \"{text}\""))
            .collect();
        let path = format!("/apis/example.com/{version}/namespaces/default/widgets");
        let served = |answer: &Answer| answer.code == StatusCode::OK;
        cluster.until("GET", &path, Value::Null, served).await;
        assert_eq!(cluster.get(&path).await.warnings, told, "list in {version}");
        let one = json!({
            "apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": version},
        });
        assert_eq!(
            cluster.post(&path, one).await.warnings,
            told,
            "create in {version}"
        );
        let gone = cluster.delete(&format!("{path}/{version}")).await;
        assert_eq!(gone.warnings, told, "delete in {version}");
    }
}

#[tokio::test]
async fn a_scale_has_columns_of_its_own_and_leaves_out_zero() {
    let server = server().await;
    let path = "/apis/apps/v1/namespaces/default/replicasets";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (name, replicas) in [("none", 0), ("three", 3)] {
        let set = json!({
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        });
        let (status, _) = call(&server, "POST", path, set).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    let (_, scale) = get(&server, &format!("{path}/none/scale")).await;
    assert_eq!(scale["spec"], json!({}));
    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let uri = format!("{path}/three/scale");
    let (status, shown) = text(send(&server, "GET", &uri, &table, "").await).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    let table: Value = serde_json::from_str(&shown).unwrap();
    let names = table["columnDefinitions"].as_array().unwrap().iter();
    let names: Vec<_> = names
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("three"), json!(3), json!(0)]);
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "three");
    let only = [(
        "accept",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    )];
    let (_, shown) = text(send(&server, "GET", &uri, &only, "").await).await;
    let only: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&only["kind"], &only["spec"]),
        (&json!("PartialObjectMetadata"), &Value::Null)
    );
}

#[tokio::test]
async fn openapi_tells_what_lists_take_in_words_that_scripts_look_for() {
    let document = written("/openapi/v2").await;
    for piece in [
        "list of returned",
        "List of services",
        "Watch for changes to the described resources",
    ] {
        assert!(document.contains(piece), "{piece}");
    }
}

#[tokio::test]
async fn flow_schemas_are_shown_in_the_order_in_which_requests_try_them() {
    let server = server().await;
    let path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    for (name, precedence) in [("a", 7000), ("b", 5000), ("c", 6000)] {
        let flow = json!({
            "metadata": {"name": name},
            "spec": {
                "matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "exempt"},
            },
        });
        let (status, told) = call(&server, "POST", path, flow).await;
        assert_eq!(status, StatusCode::CREATED, "{told}");
    }
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let answer = send(&server, "GET", path, &[("accept", accept)], "").await;
    let table: Value = serde_json::from_str(&text(answer).await.1).unwrap();
    let rows = table["rows"].as_array().unwrap();
    let precedences: Vec<i64> = (rows.iter())
        .map(|row| row["cells"][2].as_i64().unwrap())
        .collect();
    assert!(precedences.is_sorted(), "{precedences:?}");
    let names: Vec<&str> = (rows.iter())
        .map(|row| row["cells"][0].as_str().unwrap())
        .filter(|name| name.len() == 1)
        .collect();
    assert_eq!(names, ["b", "c", "a"]);
}
