//! What upstream's conformance suite says of conversion webhooks (`CustomResourceConversionWebhook`), entry by entry,
//! and what must hold besides.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster, Webhook};

const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lamps.example.com";

fn lamps(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/lamps")
}

/// In `v1` a lamp has `hostPort`, in `v2` `host` and `port`: the example of upstream's suite.
fn convert(object: &Value, to: &str) -> Value {
    let mut out = object.clone();
    out["apiVersion"] = to.into();
    let fields = out.as_object_mut().unwrap();
    match to {
        "example.com/v2" => {
            if let Some(both) = fields.remove("hostPort") {
                let (host, port) = both.as_str().unwrap().split_once(':').unwrap();
                fields.insert("host".into(), host.into());
                fields.insert("port".into(), port.into());
            }
        }
        _ => {
            let text = |value: Option<Value>| value.and_then(|v| v.as_str().map(str::to_owned));
            let (host, port) = (text(fields.remove("host")), text(fields.remove("port")));
            if let (Some(host), Some(port)) = (host, port) {
                fields.insert("hostPort".into(), format!("{host}:{port}").into());
            }
        }
    }
    out
}

pub(crate) async fn webhook() -> Webhook {
    Webhook::start(|path, review| {
        let request = &review["request"];
        let to = request["desiredAPIVersion"].as_str().unwrap();
        let objects = request["objects"].as_array().unwrap().iter();
        let mut converted: Vec<Value> = objects.map(|object| convert(object, to)).collect();
        let mut result = json!({"status": "Success"});
        match path {
            "/fails" => result = json!({"status": "Failure", "message": "no such lamp"}),
            "/renames" => converted[0]["metadata"]["name"] = "other".into(),
            "/forgets" => converted.clear(),
            "/mislabels" => converted[0]["apiVersion"] = "example.com/v3".into(),
            _ => {}
        }
        Some(
            json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": request["uid"], "result": result, "convertedObjects": converted}}),
        )
    })
    .await
}

pub(crate) fn definition(hook: &Webhook, path: &str) -> Value {
    let version = |name: &str, storage: bool, fields: &[&str]| {
        let mut properties = json!({});
        for field in fields {
            properties[*field] = json!({"type": "string"});
        }
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [version("v1", true, &["hostPort"]), version("v2", false, &["host", "port"])],
            "conversion": conversion(hook, path)}})
}

fn conversion(hook: &Webhook, path: &str) -> Value {
    json!({"strategy": "Webhook", "webhook": {
        "clientConfig": hook.client_config(path), "conversionReviewVersions": ["v1", "v1beta1"]}})
}

fn v1(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name}, "hostPort": "localhost:7070"})
}

fn v2(name: &str) -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Lamp", "metadata": {"name": name}, "host": "example.com", "port": "8080"})
}

/// Makes `v2` the stored version, and waits until the server goes by that.
async fn store_v2(cluster: &Cluster) {
    let mut versions = cluster.get(DEFINITION).await.expect(200)["spec"]["versions"].clone();
    versions[0]["storage"] = false.into();
    versions[1]["storage"] = true.into();
    cluster
        .ask("PATCH", DEFINITION, json!({"spec": {"versions": versions}}))
        .await
        .expect(200);
    cluster
        .until("GET", DEFINITION, Value::Null, |answer| {
            let stored = answer.body["status"]["storedVersions"].as_array();
            stored.is_some_and(|all| all.contains(&"v2".into()))
        })
        .await;
}

#[tokio::test]
async fn a_custom_resource_of_v1_must_be_read_as_v2() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    let made = cluster.post(&lamps("v1"), v1("a")).await.expect(201);
    assert_eq!(made["hostPort"], "localhost:7070");
    let read = cluster.get(&format!("{}/a", lamps("v2"))).await.expect(200);
    assert_eq!(read["apiVersion"], "example.com/v2");
    assert_eq!(
        (&read["host"], &read["port"]),
        (&json!("localhost"), &json!("7070"))
    );
    assert_eq!(read["hostPort"], Value::Null);
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
    ] {
        assert_eq!(read["metadata"][field], made["metadata"][field], "{field}");
    }
}

#[tokio::test]
async fn a_list_must_hold_what_was_stored_in_either_version() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    cluster.post(&lamps("v1"), v1("a")).await.expect(201);
    store_v2(&cluster).await;
    let made = cluster.post(&lamps("v2"), v2("b")).await.expect(201);
    assert_eq!(made["host"], "example.com");
    let listed = cluster.get(&lamps("v2")).await.expect(200);
    let hosts: Vec<&Value> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["host"])
        .collect();
    assert_eq!(hosts, ["localhost", "example.com"]);
    let listed = cluster.get(&lamps("v1")).await.expect(200);
    let both: Vec<&Value> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["hostPort"])
        .collect();
    assert_eq!(both, ["localhost:7070", "example.com:8080"]);
}

#[tokio::test]
async fn what_is_written_in_another_version_is_stored_in_the_stored_one() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    let made = cluster.post(&lamps("v2"), v2("a")).await.expect(201);
    assert_eq!(
        (&made["host"], &made["port"]),
        (&json!("example.com"), &json!("8080"))
    );
    assert!(made["metadata"]["managedFields"].is_array());
    let stored = cluster.get(&format!("{}/a", lamps("v1"))).await.expect(200);
    assert_eq!(stored["hostPort"], "example.com:8080");
    let path = format!("{}/a", lamps("v2"));
    let patched = cluster
        .ask("PATCH", &path, json!({"port": "9090"}))
        .await
        .expect(200);
    assert_eq!(
        (&patched["host"], &patched["port"]),
        (&json!("example.com"), &json!("9090"))
    );
    assert_eq!(patched["metadata"]["generation"], 2);
    let mut changed = patched.clone();
    changed["host"] = "example.org".into();
    cluster.ask("PUT", &path, changed).await.expect(200);
    let stored = cluster.get(&format!("{}/a", lamps("v1"))).await.expect(200);
    assert_eq!(stored["hostPort"], "example.org:9090");
    let admin = cluster.user("admin", &["system:masters"]);
    let applied = cluster
        .ask_as(
            &admin,
            "PATCH",
            &format!("{path}?fieldManager=test&force=true"),
            "application/apply-patch+yaml",
            v2("a"),
        )
        .await
        .expect(200);
    assert_eq!(
        (&applied["host"], &applied["port"]),
        (&json!("example.com"), &json!("8080"))
    );
    let gone = cluster.delete(&path).await.expect(200);
    assert_eq!(gone["status"], "Success");
}

#[tokio::test]
async fn watchers_of_each_version_see_changes_in_it() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    let lamps_of = |version: &str| {
        let kind = kube::discovery::ApiResource {
            group: "example.com".into(),
            version: version.into(),
            api_version: format!("example.com/{version}"),
            kind: "Lamp".into(),
            plural: "lamps".into(),
        };
        let client = crate::common::client(&cluster.server);
        kube::Api::<kube::core::DynamicObject>::namespaced_with(client, "default", &kind)
    };
    // Nothing but changes.
    let changes = kube::api::WatchParams::default().disable_bookmarks();
    let mut old = lamps_of("v1").watch(&changes, "0").await.unwrap().boxed();
    let mut new = lamps_of("v2").watch(&changes, "0").await.unwrap().boxed();
    cluster.post(&lamps("v1"), v1("a")).await.expect(201);
    let added = |event: kube::api::WatchEvent<kube::core::DynamicObject>| match event {
        kube::api::WatchEvent::Added(object) => object.data,
        other => panic!("{other:?}"),
    };
    let seen = added(old.next().await.unwrap().unwrap());
    assert_eq!(seen["hostPort"], "localhost:7070");
    let seen = added(new.next().await.unwrap().unwrap());
    assert_eq!(
        (&seen["host"], &seen["port"]),
        (&json!("localhost"), &json!("7070"))
    );
}

#[tokio::test]
async fn a_webhook_that_fails_is_told_and_loses_nothing() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/convert")).await;
    cluster.post(&lamps("v1"), v1("a")).await.expect(201);
    let path = format!("{}/a", lamps("v2"));
    let failures = [
        (
            "/fails",
            "conversion webhook for example.com/v1, Kind=Lamp failed: no such lamp",
        ),
        (
            "/renames",
            "conversion webhook for example.com/v1, Kind=Lamp returned invalid object: must have the same name: a != other",
        ),
        (
            "/forgets",
            "conversion webhook for example.com/v1, Kind=Lamp returned 0 objects, expected 1",
        ),
        (
            "/mislabels",
            "conversion webhook for example.com/v1, Kind=Lamp returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)",
        ),
    ];
    for (at, text) in failures {
        let broken = json!({"spec": {"conversion": conversion(&hook, at)}});
        cluster.ask("PATCH", DEFINITION, broken).await.expect(200);
        let refused = cluster
            .until("GET", &path, Value::Null, |answer| answer.message() == text)
            .await;
        assert_eq!(refused.code, 500);
        // Nothing is written either.
        let refused = cluster.ask("PATCH", &path, json!({"port": "1"})).await;
        assert_eq!((refused.code.as_u16(), refused.message()), (500, text));
        let refused = cluster.post(&lamps("v2"), v2("b")).await;
        assert_eq!(refused.code, 500, "{refused:?}");
        // In the version in which it is stored it is there.
        let read = cluster.get(&format!("{}/a", lamps("v1"))).await.expect(200);
        assert_eq!(read["hostPort"], "localhost:7070");
    }
    let listed = cluster.get(&lamps("v1")).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let mended = json!({"spec": {"conversion": conversion(&hook, "/convert")}});
    cluster.ask("PATCH", DEFINITION, mended).await.expect(200);
    cluster
        .until("GET", &path, Value::Null, |answer| answer.code == 200)
        .await;
}

#[tokio::test]
async fn a_definition_goes_without_its_webhook_though_its_stored_version_is_not_served() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.define(definition(&hook, "/fails")).await;
    cluster.post(&lamps("v1"), v1("a")).await.expect(201);
    let mut versions = cluster.get(DEFINITION).await.expect(200)["spec"]["versions"].clone();
    versions[0]["served"] = false.into();
    let change = json!({"spec": {"versions": versions}});
    cluster.ask("PATCH", DEFINITION, change).await.expect(200);
    let unserved = |answer: &Answer| answer.code == 404;
    cluster
        .until("GET", &lamps("v1"), Value::Null, unserved)
        .await;
    cluster.delete(DEFINITION).await.expect(200);
    let gone = |answer: &Answer| {
        let conditions = answer.body["status"]["conditions"].to_string();
        assert!(
            !conditions.contains("InstanceDeletionFailed"),
            "{conditions}"
        );
        answer.code == 404
    };
    cluster.until("GET", DEFINITION, Value::Null, gone).await;
}

#[tokio::test]
async fn labels_and_annotations_are_all_that_a_webhook_changes_of_metadata() {
    let hook = Webhook::start(|_, review| {
        let request = &review["request"];
        let to = request["desiredAPIVersion"].as_str().unwrap();
        let mut object = convert(&request["objects"][0], to);
        object["metadata"]["labels"] = json!({"from": "webhook"});
        object["metadata"]["finalizers"] = json!(["example.com/stays"]);
        object["metadata"]["generation"] = 77.into();
        Some(json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": [object]}}))
    })
    .await;
    let cluster = Cluster::start().await;
    cluster.define(definition(&hook, "/convert")).await;
    cluster.post(&lamps("v1"), v1("a")).await.expect(201);
    let read = cluster.get(&format!("{}/a", lamps("v2"))).await.expect(200);
    assert_eq!(read["metadata"]["labels"], json!({"from": "webhook"}));
    assert_eq!(read["metadata"]["generation"], 1);
    assert_eq!(read["metadata"]["finalizers"], Value::Null);
}

#[tokio::test]
async fn a_webhook_is_asked_about_what_is_whole_and_makes_nothing_that_is_not_known() {
    let hook = Webhook::start(|_, review| {
        let request = &review["request"];
        let to = request["desiredAPIVersion"].as_str().unwrap();
        let mut object = convert(&request["objects"][0], to);
        object["extra"] = "x".into();
        Some(json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": [object]}}))
    })
    .await;
    let cluster = Cluster::start().await;
    let defined = definition(&hook, "/convert");
    cluster.define(defined.clone()).await;
    cluster.post(&lamps("v2"), v2("a")).await.expect(201);
    for version in ["v1", "v2"] {
        let path = format!("{}/a", lamps(version));
        let read = cluster.get(&path).await.expect(200);
        assert_eq!(read["extra"], Value::Null, "{read}");
    }
    // The schema of the stored version comes to have a default and loses a field.
    let mut versions = defined["spec"]["versions"].clone();
    versions[0]["schema"]["openAPIV3Schema"]["properties"] =
        json!({"shade": {"type": "string", "default": "white"}});
    let change = json!({"spec": {"versions": versions}});
    cluster.ask("PATCH", DEFINITION, change).await.expect(200);
    let path = format!("{}/a", lamps("v2"));
    let seen = |answer: &Answer| answer.body["host"] == Value::Null;
    let read = cluster.until("GET", &path, Value::Null, seen).await;
    assert_eq!(read.body["shade"], Value::Null);
    let asked = hook.asked("/convert");
    let last = &asked.last().unwrap()["request"]["objects"][0];
    assert_eq!(
        (&last["shade"], &last["hostPort"]),
        (&json!("white"), &Value::Null)
    );
}
