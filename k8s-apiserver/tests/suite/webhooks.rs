//! What upstream's conformance suite says of admission webhooks (`AdmissionWebhook`), entry by entry.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::hooks::{
    Cluster, LATE, MUTATING, VALIDATING, Webhook, allow, config_map, deny, patch, pod, rule,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// What the webhooks of the conformance suite do, by path.
pub(crate) async fn webhook() -> Webhook {
    Webhook::admission(|path, request| {
        let data = |key: &str| request["object"]["data"][key] == "yes";
        let add = |key: &str| patch(json!([{"op": "add", "path": format!("/data/{key}"), "value": "yes"}]));
        Some(match path {
            "/add-1" if data("mutation-start") => add("mutation-stage-1"),
            "/add-2" if data("mutation-stage-1") => add("mutation-stage-2"),
            "/deny-bad" if request["object"]["data"]["webhook-e2e-test"] == "webhook-disallow" => {
                deny("the configmap contains unwanted key and value")
            }
            "/deny-bad" if request["object"]["spec"]["containers"][0]["name"] == "webhook-disallow" => {
                deny("the pod contains unwanted container name")
            }
            "/deny-bad" if request["object"]["metadata"]["annotations"]["webhook-e2e-test"] == "webhook-disallow" => {
                deny("the pod contains unwanted annotation")
            }
            "/deny-bad" if request["object"]["metadata"]["name"] == "to-hang" => return None,
            "/hang" => return None,
            "/init" => patch(json!([{"op": "add", "path": "/spec/initContainers",
                "value": [{"image": "webhook-added-image", "name": "webhook-added-init-container", "resources": {}}]}])),
            "/deny-attach" if request["name"] == "to-be-attached" && request["object"]["container"] == "c" => {
                deny("attaching to pod 'to-be-attached' is not allowed")
            }
            "/deny-offending" if request["operation"] == "DELETE" => match request["oldObject"]["data"]["webhook-e2e-test"] == "webhook-nondeletable" {
                true => deny("the custom resource cannot be deleted because it contains unwanted key and value"),
                false => allow(),
            },
            "/deny-offending" if request["object"]["data"]["webhook-e2e-test"] == "webhook-disallow" => {
                deny("the custom resource contains unwanted data")
            }
            "/mutate-configuration" => patch(json!([{"op": "add", "path": "/metadata/labels/mutated", "value": "yes"}])),
            "/label" => patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}])),
            "/by-label" if request["object"]["metadata"]["labels"]["seen"] == "yes" => add("again"),
            "/with-status" => json!({"allowed": false, "status": {"code": 403, "reason": "Teapot", "message": "no tea"}}),
            "/warns" => json!({"allowed": true, "warnings": ["mind the gap"], "auditAnnotations": {"a": "b"}}),
            "/wrong-uid" => json!({"allowed": true, "patchType": "JSONPatch"}),
            "/takes-away" => patch(json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}])),
            "/changes-all" => patch(json!([
                {"op": "replace", "path": "/metadata/namespace", "value": "kube-system"},
                {"op": "replace", "path": "/spec/containers/0/image", "value": "other"},
                {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}},
                {"op": "add", "path": "/spec/ephemeralContainers/0/stdin", "value": true},
            ])),
            "/spoils" => patch(json!([{"op": "replace", "path": "/spec/ephemeralContainers/0/name", "value": "No_name"}])),
            "/managed" => patch(json!([{"op": "remove", "path": "/metadata/managedFields"}])),
            _ => allow(),
        })
    })
    .await
}

/// For config maps in `default`; markers are elsewhere.
pub(crate) fn maps(operations: &[&str]) -> Value {
    json!({"rules": [rule(operations, "", "configmaps")],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}})
}

#[tokio::test]
async fn listing_mutating_webhooks_must_work() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/add-1", maps(&["CREATE"]))];
    let names: Vec<String> = (0..10).map(|i| format!("listed-{i}")).collect();
    for name in &names {
        cluster.install(&hook, MUTATING, name, &hooks).await;
    }
    let listed = cluster
        .get(&format!("{MUTATING}?labelSelector=of%3Dtest"))
        .await
        .expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 10);
    let start = json!({"mutation-start": "yes"});
    let made = cluster
        .post(MAPS, config_map("a", start.clone()))
        .await
        .expect(201);
    assert_eq!(made["data"]["mutation-stage-1"], "yes");
    cluster
        .delete(&format!("{MUTATING}?labelSelector=of%3Dtest"))
        .await
        .expect(200);
    for name in &names {
        cluster.no_longer_in_effect(name).await;
    }
    let made = cluster.post(MAPS, config_map("b", start)).await.expect(201);
    assert_eq!(made["data"], json!({"mutation-start": "yes"}));
}

#[tokio::test]
async fn listing_validating_webhooks_must_work() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/deny-bad", maps(&["CREATE"]))];
    let names: Vec<String> = (0..10).map(|i| format!("listed-{i}")).collect();
    for name in &names {
        cluster.install(&hook, VALIDATING, name, &hooks).await;
    }
    let listed = cluster
        .get(&format!("{VALIDATING}?labelSelector=of%3Dtest"))
        .await
        .expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 10);
    let bad = json!({"webhook-e2e-test": "webhook-disallow"});
    let refused = cluster.post(MAPS, config_map("a", bad.clone())).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused.message(),
        "admission webhook \"deny-bad.example.com\" denied the request: the configmap contains unwanted key and value"
    );
    cluster
        .delete(&format!("{VALIDATING}?labelSelector=of%3Dtest"))
        .await
        .expect(200);
    for name in &names {
        cluster.no_longer_in_effect(name).await;
    }
    cluster.post(MAPS, config_map("a", bad)).await.expect(201);
}

#[tokio::test]
async fn patching_and_updating_a_mutating_webhook_must_take_effect() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/add-1", maps(&["CREATE"]))];
    cluster.install(&hook, MUTATING, "changed", &hooks).await;
    let path = format!("{MUTATING}/changed");
    let start = json!({"mutation-start": "yes"});
    // A new marker says when the change has come through.
    let mut changed = cluster.get(&path).await.expect(200);
    changed["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
    changed["webhooks"][1]["objectSelector"]["matchLabels"]["marker"] = "updated".into();
    let changed = cluster.ask("PUT", &path, changed).await.expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
    cluster.in_effect("updated").await;
    let made = cluster
        .post(MAPS, config_map("a", start.clone()))
        .await
        .expect(201);
    assert_eq!(made["data"], start);
    let mut hooks = changed["webhooks"].clone();
    hooks[0]["rules"][0]["operations"] = json!(["CREATE"]);
    hooks[1]["objectSelector"]["matchLabels"]["marker"] = "patched".into();
    cluster
        .ask("PATCH", &path, json!({"webhooks": hooks}))
        .await
        .expect(200);
    cluster.in_effect("patched").await;
    let made = cluster.post(MAPS, config_map("b", start)).await.expect(201);
    assert_eq!(made["data"]["mutation-stage-1"], "yes");
}

#[tokio::test]
async fn patching_and_updating_a_validating_webhook_must_take_effect() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/deny-bad", maps(&["CREATE"]))];
    cluster.install(&hook, VALIDATING, "changed", &hooks).await;
    let path = format!("{VALIDATING}/changed");
    let bad = json!({"webhook-e2e-test": "webhook-disallow"});
    let mut changed = cluster.get(&path).await.expect(200);
    changed["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
    changed["webhooks"][1]["objectSelector"]["matchLabels"]["marker"] = "updated".into();
    let changed = cluster.ask("PUT", &path, changed).await.expect(200);
    cluster.in_effect("updated").await;
    cluster
        .post(MAPS, config_map("a", bad.clone()))
        .await
        .expect(201);
    let mut hooks = changed["webhooks"].clone();
    hooks[0]["rules"][0]["operations"] = json!(["CREATE"]);
    hooks[1]["objectSelector"]["matchLabels"]["marker"] = "patched".into();
    cluster
        .ask("PATCH", &path, json!({"webhooks": hooks}))
        .await
        .expect(200);
    cluster.in_effect("patched").await;
    let refused = cluster.post(MAPS, config_map("b", bad)).await;
    assert!(
        refused.message().contains("denied the request"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn attaching_to_a_pod_must_be_denied() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let connect = json!({"rules": [rule(&["CONNECT"], "", "pods/attach")]});
    let hooks = [hook.hook("/deny-attach", connect)];
    cluster.install(&hook, VALIDATING, "attach", &hooks).await;
    cluster.post(PODS, pod("to-be-attached")).await.expect(201);
    let attach = format!("{PODS}/to-be-attached/attach?container=c&stdin=true&stdout=true");
    let refused = cluster.post(&attach, Value::Null).await;
    assert_eq!(
        refused.message(),
        "admission webhook \"deny-attach.example.com\" denied the request: attaching to pod 'to-be-attached' is not allowed"
    );
    let other = format!("{PODS}/to-be-attached/attach?container=d");
    assert_eq!(
        cluster.post(&other, Value::Null).await.expect(200),
        format!("nowhere {other}")
    );
    let asked = hook.asked("/deny-attach");
    let request = &asked.first().expect("the webhook is asked")["request"];
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "PodAttachOptions"})
    );
    assert_eq!(request["subResource"], "attach");
    assert_eq!(request["object"]["stdin"], true);
}

fn definition(name: &str, versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{name}s.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": format!("{name}s"), "kind": name[..1].to_uppercase() + &name[1..]}}})
}

fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn widget(name: &str, data: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "data": data})
}

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

#[tokio::test]
async fn creation_update_and_deletion_of_custom_resources_must_be_denied() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster
        .define(definition(
            "widget",
            json!([version("v1", true, anything())]),
        ))
        .await;
    let all = json!({"rules": [rule(&["CREATE", "UPDATE", "DELETE"], "example.com", "widgets")]});
    let hooks = [hook.hook("/deny-offending", all)];
    cluster.install(&hook, VALIDATING, "custom", &hooks).await;
    let bad = json!({"webhook-e2e-test": "webhook-disallow"});
    let refused = cluster.post(WIDGETS, widget("a", bad.clone())).await;
    assert!(
        refused
            .message()
            .ends_with("the custom resource contains unwanted data"),
        "{refused:?}"
    );
    let kept = json!({"webhook-e2e-test": "webhook-nondeletable"});
    cluster.post(WIDGETS, widget("b", kept)).await.expect(201);
    let path = format!("{WIDGETS}/b");
    let refused = cluster.ask("PATCH", &path, json!({"data": bad})).await;
    assert!(
        refused
            .message()
            .ends_with("the custom resource contains unwanted data"),
        "{refused:?}"
    );
    let refused = cluster.delete(&path).await;
    assert!(
        refused.message().contains("cannot be deleted"),
        "{refused:?}"
    );
    cluster
        .ask("PATCH", &path, json!({"data": {"webhook-e2e-test": null}}))
        .await
        .expect(200);
    cluster.delete(&path).await.expect(200);
}

#[tokio::test]
async fn bad_pods_and_config_maps_must_be_denied_and_a_hanging_webhook_must_time_out() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let not_exempt = json!({"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]});
    let all = json!({
        "rules": [rule(&["CREATE", "UPDATE"], "", "configmaps"), rule(&["CREATE", "UPDATE"], "", "pods")],
        "namespaceSelector": not_exempt, "timeoutSeconds": 1,
    });
    let hooks = [hook.hook("/deny-bad", all)];
    cluster.install(&hook, VALIDATING, "bad", &hooks).await;
    let mut bad = pod("disallowed");
    bad["spec"]["containers"][0]["name"] = "webhook-disallow".into();
    let refused = cluster.post(PODS, bad).await;
    assert!(
        refused
            .message()
            .ends_with("the pod contains unwanted container name"),
        "{refused:?}"
    );
    let refused = cluster.post(PODS, pod("to-hang")).await;
    assert_eq!(refused.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        refused.message().starts_with("Internal error occurred: failed calling webhook \"deny-bad.example.com\": failed to call webhook: Post \"https://localhost:")
            && refused.message().ends_with("/deny-bad?timeout=1s\": context deadline exceeded"),
        "{}", refused.message()
    );
    let bad = json!({"webhook-e2e-test": "webhook-disallow"});
    let mut good = cluster.post(PODS, pod("good")).await.expect(201);
    let path = format!("{PODS}/good");
    let change = json!({"metadata": {"annotations": bad}});
    good["metadata"]["annotations"] = bad.clone();
    for refused in [
        cluster.ask("PATCH", &path, change).await,
        cluster.ask("PUT", &path, good).await,
    ] {
        assert_eq!(
            refused.message(),
            "admission webhook \"deny-bad.example.com\" denied the request: the pod contains unwanted annotation"
        );
    }
    let refused = cluster.post(MAPS, config_map("bad", bad.clone())).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    cluster
        .post(MAPS, config_map("good", json!({"a": "b"})))
        .await
        .expect(201);
    let path = format!("{MAPS}/good");
    let refused = cluster
        .ask("PUT", &path, config_map("good", bad.clone()))
        .await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    let refused = cluster
        .ask("PATCH", &path, json!({"data": bad.clone()}))
        .await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    let exempt = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "exempt", "labels": {"exempt": "yes"}}});
    cluster.post("/api/v1/namespaces", exempt).await.expect(201);
    cluster
        .post(
            "/api/v1/namespaces/exempt/configmaps",
            config_map("bad", bad),
        )
        .await
        .expect(201);
}

#[tokio::test]
async fn creation_of_definitions_must_be_denied() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let all =
        json!({"rules": [rule(&["CREATE"], "apiextensions.k8s.io", "customresourcedefinitions")]});
    let hooks = [hook.hook("/always-deny", all)];
    cluster
        .install(&hook, VALIDATING, "definitions", &hooks)
        .await;
    let refused = cluster
        .post(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            definition("widget", json!([version("v1", true, anything())])),
        )
        .await;
    assert!(
        refused
            .message()
            .ends_with("this webhook denies all requests"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn time_outs_must_be_honoured_as_the_failure_policy_says() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    // The webhook takes longer than the second that some have, and less than the ten that others have.
    assert!(LATE > Duration::from_secs(1) && LATE < Duration::from_secs(10));
    let with = |case: &str, seconds: Option<u32>, policy: &str| {
        let mut all = json!({"rules": [rule(&["CREATE"], "", "configmaps")],
            "failurePolicy": policy, "objectSelector": {"matchLabels": {"slow": case}}});
        if let Some(seconds) = seconds {
            all["timeoutSeconds"] = seconds.into();
        }
        hook.hook("/allow-late", all)
    };
    let slow = |case: &str| {
        let mut map = config_map(case, json!({}));
        map["metadata"]["labels"] = json!({"slow": case});
        map
    };
    for (path, case, seconds, policy, passes) in [
        (VALIDATING, "fails", Some(1), "Fail", false),
        (MUTATING, "fails-to-mutate", Some(1), "Fail", false),
        (VALIDATING, "is-ignored", Some(1), "Ignore", true),
        (MUTATING, "is-ignored-to-mutate", Some(1), "Ignore", true),
        (VALIDATING, "has-time", Some(10), "Fail", true),
        (VALIDATING, "has-time-by-default", None, "Fail", true),
    ] {
        let hooks = [with(case, seconds, policy)];
        cluster.install(&hook, path, case, &hooks).await;
        let answer = cluster.post(MAPS, slow(case)).await;
        if passes {
            answer.expect(201);
            continue;
        }
        let message = answer.message();
        assert!(
            message.ends_with("/allow-late?timeout=1s\": context deadline exceeded"),
            "{message}"
        );
    }
    // Ten seconds where nothing is said.
    let hooks = cluster
        .get(&format!("{VALIDATING}/has-time-by-default"))
        .await
        .expect(200);
    assert_eq!(hooks["webhooks"][0]["timeoutSeconds"], 10);
}

#[tokio::test]
async fn discovery_must_show_the_webhook_configurations() {
    let cluster = Cluster::start().await;
    let groups = cluster.get("/apis").await.expect(200);
    let group = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["name"] == "admissionregistration.k8s.io");
    let versions = group.expect("the group is there")["versions"].clone();
    assert!(
        versions
            .as_array()
            .unwrap()
            .iter()
            .any(|v| v["groupVersion"] == "admissionregistration.k8s.io/v1")
    );
    let resources = cluster
        .get("/apis/admissionregistration.k8s.io/v1")
        .await
        .expect(200);
    for name in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ] {
        let all = resources["resources"].as_array().unwrap();
        assert!(all.iter().any(|r| r["name"] == name), "{name}");
    }
}

#[tokio::test]
async fn a_config_map_must_be_mutated_by_one_webhook_after_the_other() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [
        hook.hook("/add-1", maps(&["CREATE"])),
        hook.hook("/add-2", maps(&["CREATE"])),
    ];
    cluster.install(&hook, MUTATING, "stages", &hooks).await;
    let made = cluster
        .post(MAPS, config_map("a", json!({"mutation-start": "yes"})))
        .await
        .expect(201);
    assert_eq!(
        made["data"],
        json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"})
    );
    // What webhooks add belongs to nobody, as upstream has it.
    let owned = made["metadata"]["managedFields"].to_string();
    assert!(
        owned.contains("f:mutation-start") && !owned.contains("stage-1"),
        "{owned}"
    );
    let sent = &hook.asked("/add-2")[0]["request"];
    assert_eq!(sent["object"]["data"]["mutation-stage-1"], "yes");
    assert_eq!(sent["operation"], "CREATE");
    assert_eq!(sent["userInfo"]["username"], "admin");
    assert_eq!(sent["options"]["kind"], "CreateOptions");
    assert_eq!(
        (&sent["oldObject"], &sent["dryRun"]),
        (&Value::Null, &json!(false))
    );
}

#[tokio::test]
async fn a_custom_resource_must_be_mutated() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster
        .define(definition(
            "widget",
            json!([version("v1", true, anything())]),
        ))
        .await;
    let all = json!({"rules": [rule(&["CREATE"], "example.com", "widgets")]});
    let hooks = [hook.hook("/add-1", all.clone()), hook.hook("/add-2", all)];
    cluster.install(&hook, MUTATING, "custom", &hooks).await;
    let made = cluster
        .post(WIDGETS, widget("a", json!({"mutation-start": "yes"})))
        .await
        .expect(201);
    assert_eq!(made["data"]["mutation-stage-2"], "yes");
}

#[tokio::test]
async fn a_custom_resource_whose_stored_version_changes_must_be_mutated() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let versions = json!([
        version("v1", true, anything()),
        version("v2", false, anything())
    ]);
    cluster.define(definition("widget", versions.clone())).await;
    let all = json!({"rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.com"],
        "apiVersions": ["v1"], "resources": ["widgets"]}]});
    let hooks = [hook.hook("/add-1", all)];
    cluster.install(&hook, MUTATING, "custom", &hooks).await;
    cluster
        .post(WIDGETS, widget("a", json!({"mutation-start": "yes"})))
        .await
        .expect(201);
    let mut versions = versions;
    versions[0]["storage"] = false.into();
    versions[1]["storage"] = true.into();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    cluster
        .ask("PATCH", path, json!({"spec": {"versions": versions}}))
        .await
        .expect(200);
    let v2 = WIDGETS.replace("/v1/", "/v2/");
    // The rule is for v1, and covers requests for v2 as well.
    let patched = cluster
        .until(
            "PATCH",
            &format!("{v2}/a"),
            json!({"dummy": "value"}),
            |answer| answer.code == 200,
        )
        .await;
    assert_eq!(patched.body["apiVersion"], "example.com/v2");
    assert_eq!(patched.body["data"]["mutation-stage-1"], "yes");
    assert_eq!(patched.body["dummy"], "value");
    let asked = hook.asked("/add-1");
    let request = &asked.last().unwrap()["request"];
    assert_eq!(request["resource"]["version"], "v1");
    assert_eq!(request["requestResource"]["version"], "v2");
    assert_eq!(request["object"]["apiVersion"], "example.com/v1");
}

#[tokio::test]
async fn what_a_webhook_adds_to_a_custom_resource_must_be_pruned() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"data": {"type": "object",
        "properties": {"mutation-start": text, "mutation-stage-1": text}}}});
    cluster
        .define(definition("widget", json!([version("v1", true, schema)])))
        .await;
    let all = json!({"rules": [rule(&["CREATE"], "example.com", "widgets")]});
    let hooks = [hook.hook("/add-1", all.clone()), hook.hook("/add-2", all)];
    cluster.install(&hook, MUTATING, "custom", &hooks).await;
    let made = cluster
        .post(WIDGETS, widget("a", json!({"mutation-start": "yes"})))
        .await
        .expect(201);
    assert_eq!(
        made["data"],
        json!({"mutation-start": "yes", "mutation-stage-1": "yes"})
    );
}

#[tokio::test]
async fn defaults_must_be_applied_to_what_a_webhook_adds_to_a_pod() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/init", json!({"rules": [rule(&["CREATE"], "", "pods")]}))];
    cluster.install(&hook, MUTATING, "pods", &hooks).await;
    let made = cluster.post(PODS, pod("a")).await.expect(201);
    let init = &made["spec"]["initContainers"][0];
    assert_eq!(init["name"], "webhook-added-init-container");
    assert_eq!(init["terminationMessagePolicy"], "File");
}

#[tokio::test]
async fn webhook_configurations_must_not_be_mutated_nor_kept_from_deletion() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let all = json!({"rules": [rule(&["*"], "admissionregistration.k8s.io", "*")]});
    let denies = [hook.hook("/always-deny", all.clone())];
    let mutates = [hook.hook("/mutate-configuration", all)];
    cluster.install(&hook, VALIDATING, "denies", &denies).await;
    cluster.install(&hook, MUTATING, "mutates", &mutates).await;
    for path in [MUTATING, VALIDATING] {
        let dummy = cluster.configuration(&hook, path, "dummy", &[]);
        let made = cluster.post(path, dummy).await.expect(201);
        assert_eq!(made["metadata"]["labels"], json!({"of": "test"}));
    }
    for path in [
        format!("{MUTATING}/dummy"),
        format!("{VALIDATING}/dummy"),
        format!("{MUTATING}/mutates"),
        format!("{VALIDATING}/denies"),
    ] {
        cluster.delete(&path).await.expect(200);
    }
    assert!(hook.asked("/mutate-configuration").is_empty());
}

#[tokio::test]
async fn a_webhook_that_fails_closed_must_reject_everything() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let stored = config_map("stored", json!({}));
    let mut stored = cluster.post(MAPS, stored).await.expect(201);
    let mut closed = hook.hook("/allow", maps(&["*"]));
    // Without its authority nobody believes it.
    closed["clientConfig"]["caBundle"] = Value::Null;
    cluster
        .install(&hook, VALIDATING, "closed", &[closed])
        .await;
    let path = format!("{MAPS}/stored");
    let change = json!({"data": {"a": "b"}});
    stored["data"] = change["data"].clone();
    for (method, path, body) in [
        ("POST", MAPS, config_map("a", json!({}))),
        ("PUT", &path, stored),
        ("PATCH", &path, change),
        ("DELETE", &path, Value::Null),
        ("DELETE", MAPS, Value::Null),
    ] {
        let refused = cluster.ask(method, path, body).await;
        assert_eq!(refused.code, StatusCode::INTERNAL_SERVER_ERROR, "{method}");
        assert!(
            refused.message().contains(
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ),
            "{method}: {}",
            refused.message()
        );
    }
    let kept = cluster.get(&path).await.expect(200);
    assert_eq!(kept["data"], Value::Null);
    assert!(hook.asked("/allow").is_empty());
}

#[tokio::test]
async fn a_webhook_takes_no_object_to_another_place() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/takes-away", maps(&["CREATE", "UPDATE"]))];
    let kept = config_map("kept", json!({"a": "b"}));
    cluster.post(MAPS, kept.clone()).await.expect(201);
    cluster.install(&hook, MUTATING, "away", &hooks).await;
    let refused = cluster.post(MAPS, config_map("a", json!({}))).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused.message(),
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let change = json!({"data": {"a": "c"}});
    let refused = cluster.ask("PATCH", &format!("{MAPS}/kept"), change).await;
    assert!(refused.code.is_client_error(), "{}", refused.body);
    let found = cluster.get(&format!("{MAPS}/kept")).await.expect(200);
    assert_eq!(found["data"], kept["data"]);
    cluster.get(&format!("{MAPS}/a")).await.expect(404);
}

#[tokio::test]
async fn a_webhook_changes_of_a_pod_no_more_than_what_is_asked_for() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster.post(PODS, pod("p")).await.expect(201);
    let part = |path| {
        let rules = [rule(&["UPDATE"], "", "pods/ephemeralcontainers")];
        [hook.hook(path, json!({"rules": rules}))]
    };
    let all = part("/changes-all");
    cluster.install(&hook, MUTATING, "all", &all).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let add = |name: &str| json!({"spec": {"ephemeralContainers": [{"name": name, "image": "debugger"}]}});
    let changed = cluster.ask("PATCH", &path, add("d")).await.expect(200);
    let stored = cluster.get(&format!("{PODS}/p")).await.expect(200);
    for pod in [changed, stored] {
        assert_eq!(pod["metadata"]["namespace"], "default");
        assert_eq!(pod["metadata"]["labels"], Value::Null);
        assert_eq!(pod["spec"]["containers"][0]["image"], "i");
        assert_eq!(pod["spec"]["ephemeralContainers"][0]["name"], "d");
        assert_eq!(pod["spec"]["ephemeralContainers"][0]["stdin"], true);
    }
    // What becomes of the part in the end must be valid.
    cluster.post(PODS, pod("q")).await.expect(201);
    cluster
        .install(&hook, MUTATING, "spoils", &part("/spoils"))
        .await;
    let path = format!("{PODS}/q/ephemeralcontainers");
    let refused = cluster.ask("PATCH", &path, add("d")).await;
    assert_eq!(
        refused.code,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn a_namespace_is_selected_by_the_labels_that_the_webhook_before_has_given_it() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let spaces = |selector: Value| json!({"rules": [rule(&["CREATE"], "", "namespaces")], "namespaceSelector": selector});
    let before = json!({"matchExpressions": [{"key": "mutated", "operator": "DoesNotExist"}]});
    let after = json!({"matchLabels": {"mutated": "yes"}});
    let hooks = [
        hook.hook("/mutate-configuration", spaces(before)),
        hook.hook("/selected", spaces(after)),
    ];
    cluster.install(&hook, MUTATING, "spaces", &hooks).await;
    let space = json!({"metadata": {"name": "a", "labels": {"own": "yes"}}});
    let made = cluster.post("/api/v1/namespaces", space).await.expect(201);
    assert_eq!(made["metadata"]["labels"]["mutated"], "yes");
    assert_eq!(hook.asked("/selected").len(), 1);
}
