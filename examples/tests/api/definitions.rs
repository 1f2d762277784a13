//! Custom resource definitions, and the objects that they define.

use serde_json::{Value, json};

use crate::{
    Entry,
    fixture::Fixture,
    rest::{JSON_PATCH, Rest},
};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works",
        definitions_are_made_and_deleted,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works",
        definitions_are_listed_and_deleted_together,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works",
        the_status_is_read_and_changed,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents",
        discovery_tells_of_definitions,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works",
        defaults_fill_requests_and_what_was_stored,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects",
        custom_objects_are_watched,
    ),
];

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const LAMPS: &str = "/apis/example.com/v1/namespaces/default/lamps";

fn at(name: &str) -> String {
    format!("{DEFINITIONS}/{name}")
}

/// A definition that lets every field in.
fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    let established = |c: &Value| c["type"] == "Established" && c["status"] == "True";
    conditions.into_iter().flatten().any(established)
}

async fn define(api: &Rest, definition: Value) -> Value {
    let made = api.create(DEFINITIONS, definition).await;
    let name = made["metadata"]["name"].as_str().expect("a name");
    api.until(&at(name), is_established).await
}

#[tokio::test]
async fn definitions_are_made_and_deleted() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let made = define(api, definition("lamps", "Lamp")).await;
    assert_eq!(made["status"]["acceptedNames"]["kind"], "Lamp");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(api.list(LAMPS).await, Vec::<Value>::new());
    let path = at("lamps.example.com");
    api.delete(&path).await;
    api.gone(&path, &made["metadata"]["uid"]).await;
    // What is served follows the definitions.
    api.eventually("/apis", |found| {
        let groups = found["groups"].as_array();
        !groups
            .into_iter()
            .flatten()
            .any(|g| g["name"] == "example.com")
    })
    .await;
    assert_eq!(api.send("GET", LAMPS, &[], &Value::Null).await.status, 404);
}

#[tokio::test]
async fn definitions_are_listed_and_deleted_together() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    define(api, definition("lamps", "Lamp")).await;
    for index in 0..10 {
        let mut one = definition(&format!("things{index}"), &format!("Thing{index}"));
        one["metadata"]["labels"] = json!({"test": "list"});
        define(api, one).await;
    }
    let labelled = format!("{DEFINITIONS}?labelSelector=test%3Dlist");
    let found = api.list(&labelled).await;
    assert_eq!(found.len(), 10);
    assert!(
        found
            .iter()
            .all(|d| d["metadata"]["labels"]["test"] == "list")
    );
    api.delete(&labelled).await;
    api.settles(&labelled, <[Value]>::is_empty).await;
    let left = api.list(DEFINITIONS).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["name"], "lamps.example.com");
}

#[tokio::test]
async fn the_status_is_read_and_changed() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    define(api, definition("lamps", "Lamp")).await;
    let status = format!("{}/status", at("lamps.example.com"));
    let has = |definition: &Value, kind: &str| {
        let conditions = definition["status"]["conditions"].as_array();
        conditions
            .expect("conditions")
            .iter()
            .any(|c| c["type"] == kind)
    };
    assert!(has(&api.get(&status).await, "Established"));
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "", "message": ""});
    let updated = api
        .change(&status, |definition| {
            let conditions = definition["status"]["conditions"].as_array_mut();
            conditions
                .expect("conditions")
                .push(condition("StatusUpdated"));
        })
        .await;
    assert!(has(&updated, "StatusUpdated"));
    let patch =
        json!([{"op": "add", "path": "/status/conditions/-", "value": condition("StatusPatched")}]);
    api.patch(&status, JSON_PATCH, patch).await;
    let found = api.get(&at("lamps.example.com")).await;
    for kind in ["Established", "StatusUpdated", "StatusPatched"] {
        assert!(has(&found, kind), "{kind} is missing: {found}");
    }
}

#[tokio::test]
async fn discovery_tells_of_definitions() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let version = json!({"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"});
    let has_version = |group: &Value| {
        group["versions"]
            .as_array()
            .expect("versions")
            .contains(&version)
    };
    let groups = api.get("/apis").await;
    let mut groups = groups["groups"].as_array().expect("groups").iter();
    let group = groups.find(|g| g["name"] == "apiextensions.k8s.io");
    assert!(has_version(group.expect("the group")));
    assert!(has_version(&api.get("/apis/apiextensions.k8s.io").await));
    let resources = api.get("/apis/apiextensions.k8s.io/v1").await;
    let mut resources = resources["resources"].as_array().expect("resources").iter();
    let found = resources.find(|r| r["name"] == "customresourcedefinitions");
    assert_eq!(
        found.expect("the resource")["kind"],
        "CustomResourceDefinition"
    );
}

#[tokio::test]
async fn defaults_fill_requests_and_what_was_stored() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let field = |default: Value| match default {
        Value::Null => json!({"type": "string"}),
        default => json!({"type": "string", "default": default}),
    };
    let schema = |a: Value, b: Value| {
        json!({
            "type": "object", "properties": {"a": field(a), "b": field(b)},
        })
    };
    let mut definition = definition("lamps", "Lamp");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        schema(Value::Null, Value::Null);
    define(api, definition).await;
    let lamp = |name: &str| json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name}});
    let first = api.create(LAMPS, lamp("first")).await;
    assert!(first["a"].is_null());

    let set = async |a: Value, b: Value| {
        let patch = json!([{
            "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema(a, b),
        }]);
        api.patch(&at("lamps.example.com"), JSON_PATCH, patch).await;
    };
    set("A".into(), Value::Null).await;
    let path = format!("{LAMPS}/first");
    api.eventually(&path, |lamp| lamp["a"] == "A").await;
    let second = api.create(LAMPS, lamp("second")).await;
    assert_eq!((&second["a"], &second["b"]), (&json!("A"), &Value::Null));

    set(Value::Null, "B".into()).await;
    let path = format!("{LAMPS}/second");
    let second = api.eventually(&path, |lamp| lamp["b"] == "B").await;
    assert_eq!(second["a"], "A", "it was stored");
    let first = api.get(&format!("{LAMPS}/first")).await;
    assert_eq!((&first["a"], &first["b"]), (&Value::Null, &json!("B")));
}

#[tokio::test]
async fn custom_objects_are_watched() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let mut definitions = api.watch(DEFINITIONS).await;
    define(api, definition("lamps", "Lamp")).await;
    definitions.until("ADDED", |_| true).await;
    definitions.until("MODIFIED", is_established).await;

    let mut lamps = api.watch(LAMPS).await;
    for name in ["a", "b"] {
        let lamp = json!({
            "apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name}, "colour": "red",
        });
        let made = api.create(LAMPS, lamp).await;
        lamps.brings("ADDED", &made).await;
        let path = format!("{LAMPS}/{name}");
        let changed = api.merge(&path, json!({"colour": "blue"})).await;
        assert_eq!(changed["colour"], "blue");
        lamps.brings("MODIFIED", &changed).await;
        api.delete(&path).await;
        lamps.brings("DELETED", &changed).await;
    }
    api.delete(&at("lamps.example.com")).await;
    definitions.until("DELETED", |_| true).await;
}
