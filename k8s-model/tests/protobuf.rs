//! Protobuf both ways, against upstream's own encodings and against hostile bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use k8s_model::protobuf::{DecodeError, MAGIC, MessageType, decode, encode, envelope_start};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Upstream's encodings: name, protobuf, JSON.
fn goldens() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = std::env::var_os("WIRE_GOLDENS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire"),
        PathBuf::from,
    );
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "pb"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let json = std::fs::read(path.with_extension("json")).unwrap();
            (name, std::fs::read(&path).unwrap(), json)
        })
        .collect();
    found.sort();
    assert!(found.len() >= 60, "only {} goldens", found.len());
    found
}

/// Whether a kind of that version is served; others have no entry in the table.
fn is_served(json: &Value) -> bool {
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    MessageType::of_kind(&text("apiVersion"), &text("kind")).is_some()
}

/// Where two values differ, and how.
fn differences(path: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let value = |map: &serde_json::Map<String, Value>, key: &String| {
                map.get(key).cloned().unwrap_or(Value::Null)
            };
            keys.iter()
                .flat_map(|k| {
                    differences(&format!("{path}.{k}"), &value(left, k), &value(right, k))
                })
                .collect()
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs
                .flat_map(|(n, (l, r))| differences(&format!("{path}[{n}]"), l, r))
                .collect()
        }
        _ if left == right => Vec::new(),
        _ => vec![format!("{path}: {left} instead of {right}")],
    }
}

#[test]
fn upstream_s_protobuf_decodes_to_upstream_s_json() {
    let mut wrong = Vec::new();
    for (name, protobuf, json) in goldens() {
        let json: Value = serde_json::from_slice(&json).unwrap();
        if is_served(&json) {
            wrong.extend(differences(&name, &decode(&protobuf).unwrap(), &json));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn upstream_s_json_encodes_to_upstream_s_protobuf_byte_for_byte() {
    let (mut wrong, mut served) = (Vec::new(), 0);
    for (name, protobuf, json) in goldens() {
        if !is_served(&serde_json::from_slice(&json).unwrap()) {
            continue;
        }
        served += 1;
        let ours = encode(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
        if ours != protobuf {
            let at = ours.iter().zip(&protobuf).position(|(a, b)| a != b);
            wrong.push(format!(
                "{name} at {at:?}: {} bytes instead of {}",
                ours.len(),
                protobuf.len()
            ));
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(served >= 60, "only {served} served kinds");
}

#[test]
fn what_is_no_pointer_is_written_even_if_it_is_unset() {
    // As clients in Go write `&v1.ConfigMap{}`, `&v1.Namespace{}` and a `Status`.
    let empty_meta = [
        0x0a, 0x10, 0x0a, 0, 0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0, 0x32, 0, 0x38, 0, 0x42, 0,
    ];
    let raw = |api_version: &str, kind: &str| {
        let ty = MessageType::of_kind(api_version, kind).unwrap();
        let mut out = Vec::new();
        ty.encode(b"{}", &mut out).unwrap();
        out
    };
    assert_eq!(raw("v1", "ConfigMap"), empty_meta);
    let namespace = [&empty_meta[..], &[0x12, 0, 0x1a, 0x02, 0x0a, 0]].concat();
    assert_eq!(raw("v1", "Namespace"), namespace);
    let status = [
        0x0a, 0x06, 0x0a, 0, 0x12, 0, 0x1a, 0, 0x12, 0, 0x1a, 0, 0x22, 0, 0x30, 0,
    ];
    assert_eq!(raw("v1", "Status"), status);
    let list = [0x0a, 0x06, 0x0a, 0, 0x12, 0, 0x1a, 0];
    assert_eq!(raw("v1", "PodList"), list);
}

#[test]
fn special_types_keep_their_forms() {
    let there_and_back = |object: Value| {
        let bytes = encode(object.to_string().as_bytes()).unwrap();
        decode(&bytes).unwrap()
    };
    let pod = there_and_back(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "creationTimestamp": "2024-02-29T12:00:00Z"},
        "spec": {"containers": [{
            "name": "c",
            "resources": {"requests": {"cpu": "1000m", "memory": 1024}},
            "livenessProbe": {"httpGet": {"port": "http"}},
            "readinessProbe": {"tcpSocket": {"port": 80}},
        }]},
    }));
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["cpu"], "1");
    assert_eq!(container["resources"]["requests"]["memory"], "1024");
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], "http");
    assert_eq!(container["readinessProbe"]["tcpSocket"]["port"], 80);
    assert_eq!(pod["metadata"]["creationTimestamp"], "2024-02-29T12:00:00Z");

    let schema = json!({
        "type": "object",
        "default": {"b": [1, 2.5, null], "a": "x"},
        "items": [{"type": "string"}],
        "additionalProperties": {"type": "integer", "maximum": 2.5},
        "additionalItems": false,
        "dependencies": {"a": ["b"], "c": {"type": "string"}},
    });
    let crd = there_and_back(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]},
    }));
    let back = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(differences("", back, &schema), [""; 0]);

    let lease = there_and_back(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "spec": {"renewTime": "1969-12-31T23:59:59.123456Z", "leaseTransitions": 0},
    }));
    assert_eq!(lease["spec"]["renewTime"], "1969-12-31T23:59:59.123456Z");
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
}

#[test]
fn maps_are_written_in_the_order_of_their_keys() {
    let one = encode(br#"{"apiVersion":"v1","kind":"ConfigMap","data":{"b":"2","a":"1","b":"3"}}"#);
    let two = encode(br#"{"data":{"a":"1","b":"3"},"kind":"ConfigMap","apiVersion":"v1"}"#);
    assert_eq!(one.unwrap(), two.unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let encode = |json: &str| encode(json.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        encode(r#"{"apiVersion":"example.com/v1","kind":"Thing"}"#),
        "no kind \"Thing\" is registered for version \"example.com/v1\""
    );
    let pod = |rest: &str| encode(&format!(r#"{{"apiVersion":"v1","kind":"Pod",{rest}}}"#));
    assert_eq!(
        pod(r#""spec":{"nodeName":1}"#),
        "field \"nodeName\" holds no string"
    );
    assert_eq!(
        pod(r#""metadata":{"creationTimestamp":"yesterday"}"#),
        "field \"creationTimestamp\" holds no time"
    );
    pod(r#""spec":[]"#);
    pod(r#""spec":{"containers":{}}"#);
    encode("[]");
}

#[test]
fn an_unknown_kind_is_named() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([
        0x0a, 0x0a, 0x0a, 0x02, b'v', b'1', 0x12, 0x04, b'N', b'o', b'n', b'e',
    ]);
    assert_eq!(
        decode(&bytes).unwrap_err().to_string(),
        "no kind \"None\" is registered for version \"v1\""
    );
    assert_eq!(decode(b"{}"), Err(DecodeError::NotProtobuf));
}

/// Whatever decodes can be encoded, and then is what it was.
fn check(bytes: &[u8]) {
    let Ok(value) = decode(bytes) else { return };
    let text = value.to_string();
    let Ok(again) = encode(text.as_bytes()) else {
        // Nothing that JSON can carry is refused but what its own reader refuses, such as depth.
        panic!("cannot encode {text}");
    };
    let back = decode(&again).unwrap();
    let once_more = encode(back.to_string().as_bytes()).unwrap();
    assert_eq!(again, once_more, "{text}");
}

#[test]
fn a_cut_or_flipped_object_is_refused_or_read_and_nothing_panics() {
    for (_, golden, _) in goldens()
        .iter()
        .filter(|(name, ..)| name.contains("v1.Service"))
    {
        for at in 4..golden.len() {
            check(&golden[..at]);
            let mut flipped = golden.clone();
            flipped[at] ^= 0xff;
            check(&flipped);
        }
    }
}

#[test]
fn messages_in_messages_without_end_are_refused() {
    let (api_version, kind) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let nested = |tag: &[u8], inner: &[u8]| {
        let mut out = tag.to_vec();
        let mut length = inner.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        [out, inner.to_vec()].concat()
    };
    // A schema whose `not` is a schema whose `not` is a schema…
    let object = |depth| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes = nested(&[0xe2, 0x01], &bytes);
        }
        for tag in [0x0a, 0x22, 0x3a, 0x12] {
            bytes = nested(&[tag], &bytes);
        }
        [envelope_start(api_version, kind, bytes.len()), bytes].concat()
    };
    let shallow = decode(&object(2)).unwrap();
    let schema = &shallow["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert!(schema["not"]["not"].is_object(), "{shallow}");
    assert_eq!(decode(&object(5000)), Err(DecodeError::TooDeep));

    let deep = format!(
        r#"{{"apiVersion":"{api_version}","kind":"{kind}","spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{}{}}}}}]}}}}"#,
        r#"{"not":"#.repeat(100_000),
        "}".repeat(100_000),
    );
    assert!(encode(deep.as_bytes()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_objects_are_refused_or_survive_the_round_trip(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let goldens = goldens();
        let mut bytes = which.get(&goldens).1.clone();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        check(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(
        ty in prop::sample::select(vec![("v1", "Pod"), ("apps/v1", "Deployment"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("v1", "Status")]),
        raw in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let start = envelope_start(ty.0, ty.1, raw.len());
        check(&[start, raw].concat());
    }
}
