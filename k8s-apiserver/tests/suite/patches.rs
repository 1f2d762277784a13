//! What is said of patches that do not fit, of scales too, and what is read of unusual ones; which fields answers have.
//! All of it was asked of v1.26.

use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn patch(cluster: &Cluster, path: &str, kind: &str, body: Value) -> Answer {
    let admin = cluster.user("admin", &["system:masters"]);
    let kind = format!("application/{kind}");
    cluster.ask_as(&admin, "PATCH", path, &kind, body).await
}

async fn deployment(cluster: &Cluster) {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    cluster.post(DEPLOYMENTS, body).await.expect(201);
}

/// What a patch makes is quoted as the object is shown: with its managed fields, unless it takes away their place.
#[tokio::test]
async fn what_cannot_be_decoded_is_quoted_with_its_managed_fields() {
    let cluster = Cluster::start().await;
    let map = config_map("a", json!({"a": "1"}));
    cluster.post(MAPS, map).await.expect(201);
    let path = format!("{MAPS}/a");
    let quoted = async |kind: &str, change: Value| {
        let told = patch(&cluster, &path, kind, change).await.expect(422);
        let message = told["message"].as_str().unwrap().to_owned();
        let quoted = message.strip_prefix(" \"\" is invalid: patch: Invalid value: ");
        let quoted = quoted.unwrap_or_else(|| panic!("{message}"));
        let (quoted, why) = quoted.split_at(quoted.rfind("\": json: ").unwrap() + 1);
        assert!(why.starts_with(": json: cannot unmarshal"), "{why}");
        let text: String = serde_json::from_str(quoted).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let merged = quoted("merge-patch+json", json!({"data": 5})).await;
    assert_eq!(merged["data"], 5);
    let owned = &merged["metadata"]["managedFields"];
    assert_eq!(owned[0]["fieldsV1"]["f:data"]["f:a"], json!({}), "{merged}");
    let operations = json!([{"op": "replace", "path": "/data", "value": 5}]);
    let patched = quoted("json-patch+json", operations).await;
    assert_eq!(&patched["metadata"]["managedFields"], owned);
    let without = quoted("merge-patch+json", json!({"metadata": 5})).await;
    assert_eq!(without["metadata"], 5);
}

#[tokio::test]
async fn strategic_patches_that_do_not_fit_are_told_why() {
    let cluster = Cluster::start().await;
    deployment(&cluster).await;
    for (change, code, text) in [
        (
            json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}),
            422,
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "c"}],
                "containers": [{"name": "d"}]}}}}),
            422,
            "The order in patch list:\n[map[name:d]]\n doesn't match $setElementOrder list:\n[map[name:c]]\n",
        ),
        (
            json!({"spec": {"strategy": {"$patch": "x"}}}),
            422,
            "unknown patch type: x in map: map[$patch:x]",
        ),
        (
            json!({"spec": {"strategy": {"$retainKeys": 5}}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"kind": 5}),
            422,
            "\"\" is invalid: patch: Invalid value: \"map[kind:5]\"",
        ),
        (
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": []}}}}),
            422,
            "json: cannot unmarshal array into Go value of type int32",
        ),
    ] {
        let path = format!("{DEPLOYMENTS}/d");
        let kind = "strategic-merge-patch+json";
        let answer = patch(&cluster, &path, kind, change.clone()).await;
        assert_eq!(answer.code, code, "{change}: {:?}", answer.body);
        assert!(
            answer.message().contains(text),
            "{change}: {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn json_patches_need_no_value_and_are_read_first() {
    let cluster = Cluster::start().await;
    cluster
        .post(MAPS, config_map("m", json!({"a": "1"})))
        .await
        .expect(201);
    let send = |operations: Value| {
        let (cluster, path) = (&cluster, format!("{MAPS}/m?dryRun=All"));
        async move { patch(cluster, &path, "json-patch+json", operations).await }
    };
    let added = send(json!([{"op": "add", "path": "/data"}]))
        .await
        .expect(200);
    assert_eq!(added.get("data"), None);
    let steps = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["a/b", "c/d"]},
        {"op": "remove", "path": "/metadata/finalizers/-1"}]);
    let changed = send(steps).await.expect(200);
    assert_eq!(changed["metadata"]["finalizers"], json!(["a/b"]));
    for (operations, code, text) in [
        (
            json!([5]),
            400,
            "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
        ),
        (
            json!([{"op": "add", "path": 5}]),
            400,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.path of type string",
        ),
        (
            json!([{"op": "copy", "from": "", "path": "/data/a"}]),
            422,
            "the server rejected our request due to an error in our request",
        ),
    ] {
        let answer = send(operations).await;
        assert_eq!((answer.code.as_u16(), answer.message()), (code, text));
    }
}

#[tokio::test]
async fn what_is_no_patch_is_told_by_the_decoder_that_reads_it() {
    const BY_NOBODY: &str = "the server rejected our request due to an error in our request";
    let cluster = Cluster::start().await;
    cluster
        .post(MAPS, config_map("m", json!({"a": "1"})))
        .await
        .expect(201);
    for (kind, change, validation, code, text) in [
        (
            "json-patch+json",
            json!({}),
            "Strict",
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "json-patch+json",
            json!({}),
            "Ignore",
            400,
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
        (
            "json-patch+json",
            json!([5]),
            "Ignore",
            400,
            "json: cannot unmarshal number into Go value of type jsonpatch.Operation",
        ),
        (
            "json-patch+json",
            json!([{"op": "add", "path": 5}]),
            "Ignore",
            422,
            BY_NOBODY,
        ),
        (
            "merge-patch+json",
            json!(5),
            "Warn",
            400,
            "error decoding patch: json: cannot unmarshal number into Go value of type map[string]interface {}",
        ),
        (
            "merge-patch+json",
            json!(5),
            "Ignore",
            400,
            "Invalid JSON Patch",
        ),
        (
            "merge-patch+json",
            json!([1, null]),
            "Ignore",
            422,
            r#" "" is invalid: patch: Invalid value: "[1,null]": couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#,
        ),
        (
            "strategic-merge-patch+json",
            json!(5),
            "Ignore",
            400,
            "json: cannot unmarshal number into Go value of type map[string]interface {}",
        ),
    ] {
        let path = format!("{MAPS}/m?fieldValidation={validation}");
        let answer = patch(&cluster, &path, kind, change.clone()).await;
        let told = (answer.code.as_u16(), answer.message());
        assert_eq!(told, (code, text), "{kind} {change} {validation}");
        // Whether there is something to patch is looked at first.
        let path = format!("{MAPS}/none?fieldValidation={validation}");
        let answer = patch(&cluster, &path, kind, change).await;
        assert_eq!(answer.message(), r#"configmaps "none" not found"#);
    }
}

/// Asked of v1.36, as what is below.
#[tokio::test]
async fn of_a_wrong_namespace_and_a_wrong_name_the_namespace_is_told() {
    let cluster = Cluster::start().await;
    deployment(&cluster).await;
    let pod =
        json!({"metadata": {"name": "d"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    cluster.post(pods, pod).await.expect(201);
    let both = json!({"metadata": {"name": "e", "namespace": "other"}, "spec": {}});
    let name = json!({"metadata": {"name": "e"}, "spec": {}});
    let namespace = json!({"metadata": {"name": "d", "namespace": "other"}, "spec": {}});
    for path in [
        format!("{DEPLOYMENTS}/d"),
        format!("{DEPLOYMENTS}/d/scale"),
        format!("{DEPLOYMENTS}/d/status"),
        format!("{pods}/d/ephemeralcontainers"),
    ] {
        for (body, told) in [
            (
                &both,
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                &namespace,
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                &name,
                "the name of the object (e) does not match the name on the URL (d)",
            ),
        ] {
            for method in ["PUT", "PATCH"] {
                let answer = cluster.ask(method, &path, body.clone()).await;
                assert_eq!(answer.message(), told, "{method} {path} {body}");
                answer.expect(400);
            }
        }
    }
}

#[tokio::test]
async fn scales_are_patched_as_other_objects_are() {
    let cluster = Cluster::start().await;
    deployment(&cluster).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let send = |query: &str, change: Value| {
        let (cluster, path) = (&cluster, format!("{path}?{query}"));
        async move { patch(cluster, &path, "merge-patch+json", change).await }
    };
    for (change, code, text) in [
        (
            json!({"spec": {"replicas": "x"}}),
            422,
            "json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32",
        ),
        (
            json!({"metadata": {"name": "x"}}),
            400,
            "the name of the object (x) does not match the name on the URL (d)",
        ),
        (
            json!({"metadata": {"namespace": "x"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"kind": "X"}),
            422,
            "no kind \"X\" is registered for version \"autoscaling/v1\"",
        ),
    ] {
        let answer = send("dryRun=All", change.clone()).await;
        assert_eq!(answer.code, code, "{change}: {:?}", answer.body);
        assert!(
            answer.message().contains(text),
            "{change}: {}",
            answer.message()
        );
    }
    let unknown = json!({"spec": {"replicas": 2, "nope": 1}});
    let strict = send("fieldValidation=Strict", unknown.clone()).await;
    assert_eq!(strict.code, 422);
    assert!(
        strict
            .message()
            .ends_with("strict decoding error: unknown field \"spec.nope\"")
    );
    let warned = send("", unknown).await;
    assert_eq!(
        warned.warnings,
        ["299 - \"unknown field \\\"spec.nope\\\"\""]
    );
    assert_eq!(warned.expect(200)["spec"], json!({"replicas": 2}));
}

#[tokio::test]
async fn metadata_of_a_list_are_asked_for_as_such() {
    let cluster = Cluster::start().await;
    cluster
        .post(MAPS, config_map("m", json!({})))
        .await
        .expect(201);
    let one = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let object = format!("{MAPS}/m");
    for (path, accept, text) in [
        (
            MAPS,
            one,
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            &*object,
            list,
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
    ] {
        let answer = cluster.wanting(path, accept).await;
        assert_eq!((answer.code.as_u16(), answer.message()), (406, text));
    }
    // What is wrong with the request itself is told first.
    for (path, accept, code) in [
        (format!("{MAPS}/nope"), list, 404),
        (format!("{MAPS}?labelSelector=%28"), one, 400),
    ] {
        let answer = cluster.wanting(&path, accept).await;
        assert_eq!(answer.code.as_u16(), code, "{path}");
    }
    assert_eq!(
        cluster.wanting(MAPS, list).await.expect(200)["kind"],
        "PartialObjectMetadataList"
    );
    assert_eq!(
        cluster.wanting(&object, one).await.expect(200)["kind"],
        "PartialObjectMetadata"
    );
}

#[tokio::test]
async fn answers_have_the_fields_that_are_always_written() {
    let cluster = Cluster::start().await;
    let events = "/api/v1/namespaces/default/events";
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
        "involvedObject": {"namespace": "default"}});
    cluster.post(events, event).await.expect(201);
    let mut found = cluster.get(&format!("{events}/e")).await.expect(200);
    found.as_object_mut().unwrap().remove("metadata");
    let wanted = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"namespace": "default"},
        "source": {}, "eventTime": null, "firstTimestamp": null, "lastTimestamp": null,
        "reportingComponent": "", "reportingInstance": ""});
    assert_eq!(found, wanted);
    let listed = cluster.get(events).await.expect(200);
    assert_eq!(listed["items"][0]["eventTime"], Value::Null);
    assert!(listed["items"][0].get("source").is_some());

    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "r"}, "rules": []});
    let made = cluster.post(roles, role).await.expect(201);
    assert_eq!(made.get("rules"), Some(&Value::Null));
    // Nobody owns what nobody set.
    assert_eq!(made["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn an_autoscaler_written_in_its_old_version_keeps_its_metrics_and_behavior() {
    let cluster = Cluster::start().await;
    let [new, old] = ["/apis/autoscaling/v2", "/apis/autoscaling/v1"]
        .map(|group| format!("{group}/namespaces/default/horizontalpodautoscalers"));
    let object = json!({"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"},
        "target": {"type": "Value", "value": "1"}});
    let rules = json!({"policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]});
    let spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
        "metrics": [{"type": "Object", "object": object}], "behavior": {"scaleDown": rules}});
    let body = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"}, "spec": spec});
    let made = cluster.post(&new, body).await.expect(201);
    let read = cluster.get(&format!("{old}/h")).await.expect(200);
    let behavior = &read["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"];
    let text = behavior.as_str().unwrap();
    assert!(
        text.starts_with(r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"#),
        "{text}"
    );
    cluster
        .ask("PUT", &format!("{old}/h"), read)
        .await
        .expect(200);
    let kept = cluster.get(&format!("{new}/h")).await.expect(200);
    assert_eq!(kept["spec"], made["spec"]);
}

#[tokio::test]
async fn objects_are_looked_at_before_they_are_looked_for() {
    let cluster = Cluster::start().await;
    let mut other = config_map("m", json!({}));
    other["metadata"]["namespace"] = "other".into();
    let told = cluster.ask("PUT", &format!("{MAPS}/m"), other).await;
    assert_eq!(
        (told.code.as_u16(), told.message()),
        (
            400,
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}});
    let path = "/api/v1/namespaces/default/pods/p/ephemeralcontainers";
    let told = cluster.ask("PUT", path, pod).await;
    let text = "the name of the object (p based on URL) was undeterminable: name must be provided";
    assert_eq!((told.code.as_u16(), told.message()), (400, text));
    // A namespace that is none can be asked for.
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses?fieldSelector=metadata.namespace%3D";
    let none = cluster.get(&format!("{classes}x")).await.expect(200);
    assert_eq!(none["items"], json!([]));
    let all = cluster.get(classes).await.expect(200);
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2));
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}});
    let made = cluster.post(policies, policy).await.expect(201);
    assert_eq!(
        made["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress"]})
    );
}

async fn define_lamps(cluster: &Cluster, schema: &Value) {
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "lamps", "kind": "Lamp"}, "versions": [version]}});
    cluster.define(definition).await;
}

#[tokio::test]
async fn a_custom_resource_has_only_the_subresources_of_its_definition() {
    let cluster = Cluster::start().await;
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    define_lamps(&cluster, &schema).await;
    let path = "/apis/example.com/v1/namespaces/default/lamps/a/scale";
    let told = cluster.get(path).await;
    assert_eq!(
        (told.code.as_u16(), told.message()),
        (404, "lamps.example.com \"a\" not found")
    );
    let list = "/apis/example.com/v1/namespaces/default/lamps?fieldSelector=spec.x%3Dy";
    let told = cluster.get(list).await;
    let text = "field label not supported: spec.x";
    assert_eq!((told.code.as_u16(), told.message()), (400, text));
}

#[tokio::test]
async fn rules_that_were_not_asked_are_told_of_as_upstream_does() {
    let cluster = Cluster::start().await;
    let spec = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "!has(self.n) || self.n < 5"}]});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    define_lamps(&cluster, &schema).await;
    let lamp = json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}, "spec": {"n": "x"}});
    let told = cluster
        .post("/apis/example.com/v1/namespaces/default/lamps", lamp)
        .await;
    let text = "<nil>: Invalid value: null: some validation rules were not checked";
    assert!(told.message().contains(text), "{}", told.message());
}
