use super::*;

fn object(api_version: &str, labels: Value) -> Value {
    json!({"apiVersion": api_version, "kind": "Widget", "spec": {},
        "metadata": {"name": "w", "namespace": "ns", "uid": "u", "generation": 3, "labels": labels}})
}

#[test]
fn a_converted_object_keeps_its_metadata_but_for_labels_and_annotations() {
    let original = object("g/v1", json!({"a": "1"}));
    let mut converted = object("g/v2", json!({"b": "2"}));
    converted["metadata"]["generation"] = 9.into();
    let accepted = accept(&original, converted, "g/v2").unwrap();
    assert_eq!(accepted["metadata"]["generation"], 3);
    assert_eq!(accepted["metadata"]["labels"], json!({"b": "2"}));
}

/// What kube-apiserver 1.26 makes of such answers.
#[test]
fn what_is_no_review_is_refused_in_upstreams_words() {
    const NONE: &str =
        "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got ";
    const TYPE: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    let of = |api_version: &str, kind: &str| {
        json!({"apiVersion": api_version, "kind": kind}).to_string()
    };
    let scheme = "in scheme \"k8s.io/apiserver/pkg/util/webhook/client.go:74\"";
    let (v1, kind) = ("apiextensions.k8s.io/v1", "ConversionReview");
    for (version, answer, expected) in [
        (
            "v1",
            "{\"kind\":".to_owned(),
            "couldn't get version/kind; json parse error: unexpected end of JSON input".to_owned(),
        ),
        (
            "v1",
            "[]".to_owned(),
            format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type {TYPE}"
            ),
        ),
        ("v1", "null".to_owned(), format!("{NONE}/, Kind=")),
        ("v1", of("", kind), format!("{NONE}/, Kind={kind}")),
        ("v1", of(v1, ""), format!("{NONE}{v1}, Kind=")),
        (
            "v1",
            of(v1, "AdmissionReview"),
            format!("no kind \"AdmissionReview\" is registered for version \"{v1}\" {scheme}"),
        ),
        (
            "v1",
            of("apiextensions.k8s.io/v1beta1", kind),
            "converting (v1beta1.ConversionReview) to (v1.ConversionReview): unknown conversion"
                .to_owned(),
        ),
        (
            "v1",
            of("v1", "Status"),
            "converting (v1.Status) to (v1.ConversionReview): unknown conversion".to_owned(),
        ),
        ("v1", of(v1, kind), "no response provided".to_owned()),
        (
            "v1beta1",
            "{}".to_owned(),
            "no response provided".to_owned(),
        ),
        (
            "v1beta1",
            of(v1, kind),
            "converting (v1.ConversionReview) to (v1beta1.ConversionReview): unknown conversion"
                .to_owned(),
        ),
    ] {
        let told = answered(version, "u", answer.as_bytes()).unwrap_err();
        assert_eq!(told, expected, "{version} {answer}");
    }
    // What is said twice, is said last.
    let twice = "{\"kind\": \"A\", \"kind\": \"ConversionReview\", \"apiVersion\": \"apiextensions.k8s.io/v1\"}";
    let told = answered("v1", "u", twice.as_bytes()).unwrap_err();
    assert_eq!(told, "no response provided");
    for (found, expected) in [
        (json!(null), "unexpected end of JSON input"),
        (
            json!("x"),
            "json: cannot unmarshal string into Go value of type map[string]interface {}",
        ),
        (json!({}), "Object 'Kind' is missing in '{}'"),
    ] {
        assert_eq!(check_object(&found).unwrap_err(), expected);
    }
}

#[test]
fn another_object_is_no_conversion() {
    let original = object("g/v1", json!({}));
    let change = |pointer: &str, value: Value| {
        let mut converted = object("g/v2", json!({}));
        *converted.pointer_mut(pointer).unwrap() = value;
        accept(&original, converted, "g/v2").unwrap_err()
    };
    assert_eq!(
        change("/apiVersion", "g/v3".into()),
        "object at index 0: invalid groupVersion (expected g/v2, received g/v3)"
    );
    assert_eq!(
        change("/metadata/name", "x".into()),
        "object: must have the same name: w != x"
    );
    assert_eq!(
        change("/metadata", Value::Null),
        "object: must have the same name: w != "
    );
    let refused = change("/metadata/labels", json!({"a": 1}));
    assert_eq!(
        refused,
        "metadata: metadata.labels[a] must be a string, but is int64 in converted object"
    );
    assert_eq!(
        change("/metadata/labels", json!([])),
        "metadata: invalid metadata.labels of type []interface {} in converted object"
    );
    assert!(
        change("/metadata/labels", json!({"-": "x"}))
            .starts_with("metadata: metadata.labels: Invalid")
    );
}
