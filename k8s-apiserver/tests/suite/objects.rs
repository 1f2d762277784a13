//! Objects from birth to death, through the in-process client and over plain requests.

use crate::common::{MAPS, call, client, config_map, get, send, server, text};
use http::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(config_map(name)).unwrap()
}

#[tokio::test]
async fn a_created_object_can_be_read_changed_and_deleted() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let made = api.create(&PostParams::default(), &map("x")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(made.metadata.namespace.as_deref(), Some("default"));
    let read = api.get("x").await.unwrap();
    assert_eq!(read, made);
    let mut changed = read.clone();
    changed
        .data
        .get_or_insert_default()
        .insert("b".into(), "2".into());
    let changed = api
        .replace("x", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_ne!(
        changed.metadata.resource_version,
        made.metadata.resource_version
    );
    let patched = api
        .patch(
            "x",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"a": null}})),
        )
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap().into_keys().collect::<Vec<_>>(), ["b"]);
    api.delete("x", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("x").await.unwrap().is_none());
}

#[tokio::test]
async fn a_conflict_says_what_could_have_been_otherwise() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    // A name that could have been generated, though this one was not.
    let mut again = config_map("x");
    again["metadata"]["generateName"] = "y-".into();
    let (code, error) = call(&server, "POST", MAPS, again).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(error["details"]["retryAfterSeconds"], 1);
    assert_eq!(
        error["message"],
        "configmaps \"x\" already exists, the server was not able to generate a unique name for the object"
    );
    // An object with a UID is no other, nor one that is not there.
    let mut other = config_map("none");
    other["metadata"]["uid"] = "u".into();
    let uri = format!("{MAPS}/none");
    let (code, error) = call(&server, "PUT", &uri, other).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "Operation cannot be fulfilled on configmaps \"none\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/none, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: u, UID in object meta: "
    );
    let (code, _) = call(&server, "PUT", &uri, config_map("none")).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lists_come_in_consistent_pages() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    for i in 0..5 {
        api.create(&PostParams::default(), &map(&format!("x{i}")))
            .await
            .unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    let token = first.metadata.continue_.clone().unwrap();
    api.delete("x3", &DeleteParams::default()).await.unwrap();
    let rest = api
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .unwrap();
    let names: Vec<_> = rest
        .items
        .iter()
        .map(|m| m.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["x2", "x3", "x4"]);
    assert_eq!(
        rest.metadata.resource_version,
        first.metadata.resource_version
    );
}

#[tokio::test]
async fn selectors_pick_by_labels_and_names() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let mut map = map(name);
        map.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        api.create(&PostParams::default(), &map).await.unwrap();
    }
    let web = api
        .list(&ListParams::default().labels("app=web"))
        .await
        .unwrap();
    assert_eq!(web.items.len(), 2);
    let paged = api
        .list(&ListParams::default().labels("app=web").limit(1))
        .await
        .unwrap();
    assert_eq!(paged.items.len(), 1);
    assert!(paged.metadata.continue_.is_some() && paged.metadata.remaining_item_count.is_none());
    let one = api
        .list(&ListParams::default().fields("metadata.name=b"))
        .await
        .unwrap();
    assert_eq!(one.items.len(), 1);
    let error = api
        .list(&ListParams::default().fields("spec.x=b"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not a known field selector"),
        "{error}"
    );
    let error = api
        .list(&ListParams::default().labels("a b"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("unable to parse requirement"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stale_update_is_a_conflict_and_an_unversioned_one_is_not() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let old = api.create(&PostParams::default(), &map("x")).await.unwrap();
    api.patch(
        "x",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"b": "2"}})),
    )
    .await
    .unwrap();
    let kube::Error::Api(status) = api
        .replace("x", &PostParams::default(), &old)
        .await
        .unwrap_err()
    else {
        panic!()
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes to the latest version and try again"
    );
    api.replace("x", &PostParams::default(), &map("x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_update_that_changes_nothing_keeps_the_version() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let made = api.create(&PostParams::default(), &map("x")).await.unwrap();
    let same = api
        .replace("x", &PostParams::default(), &made)
        .await
        .unwrap();
    assert_eq!(same, made);
}

#[tokio::test]
async fn dry_run_stores_nothing() {
    let server = server().await;
    let (status, made) = call(
        &server,
        "POST",
        &format!("{MAPS}?dryRun=All"),
        config_map("x"),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert!(made["metadata"]["uid"].is_string());
    assert_eq!(
        get(&server, &format!("{MAPS}/x")).await.0,
        StatusCode::NOT_FOUND
    );
    call(&server, "POST", MAPS, config_map("x")).await;
    let (status, _) = call(
        &server,
        "DELETE",
        &format!("{MAPS}/x?dryRun=All"),
        json!(null),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(get(&server, &format!("{MAPS}/x")).await.0, StatusCode::OK);
    let (status, error) = call(
        &server,
        "POST",
        &format!("{MAPS}?dryRun=Some"),
        config_map("y"),
    )
    .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
}

#[tokio::test]
async fn names_are_generated_and_a_taken_one_is_refused() {
    let server = server().await;
    let body =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "web-"}});
    let (_, one) = call(&server, "POST", MAPS, body.clone()).await;
    let (_, two) = call(&server, "POST", MAPS, body).await;
    assert!(
        one["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("web-")
    );
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
    call(&server, "POST", MAPS, config_map("x")).await;
    let (status, error) = call(&server, "POST", MAPS, config_map("x")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(error["message"], "configmaps \"x\" already exists");
}

#[tokio::test]
async fn unknown_fields_are_warned_of_or_refused() {
    let server = server().await;
    let body =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "foo": 1})
            .to_string();
    let json = [("content-type", "application/json")];
    let response = crate::common::send(&server, "POST", MAPS, &json, body.clone()).await;
    assert_eq!(
        response.headers()["warning"],
        "299 - \"unknown field \\\"foo\\\"\""
    );
    let uri = format!("{MAPS}?fieldValidation=Strict");
    let (status, text) =
        crate::common::text(crate::common::send(&server, "POST", &uri, &json, body).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        text.contains("strict decoding error: unknown field \\\"foo\\\""),
        "{text}"
    );
}

#[tokio::test]
async fn annotations_that_fields_are_made_of_are_warned_of_though_the_fields_are_there() {
    let server = server().await;
    let annotation = "container.apparmor.security.beta.kubernetes.io/c";
    let pod = |container: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {annotation: "unconfined"}},
            "spec": {"containers": [container]}})
    };
    let json = [("content-type", "application/json")];
    let account = json!({"metadata": {"name": "default"}}).to_string();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    send(&server, "POST", accounts, &json, account).await;
    let uri = "/api/v1/namespaces/default/pods?dryRun=All";
    let profile = json!({"appArmorProfile": {"type": "Unconfined"}});
    let container = json!({"name": "c", "image": "x:1"});
    let body = pod(container.clone()).to_string();
    let answer = send(&server, "POST", uri, &json, body).await;
    assert_eq!(
        answer.headers()["warning"],
        format!(
            "299 - \"metadata.annotations[{annotation}]: deprecated since v1.30; use the \\\"appArmorProfile\\\" field instead\""
        )
    );
    let (_, made) = text(answer).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let made = &made["spec"]["containers"][0];
    assert_eq!(made["securityContext"], profile, "{made}");
    let mut own = container;
    own["securityContext"] = profile;
    let answer = send(&server, "POST", uri, &json, pod(own).to_string()).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers().get("warning"), None);
}

#[tokio::test]
async fn bad_bodies_get_upstreams_answers() {
    let server = server().await;
    let json = [("content-type", "application/json")];
    let (status, text) =
        crate::common::text(crate::common::send(&server, "POST", MAPS, &json, "{").await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    let (status, text) = crate::common::text(
        crate::common::send(&server, "POST", MAPS, &json, vec![b' '; 4 << 20]).await,
    )
    .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    let (status, text) = crate::common::text(
        crate::common::send(&server, "POST", MAPS, &[("content-type", "text/html")], "x").await,
    )
    .await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{text}");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: why\n";
    let (status, text) = crate::common::text(
        crate::common::send(
            &server,
            "POST",
            MAPS,
            &[("content-type", "application/yaml")],
            yaml,
        )
        .await,
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{text}");
    let (status, error) = call(&server, "POST", MAPS, config_map("Not A Name")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(error["reason"], "Invalid", "{error}");
    let mut other = config_map("z");
    other["metadata"]["namespace"] = "other".into();
    let (status, error) = call(&server, "POST", MAPS, other).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
}

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_removed() {
    let server = server().await;
    let mut body = config_map("x");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    call(&server, "POST", MAPS, body).await;
    let uri = format!("{MAPS}/x");
    let (status, held) = call(&server, "DELETE", &uri, json!(null)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
    let (status, error) = call(&server, "POST", MAPS, config_map("x")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        error["message"],
        "object is being deleted: configmaps \"x\" already exists"
    );
    let (status, error) = call(
        &server,
        "PATCH",
        &uri,
        json!({"metadata": {"finalizers": ["example.com/hold", "example.com/b"]}}),
    )
    .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    let (status, _) = call(
        &server,
        "PATCH",
        &uri,
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(get(&server, &uri).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn propagation_policies_become_finalizers_and_preconditions_hold() {
    let server = server().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        call(
            &server,
            "POST",
            MAPS,
            config_map(policy.to_lowercase().as_str()),
        )
        .await;
        let uri = format!("{MAPS}/{}", policy.to_lowercase());
        let (_, held) = call(
            &server,
            "DELETE",
            &uri,
            json!({"propagationPolicy": policy}),
        )
        .await;
        assert_eq!(held["metadata"]["finalizers"], json!([finalizer]));
    }
    call(&server, "POST", MAPS, config_map("x")).await;
    let uri = format!("{MAPS}/x");
    let (status, error) = call(
        &server,
        "DELETE",
        &uri,
        json!({"preconditions": {"uid": "no"}}),
    )
    .await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("the UID in the precondition (no) does not match")
    );
    let (status, done) = call(
        &server,
        "DELETE",
        &uri,
        json!({"propagationPolicy": "Background"}),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (done["kind"].as_str(), done["status"].as_str()),
        (Some("Status"), Some("Success"))
    );
    assert_eq!(done["details"]["kind"], "configmaps");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = server().await;
    for name in ["a", "b"] {
        let mut body = config_map(name);
        body["metadata"]["labels"] = json!({"n": name});
        call(&server, "POST", MAPS, body).await;
    }
    let (status, gone) = call(
        &server,
        "DELETE",
        &format!("{MAPS}?labelSelector=n%3Da"),
        json!(null),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(gone["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        get(&server, MAPS).await.1["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// Somebody who may delete collections everywhere deletes those of all namespaces at once by no path.
#[tokio::test]
async fn collections_are_deleted_one_namespace_at_a_time() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("a")).await;
    let all = "/api/v1/configmaps";
    for uri in [all.to_owned(), format!("{all}?dryRun=All")] {
        let (status, answer) = call(&server, "DELETE", &uri, json!(null)).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{uri}: {answer}");
    }
    assert_eq!(get(&server, &format!("{MAPS}/a")).await.0, StatusCode::OK);
    // What has no namespace is one collection.
    let (status, _) = call(&server, "DELETE", "/api/v1/persistentvolumes", json!(null)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_namespace_ends_with_its_last_finalizer() {
    let server = server().await;
    let api: Api<Namespace> = Api::all(client(&server));
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("x".into());
    let made = api
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    assert_eq!(made.spec.unwrap().finalizers.unwrap(), ["kubernetes"]);
    let held = api
        .delete("x", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(held.status.unwrap().phase.as_deref(), Some("Terminating"));
    let (status, error) = call(
        &server,
        "POST",
        "/api/v1/namespaces/x/configmaps",
        config_map("y"),
    )
    .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
    let mut last = api.get("x").await.unwrap();
    last.spec.as_mut().unwrap().finalizers = None;
    let (status, _) = call(
        &server,
        "PUT",
        "/api/v1/namespaces/x/finalize",
        serde_json::to_value(&last).unwrap(),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert!(api.get_opt("x").await.unwrap().is_none());
}

#[tokio::test]
async fn resource_versions_mean_what_upstream_says() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("x")).await;
    let (_, before) = get(&server, MAPS).await;
    let version = before["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    call(&server, "POST", MAPS, config_map("y")).await;
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    let (_, old) = get(&server, &exact).await;
    assert_eq!(old["items"].as_array().unwrap().len(), 1);
    let (_, new) = get(&server, &format!("{MAPS}?resourceVersion={version}")).await;
    assert_eq!(new["items"].as_array().unwrap().len(), 2);
    let (status, error) = get(&server, &format!("{MAPS}?resourceVersion=99999999")).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        error["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    let (status, _) = get(&server, &format!("{MAPS}?resourceVersion=abc")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn forbidden_says_what_upstream_says() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::namespaced(
        server.client(k8s_apiserver::auth::Identity::user("alice")),
        "default",
    );
    let kube::Error::Api(status) = api.list(&ListParams::default()).await.unwrap_err() else {
        panic!()
    };
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "configmaps is forbidden: User \"alice\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn a_body_over_three_mebibytes_is_refused_and_changes_nothing() {
    let server = server().await;
    let mut body = config_map("big");
    body["data"] = json!({"a": "x".repeat(3 << 20)});
    let (status, answer) = call(&server, "POST", MAPS, body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer["reason"], "RequestEntityTooLarge");
    assert_eq!(
        answer["message"],
        "Request entity too large: limit is 3145728"
    );
    let (status, _) = get(&server, &format!("{MAPS}/big")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // Within the limit of requests, but over that of a ConfigMap.
    let mut body = config_map("big");
    body["data"] = json!({"a": "x".repeat(2 << 20)});
    let (status, answer) = call(&server, "POST", MAPS, body).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer["message"],
        "ConfigMap \"big\" is invalid: []: Too long: may not be more than 1048576 bytes"
    );
}

#[tokio::test]
async fn nobody_owns_what_a_create_does_not_take() {
    let server = server().await;
    let mut object = config_map("gone");
    object["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    object["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    let (code, made) = call(&server, "POST", MAPS, object).await;
    assert_eq!(code, StatusCode::CREATED);
    let meta = &made["metadata"];
    assert!(meta["deletionTimestamp"].is_null() && meta["deletionGracePeriodSeconds"].is_null());
    let owned = meta["managedFields"][0]["fieldsV1"].to_string();
    assert!(
        owned.contains("f:data") && !owned.contains("deletion"),
        "{owned}"
    );
}

#[tokio::test]
async fn a_dry_run_does_not_see_that_a_new_object_has_a_version() {
    let server = server().await;
    let mut object = config_map("versioned");
    object["metadata"]["resourceVersion"] = "5".into();
    let (code, answer) = call(&server, "POST", MAPS, object.clone()).await;
    assert_eq!(code, 500);
    let told = "resourceVersion should not be set on objects to be created";
    assert_eq!(answer["message"], told);
    let (code, answer) = call(&server, "POST", &format!("{MAPS}?dryRun=All"), object).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(answer["metadata"]["resourceVersion"], "5");
}

#[tokio::test]
async fn an_update_that_creates_is_for_no_object_that_was() {
    let server = server().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = |uid: &str| json!({"metadata": {"name": "l", "uid": uid, "resourceVersion": "5"}});
    let (code, answer) = call(&server, "PUT", leases, lease("u")).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let told = answer["message"].as_str().unwrap();
    let end = "Key: /registry/leases/default/l, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
               precondition: u, UID in object meta: ";
    assert!(told.ends_with(end), "{told}");
    assert_eq!(
        call(&server, "PUT", leases, lease("")).await.0,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn times_with_microseconds_have_all_of_them() {
    let server = server().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease =
        |name: &str, time: &str| json!({"metadata": {"name": name}, "spec": {"renewTime": time}});
    let (code, answer) = call(&server, "POST", leases, lease("l", "2026-01-01T00:00:00Z")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer["message"],
        "Lease in version \"v1\" cannot be handled as a Lease: parsing time \"2026-01-01T00:00:00Z\" as \
         \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""
    );
    let (code, made) = call(
        &server,
        "POST",
        leases,
        lease("l", "2026-01-01T00:00:00.100000Z"),
    )
    .await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(made["spec"]["renewTime"], "2026-01-01T00:00:00.100000Z");
}

#[tokio::test]
async fn bytes_may_come_in_lines_and_are_stored_in_one() {
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    const JSON: &str = r#"{"metadata": {"name": "s"}, "data": {"a": "YWJj\nZGVm\n", "b": "YR=="}}"#;
    const YAML: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  a: |\n    YWJj\n    ZGVm\n  b: YR==\n";
    const PATCH: &str = r#"{"data": {"a": "YWJj\r\nZGVm", "b": "YQ=\n="}}"#;
    const STEPS: &str =
        r#"[{"op": "add", "path": "/data", "value": {"a": "YWJjZG\nVm", "b": "YR==\n"}}]"#;
    let one = format!("{SECRETS}/s");
    let applied = format!("{one}?fieldManager=m&force=true");
    let server = server().await;
    for (method, uri, kind, body) in [
        ("POST", SECRETS, "application/json", JSON),
        ("POST", SECRETS, "application/yaml", YAML),
        ("PUT", &one, "application/json", JSON),
        ("PUT", &one, "application/yaml", YAML),
        ("PATCH", &one, "application/merge-patch+json", PATCH),
        (
            "PATCH",
            &one,
            "application/strategic-merge-patch+json",
            PATCH,
        ),
        ("PATCH", &one, "application/json-patch+json", STEPS),
        ("PATCH", &applied, "application/apply-patch+yaml", YAML),
    ] {
        call(&server, "DELETE", &one, Value::Null).await;
        if method != "POST" {
            let other = json!({"metadata": {"name": "s"}, "data": {"a": "eA=="}});
            let (status, made) = call(&server, "POST", SECRETS, other).await;
            assert_eq!(status, StatusCode::CREATED, "{made}");
        }
        let answer = send(&server, method, uri, &[("content-type", kind)], body).await;
        let (status, answer) = text(answer).await;
        assert!(status.is_success(), "{method} {kind}: {answer}");
        let (_, stored) = get(&server, &one).await;
        let data = json!({"a": "YWJjZGVm", "b": "YQ=="});
        assert_eq!(stored["data"], data, "{method} {kind}");
    }
    let wrong = json!({"metadata": {"name": "t"}, "data": {"a": "YWJj\n!"}});
    let (status, answer) = call(&server, "POST", SECRETS, wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer["message"],
        "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 5"
    );
}
