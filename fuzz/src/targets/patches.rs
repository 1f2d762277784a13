//! Patches of every kind, and apply.

use k8s_model::{
    apply::{FieldSet, OneVersion, Shape, Tracker, differ_only_in_time},
    patch,
    schema::Type,
};
use serde_json::{Value, json};

pub(super) const JSON_WORDS: &[&str] = &[
    "add", "remove", "replace", "move", "copy", "test", "/-", "/0", "/a", "from",
];
pub(super) const STRATEGIC_WORDS: &[&str] = &[
    "$patch",
    "delete",
    "replace",
    "merge",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "name",
    "mountPath",
    "containers",
    "type",
    "uid",
];

fn parse(input: &[u8]) -> Option<Value> {
    serde_json::from_slice(input).ok()
}

fn seeds(values: Vec<Value>) -> Vec<Vec<u8>> {
    values
        .iter()
        .map(|value| value.to_string().into_bytes())
        .collect()
}

fn part(value: &Value, name: &str) -> Value {
    value.get(name).cloned().unwrap_or_default()
}

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    let object = json!({"a": {"b": [1, 2, 3], "c~/d": "x"}, "e": null});
    seeds(vec![
        json!({"object": object, "patch": [{"op": "add", "path": "/a/b/-", "value": 4}, {"op": "remove", "path": "/e"}]}),
        json!({"object": object, "patch": [{"op": "test", "path": "/a/c~0~1d", "value": "x"}, {"op": "move", "from": "/a/b", "path": "/f"}]}),
        json!({"object": object, "patch": [{"op": "copy", "from": "", "path": "/a/b/0"}, {"op": "replace", "path": "", "value": {}}]}),
        // Doubles the document with each step.
        json!({"object": object, "patch": vec![json!({"op": "copy", "from": "/a", "path": "/a/x"}); 40]}),
    ])
}

pub(super) fn json(input: &[u8]) {
    let Some(value) = parse(input) else {
        let _ = patch::json(&mut json!({"a": 1}), input);
        return;
    };
    let mut object = part(&value, "object");
    let _ = patch::json(&mut object, part(&value, "patch").to_string().as_bytes());
}

pub(super) fn merge_seeds() -> Vec<Vec<u8>> {
    seeds(vec![
        json!({"object": {"a": {"b": 1}, "c": [1]}, "patch": {"a": {"b": null, "d": {"e": null}}, "c": {}}}),
        json!({"object": [], "patch": {"a": null}}),
    ])
}

pub(super) fn merge(input: &[u8]) {
    let Some(value) = parse(input) else { return };
    let change = part(&value, "patch");
    let mut once = part(&value, "object");
    // A list in the place of an object has fields that are null, and in its own place none.
    patch::merge(&mut once, &change);
    patch::merge(&mut once, &change);
    let mut again = once.clone();
    patch::merge(&mut again, &change);
    assert_eq!(once, again);
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/a", "x/b"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]},
        "spec": {
            "containers": [
                {"name": "a", "image": "x:1", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                {"name": "b", "image": "y:1", "args": ["1", "2"]},
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "podIPs": [{"ip": "10.0.0.1"}]},
    })
}

pub(super) fn strategic_seeds() -> Vec<Vec<u8>> {
    let with = |patch: Value| json!({"kind": "Pod", "object": pod(), "patch": patch});
    seeds(vec![
        with(
            json!({"spec": {"containers": [{"name": "a", "image": "x:2", "env": [{"name": "A", "$patch": "delete"}]}]}}),
        ),
        with(
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "c", "image": "z"}]}}),
        ),
        with(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"], "labels": {"$patch": "replace", "c": "d"}}}),
        ),
        with(
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}, "emptyDir": null}]}}),
        ),
        with(
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "n", "image": "i"}]}, "status": null}),
        ),
        json!({"kind": "Service", "object": {"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}, "patch": {"spec": {"ports": [{"port": 80, "name": "x"}]}}}),
    ])
}

pub(super) fn strategic(input: &[u8]) {
    let Some(value) = parse(input) else { return };
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or("Pod");
    let ty = Type::of_kind("", "v1", kind);
    let _ = patch::strategic(part(&value, "object"), part(&value, "patch"), ty);
}

pub(super) fn fields_seeds() -> Vec<Vec<u8>> {
    seeds(vec![
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}),
        json!({"f:spec": {"f:finalizers": {"v:\"x\"": {}, "i:0": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {}}}}),
    ])
}

pub(super) fn fields(input: &[u8]) {
    let Ok(set) = FieldSet::parse(input) else {
        return;
    };
    let mut bytes = Vec::new();
    set.write(&mut bytes);
    let again = FieldSet::parse(&bytes).expect("what was written is read");
    let mut twice = Vec::new();
    again.write(&mut twice);
    assert_eq!(bytes, twice);
    assert!(
        bytes.len() <= 16 * input.len() + 16,
        "{} bytes of {}",
        bytes.len(),
        input.len()
    );
    assert_eq!(again.clone().union(set.clone()), again);
    assert_eq!(again.intersection(&set), again);
    let mut none = again.clone();
    none.subtract(&again);
    assert!(none.is_empty());
    let _ = again.paths();
}

pub(super) fn apply_seeds() -> Vec<Vec<u8>> {
    let step = |manager: &str, op: &str, object: Value| json!({"manager": manager, "op": op, "object": object});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
    let custom = |list: Value, set: Value| {
        json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"},
            "spec": {"list": list, "set": set, "atomic": {"a": "b"}, "map": {"c": "d"}}})
    };
    seeds(vec![
        json!({"steps": [step("a", "create", pod()), step("b", "apply", pod()), step("c", "update", pod())]}),
        json!({"steps": [step("a", "apply", json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "z"}]}})),
            step("b", "force", pod()), step("a", "apply", json!({"apiVersion": "v1", "kind": "Pod"}))]}),
        json!({"schema": schema, "steps": [
            step("a", "apply", custom(json!([{"k": "x", "v": 1}]), json!(["p", "q"]))),
            step("b", "apply", custom(json!([{"k": "y", "v": 1}]), json!(["q"]))),
            step("a", "apply", custom(json!([]), json!([])))]}),
    ])
}

pub(super) fn apply(input: &[u8]) {
    let Some(value) = parse(input) else { return };
    let shape = match value.get("schema") {
        Some(schema) => Shape::from_structural(schema),
        None => Shape::Type(Type::of_kind("", "v1", "Pod").expect("pods have a type")),
    };
    let mut live = json!({"apiVersion": "v1", "kind": if value.get("schema").is_some() { "X" } else { "Pod" }});
    let mut managed = match value.get("managed") {
        Some(managed) => managed.to_string().into_bytes(),
        None => Vec::new(),
    };
    for step in value
        .get("steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(8)
    {
        let text = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default();
        let tracker = Tracker {
            shape: &shape,
            api_version: "v1",
            subresource: "",
            manager: text("manager"),
            reset: &[&["status"]],
            now: jiff::Timestamp::UNIX_EPOCH,
            versions: &OneVersion,
        };
        let object = part(step, "object");
        match text("op") {
            "create" if object.is_object() => {
                managed = tracker.created_json(object.to_string().as_bytes());
                live = object;
            }
            "update" if object.is_object() => {
                let (old, new) = (live.to_string(), object.to_string());
                managed = tracker
                    .updated(old.as_bytes(), new.as_bytes(), &managed, None)
                    .expect("there is but one version")
                    .into_owned();
                live = object;
            }
            op => {
                let force = op == "force";
                let Ok(applied) = tracker.apply(live.clone(), &object, &managed, force) else {
                    continue;
                };
                live = applied.object.unwrap_or(live);
                managed = applied.managed;
                let again = tracker.apply(live.clone(), &object, &managed, false);
                let again = again.expect("nobody is in the way of who applies the same again");
                // Neither the object nor who owns what is another then.
                assert!(
                    again.object.is_none_or(|object| object == live),
                    "the object has changed"
                );
                assert!(
                    differ_only_in_time(&again.managed, &managed),
                    "from {} to {}",
                    String::from_utf8_lossy(&managed),
                    String::from_utf8_lossy(&again.managed)
                );
            }
        }
        if !managed.is_empty() {
            let list: Option<Vec<Value>> = serde_json::from_slice(&managed).ok();
            assert!(list.is_some(), "managed fields are a list");
        }
    }
}
