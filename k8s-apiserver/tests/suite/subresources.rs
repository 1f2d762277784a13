//! Subresources: status, scale, binding, eviction.

use crate::{
    common::{call, client, get, send, server, text},
    services::{SERVICES, service},
};
use http::StatusCode;
use http_body_util::BodyExt;
use k8s_apiserver::ApiServer;
use k8s_model::protobuf::{MessageType, decode, encode_as};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn pod(server: &ApiServer, name: &str) -> Value {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    call(
        server,
        "POST",
        "/api/v1/namespaces/default/serviceaccounts",
        account,
    )
    .await;
    let body = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let (status, made) = call(server, "POST", PODS, body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made
}

async fn bind(server: &ApiServer, name: &str, node: &str) -> (StatusCode, Value) {
    let body = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": node},
    });
    call(server, "POST", &format!("{PODS}/{name}/binding"), body).await
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = server().await;
    pod(&server, "p").await;
    let (status, done) = bind(&server, "p", "n").await;
    assert_eq!(status, StatusCode::CREATED, "{done}");
    assert_eq!(
        (&done["kind"], &done["status"]),
        (&json!("Status"), &json!("Success"))
    );
    let (_, bound) = get(&server, &format!("{PODS}/p")).await;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let (status, error) = bind(&server, "p", "m").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
    );
    let (_, selected) = get(&server, &format!("{PODS}?fieldSelector=spec.nodeName%3Dn")).await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let (_, none) = get(&server, &format!("{PODS}?fieldSelector=spec.nodeName%3Dm")).await;
    assert!(none["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_binding_that_makes_no_sense_binds_nothing() {
    let server = server().await;
    pod(&server, "p").await;
    let cases = [
        (
            json!({"metadata": {"name": "q"}, "target": {"kind": "Pod"}}),
            400,
            "name in URL does not match name in Binding object",
        ),
        (
            json!({"metadata": {"name": "p"}, "target": {"kind": "Pod"}}),
            500,
            "[target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\", target.name: Required value]",
        ),
        (
            json!({"metadata": {"name": "p", "namespace": "other"}, "target": {"kind": "Node", "name": "n"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ];
    for (body, code, message) in cases {
        let (status, error) = call(&server, "POST", &format!("{PODS}/p/binding"), body).await;
        assert_eq!(
            (status.as_u16(), error["message"].as_str()),
            (code, Some(message))
        );
    }
    let elsewhere = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "other"}});
    let (status, error) = call(&server, "POST", &format!("{PODS}/p/eviction"), elsewhere).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
}

#[tokio::test]
async fn a_bound_pod_goes_gracefully_and_an_unbound_one_at_once() {
    let server = server().await;
    pod(&server, "unbound").await;
    let (status, _) = call(&server, "DELETE", &format!("{PODS}/unbound"), json!(null)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        get(&server, &format!("{PODS}/unbound")).await.0,
        StatusCode::NOT_FOUND
    );
    pod(&server, "p").await;
    bind(&server, "p", "n").await;
    let uri = format!("{PODS}/p");
    let (_, leaving) = call(&server, "DELETE", &uri, json!(null)).await;
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30);
    let (_, sooner) = call(&server, "DELETE", &uri, json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let (_, later) = call(&server, "DELETE", &uri, json!({"gracePeriodSeconds": 50})).await;
    assert_eq!(later["metadata"]["deletionGracePeriodSeconds"], 5);
    let (status, _) = call(&server, "DELETE", &uri, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(get(&server, &uri).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_pod_may_be_given_more_time_than_there_is() {
    let server = server().await;
    pod(&server, "p").await;
    bind(&server, "p", "n").await;
    let uri = format!("{PODS}/p");
    let longest = json!({"gracePeriodSeconds": i64::MAX});
    let (status, leaving) = call(&server, "DELETE", &uri, longest).await;
    assert_eq!(status, StatusCode::OK, "{leaving}");
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], i64::MAX);
    let (status, sooner) = call(&server, "DELETE", &uri, json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(status, StatusCode::OK, "{sooner}");
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let (status, _) = call(&server, "DELETE", &uri, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(get(&server, &uri).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let server = server().await;
    pod(&server, "p").await;
    let uri = format!("{PODS}/p");
    let change = json!({"metadata": {"labels": {"new": "yes"}}, "status": {"phase": "Running"}});
    let (status, patched) = call(&server, "PATCH", &format!("{uri}/status"), change.clone()).await;
    assert_eq!(status, StatusCode::OK, "{patched}");
    assert_eq!(patched["status"]["phase"], "Running");
    let (_, patched) = call(
        &server,
        "PATCH",
        &uri,
        json!({"status": {"phase": "Failed"}}),
    )
    .await;
    assert_eq!(patched["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_deployment_is_scaled() {
    let server = server().await;
    let body: Deployment = serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }))
    .unwrap();
    let api: Api<Deployment> = Api::namespaced(client(&server), "default");
    let made = api.create(&Default::default(), &body).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let scale = api.get_scale("d").await.unwrap();
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("app=x"));
    let patch = Patch::Merge(json!({"spec": {"replicas": 4}}));
    let scale = api
        .patch_scale("d", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(4));
    let scaled = api.get("d").await.unwrap();
    assert_eq!(scaled.metadata.generation, Some(2));
    let patch = Patch::Merge(json!({"spec": {"replicas": -1}}));
    let error = api
        .patch_scale("d", &PatchParams::default(), &patch)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("must be greater than or equal to 0"),
        "{error}"
    );
    // A strategic merge patch finds the container by its name.
    let patch = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}}),
    );
    let patched = serde_json::to_value(
        api.patch("d", &PatchParams::default(), &patch)
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        patched["spec"]["template"]["spec"]["containers"][0]["image"],
        "j"
    );
    assert_eq!(
        patched["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A pod on a node that runs, and is ready or not.
async fn running(server: &ApiServer, name: &str, ready: &str) {
    pod(server, name).await;
    bind(server, name, "n").await;
    let status =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    let uri = format!("{PODS}/{name}/status");
    let (code, changed) = call(server, "PATCH", &uri, status).await;
    assert_eq!(code, StatusCode::OK, "{changed}");
}

/// A budget about all those pods, with a status.
async fn budget(server: &ApiServer, name: &str, status: Value) {
    let body = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    });
    let (code, made) = call(server, "POST", BUDGETS, body).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let status = json!({"status": status});
    call(server, "PATCH", &format!("{BUDGETS}/{name}/status"), status).await;
}

async fn evict(server: &ApiServer, name: &str, query: &str, options: Value) -> (StatusCode, Value) {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name}, "deleteOptions": options});
    let uri = format!("{PODS}/{name}/eviction{query}");
    call(server, "POST", &uri, eviction).await
}

fn allowing(disruptions: i32) -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": disruptions,
        "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1})
}

#[tokio::test]
async fn eviction_heeds_the_disruption_budget() {
    let server = server().await;
    running(&server, "p", "True").await;
    budget(&server, "b", allowing(0)).await;
    let (code, error) = evict(&server, "p", "", json!(null)).await;
    assert_eq!(code, StatusCode::TOO_MANY_REQUESTS, "{error}");
    assert_eq!(
        error["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        error["details"],
        json!({"causes": [{"reason": "DisruptionBudget",
            "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}]})
    );
    let uri = format!("{BUDGETS}/b/status");
    call(
        &server,
        "PATCH",
        &uri,
        json!({"status": {"disruptionsAllowed": 1}}),
    )
    .await;
    // What is only tried charges nothing, and deletes nothing.
    for (query, options) in [
        ("?dryRun=All", json!(null)),
        ("", json!({"dryRun": ["All"]})),
    ] {
        let (code, done) = evict(&server, "p", query, options).await;
        assert_eq!(code, StatusCode::CREATED, "{done}");
        let (_, kept) = get(&server, &format!("{PODS}/p")).await;
        assert!(kept["metadata"].get("deletionTimestamp").is_none());
        assert!(!kept.to_string().contains("DisruptionTarget"), "{kept}");
        let (_, kept) = get(&server, &format!("{BUDGETS}/b")).await;
        assert_eq!(kept["status"]["disruptionsAllowed"], 1);
    }
    let (code, done) = evict(&server, "p", "", json!(null)).await;
    assert_eq!(code, StatusCode::CREATED, "{done}");
    let (_, going) = get(&server, &format!("{PODS}/p")).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let conditions = going["status"]["conditions"].as_array().unwrap();
    let mark = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
    let mark = mark.unwrap();
    assert_eq!(
        (&mark["status"], &mark["reason"], &mark["message"]),
        (
            &json!("True"),
            &json!("EvictionByEvictionAPI"),
            &json!("Eviction API: evicting")
        )
    );
    let (_, charged) = get(&server, &format!("{BUDGETS}/b")).await;
    assert_eq!(charged["status"]["disruptionsAllowed"], 0);
    assert!(charged["status"]["disruptedPods"]["p"].is_string());
    assert_eq!(
        charged["status"]["conditions"][0]["reason"],
        "InsufficientPods"
    );
}

#[tokio::test]
async fn a_pod_that_is_not_ready_goes_if_the_others_are_enough_or_the_budget_lets_it() {
    let server = server().await;
    for name in ["a", "b"] {
        running(&server, name, "False").await;
    }
    budget(&server, "b", allowing(0)).await;
    let (code, done) = evict(&server, "a", "", json!(null)).await;
    assert_eq!(code, StatusCode::CREATED, "{done}");
    let few = json!({"status": {"currentHealthy": 0}});
    call(&server, "PATCH", &format!("{BUDGETS}/b/status"), few).await;
    let (code, _) = evict(&server, "b", "", json!(null)).await;
    assert_eq!(code, StatusCode::TOO_MANY_REQUESTS);
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    call(&server, "PATCH", &format!("{BUDGETS}/b"), always).await;
    let (code, done) = evict(&server, "b", "", json!(null)).await;
    assert_eq!(code, StatusCode::CREATED, "{done}");
}

#[tokio::test]
async fn an_eviction_is_refused_while_the_budget_is_not_counted() {
    let server = server().await;
    running(&server, "p", "True").await;
    budget(
        &server,
        "b",
        json!({"observedGeneration": 0, "disruptionsAllowed": 5}),
    )
    .await;
    let (code, error) = evict(&server, "p", "", json!(null)).await;
    assert_eq!(code, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(error["details"]["retryAfterSeconds"], 10);
    assert_eq!(
        error["details"]["causes"][0]["message"],
        "The disruption budget b is still being processed by the server."
    );
    // Two budgets are one too many, and preconditions hold.
    budget(&server, "c", allowing(1)).await;
    let (code, error) = evict(&server, "p", "", json!(null)).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{error}");
    call(&server, "DELETE", &format!("{BUDGETS}/b"), Value::Null).await;
    let other = json!({"preconditions": {"uid": "x"}});
    let (code, error) = evict(&server, "p", "", other).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let text = error["message"].as_str().unwrap();
    let start = "Operation cannot be fulfilled on Pod \"p\": the UID in the precondition (x) does not match";
    assert!(text.starts_with(start), "{text}");
}

#[tokio::test]
async fn an_eviction_may_be_of_the_older_version() {
    let server = server().await;
    running(&server, "p", "True").await;
    let old = |version: &str, name: &str| {
        json!({"apiVersion": format!("policy/{version}"), "kind": "Eviction",
        "metadata": {"name": name}, "deleteOptions": {"gracePeriodSeconds": 7}})
    };
    let uri = format!("{PODS}/p/eviction");
    let (code, error) = call(&server, "POST", &uri, old("v1beta2", "p")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{error}");
    let (code, error) = call(&server, "POST", &uri, old("v1beta1", "q")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(
        error["message"],
        "name in URL does not match name in Eviction object"
    );
    let (code, done) = call(&server, "POST", &uri, old("v1beta1", "p")).await;
    assert_eq!(code, StatusCode::CREATED, "{done}");
    let (_, going) = get(&server, &format!("{PODS}/p")).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
}

#[tokio::test]
async fn an_eviction_of_the_older_version_may_be_protobuf() {
    let server = server().await;
    running(&server, "p", "True").await;
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 7}});
    let form = MessageType::of_kind("policy/v1", "Eviction").unwrap();
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let evict = async |version: &str| {
        let body = encode_as(form, version, "Eviction", body.to_string().as_bytes()).unwrap();
        let uri = format!("{PODS}/p/eviction");
        let response = send(&server, "POST", &uri, &headers, body).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, decode(&bytes).unwrap())
    };
    let (code, refused) = evict("policy/v1beta2").await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{refused}");
    let (code, done) = evict("policy/v1beta1").await;
    assert_eq!(code, StatusCode::CREATED, "{done}");
    assert_eq!(done["status"], "Success");
    let (_, going) = get(&server, &format!("{PODS}/p")).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
}

#[tokio::test]
async fn a_condition_without_a_time_is_read_and_judged() {
    let server = server().await;
    let condition = json!({"type": "A", "status": "True", "reason": "R", "message": ""});
    let judged = async |uri: &str, time: Option<Value>| {
        let mut condition = condition.clone();
        if let Some(time) = time {
            condition["lastTransitionTime"] = time;
        }
        let body = json!({"status": {"conditions": [condition]}}).to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        let response = send(&server, "PATCH", uri, &headers, body).await;
        let (code, text) = crate::common::text(response).await;
        (code, serde_json::from_str::<Value>(&text).unwrap())
    };
    // Where conditions are checked there must be one,
    call(&server, "POST", BUDGETS, json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}))
    .await;
    for time in [None, Some(Value::Null), Some(json!("0001-01-01T00:00:00Z"))] {
        let (code, error) = judged(&format!("{BUDGETS}/b/status"), time).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
        assert_eq!(
            error["details"]["causes"],
            json!([{"reason": "FieldValueRequired", "message": "Required value: must be set",
                "field": "status.conditions[0].lastTransitionTime"}])
        );
    }
    // and where they are not, it is the zero of times.
    call(&server, "POST", SERVICES, service("s", json!({}))).await;
    let uri = format!("{SERVICES}/s");
    for time in [None, Some(Value::Null)] {
        let (code, told) = judged(&format!("{uri}/status"), time).await;
        assert_eq!(code, StatusCode::OK, "{told}");
        let found: k8s_openapi::api::core::v1::Service =
            serde_json::from_value(get(&server, &uri).await.1).unwrap();
        let conditions = found.status.unwrap().conditions.unwrap();
        let time = conditions[0].last_transition_time.0;
        assert_eq!(time.to_string(), "0001-01-01T00:00:00Z");
        let response = send(&server, "GET", &uri, &[("accept", PROTOBUF)], "").await;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let told = decode(&bytes).unwrap();
        let condition = &told["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], condition.get("lastTransitionTime")),
            (&json!("A"), None)
        );
    }
}

/// Asked of v1.36.
#[tokio::test]
async fn nothing_among_conditions_is_a_condition_that_says_nothing() {
    let server = server().await;
    let none = json!({"status": {"conditions": [null]}});
    call(&server, "POST", SERVICES, service("s", json!({}))).await;
    let uri = format!("{SERVICES}/s/status");
    let (code, told) = call(&server, "PATCH", &uri, none.clone()).await;
    assert_eq!(code, StatusCode::OK, "{told}");
    let condition = &told["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!(""), &json!(""))
    );
    call(
        &server,
        "POST",
        BUDGETS,
        json!({"metadata": {"name": "b"}, "spec": {}}),
    )
    .await;
    let (code, told) = call(&server, "PATCH", &format!("{BUDGETS}/b/status"), none).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{told}");
    let causes = told["details"]["causes"].as_array().unwrap();
    let mut fields: Vec<&str> = (causes.iter())
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    fields.dedup();
    assert_eq!(
        fields,
        ["type", "status", "lastTransitionTime", "reason"]
            .map(|name| format!("status.conditions[0].{name}"))
    );
}

#[tokio::test]
async fn ephemeral_containers_and_new_sizes_are_checked() {
    let server = server().await;
    pod(&server, "p").await;
    for (part, spec, text) in [
        (
            "ephemeralcontainers",
            json!({"ephemeralContainers": [{"name": "c", "image": "i"}]}),
            "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            "ephemeralcontainers",
            json!({"ephemeralContainers": [{"name": "e", "image": "i", "ports": [{"containerPort": 5}]}]}),
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            "resize",
            json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}),
            "Pod QOS Class may not change as a result of resizing",
        ),
    ] {
        let uri = format!("{PODS}/p/{part}");
        let (status, error) = call(&server, "PATCH", &uri, json!({"spec": spec})).await;
        assert_eq!(status, 422, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
    }
    let uri = format!("{PODS}/p/ephemeralcontainers");
    let added = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
    for _ in 0..2 {
        let (status, added) = call(&server, "PATCH", &uri, added.clone()).await;
        assert_eq!(status, 200, "{added}");
        assert_eq!(added["spec"]["ephemeralContainers"][0]["name"], "e");
        // What is there already is no change.
        assert_eq!(added["metadata"]["generation"], 2);
    }
    // Another pod of that name is meant.
    let (_, mut other) = get(&server, &format!("{PODS}/p")).await;
    other["metadata"]["uid"] = "other".into();
    other["metadata"]["resourceVersion"] = json!(null);
    let (status, error) = call(&server, "PUT", &uri, other).await;
    assert_eq!(status, 409, "{error}");
    let renamed = json!({"metadata": {"name": "q"}});
    assert_eq!(call(&server, "PATCH", &uri, renamed).await.0, 400);
    // What is there twice is told, of what subresources take too.
    let twice = r#"{"metadata": {"name": "p"}, "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}"#;
    let uri = format!("{PODS}/p/binding?fieldValidation=Strict");
    let headers = [("content-type", "application/json")];
    let (status, error) = text(send(&server, "POST", &uri, &headers, twice).await).await;
    assert_eq!(status, 400, "{error}");
    assert!(
        error.contains("duplicate field \\\"metadata\\\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_pod_has_its_first_address_twice() {
    let server = server().await;
    pod(&server, "p").await;
    let uri = format!("{PODS}/p/status");
    let told = json!({"status": {"podIP": "10.0.0.1"}});
    let (_, told) = call(&server, "PATCH", &uri, told).await;
    assert_eq!(told["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    let wrong = json!({"status": {"podIP": "x"}});
    let (status, error) = call(&server, "PATCH", &uri, wrong).await;
    assert_eq!(status, 422);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("status.podIPs[0]"), "{message}");
    // As the range of a node's pods does.
    let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24"}});
    call(&server, "POST", "/api/v1/nodes", node).await;
    let without = json!({"spec": {"podCIDR": null}});
    let (_, node) = call(&server, "PATCH", "/api/v1/nodes/n", without).await;
    assert_eq!(node["spec"]["podCIDR"], "10.0.0.0/24", "{node}");
}

#[tokio::test]
async fn who_finalizes_a_namespace_says_all_of_it_but_its_status() {
    let server = server().await;
    let namespaces = "/api/v1/namespaces";
    let made = json!({"metadata": {"name": "n", "labels": {"a": "b"}, "finalizers": ["x.y/z"]}});
    call(&server, "POST", namespaces, made).await;
    let uri = format!("{namespaces}/n");
    let precise = json!({"preconditions": {"uid": "x"}});
    let (status, error) = call(&server, "DELETE", &uri, precise).await;
    assert_eq!(status, 409);
    let message = error["message"].as_str().unwrap();
    let start = "Operation cannot be fulfilled on namespaces \"n\": Precondition failed: UID in precondition: x,";
    assert!(message.starts_with(start), "{message}");
    call(&server, "DELETE", &uri, Value::Null).await;
    let finalize = format!("{uri}/finalize");
    let wrong = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["a b"]}});
    let (status, _) = call(&server, "PUT", &finalize, wrong).await;
    assert_eq!(status, 422);
    let done = json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}, "status": {"phase": "Active"}});
    let (status, done) = call(&server, "PUT", &finalize, done).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(done["status"]["phase"], "Terminating");
    let (status, _) = get(&server, &uri).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn priorities_that_every_cluster_has_stay() {
    let server = server().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let uri = format!("{classes}/system-node-critical");
    let (status, error) = call(&server, "DELETE", &uri, Value::Null).await;
    assert_eq!(status, 403, "{error}");
    assert_eq!(
        error["message"],
        "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be \
         deleted"
    );
}
