//! Custom resources, through a client as an operator has it.

use std::collections::BTreeMap;

use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::DynamicObject,
    discovery::ApiResource,
    runtime::wait::{await_condition, conditions},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a lamp is to be.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Lamp",
    namespaced,
    status = "LampStatus",
    shortname = "lp",
    category = "home",
    scale(
        spec_replicas_path = ".spec.bulbs",
        status_replicas_path = ".status.bulbs",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Colour", type_ = "string", json_path = ".spec.colour"),
    printcolumn(name = "Bulbs", type_ = "integer", json_path = ".spec.bulbs"),
    selectable = ".spec.colour"
)]
#[serde(rename_all = "camelCase")]
struct LampSpec {
    colour: String,
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 9))]
    bulbs: i32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, String>,
}

fn one() -> i32 {
    1
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
struct LampStatus {
    #[serde(default)]
    bulbs: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<String>,
}

async fn server() -> (ApiServer, Client) {
    let server = ApiServer::builder().build().await.unwrap();
    let client = server.client(Identity::system_masters());
    (server, client)
}

/// Makes a definition, and waits until it is established.
async fn define(client: &Client, definition: Value) -> CustomResourceDefinition {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition: CustomResourceDefinition = serde_json::from_value(definition).unwrap();
    let made = definitions
        .create(&PostParams::default(), &definition)
        .await
        .unwrap();
    established(client, &made.name_any()).await
}

async fn established(client: &Client, name: &str) -> CustomResourceDefinition {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = await_condition(definitions, name, conditions::is_crd_established()).await;
    found.unwrap().unwrap()
}

fn definition(kind: &str, version: Value) -> Value {
    let lower = kind.to_lowercase();
    let mut whole = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    whole
        .as_object_mut()
        .unwrap()
        .extend(version.as_object().unwrap().clone());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{lower}s.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": format!("{lower}s"), "kind": kind}, "versions": [whole]},
    })
}

fn api(client: &Client, version: &str, kind: &str) -> Api<DynamicObject> {
    let gvk = kube::core::GroupVersionKind::gvk("example.com", version, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &format!("{}s", kind.to_lowercase()));
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn object(kind: &str, name: &str, fields: Value) -> DynamicObject {
    let mut value =
        json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": name}});
    value
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

async fn raw(client: &Client, path: &str, accept: &str) -> Value {
    let request = http::Request::get(path)
        .header("Accept", accept)
        .body(Vec::new())
        .unwrap();
    client.request(request).await.unwrap()
}

#[tokio::test]
async fn a_derived_type_is_served_like_any_other() {
    let (_server, client) = server().await;
    define(&client, serde_json::to_value(Lamp::crd()).unwrap()).await;
    let lamps: Api<Lamp> = Api::namespaced(client.clone(), "default");
    let spec = LampSpec {
        colour: "blue".into(),
        bulbs: 2,
        ..LampSpec::default()
    };
    let mut lamp = Lamp::new("desk", spec);
    lamp.status = Some(LampStatus::default());
    let made = lamps.create(&PostParams::default(), &lamp).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(made.status, None, "a create sets no status");

    // A status is written through its own path, and changes no generation.
    let mut with_status = made.clone();
    with_status.status = Some(LampStatus {
        bulbs: 2,
        selector: Some("a=b".into()),
    });
    with_status.spec.colour = "red".into();
    let changed = lamps
        .replace_status("desk", &PostParams::default(), &with_status)
        .await
        .unwrap();
    assert_eq!(changed.spec.colour, "blue");
    assert_eq!(changed.status.as_ref().unwrap().bulbs, 2);
    assert_eq!(changed.metadata.generation, Some(1));

    // The scale is a view of it.
    let scale = lamps.get_scale("desk").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("a=b"));
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    lamps
        .patch_scale("desk", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let now = lamps.get("desk").await.unwrap();
    assert_eq!((now.spec.bulbs, now.metadata.generation), (5, Some(2)));

    // Selected by field, listed, deleted.
    let blue = ListParams::default().fields("spec.colour=blue");
    assert_eq!(lamps.list(&blue).await.unwrap().items.len(), 1);
    let red = ListParams::default().fields("spec.colour=red");
    assert_eq!(lamps.list(&red).await.unwrap().items.len(), 0);
    lamps
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    assert!(
        lamps
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn what_the_schema_refuses_is_told_with_its_path() {
    let (_server, client) = server().await;
    define(&client, serde_json::to_value(Lamp::crd()).unwrap()).await;
    let lamps = api(&client, "v1", "Lamp");
    let wrong = object("Lamp", "x", json!({"spec": {"colour": 1, "bulbs": 10}}));
    let error = lamps
        .create(&PostParams::default(), &wrong)
        .await
        .unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(status.code, 422);
    assert_eq!(
        status.message,
        "Lamp.example.com \"x\" is invalid: [spec.bulbs: Invalid value: 10: spec.bulbs in body should be less than or equal to 9, spec.colour: Invalid value: \"integer\": spec.colour in body must be of type string: \"integer\"]"
    );
    // Defaults come, unknown fields go.
    let sparse = object("Lamp", "x", json!({"spec": {"colour": "blue", "size": 3}}));
    let made = lamps.create(&PostParams::default(), &sparse).await.unwrap();
    assert_eq!(made.data["spec"], json!({"colour": "blue", "bulbs": 1}));
    // Unless that is not wanted.
    let request =
        http::Request::post("/apis/example.com/v1/namespaces/default/lamps?fieldValidation=Strict")
            .header("Content-Type", "application/json")
            .body(
                serde_json::to_vec(&object(
                    "Lamp",
                    "y",
                    json!({"spec": {"colour": "blue", "size": 3}}),
                ))
                .unwrap(),
            )
            .unwrap();
    let error = client.request::<Value>(request).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("unknown field \\\"spec.size\\\"")
            || error.to_string().contains("unknown field \"spec.size\""),
        "{error}"
    );
    // A strategic merge patch is for built-in kinds.
    let patch = Patch::Strategic(json!({"spec": {"bulbs": 2}}));
    let error = lamps
        .patch("x", &PatchParams::default(), &patch)
        .await
        .unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(status.code, 415);
    let patch = Patch::<Value>::Json(
        serde_json::from_value(json!([{"op": "replace", "path": "/spec/bulbs", "value": 3}]))
            .unwrap(),
    );
    let patched = lamps
        .patch("x", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(patched.data["spec"]["bulbs"], 3);
}

#[tokio::test]
async fn tables_have_the_columns_that_were_asked_for() {
    let (_server, client) = server().await;
    define(&client, serde_json::to_value(Lamp::crd()).unwrap()).await;
    let lamps = api(&client, "v1", "Lamp");
    let lamp = object("Lamp", "x", json!({"spec": {"colour": "blue"}}));
    lamps.create(&PostParams::default(), &lamp).await.unwrap();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = raw(&client, "/apis/example.com/v1/lamps", accept).await;
    let names: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "Colour", "Bulbs"]);
    assert_eq!(table["rows"][0]["cells"], json!(["x", "blue", 1]));
}

#[tokio::test]
async fn clients_find_the_resource_and_its_schema() {
    let (_server, client) = server().await;
    let groups = raw(&client, "/apis", "application/json").await;
    assert!(!groups.to_string().contains("example.com"));
    define(&client, serde_json::to_value(Lamp::crd()).unwrap()).await;

    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = raw(&client, "/apis", accept).await;
    let group = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["metadata"]["name"] == "example.com")
        .unwrap();
    let lamps = &group["versions"][0]["resources"][0];
    assert_eq!(lamps["resource"], "lamps");
    assert_eq!(lamps["shortNames"], json!(["lp"]));
    assert_eq!(lamps["categories"], json!(["home"]));
    let legacy = raw(&client, "/apis/example.com/v1", "application/json").await;
    let names: Vec<&str> = legacy["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["lamps", "lamps/status", "lamps/scale"]);

    let index = raw(&client, "/openapi/v3", "application/json").await;
    let address = &index["paths"]["apis/example.com/v1"]["serverRelativeURL"];
    let document = raw(&client, address.as_str().unwrap(), "application/json").await;
    let schema = &document["components"]["schemas"]["com.example.v1.Lamp"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["colour"]["type"],
        "string"
    );
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Lamp");

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .delete("lamps.example.com", &DeleteParams::default())
        .await
        .unwrap();
    let gone = await_condition(
        definitions,
        "lamps.example.com",
        |d: Option<&CustomResourceDefinition>| d.is_none(),
    );
    gone.await.unwrap();
    let error = api(&client, "v1", "Lamp")
        .list(&ListParams::default())
        .await
        .unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 404));
}

#[tokio::test]
async fn a_definition_goes_when_its_objects_are_gone() {
    let (_server, client) = server().await;
    define(&client, definition("Foo", json!({}))).await;
    let foos = api(&client, "v1", "Foo");
    for name in ["free", "held"] {
        let mut foo = object("Foo", name, json!({}));
        if name == "held" {
            foo.metadata.finalizers = Some(vec!["example.com/hold".into()]);
        }
        foos.create(&PostParams::default(), &foo).await.unwrap();
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .delete("foos.example.com", &DeleteParams::default())
        .await
        .unwrap();
    let waits = await_condition(
        definitions.clone(),
        "foos.example.com",
        |d: Option<&CustomResourceDefinition>| {
            let status = d.and_then(|d| d.status.as_ref()?.conditions.as_ref());
            status.is_some_and(|all| {
                all.iter()
                    .any(|c| c.reason.as_deref() == Some("InstanceDeletionInProgress"))
            })
        },
    );
    waits.await.unwrap();
    let error = foos
        .create(&PostParams::default(), &object("Foo", "late", json!({})))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            403,
            "foos.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating"
        )
    );
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    foos.patch("held", &PatchParams::default(), &release)
        .await
        .unwrap();
    let gone = await_condition(
        definitions,
        "foos.example.com",
        |d: Option<&CustomResourceDefinition>| d.is_none(),
    );
    gone.await.unwrap();
}

#[tokio::test]
async fn versions_are_views_of_one_object_and_defaults_reach_what_is_stored() {
    let (_server, client) = server().await;
    let schema = |extra: Value| {
        let mut fields = json!({"a": {"type": "string"}});
        fields
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"openAPIV3Schema": {"type": "object", "properties": fields}})
    };
    let mut both = definition("Foo", json!({"schema": schema(json!({}))}));
    let second = json!({"name": "v2", "served": true, "storage": false, "schema": schema(json!({"b": {"type": "string"}}))});
    both["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(second);
    define(&client, both.clone()).await;
    let (v1, v2) = (api(&client, "v1", "Foo"), api(&client, "v2", "Foo"));
    v1.create(
        &PostParams::default(),
        &object("Foo", "x", json!({"a": "1"})),
    )
    .await
    .unwrap();
    let seen = v2.get("x").await.unwrap();
    assert_eq!(seen.types.as_ref().unwrap().api_version, "example.com/v2");
    assert_eq!(seen.data["a"], "1");

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut watch = Box::pin(v1.watch(&WatchParams::default(), "0").await.unwrap());
    let first = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Added(_)));
    // Other schemas with defaults, and another storage version.
    let old = json!({"type": "string", "default": "old"});
    let new = json!({"type": "string", "default": "new"});
    both["spec"]["versions"][0]["schema"] = schema(json!({"c": old}));
    both["spec"]["versions"][1]["schema"] = schema(json!({"b": new, "c": {"type": "string"}}));
    both["spec"]["versions"][0]["storage"] = false.into();
    both["spec"]["versions"][1]["storage"] = true.into();
    let patch = Patch::Merge(json!({"spec": {"versions": both["spec"]["versions"]}}));
    let patched = definitions
        .patch("foos.example.com", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        patched.status.unwrap().stored_versions.unwrap(),
        ["v1", "v2"]
    );
    // The watch ends, for what it watched has changed.
    while futures::StreamExt::next(&mut watch).await.is_some() {}
    // What is read has the defaults of the version in which it is stored, and no others.
    let listed = v2.list(&ListParams::default()).await.unwrap();
    for seen in [&v2.get("x").await.unwrap(), &listed.items[0]] {
        assert_eq!(
            (&seen.data["b"], &seen.data["c"]),
            (&Value::Null, &json!("old"))
        );
    }
    // A patch that changes nothing stores it anew, and both versions still see it.
    let patched = v2
        .patch("x", &PatchParams::default(), &Patch::Merge(json!({})))
        .await
        .unwrap();
    assert_eq!(
        (&patched.data["b"], &patched.data["c"]),
        (&json!("new"), &json!("old"))
    );
    assert_eq!(
        v1.get("x").await.unwrap().types.unwrap().api_version,
        "example.com/v1"
    );
}

#[tokio::test]
async fn two_definitions_cannot_have_one_name() {
    let (_server, client) = server().await;
    let mut first = definition("Foo", json!({}));
    first["spec"]["names"]["shortNames"] = json!(["f"]);
    define(&client, first).await;
    let mut second = definition("Bar", json!({}));
    second["spec"]["names"]["shortNames"] = json!(["f"]);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let second: CustomResourceDefinition = serde_json::from_value(second).unwrap();
    definitions
        .create(&PostParams::default(), &second)
        .await
        .unwrap();
    let refused = await_condition(
        definitions.clone(),
        "bars.example.com",
        |d: Option<&CustomResourceDefinition>| {
            let status = d.and_then(|d| d.status.as_ref()?.conditions.as_ref());
            status.is_some_and(|all| {
                all.iter()
                    .any(|c| c.reason.as_deref() == Some("ShortNamesConflict"))
            })
        },
    );
    refused.await.unwrap();
    // It gets the name when the first is gone.
    definitions
        .delete("foos.example.com", &DeleteParams::default())
        .await
        .unwrap();
    established(&client, "bars.example.com").await;
}

#[tokio::test]
async fn a_definition_survives_the_server() {
    let store = std::sync::Arc::new(k8s_store::MemoryStore::new());
    let server = ApiServer::builder()
        .store(store.clone())
        .build()
        .await
        .unwrap();
    let client = server.client(Identity::system_masters());
    define(&client, definition("Foo", json!({}))).await;
    let foo = object("Foo", "x", json!({}));
    api(&client, "v1", "Foo")
        .create(&PostParams::default(), &foo)
        .await
        .unwrap();
    server.shutdown().await;
    let server = ApiServer::builder().store(store).build().await.unwrap();
    let client = server.client(Identity::system_masters());
    // Without waiting: what was there is there.
    api(&client, "v1", "Foo").get("x").await.unwrap();
}

/// A server that ends while a definition waits for an object of its own, and what comes after: the next server, and a
/// client of it.
async fn next_while_deleting(served: bool) -> (ApiServer, Client) {
    let store = std::sync::Arc::new(k8s_store::MemoryStore::new());
    let server = ApiServer::builder().store(store.clone());
    let server = server.build().await.unwrap();
    let client = server.client(Identity::system_masters());
    define(&client, definition("Foo", json!({}))).await;
    let mut held = object("Foo", "held", json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let foos = api(&client, "v1", "Foo");
    foos.create(&PostParams::default(), &held).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    if !served {
        let none = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}]);
        let none = Patch::Json::<()>(serde_json::from_value(none).unwrap());
        definitions
            .patch("foos.example.com", &PatchParams::default(), &none)
            .await
            .unwrap();
    }
    definitions
        .delete("foos.example.com", &DeleteParams::default())
        .await
        .unwrap();
    let waits = await_condition(
        definitions,
        "foos.example.com",
        |d: Option<&CustomResourceDefinition>| {
            let status = d.and_then(|d| d.status.as_ref()?.conditions.as_ref());
            status.is_some_and(|all| {
                all.iter()
                    .any(|c| c.reason.as_deref() == Some("InstanceDeletionInProgress"))
            })
        },
    );
    waits.await.unwrap();
    server.shutdown().await;
    let server = ApiServer::builder().store(store).build().await.unwrap();
    let client = server.client(Identity::system_masters());
    (server, client)
}

#[tokio::test]
async fn the_next_server_ends_what_one_began_to_delete() {
    let (_server, client) = next_while_deleting(true).await;
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api(&client, "v1", "Foo")
        .patch("held", &PatchParams::default(), &release)
        .await
        .unwrap();
    let gone = await_condition(
        Api::all(client),
        "foos.example.com",
        |d: Option<&CustomResourceDefinition>| d.is_none(),
    );
    let gone = tokio::time::timeout(std::time::Duration::from_secs(30), gone);
    gone.await.expect("the definition goes").unwrap();
}

#[tokio::test]
async fn objects_that_are_not_served_hold_their_definition_too() {
    let (_server, client) = next_while_deleting(false).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let serve = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": true}]);
    let serve = Patch::Json::<()>(serde_json::from_value(serve).unwrap());
    definitions
        .patch("foos.example.com", &PatchParams::default(), &serve)
        .await
        .expect("the definition is still there");
    let foos = api(&client, "v1", "Foo");
    let shown = await_condition(foos, "held", |foo: Option<&DynamicObject>| {
        foo.is_some_and(|foo| foo.metadata.deletion_timestamp.is_some())
    });
    shown.await.unwrap();
}

#[tokio::test]
async fn the_api_services_of_custom_resources_outlive_the_server() {
    let store = std::sync::Arc::new(k8s_store::MemoryStore::new());
    let server = ApiServer::builder().store(store.clone());
    let server = server.build().await.unwrap();
    let client = server.client(Identity::system_masters());
    define(&client, definition("Foo", json!({}))).await;
    let services = |client: Client| Api::<APIService>::all(client);
    let name = "v1.example.com";
    let made = await_condition(services(client), name, |s: Option<&APIService>| s.is_some());
    let made = made.await.unwrap().unwrap();
    server.shutdown().await;
    let server = ApiServer::builder().store(store).build().await.unwrap();
    let client = server.client(Identity::system_masters());
    // By when one that is new has its APIService, those that nobody wants would be gone.
    let mut other = definition("Bar", json!({}));
    other["spec"]["group"] = "other.example.com".into();
    other["metadata"]["name"] = "bars.other.example.com".into();
    define(&client, other).await;
    let other = "v1.other.example.com";
    let settled = await_condition(services(client.clone()), other, |s: Option<&APIService>| {
        s.is_some()
    });
    settled.await.unwrap();
    let kept = services(client).get(name).await.unwrap();
    assert_eq!(kept.metadata.uid, made.metadata.uid);
}

#[tokio::test]
async fn rules_are_asked_on_create_and_update() {
    let (_server, client) = server().await;
    let rules = json!([
        {"rule": "self.min <= self.max", "message": "min must not exceed max"},
        {"rule": "self.min >= oldSelf.min", "messageExpression": "'min was ' + oldSelf.unit"},
    ]);
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object", "required": ["min", "max"], "x-kubernetes-validations": rules,
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
            "unit": {"type": "string", "maxLength": 8, "default": "none"}}}}}});
    define(&client, definition("Foo", json!({"schema": schema}))).await;
    let foos = api(&client, "v1", "Foo");
    let wrong = object("Foo", "x", json!({"spec": {"min": 2, "max": 1}}));
    let error = foos
        .create(&PostParams::default(), &wrong)
        .await
        .unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(
        status.message,
        "Foo.example.com \"x\" is invalid: spec: Invalid value: min must not exceed max"
    );
    let good = object("Foo", "x", json!({"spec": {"min": 2, "max": 3}}));
    foos.create(&PostParams::default(), &good).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"min": 1}}));
    let error = foos
        .patch("x", &PatchParams::default(), &patch)
        .await
        .unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(
        status.message,
        "Foo.example.com \"x\" is invalid: spec: Invalid value: min was none"
    );
}
