//! Server-side apply and managed fields, over plain requests and through kube-rs.

use crate::common::{MAPS, call, client, config_map, get, send, server, text};
use http::StatusCode;
use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn patch(server: &ApiServer, kind: &str, uri: &str, body: &str) -> (StatusCode, Value) {
    let headers = [("content-type", kind), ("user-agent", "agent/1.0")];
    let answer = send(server, "PATCH", uri, &headers, body.to_owned()).await;
    let (status, text) = text(answer).await;
    (status, serde_json::from_str(&text).unwrap())
}

async fn apply(
    server: &ApiServer,
    uri: &str,
    manager: &str,
    query: &str,
    body: &Value,
) -> (StatusCode, Value) {
    let uri = format!("{uri}?fieldManager={manager}{query}");
    patch(
        server,
        "application/apply-patch+yaml",
        &uri,
        &body.to_string(),
    )
    .await
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data})
}

/// Manager, operation, subresource and fields of each entry.
fn owners(object: &Value) -> Vec<(String, String, String, Value)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .iter()
        .map(|e| {
            assert_eq!(e["fieldsType"], "FieldsV1");
            (
                text(&e["manager"]),
                text(&e["operation"]),
                text(&e["subresource"]),
                e["fieldsV1"].clone(),
            )
        })
        .collect()
}

fn owner<'o>(owners: &'o [(String, String, String, Value)], name: &str) -> Option<&'o Value> {
    owners.iter().find(|o| o.0 == name).map(|o| &o.3)
}

fn deployment(replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn every_write_says_whose_it_was() {
    let server = server().await;
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "kubectl/v1.32 (linux)"),
    ];
    let made = send(&server, "POST", MAPS, &headers, config_map("x").to_string()).await;
    let made: Value = serde_json::from_str(&text(made).await.1).unwrap();
    assert_eq!(
        owners(&made),
        [(
            "kubectl".to_owned(),
            "Update".to_owned(),
            String::new(),
            json!({"f:data": {".": {}, "f:a": {}}})
        )]
    );
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["apiVersion"], "v1");
    assert_eq!(entry["time"], made["metadata"]["creationTimestamp"]);

    let (_, changed) = patch(
        &server,
        "application/merge-patch+json",
        &format!("{MAPS}/x"),
        r#"{"data":{"b":"2"}}"#,
    )
    .await;
    let found = owners(&changed);
    assert_eq!(
        owner(&found, "agent"),
        Some(&json!({"f:data": {"f:b": {}}}))
    );
    let uri = format!("{MAPS}/x?fieldManager=named");
    let (_, changed) = patch(
        &server,
        "application/json-patch+json",
        &uri,
        r#"[{"op":"replace","path":"/data/b","value":"3"}]"#,
    )
    .await;
    let found = owners(&changed);
    assert_eq!(owner(&found, "agent"), None);
    assert_eq!(
        owner(&found, "named"),
        Some(&json!({"f:data": {"f:b": {}}}))
    );
    assert_eq!(get(&server, &format!("{MAPS}/x")).await.1, changed);
}

#[tokio::test]
async fn a_write_that_changes_nothing_leaves_times_and_version() {
    let server = server().await;
    let (_, first) = apply(
        &server,
        &format!("{MAPS}/x"),
        "m",
        "",
        &map(json!({"a": "1"})),
    )
    .await;
    let (_, again) = apply(
        &server,
        &format!("{MAPS}/x"),
        "m",
        "",
        &map(json!({"a": "1"})),
    )
    .await;
    assert_eq!(first, again);
    let (_, again) = call(&server, "PUT", &format!("{MAPS}/x"), map(json!({"a": "1"}))).await;
    assert_eq!(first, again);
}

#[tokio::test]
async fn apply_creates_changes_and_takes_out() {
    let server = server().await;
    let uri = format!("{MAPS}/x");
    let (status, made) = apply(&server, &uri, "m", "", &map(json!({"a": "1", "b": "2"}))).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        owners(&made)[0],
        (
            "m".to_owned(),
            "Apply".to_owned(),
            String::new(),
            json!({"f:data": {"f:a": {}, "f:b": {}}})
        )
    );
    let shared = map(json!({"b": "2"}));
    assert_eq!(
        apply(&server, &uri, "n", "", &shared).await.0,
        StatusCode::OK
    );
    // What nobody else owns goes, what somebody owns stays.
    let (_, left) = apply(&server, &uri, "m", "", &map(json!({"c": "3"}))).await;
    assert_eq!(left["data"], json!({"b": "2", "c": "3"}));
    let (_, left) = apply(&server, &uri, "n", "", &map(json!({}))).await;
    assert_eq!(left["data"], json!({"c": "3"}));
    // An empty map is a value that somebody set.
    assert_eq!(owner(&owners(&left), "n"), Some(&json!({"f:data": {}})));
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let server = server().await;
    let uri = format!("{DEPLOYMENTS}/d");
    let headers = [
        ("user-agent", "kubectl/1"),
        ("content-type", "application/json"),
    ];
    send(
        &server,
        "POST",
        DEPLOYMENTS,
        &headers,
        deployment(1).to_string(),
    )
    .await;
    let (status, error) = apply(&server, &uri, "m", "", &deployment(2)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas"
    );
    assert_eq!(error["reason"], "Conflict");
    assert_eq!(
        error["details"],
        json!({"causes": [{"reason": "FieldManagerConflict",
            "message": "conflict with \"kubectl\" using apps/v1", "field": ".spec.replicas"}]})
    );
    let (status, forced) = apply(&server, &uri, "m", "&force=true", &deployment(2)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(forced["spec"]["replicas"], 2);
    let found = owners(&forced);
    assert!(
        owner(&found, "kubectl").unwrap()["f:spec"]
            .get("f:replicas")
            .is_none()
    );
    assert!(
        owner(&found, "m").unwrap()["f:spec"]
            .get("f:replicas")
            .is_some()
    );
}

#[tokio::test]
async fn scale_and_status_have_owners_of_their_own() {
    let server = server().await;
    let uri = format!("{DEPLOYMENTS}/d");
    apply(&server, &uri, "m", "", &deployment(1)).await;
    let (status, _) = patch(
        &server,
        "application/merge-patch+json",
        &format!("{uri}/scale?fieldManager=hpa"),
        r#"{"spec":{"replicas":5}}"#,
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let status_of = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 9}, "status": {"replicas": 5, "conditions": [{"type": "A", "status": "True"}]}});
    let (code, _) = apply(&server, &format!("{uri}/status"), "s", "", &status_of).await;
    assert_eq!(code, StatusCode::OK);
    let (_, now) = get(&server, &uri).await;
    assert_eq!(now["spec"]["replicas"], 5);
    let found = owners(&now);
    let by = |name: &str| found.iter().find(|o| o.0 == name).unwrap();
    assert!(by("m").3["f:spec"].get("f:replicas").is_none());
    assert_eq!(by("hpa").2, "scale");
    assert_eq!(by("hpa").3, json!({"f:spec": {"f:replicas": {}}}));
    // As upstream has it.
    for entry in now["metadata"]["managedFields"].as_array().unwrap() {
        let is_scale = entry["subresource"] == "scale";
        assert_eq!(entry["time"].is_null(), is_scale, "{entry}");
    }
    assert_eq!(by("s").2, "status");
    assert_eq!(
        by("s").3,
        json!({"f:status": {"f:conditions": {"k:{\"type\":\"A\"}": {".": {}, "f:status": {}, "f:type": {}}},
            "f:replicas": {}}})
    );
    // The scale conflicts as the object itself does.
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
        "spec": {"replicas": 7}});
    let (code, error) = apply(&server, &format!("{uri}/scale"), "other", "", &scale).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using autoscaling/v1: .spec.replicas"
    );
    let (code, scaled) = apply(
        &server,
        &format!("{uri}/scale"),
        "other",
        "&force=true",
        &scale,
    )
    .await;
    assert_eq!(
        (code, &scaled["spec"]["replicas"]),
        (StatusCode::OK, &json!(7))
    );
}

#[tokio::test]
async fn a_scale_that_nobody_owns_is_not_tracked_before_it_is_applied() {
    let server = server().await;
    let uri = format!("{DEPLOYMENTS}/d");
    let mut own = deployment(1);
    own["spec"].as_object_mut().unwrap().remove("replicas");
    apply(&server, &uri, "m", "", &own).await;
    let (status, _) = patch(
        &server,
        "application/merge-patch+json",
        &format!("{uri}/scale?fieldManager=hpa"),
        r#"{"spec":{"replicas":5}}"#,
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let (_, now) = get(&server, &uri).await;
    assert_eq!(now["spec"]["replicas"], 5);
    assert!(owners(&now).iter().all(|owner| owner.0 == "m"));
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
        "spec": {"replicas": 7}});
    let uri_of_scale = format!("{uri}/scale");
    let (code, refusal) = patch(
        &server,
        "application/merge-patch+json",
        &uri_of_scale,
        r#"{"metadata":{"uid":"x"}}"#,
    )
    .await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(refusal["details"]["kind"], "deployments/scale");
    let (code, error) = apply(&server, &uri_of_scale, "other", "", &scale).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" with subresource \"scale\" using autoscaling/v1: .spec.replicas"
    );
    for (name, value, refused) in [
        ("uid", "x", StatusCode::CONFLICT),
        ("namespace", "x", StatusCode::BAD_REQUEST),
    ] {
        let mut other = scale.clone();
        other["metadata"][name] = json!(value);
        let (code, told) = apply(&server, &uri_of_scale, "other", "&force=true", &other).await;
        assert_eq!(code, refused, "{told}");
    }
    let (code, _) = apply(&server, &uri_of_scale, "other", "&force=true", &scale).await;
    assert_eq!(code, StatusCode::OK);
    let (_, now) = get(&server, &uri).await;
    let found = owners(&now);
    assert!(found.iter().all(|owner| owner.0 != "before-first-apply"));
    let owner = found.iter().find(|owner| owner.0 == "other").unwrap();
    assert_eq!(
        (owner.2.as_str(), &owner.3),
        ("scale", &json!({"f:spec": {"f:replicas": {}}}))
    );
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused_as_upstream_does() {
    let server = server().await;
    let uri = format!("{MAPS}/x");
    apply(&server, &uri, "m", "", &map(json!({"a": "1"}))).await;
    let with = |member: &str, value: Value| {
        let mut map = map(json!({"a": "1"}));
        map[member] = value;
        map
    };
    for (body, code, message) in [
        (
            with("apiVersion", json!("v2")),
            400,
            "invalid object type: /v2, Kind=ConfigMap",
        ),
        (
            with("metadata", json!({"name": "x", "managedFields": []})),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            with("foo", json!(1)),
            500,
            "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .foo: field not declared in schema",
        ),
        (
            with("metadata", json!({"name": "x", "uid": "other"})),
            422,
            "metadata.uid: Invalid value: \"other\": field is immutable",
        ),
        (
            with("metadata", json!({"name": "x", "resourceVersion": "1"})),
            409,
            "the object has been modified",
        ),
        (
            with("metadata", json!({"name": "y"})),
            400,
            "the name of the object (y) does not match the name on the URL (x)",
        ),
    ] {
        let (status, error) = apply(&server, &uri, "m", "", &body).await;
        let found = error["message"].as_str().unwrap();
        assert_eq!(status.as_u16(), code, "{found}");
        assert!(found.contains(message), "{found}");
    }
    let kind = "application/apply-patch+yaml";
    let (status, error) = patch(&server, kind, &uri, &map(json!({})).to_string()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        error["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let merge = "application/merge-patch+json";
    let (status, error) = patch(&server, merge, &format!("{uri}?force=true"), "{}").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        error["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let long = format!("{uri}?fieldManager={}", "m".repeat(129));
    assert_eq!(
        patch(&server, merge, &long, "{}").await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn duplicates_in_a_configuration_are_warned_of_or_refused() {
    let server = server().await;
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1","a":"2"}}"#;
    let kind = [("content-type", "application/apply-patch+yaml")];
    let uri = format!("{MAPS}/x?fieldManager=m&fieldValidation=Strict");
    let (status, error) = text(send(&server, "PATCH", &uri, &kind, body).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error.contains("already set in map"), "{error}");
    let uri = format!("{MAPS}/x?fieldManager=m&fieldValidation=Warn");
    let answer = send(&server, "PATCH", &uri, &kind, body).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let warning = answer.headers()["warning"].to_str().unwrap();
    assert!(warning.contains("already set in map"), "{warning}");
}

#[tokio::test]
async fn yaml_is_applied_and_a_dry_run_stores_nothing() {
    let server = server().await;
    let uri = format!("{MAPS}/x?fieldManager=m");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  a: \"1\"\n";
    let kind = "application/apply-patch+yaml";
    let (status, dry) = patch(&server, kind, &format!("{uri}&dryRun=All"), yaml).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(owners(&dry).len(), 1);
    assert_eq!(
        get(&server, &format!("{MAPS}/x")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        patch(&server, kind, &uri, yaml).await.0,
        StatusCode::CREATED
    );
    let changed = yaml.replace("\"1\"", "\"2\"");
    let (_, dry) = patch(&server, kind, &format!("{uri}&dryRun=All"), &changed).await;
    assert_eq!(dry["data"]["a"], "2");
    assert_eq!(owners(&dry).len(), 1);
    assert_eq!(get(&server, &format!("{MAPS}/x")).await.1["data"]["a"], "1");
}

#[tokio::test]
async fn an_empty_list_ends_tracking_until_someone_applies() {
    let server = server().await;
    let uri = format!("{MAPS}/x");
    for reset in [json!([]), json!([{}])] {
        apply(&server, &uri, "m", "&force=true", &map(json!({"a": "1"}))).await;
        let body = json!({"metadata": {"managedFields": reset}}).to_string();
        let merge = "application/merge-patch+json";
        let (_, cleared) = patch(&server, merge, &uri, &body).await;
        assert_eq!(cleared["metadata"].get("managedFields"), None);
        let (_, changed) = patch(&server, merge, &uri, r#"{"data":{"b":"1"}}"#).await;
        assert_eq!(changed["metadata"].get("managedFields"), None);
    }
    let (_, applied) = apply(&server, &uri, "m", "", &map(json!({"a": "1"}))).await;
    let found = owners(&applied);
    assert!(owner(&found, "before-first-apply").is_some());
    assert_eq!(owner(&found, "m"), Some(&json!({"f:data": {"f:a": {}}})));
}

#[tokio::test]
async fn kubectl_goes_over_from_client_side_apply() {
    let server = server().await;
    let uri = format!("{MAPS}/x");
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let last = map(json!({"a": "1"}));
    let mut made = last.clone();
    made["metadata"]["annotations"] = json!({annotation: last.to_string()});
    call(
        &server,
        "POST",
        &format!("{MAPS}?fieldManager=kubectl-client-side-apply"),
        made,
    )
    .await;
    let (status, _) = apply(&server, &uri, "someone", "", &map(json!({"a": "2"}))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, now) = apply(&server, &uri, "kubectl", "", &map(json!({"a": "2"}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(now["data"]["a"], "2");
    let kept = now["metadata"]["annotations"][annotation].as_str().unwrap();
    let kept: Value = serde_json::from_str(kept).unwrap();
    assert_eq!(kept["data"]["a"], "2");
}

#[tokio::test]
async fn only_the_youngest_updaters_are_told_apart() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let mut last = Value::Null;
    for i in 0..14 {
        let body = json!({"data": {format!("k{i}"): "v"}}).to_string();
        let uri = format!("{MAPS}/x?fieldManager=m{i}");
        last = patch(&server, "application/merge-patch+json", &uri, &body)
            .await
            .1;
    }
    let found = owners(&last);
    assert_eq!(found.len(), 10);
    assert!(owner(&found, "ancient-changes").is_some());
}

#[tokio::test]
async fn versions_of_a_kind_share_owners() {
    let server = server().await;
    let uri =
        |v: &str| format!("/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers/h");
    let scaler = |v: &str, spec: Value| {
        json!({"apiVersion": format!("autoscaling/{v}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"}, "spec": spec})
    };
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let v2 = scaler(
        "v2",
        json!({"maxReplicas": 3, "minReplicas": 2, "scaleTargetRef": target}),
    );
    let (status, made) = apply(&server, &uri("v2"), "m", "", &v2).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let v1 = scaler("v1", json!({"maxReplicas": 4, "scaleTargetRef": target}));
    let (status, error) = apply(&server, &uri("v1"), "other", "", &v1).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"m\": .spec.maxReplicas"
    );
    // The same applier in another version still takes out what it applies no more.
    let (status, now) = apply(&server, &uri("v1"), "m", "", &v1).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(now["spec"]["maxReplicas"], 4);
    assert_eq!(now["spec"]["minReplicas"], 1);
    assert_eq!(owners(&now).len(), 1);
}

#[tokio::test]
async fn kube_applies() {
    let server = server().await;
    let api: Api<Deployment> = Api::namespaced(client(&server), "default");
    let made = api
        .patch(
            "d",
            &PatchParams::apply("operator"),
            &Patch::Apply(deployment(2)),
        )
        .await
        .unwrap();
    let entry = &made.metadata.managed_fields.as_ref().unwrap()[0];
    assert_eq!(entry.manager.as_deref(), Some("operator"));
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let map: ConfigMap = serde_json::from_value(config_map("x")).unwrap();
    let params = PostParams {
        field_manager: Some("creator".into()),
        ..PostParams::default()
    };
    maps.create(&params, &map).await.unwrap();
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "2"}, "metadata": {"name": "x"}});
    let refused = maps
        .patch("x", &PatchParams::apply("operator"), &Patch::Apply(&other))
        .await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(status.code, 409);
    let forced = maps
        .patch(
            "x",
            &PatchParams::apply("operator").force(),
            &Patch::Apply(&other),
        )
        .await
        .unwrap();
    assert_eq!(forced.data.unwrap()["a"], "2");
}

#[tokio::test]
async fn the_last_field_of_the_metadata_can_be_given_up() {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let server = server().await;
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"colour": {"type": "string"}},
        }}})
    };
    let definition = json!({
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [version("v1", true), version("v2", false)],
        },
    });
    let (status, body) = call(&server, "POST", DEFINITIONS, definition).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    while get(&server, "/apis/example.com/v2/lamps").await.0 != StatusCode::OK {
        tokio::task::yield_now().await;
    }
    for (name, second) in [("same", "v1"), ("other", "v2")] {
        let lamp = |version: &str, metadata: Value| {
            json!({
                "apiVersion": format!("example.com/{version}"), "kind": "Lamp",
                "metadata": metadata, "colour": "red",
            })
        };
        let path = |version: &str| format!("/apis/example.com/{version}/lamps/{name}");
        let with = lamp(
            "v1",
            json!({"name": name, "finalizers": ["example.com/test"]}),
        );
        let (status, made) = apply(&server, &path("v1"), "m", "", &with).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let without = lamp(second, json!({"name": name}));
        let (status, found) = apply(&server, &path(second), "m", "", &without).await;
        assert_eq!(status, StatusCode::OK, "{second}: {found}");
        assert_eq!(found["metadata"]["finalizers"], Value::Null, "{second}");
        assert_eq!(found["metadata"]["uid"], made["metadata"]["uid"]);
        assert_eq!(found["colour"], "red");
    }
}

#[tokio::test]
async fn who_may_escalate_one_role_may_apply_it_anew() {
    let server = server().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let group = "rbac.authorization.k8s.io";
    let rules = json!([
        {"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["create", "patch"]},
        {"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["escalate"], "resourceNames": ["mine"]},
    ]);
    let role = json!({"metadata": {"name": "author"}, "rules": rules});
    assert_eq!(call(&server, "POST", roles, role).await.0, 201);
    let binding = json!({"metadata": {"name": "author"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "author"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(call(&server, "POST", bindings, binding).await.0, 201);
    let apply = async |name: &str| {
        let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
        let request = http::Request::patch(format!("{roles}/{name}?fieldManager=m"))
            .header("content-type", "application/apply-patch+yaml")
            .extension(Identity::user("jane").group("system:authenticated"))
            .body(k8s_apiserver::http::Body::from(role.to_string()));
        server.handle(request.unwrap()).await.status().as_u16()
    };
    // What was granted is known in a moment.
    let granted = async {
        while apply("mine").await != 201 {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, granted).await.unwrap();
    assert_eq!(apply("other").await, 403);
}
