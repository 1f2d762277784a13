//! Updates of custom resources whose schema has become stricter, and of definitions: what goes, and what is told of it.

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const LAMPS: &str = "/apis/example.com/v1/namespaces/default/lamps";

fn definition(kind: &str, schema: Value) -> Value {
    let lower = kind.to_lowercase();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{lower}s.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": format!("{lower}s"), "singular": lower, "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}]}})
}

fn lamp(fields: Value) -> Value {
    let mut out =
        json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "x"}});
    for (name, value) in fields.as_object().unwrap() {
        out[name] = value.clone();
    }
    out
}

/// Gives a definition another schema, and waits until writes are judged by it.
async fn stricter(cluster: &Cluster, name: &str, schema: Value) {
    let path = format!("{DEFINITIONS}/{name}");
    let mut found = cluster.get(&path).await.expect(200);
    found["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
    cluster.ask("PUT", &path, found).await.expect(200);
    let probe = lamp(json!({"metadata": {"name": "probe"}, "spec": {"probe": "wrong"}}));
    cluster
        .until("POST", &format!("{LAMPS}?dryRun=All"), probe, |answer| {
            answer.code == StatusCode::UNPROCESSABLE_ENTITY
        })
        .await;
}

async fn merge(cluster: &Cluster, path: &str, patch: Value) -> Answer {
    cluster.ask("PATCH", path, patch).await
}

/// The texts of the warnings.
fn told(answer: &Answer) -> Vec<String> {
    let text = |warning: &String| {
        let text = warning.strip_prefix("299 - \"").unwrap();
        text.strip_suffix('"').unwrap().replace("\\\"", "\"")
    };
    answer.warnings.iter().map(text).collect()
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"type": "object", "properties": {
        "probe": {"type": "string"},
        "min": {"type": "integer"},
        "max": {"type": "integer"},
        "names": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "size": {"type": "integer"}}}},
    }});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let status = json!({"type": "object", "properties": {"phase": {"type": "string"}}});
    json!({"type": "object", "properties": {"spec": spec, "status": status}})
}

#[tokio::test]
async fn rules_that_are_false_of_what_did_not_change_are_warned_of() {
    let cluster = Cluster::start().await;
    cluster.define(definition("Lamp", spec(json!({})))).await;
    let names = json!([{"name": "a", "size": 9}, {"name": "b", "size": 1}]);
    let fields = json!({"spec": {"min": 3, "max": 2, "names": names}});
    cluster.post(LAMPS, lamp(fields)).await.expect(201);

    let mut schema = spec(json!({}));
    let inner = &mut schema["properties"]["spec"]["properties"];
    inner["probe"]["enum"] = json!(["right"]);
    inner["names"]["items"]["x-kubernetes-validations"] =
        json!([{"rule": "!has(self.size) || self.size < 5", "message": "too large"}]);
    stricter(&cluster, "lamps.example.com", schema).await;

    let path = format!("{LAMPS}/x");
    let answer = merge(&cluster, &path, json!({"spec": {"min": 4}})).await;
    assert_eq!(told(&answer), ["spec.names[0]: Invalid value: too large"]);
    answer.expect(200);
    // It has moved, and is the same.
    let moved = json!([{"name": "b", "size": 2}, {"name": "a", "size": 9}]);
    let answer = merge(&cluster, &path, json!({"spec": {"names": moved}})).await;
    assert_eq!(told(&answer), ["spec.names[1]: Invalid value: too large"]);
    answer.expect(200);
    let changed = json!([{"name": "b", "size": 2}, {"name": "a", "size": 8}]);
    let answer = merge(&cluster, &path, json!({"spec": {"names": changed}})).await;
    assert_eq!(told(&answer), [""; 0]);
    assert_eq!(
        answer.message(),
        "Lamp.example.com \"x\" is invalid: spec.names[1]: Invalid value: too large"
    );
}

#[tokio::test]
async fn an_update_of_the_status_is_held_to_the_schema_of_the_status() {
    let cluster = Cluster::start().await;
    cluster.define(definition("Lamp", spec(json!({})))).await;
    cluster.post(LAMPS, lamp(json!({}))).await.expect(201);
    let mut schema = spec(json!({}));
    schema["required"] = json!(["spec"]);
    schema["properties"]["spec"]["properties"]["probe"]["enum"] = json!(["right"]);
    stricter(&cluster, "lamps.example.com", schema).await;

    // The object has no spec, which is none of the status's business.
    let path = format!("{LAMPS}/x");
    let status = format!("{path}/status");
    let phase = |phase: Value| json!({"status": {"phase": phase}});
    merge(&cluster, &status, phase("on".into()))
        .await
        .expect(200);
    let answer = merge(&cluster, &status, phase(5.into())).await;
    assert_eq!(
        answer.message(),
        "Lamp.example.com \"x\" is invalid: status.phase: Invalid value: \"integer\": phase in body must be of type string: \"integer\""
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let answer = merge(&cluster, &path, labels).await;
    assert_eq!(
        answer.message(),
        "Lamp.example.com \"x\" is invalid: spec: Required value"
    );
}

#[tokio::test]
async fn names_of_finalizers_are_advised_on_once() {
    let cluster = Cluster::start().await;
    cluster.define(definition("Lamp", spec(json!({})))).await;
    let metadata =
        json!({"name": "x", "finalizers": ["orphan", "plain", "example.com", "example.com/good"]});
    let answer = cluster
        .post(LAMPS, lamp(json!({"metadata": metadata})))
        .await;
    let avoid = "to avoid accidental conflicts with other finalizer writers";
    assert_eq!(
        told(&answer),
        [
            format!(
                "metadata.finalizers: \"example.com\": prefer a domain-qualified finalizer name including a path (/) {avoid}"
            ),
            format!(
                "metadata.finalizers: \"plain\": prefer a domain-qualified finalizer name {avoid}"
            ),
        ]
    );
    answer.expect(201);
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let answer = merge(&cluster, &format!("{LAMPS}/x"), patch).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.expect(200);
}

#[tokio::test]
async fn what_a_schema_says_in_vain_is_told_once() {
    let cluster = Cluster::start().await;
    let schema = |format: &str| {
        let set = json!({"type": "array", "x-kubernetes-list-type": "set",
            "items": {"type": "object", "x-kubernetes-map-type": "atomic"}});
        json!({"type": "object", "properties": {"a": {"type": "string", "format": format}, "set": set}})
    };
    let answer = cluster
        .post(DEFINITIONS, definition("Lamp", schema("colour")))
        .await;
    let set = "x-kubernetes-list-type: set for items of type \"object\" is not supported by server-side apply or CEL validation rules";
    assert_eq!(told(&answer), ["unrecognized format \"colour\"", set]);
    let mut made = answer.expect(201);
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema("shape");
    let path = format!("{DEFINITIONS}/lamps.example.com");
    // Others write into its status meanwhile.
    made["metadata"]["resourceVersion"] =
        cluster.get(&path).await.expect(200)["metadata"]["resourceVersion"].clone();
    let answer = cluster
        .until("PUT", &path, made, |answer| {
            answer.code != StatusCode::CONFLICT
        })
        .await;
    assert_eq!(told(&answer), ["unrecognized format \"shape\""]);
}

#[tokio::test]
async fn metadata_that_is_none_is_no_object_at_all() {
    let cluster = Cluster::start().await;
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"template": template}});
    cluster.define(definition("Lamp", schema)).await;
    let head = "Lamp in version \"v1\" cannot be handled as a Lamp: ";
    for (fields, message) in [
        (
            json!({"metadata": {"name": "x", "labels": 5}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type map[string]string",
        ),
        (
            json!({"template": {"apiVersion": "v1", "kind": "A", "metadata": {"labels": {"a": true}}}}),
            "template.metadata: Invalid value: {\"labels\":{\"a\":true}}: json: cannot unmarshal bool into Go struct field ObjectMeta.labels of type string",
        ),
        (
            json!({"template": {"apiVersion": 1, "kind": "A"}}),
            "template.apiVersion: Invalid value: 1: must be a string",
        ),
    ] {
        let answer = cluster.post(LAMPS, lamp(fields)).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST);
        assert_eq!(answer.message(), format!("{head}{message}"));
    }
    // What is metadata and not good is invalid.
    let template = json!({"kind": "A", "metadata": {"labels": {"-": "b"}}});
    let answer = cluster
        .post(LAMPS, lamp(json!({"template": template})))
        .await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    let message = answer.message();
    assert!(
        message.contains("template.apiVersion: Required value"),
        "{message}"
    );
    assert!(
        message.contains("template.metadata.labels: Invalid value: \"-\""),
        "{message}"
    );
    // What is good is brought into form.
    let metadata = json!({"name": "a", "creationTimestamp": null, "labels": {}, "colour": "red"});
    let template = json!({"apiVersion": "v1", "kind": "A", "metadata": metadata});
    let made = cluster
        .post(LAMPS, lamp(json!({"template": template})))
        .await;
    assert_eq!(
        made.expect(201)["template"]["metadata"],
        json!({"name": "a"})
    );
}

#[tokio::test]
async fn a_name_that_is_given_up_goes_to_who_waits_for_it() {
    let cluster = Cluster::start().await;
    let plain = json!({"type": "object"});
    let mut first = definition("Lamp", plain.clone());
    first["spec"]["names"]["shortNames"] = json!(["l"]);
    cluster.define(first).await;
    let mut second = definition("Light", plain);
    second["spec"]["names"]["shortNames"] = json!(["l"]);
    cluster.post(DEFINITIONS, second).await.expect(201);
    let of = |answer: &Answer, name: &str| -> Value {
        let conditions = answer.body["status"]["conditions"].as_array();
        let found = conditions.and_then(|all| all.iter().find(|c| c["type"] == name));
        found.cloned().unwrap_or_default()
    };
    let path = format!("{DEFINITIONS}/lights.example.com");
    let refused = cluster
        .until("GET", &path, Value::Null, |answer| {
            of(answer, "NamesAccepted")["status"] == "False"
        })
        .await;
    let condition = of(&refused, "NamesAccepted");
    assert_eq!(condition["reason"], "ShortNamesConflict");
    assert_eq!(of(&refused, "Established")["reason"], "NotAccepted");
    let names = json!({"spec": {"names": {"shortNames": ["m"]}}});
    let lamps = format!("{DEFINITIONS}/lamps.example.com");
    merge(&cluster, &lamps, names).await.expect(200);
    let accepted = cluster
        .until("GET", &path, Value::Null, |answer| {
            of(answer, "Established")["status"] == "True"
        })
        .await;
    assert_eq!(of(&accepted, "NamesAccepted")["reason"], "NoConflicts");
}

#[tokio::test]
async fn the_scale_of_what_says_nothing_of_replicas_can_be_set() {
    let cluster = Cluster::start().await;
    let replicas = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
    let schema = json!({"type": "object", "properties": {"spec": replicas, "status": replicas}});
    let mut lamps = definition("Lamp", schema);
    lamps["spec"]["versions"][0]["subresources"]["scale"] =
        json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    cluster.define(lamps).await;
    cluster.post(LAMPS, lamp(json!({}))).await.expect(201);
    let path = format!("{LAMPS}/x/scale");
    let answer = cluster.get(&path).await;
    assert_eq!(
        answer.message(),
        "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist"
    );
    let answer = merge(&cluster, &path, json!({"metadata": {"name": "x"}})).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.message(),
        "the spec replicas field \".spec.replicas\" cannot be empty"
    );
    let answer = merge(&cluster, &path, json!({"spec": {"replicas": -1}})).await;
    assert_eq!(
        answer.message(),
        "Lamp.example.com \"x\" is invalid: .spec.replicas: Invalid value: -1: should be a non-negative integer"
    );
    let answer = merge(&cluster, &path, json!({"spec": {"replicas": 3}})).await;
    assert_eq!(answer.expect(200)["spec"]["replicas"], 3);
    let found = cluster.get(&format!("{LAMPS}/x")).await.expect(200);
    assert_eq!(found["spec"], json!({"replicas": 3}));
}
