//! How objects are read from JSON, and what is told of what cannot be.

use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::ResourceTable;

fn decode(text: &str) -> (Result<Box<dyn Object>, DecodeError>, Vec<String>) {
    let mut unknown = Vec::new();
    let result = (codec::<Pod>().from_json)(text.as_bytes(), &mut |path| unknown.push(path));
    (result, unknown)
}

fn refusal(text: &str) -> String {
    decode(text).0.unwrap_err().to_string()
}

#[test]
fn events_are_one_type_within() {
    let codec = codec::<k8s_openapi::api::events::v1::Event>();
    let pod = br#"{"apiVersion": "v1", "kind": "Pod"}"#;
    let error = (codec.from_json)(pod, &mut |_| {}).unwrap_err();
    let told = "converting (v1.Pod) to (core.Event): unknown conversion";
    assert_eq!(error.reason(), told);
}

#[test]
fn servers_of_their_own_know_no_other_kinds() {
    let codec = codec::<k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService>();
    let pod = br#"{"apiVersion": "v1", "kind": "Pod"}"#;
    let error = (codec.from_json)(pod, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.reason(),
        "no kind \"Pod\" is registered for version \"v1\" in scheme \"k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28\""
    );
}

#[test]
fn unknown_fields_are_reported_with_their_paths() {
    let (pod, unknown) = decode(
        r#"{"kind": "Pod", "foo": 1, "metadata": {"name": "a", "bar": {}},
            "spec": {"containers": [{"name": "a"}, {"nome": "b", "ports": [{"x": 1}]}], "Volumes": []}}"#,
    );
    assert_eq!(pod.unwrap().metadata().name.as_deref(), Some("a"));
    assert_eq!(
        unknown,
        [
            "foo",
            "metadata.bar",
            "spec.containers[1].nome",
            "spec.containers[1].ports[0].x",
            "spec.Volumes"
        ]
    );
}

#[test]
fn quantities_are_checked_and_made_canonical() {
    let (pod, _) = decode(
        r#"{"spec": {"containers": [{"name": "a", "resources": {"limits":
            {"cpu": 1, "memory": "1024Mi", "a": "0.5", "b": 0.25, "c": null}}}]}}"#,
    );
    let pod = pod.unwrap().to_value();
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"],
        serde_json::json!({"cpu": "1", "memory": "1Gi", "a": "500m", "b": "250m", "c": "0"})
    );
    assert_eq!(
        decode(r#"{"spec": {"containers": [{"resources": {"limits": {"cpu": "1Zi"}}}]}}"#).0.unwrap_err(),
        DecodeError::Value {
            path: "spec.containers[0].resources.limits.cpu".into(),
            message: "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".into(),
        }
    );
}

#[test]
fn null_is_nothing_wherever_it_stands() {
    let (pod, _) = decode(
        r#"{"metadata": {"labels": {"a": null}, "finalizers": [null], "name": null},
            "spec": {"containers": null, "hostname": null, "priority": null}}"#,
    );
    let pod = pod.unwrap().to_value();
    assert_eq!(
        pod["metadata"],
        serde_json::json!({"labels": {"a": ""}, "finalizers": [""]})
    );
    let (pod, _) = decode(
        r#"{"apiVersion": null, "kind": "", "spec": {"containers": [null], "volumes": [{"name": "a"}, null],
            "securityContext": {"supplementalGroups": [7, null]}}}"#,
    );
    let pod = pod.unwrap().to_value();
    assert_eq!(pod["kind"], "Pod");
    assert_eq!(
        pod["spec"],
        serde_json::json!({"containers": [{"name": "", "resources": {}}], "volumes": [{"name": "a"}, {"name": ""}],
            "securityContext": {"supplementalGroups": [7, 0]}})
    );
    let review = codec::<k8s_openapi::api::authorization::v1::SubjectAccessReview>();
    let extra = br#"{"spec": {"extra": {"a": null, "b": ["c", null]}}}"#;
    let review = (review.from_json)(extra, &mut |_| {}).unwrap().to_value();
    assert_eq!(
        review["spec"]["extra"],
        serde_json::json!({"a": [], "b": ["c", ""]})
    );
}

/// A definition whose schema is that, as it is read, and the unknown fields in it below the version.
fn definition(version: &str) -> (Result<Value, String>, Vec<String>) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let text = format!(r#"{{"spec": {{"versions": [{version}]}}}}"#);
    let mut unknown = Vec::new();
    let codec = codec::<CustomResourceDefinition>();
    let read = (codec.from_json)(text.as_bytes(), &mut |path| {
        unknown.push(path.replace("spec.versions[0].", ""));
    });
    let version = |object: Box<dyn Object>| object.to_value()["spec"]["versions"][0].clone();
    (
        read.map(version).map_err(|error| error.to_string()),
        unknown,
    )
}

#[test]
fn what_is_in_schemas_of_two_sorts_is_refused_in_gos_words() {
    let of = |schema: &str| {
        let (read, _) = definition(&format!(r#"{{"schema": {{"openAPIV3Schema": {schema}}}}}"#));
        read.unwrap_err()
    };
    let place = "Go struct field JSONSchemaProps.spec.versions.schema.openAPIV3Schema";
    for (schema, found, field) in [
        (
            r#"{"items": {"type": 5}}"#,
            "number",
            "items.type of type string",
        ),
        (
            r#"{"items": {"required": [5]}}"#,
            "number",
            "items.required of type string",
        ),
        (
            r#"{"items": {"required": {}}}"#,
            "object",
            "items.required of type []string",
        ),
        (
            r#"{"items": {"properties": {"a": 1}}}"#,
            "number",
            "items.properties of type v1.JSONSchemaProps",
        ),
        (
            r#"{"items": {"properties": []}}"#,
            "array",
            "items.properties of type map[string]v1.JSONSchemaProps",
        ),
        (
            r#"{"items": [{"type": 5}]}"#,
            "number",
            "items.type of type string",
        ),
        (
            r#"{"items": 5}"#,
            "number",
            "items of type v1.JSONSchemaPropsOrArray",
        ),
        (
            r#"{"additionalProperties": {"type": 5}}"#,
            "number",
            "additionalProperties.type of type string",
        ),
        (
            r#"{"dependencies": {"a": [5]}}"#,
            "number",
            "dependencies of type string",
        ),
        (
            r#"{"dependencies": {"a": {"type": 5}}}"#,
            "number",
            "dependencies.type of type string",
        ),
    ] {
        let told = format!("json: cannot unmarshal {found} into {place}.{field}");
        assert_eq!(of(schema), told, "{schema}");
    }
    assert_eq!(
        of(r#"{"additionalProperties": 5}"#),
        "boolean or JSON schema expected"
    );
}

#[test]
fn unknown_fields_in_schemas_of_two_sorts_are_not_reported() {
    let (read, unknown) = definition(
        r#"{"schema": {"openAPIV3Schema": {"a": 1, "items": {"b": 1, "not": {"c": 1}}, "not": {"d": 1},
            "additionalProperties": {"e": 1}, "allOf": [{"items": [{"f": 1}]}]}}}"#,
    );
    assert!(read.is_ok(), "{read:?}");
    let schema = "schema.openAPIV3Schema";
    assert_eq!(unknown, [format!("{schema}.a"), format!("{schema}.not.d")]);
}

#[test]
fn an_object_without_fields_takes_none() {
    let (read, unknown) = definition(r#"{"subresources": {"status": {"a": {"b": 1}}}}"#);
    assert_eq!(
        read.unwrap()["subresources"],
        serde_json::json!({"status": {}})
    );
    assert_eq!(unknown, ["subresources.status.a"]);
    let (read, _) = definition(r#"{"subresources": {"status": []}}"#);
    assert_eq!(
        read.unwrap_err(),
        "json: cannot unmarshal array into Go struct field CustomResourceSubresources.spec.versions.subresources.status of type v1.CustomResourceSubresourceStatus"
    );
    let (read, _) = definition(r#"{"subresources": {"status": null, "scale": null}}"#);
    assert_eq!(read.unwrap()["subresources"], serde_json::json!({}));
}

#[test]
fn names_of_types_are_told_of_rules_too() {
    let rules = r#"{"schema": {"openAPIV3Schema": {"x-kubernetes-validations": [{"reason": 5}]}}}"#;
    let told = definition(rules).0.unwrap_err();
    assert!(
        told.ends_with(".reason of type v1.FieldValueErrorReason"),
        "{told}"
    );
    let text = br#"{"webhooks": [{"rules": [{"scope": 5}]}]}"#;
    let codec =
        codec::<k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration>();
    let told = (codec.from_json)(text, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(told.ends_with("scope of type v1.ScopeType"), "{told}");
}

#[test]
fn claims_in_other_objects_are_claims_whatever_they_say() {
    use k8s_openapi::api::apps::v1::StatefulSet;
    let read = |claim: &str| {
        let text = format!(r#"{{"spec": {{"volumeClaimTemplates": [{claim}]}}}}"#);
        let read = (codec::<StatefulSet>().from_json)(text.as_bytes(), &mut |_| {});
        read.map(|set| set.to_value()["spec"]["volumeClaimTemplates"][0].clone())
            .map_err(|error| error.to_string())
    };
    let plain = read(r#"{"metadata": {"name": "a"}}"#).unwrap();
    for said in [
        r#""kind": """#,
        r#""kind": "Pod", "apiVersion": "v2""#,
        r#""kind": null"#,
    ] {
        let claim = format!(r#"{{"metadata": {{"name": "a"}}, {said}}}"#);
        assert_eq!(read(&claim).unwrap(), plain, "{said}");
    }
    assert_eq!(
        read(r#"{"kind": 5}"#).unwrap_err(),
        "json: cannot unmarshal number into Go struct field PersistentVolumeClaim.spec.volumeClaimTemplates.kind of type string"
    );
}

#[test]
fn base64_in_lines_is_read_and_written_in_one() {
    use k8s_openapi::api::{
        admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Secret,
    };
    let secret =
        br#"{"data": {"a": "YW\nJj\n", "b": "YR==", "c": null, "d": "YWJj", "e": "YQ\u000d=="}}"#;
    let decoded = (codec::<Secret>().from_json)(secret, &mut |_| {}).unwrap();
    assert_eq!(
        decoded.to_value()["data"],
        serde_json::json!({"a": "YWJj", "b": "YQ==", "c": "", "d": "YWJj", "e": "YQ=="})
    );
    let tree = serde_json::from_slice(secret).unwrap();
    let of_value = (codec::<Secret>().from_value)(tree, &mut |_| {}).unwrap();
    assert_eq!(of_value.to_value(), decoded.to_value());
    let hooks =
        br#"{"webhooks": [{"name": "a", "admissionReviewVersions": [], "sideEffects": "None",
        "clientConfig": {"caBundle": "YW\r\nJj"}}]}"#;
    let codec = codec::<ValidatingWebhookConfiguration>();
    let decoded = (codec.from_json)(hooks, &mut |_| {}).unwrap();
    assert_eq!(
        decoded.to_value()["webhooks"][0]["clientConfig"]["caBundle"],
        "YWJj"
    );
}

#[test]
fn base64_is_told_where_it_breaks() {
    for (text, at) in [("1", 0), ("YQ==a", 4), ("YW\\nJ", 1), ("YQ==\\na", 5)] {
        let body = format!(r#"{{"data": {{"a": "{text}"}}}}"#);
        let codec = codec::<k8s_openapi::api::core::v1::Secret>();
        let error = (codec.from_json)(body.as_bytes(), &mut |_| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("illegal base64 data at input byte {at}"),
            "{text}"
        );
    }
    let body = br#"{"data": {"a": 1}}"#;
    let codec = codec::<k8s_openapi::api::core::v1::Secret>();
    let error = (codec.from_json)(body, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "json: cannot unmarshal number into Go struct field Secret.data of type []uint8"
    );
}

#[test]
fn what_does_not_fit_is_told_as_upstream_tells_it() {
    for (text, expected) in [
        (
            r#"{"spec": {"containers": [{"name": 1}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (
            r#"{"spec": {"terminationGracePeriodSeconds": "x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            r#"{"spec": {"priority": 1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec": {"priority": 99999999999999999999}}"#,
            "json: cannot unmarshal number 99999999999999999999 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"status": {"phase": 1}}"#,
            "json: cannot unmarshal number into Go struct field PodStatus.status.phase of type v1.PodPhase",
        ),
        (
            r#"{"metadata": {"ownerReferences": [{"uid": {}}]}}"#,
            "json: cannot unmarshal object into Go struct field OwnerReference.metadata.ownerReferences.uid of type types.UID",
        ),
        (
            r#"{"spec": {"containers": [{"securityContext": {"capabilities": {"add": [1]}}}]}}"#,
            "json: cannot unmarshal number into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type v1.Capability",
        ),
        (
            r#"{"spec": {"containers": [{"securityContext": {"capabilities": {"add": "ALL"}}}]}}"#,
            "json: cannot unmarshal string into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type []v1.Capability",
        ),
        (
            r#"{"spec": {"containers": {}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec": []}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            r#"{"metadata": {"labels": {"a": true}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec": {"containers": [{"livenessProbe": {"httpGet": {"path": 5}}}]}}"#,
            "json: cannot unmarshal number into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.path of type string",
        ),
        (
            r#"{"metadata": {"creationTimestamp": "soon"}}"#,
            "parsing time \"soon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"soon\" as \"2006\"",
        ),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
        ),
        (
            "{\"a\": }",
            "invalid character '}' looking for beginning of value",
        ),
        ("{\"a\"", "unexpected end of JSON input"),
        ("{} x", "invalid character 'x' after top-level value"),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    for body in [
        &b"{\"metadata\": {\"name\": \"\xff\"}}"[..],
        b"\xff{}",
        b"{\"a\": [\xff]}",
    ] {
        let error = (codec::<Pod>().from_json)(body, &mut |_| {}).unwrap_err();
        assert!(matches!(error, DecodeError::Syntax(_)), "{error:?}");
    }
}

#[test]
fn another_kind_is_told_from_a_wrong_value() {
    let body = br#"{"apiVersion": "v1", "kind": "ConfigMap"}"#;
    let error = (codec::<Pod>().from_json)(body, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.answer(body, "v1", "Pod"),
        "ConfigMap in version \"v1\" cannot be handled as a Pod: converting (v1.ConfigMap) to (core.Pod): unknown conversion"
    );
    for list in ["List", "PodList", "ConfigMapList"] {
        let body = format!(r#"{{"apiVersion": "v1", "kind": "{list}"}}"#);
        let error = (codec::<Pod>().from_json)(body.as_bytes(), &mut |_| {}).unwrap_err();
        assert_eq!(
            error.reason(),
            format!("converting (v1.{list}) to (core.Pod): unknown conversion")
        );
    }
    let body = br#"{"apiVersion": "a/b/c", "kind": "Pod"}"#;
    let error = (codec::<Pod>().from_json)(body, &mut |_| {}).unwrap_err();
    assert_eq!(error.reason(), "unexpected GroupVersion string: a/b/c");
    assert_eq!(
        error.answer(body, "v1", "Pod"),
        "the object provided is unrecognized (must be of type Pod): unexpected GroupVersion string: a/b/c ({\"apiVersion\": \"a/b/c\", \"kind\" ...)"
    );
    let body = br#"{"apiVersion": "v2", "kind": "Pod"}"#;
    let error = (codec::<Pod>().from_json)(body, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.answer(body, "v1", "Pod"),
        "Pod in version \"v2\" cannot be handled as a Pod: no kind \"Pod\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
    let body = br#"{"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"}"#;
    let hpas = codec::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>();
    let error = (hpas.from_json)(body, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.answer(body, "autoscaling/v2", "HorizontalPodAutoscaler"),
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    );
    let body = br#"{"apiVersion": 5, "kind": "Pod"}"#;
    let error = (codec::<Pod>().from_json)(body, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.answer(body, "v1", "Pod"),
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .apiVersion of type string ({\"apiVersion\": 5, \"kind\": \"Pod ...)"
    );
    let error = (codec::<Pod>().from_json)(b"{", &mut |_| {}).unwrap_err();
    assert_eq!(
        error.answer(b"{", "v1", "Pod"),
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input ({)"
    );
}

#[test]
fn every_kind_decodes_from_an_empty_object() {
    for row in ResourceTable::builtin().rows() {
        let text = format!(
            r#"{{"apiVersion": "{}", "kind": "{}", "metadata": {{}}}}"#,
            row.api_version(),
            row.kind
        );
        if let Err(error) = (row.codec.from_json)(text.as_bytes(), &mut |_| {}) {
            // A few types have a required time or the like.
            assert!(
                error.to_string().contains("missing field"),
                "{row:?}: {error}"
            );
        }
    }
}
