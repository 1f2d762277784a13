//! What answers say besides their objects: warnings and names of requests, and which path there is.

use http::{Response, header::WARNING};
use k8s_apiserver::{ApiServer, http::Body};
use serde_json::{Value, json};

use crate::common::{MAPS, call, get, send, server, text};

async fn ask(server: &ApiServer, method: &str, uri: &str, body: Value) -> Response<Body> {
    let headers = [("content-type", "application/json")];
    send(server, method, uri, &headers, body.to_string()).await
}

fn warnings(answer: &Response<Body>) -> Vec<&str> {
    let told = answer.headers().get_all(WARNING).iter();
    told.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn who_is_refused_is_warned_too() {
    let server = server().await;
    let body = json!({"metadata": {"name": "x"}, "nope": 1});
    let answer = ask(&server, "PUT", &format!("{MAPS}/x"), body).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(warnings(&answer), [r#"299 - "unknown field \"nope\"""#]);
    let body = json!({"metadata": {"name": "X"}, "nope": 1});
    let answer = ask(&server, "POST", MAPS, body).await;
    assert_eq!(answer.status(), 422);
    assert_eq!(warnings(&answer), [r#"299 - "unknown field \"nope\"""#]);
    // What is deprecated is told of before what is read.
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let body = json!({"metadata": {"name": "x"}, "nope": 1});
    let answer = ask(&server, "POST", endpoints, body).await;
    assert_eq!(answer.status(), 201);
    let told = warnings(&answer);
    assert!(told[0].contains("v1 Endpoints is deprecated"), "{told:?}");
    assert!(told[1].contains("unknown field"), "{told:?}");
}

#[tokio::test]
async fn who_deletes_jobs_is_told_that_pods_stay() {
    let server = server().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    for uri in [format!("{jobs}/x"), jobs.to_owned()] {
        let answer = ask(&server, "DELETE", &uri, json!({})).await;
        let told = warnings(&answer);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("child pods are preserved by default"));
        let chosen = json!({"propagationPolicy": "Orphan"});
        assert_eq!(
            warnings(&ask(&server, "DELETE", &uri, chosen).await),
            [""; 0]
        );
    }
}

#[tokio::test]
async fn only_what_can_be_watched_has_a_path_to_watch() {
    let server = server().await;
    for path in [
        "/apis/authentication.k8s.io/v1/watch/tokenreviews",
        "/api/v1/watch/namespaces/default/bindings",
        "/api/v1/watch/componentstatuses",
        "/api/v1/proxy/nodes/n",
    ] {
        let answer = ask(&server, "GET", path, json!({})).await;
        assert_eq!(warnings(&answer), [""; 0], "{path}");
        let (code, _) = text(answer).await;
        assert_eq!(code, 404, "{path}");
    }
    for path in [
        "apps/v1/watch/deployments/x",
        "apps/v1/watch/namespaces/default/deployments/x/status",
    ] {
        assert_eq!(
            get(&server, &format!("/apis/{path}")).await.0,
            404,
            "{path}"
        );
    }
    let watch = "/api/v1/watch/namespaces/default/configmaps?timeoutSeconds=1";
    assert_eq!(get(&server, watch).await.0, 200);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = ask(&server, method, watch, json!({})).await;
        assert_eq!(answer.status(), 405, "{method}");
    }
}

#[tokio::test]
async fn fields_of_jobs_are_refused_in_words_of_their_own() {
    let server = server().await;
    for (resource, told) in [
        (
            "/apis/batch/v1/jobs",
            r#"field label "spec.x" not supported for Job"#,
        ),
        ("/api/v1/pods", "field label not supported: spec.x"),
    ] {
        let (code, answer) = get(&server, &format!("{resource}?fieldSelector=spec.x%3Dy")).await;
        assert_eq!(
            (code.as_u16(), answer["message"].as_str().unwrap()),
            (400, told)
        );
    }
}

#[tokio::test]
async fn owners_count_once() {
    let server = server().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u"});
    let body = json!({"metadata": {"name": "x", "ownerReferences": [owner, owner]}});
    for (method, uri) in [("POST", MAPS.to_owned()), ("PUT", format!("{MAPS}/x"))] {
        let answer = ask(&server, method, &uri, body.clone()).await;
        let told = warnings(&answer);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("ownerReferences contains duplicate entries; "));
        let (_, made) = text(answer).await;
        let made: Value = serde_json::from_str(&made).unwrap();
        assert_eq!(made["metadata"]["ownerReferences"], json!([owner]));
    }
    let patch = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": owner}]);
    let kind = [("content-type", "application/json-patch+json")];
    let uri = format!("{MAPS}/x");
    let answer = send(&server, "PATCH", &uri, &kind, patch.to_string()).await;
    let told = warnings(&answer);
    assert!(
        told[0].contains("duplicate entries after mutating admission"),
        "{told:?}"
    );
}

#[tokio::test]
async fn answers_name_their_request() {
    let server = server().await;
    let name = |answer: Response<Body>| answer.headers()["audit-id"].to_str().unwrap().to_owned();
    let one = name(ask(&server, "GET", MAPS, Value::Null).await);
    let other = name(ask(&server, "GET", "/nowhere", Value::Null).await);
    assert_eq!((one.len(), other.len()), (36, 36));
    assert_ne!(one, other);
    let chosen = send(&server, "GET", MAPS, &[("audit-id", "mine")], "").await;
    assert_eq!(name(chosen), "mine");
}

#[tokio::test]
async fn nobody_guesses_what_a_refusal_is_made_of() {
    let server = server().await;
    let alice = [("impersonate-user", "alice")];
    let answer = send(&server, "GET", MAPS, &alice, "").await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn who_sends_a_token_that_is_not_seen_is_told() {
    let server = ApiServer::builder().seed(1).build().await.unwrap();
    let ask = |value: &'static str| {
        let request = http::Request::builder()
            .uri("/healthz")
            .header("authorization", value);
        server.handle(request.body(Body::empty()).unwrap())
    };
    let answer = ask("Bearer  token").await;
    let told = warnings(&answer);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("extra space before the bearer token"),
        "{told:?}"
    );
    for seen in ["Bearer token", "Bearer token x", "Bearer", "Basic  x"] {
        assert_eq!(warnings(&ask(seen).await), [""; 0], "{seen}");
    }
}

#[tokio::test]
async fn what_is_only_created_is_found_nowhere() {
    let server = server().await;
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let local = "/apis/authorization.k8s.io/v1/localsubjectaccessreviews";
    for (method, uri, code) in [
        ("GET", reviews.to_owned(), 405),
        ("GET", format!("{reviews}/x"), 404),
        (
            "GET",
            format!("{reviews}?fieldSelector=metadata.name%3Dx"),
            405,
        ),
        ("PUT", format!("{reviews}/x"), 404),
        ("POST", format!("{reviews}/x"), 404),
        (
            "DELETE",
            "/api/v1/namespaces/default/bindings/x".to_owned(),
            404,
        ),
        ("GET", "/api/v1/namespaces/default/bindings".to_owned(), 405),
        ("POST", "/api/v1/bindings".to_owned(), 404),
        ("POST", local.to_owned(), 404),
        ("POST", "/api/v1/pods".to_owned(), 405),
        ("PUT", "/api/v1/componentstatuses/x".to_owned(), 405),
    ] {
        let (status, answer) = call(&server, method, &uri, json!({})).await;
        assert_eq!(status, code, "{method} {uri}: {answer}");
        assert_eq!(answer["kind"], "Status", "{method} {uri}");
    }
    let (_, list) = get(&server, "/api/v1").await;
    let hashes = list["resources"].as_array().unwrap().iter();
    let hashed = hashes.filter(|row| row.get("storageVersionHash").is_some());
    assert!(hashed.clone().count() > 10);
    assert!(
        hashed
            .into_iter()
            .all(|row| row["name"] != "componentstatuses")
    );
}

#[tokio::test]
async fn a_scale_that_is_not_there_is_told_of_as_what_it_scales() {
    let server = server().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments/x/scale";
    let (status, error) = get(&server, deployments).await;
    assert_eq!(status, 404);
    assert_eq!(error["message"], r#"deployments.apps "x" not found"#);
    let controllers = "/api/v1/namespaces/default/replicationcontrollers/x/scale";
    let (_, error) = get(&server, controllers).await;
    let told = &error["details"];
    assert_eq!(told["kind"], "replicationcontrollers");
    let (_, error) = get(&server, &deployments.replace("deployments", "statefulsets")).await;
    assert_eq!(error["message"], r#"statefulsets.apps "x" not found"#);
    // A body that does not fit its URL is refused first.
    let (status, _) = call(&server, "PUT", deployments, json!({})).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn who_has_no_way_to_nodes_says_so_of_what_is_there() {
    let server = server().await;
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    call(&server, "POST", accounts, account).await;
    let pods = "/api/v1/namespaces/default/pods";
    let container = json!({"name": "c", "image": "i"});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    let (status, made) = call(&server, "POST", pods, pod).await;
    assert_eq!(status, 201, "{made}");
    let (status, error) = get(&server, &format!("{pods}/p/log")).await;
    assert_eq!(status, 503);
    assert_eq!(error["message"], "the server has no way to the nodes");
    let (status, error) = get(&server, &format!("{pods}/q/log")).await;
    assert_eq!(status, 404);
    assert_eq!(error["message"], r#"pods "q" not found"#);
}

#[tokio::test]
async fn limits_need_no_name() {
    let server = server().await;
    let ranges = "/api/v1/namespaces/default/limitranges";
    let (status, made) = call(&server, "POST", ranges, json!({})).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["metadata"]["name"].as_str().unwrap().len(), 36);
    let (_, named) = call(
        &server,
        "POST",
        ranges,
        json!({"metadata": {"generateName": "a-"}}),
    )
    .await;
    let name = named["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("a-"), "{name}");
}

#[tokio::test]
async fn a_watch_that_is_given_less_than_no_time_is_over() {
    let server = server().await;
    let uri = format!("{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=-1");
    let (status, events) = text(send(&server, "GET", &uri, &[], "").await).await;
    assert_eq!((status.as_u16(), events.as_str()), (200, ""));
}

/// All of this was asked of v1.36.
#[tokio::test]
async fn who_names_no_namespace_lists_all_and_changes_nothing() {
    let server = server().await;
    const ALL: &str = "/api/v1/namespaces//configmaps";
    let pods = "/api/v1/namespaces//pods";
    let empty = "/api/v1/namespaces//secrets";
    // Of these there are some.
    call(&server, "POST", MAPS, json!({"metadata": {"name": "x"}})).await;
    let (status, list) = get(&server, ALL).await;
    assert_eq!(status, 200, "{list}");
    let items = list["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["metadata"]["name"] == "x"));
    let required = "Namespace parameter required.";
    let named = json!({"metadata": {"name": "x", "namespace": "default"}});
    let target = json!({"metadata": {"name": "x"}, "target": {"name": "n"}});
    for (method, path, body) in [
        ("GET", format!("{ALL}/x"), Value::Null),
        ("DELETE", format!("{ALL}/x"), Value::Null),
        ("PUT", format!("{ALL}/x"), named.clone()),
        ("PATCH", format!("{ALL}/x"), json!({"data": {"a": "b"}})),
        ("DELETE", ALL.to_owned(), Value::Null),
        ("GET", format!("{pods}/x/status"), Value::Null),
        ("GET", format!("{pods}/x/log"), Value::Null),
        ("POST", format!("{pods}/x/eviction"), named.clone()),
        ("POST", format!("{pods}/x/binding"), target),
    ] {
        let (status, answer) = call(&server, method, &path, body).await;
        assert_eq!(
            (status.as_u16(), &answer["message"]),
            (400, &required.into()),
            "{method} {path}"
        );
    }
    for body in [named, json!({"metadata": {"name": "x"}})] {
        let (status, answer) = call(&server, "POST", ALL, body).await;
        let told = r#"ConfigMap "x" is invalid: metadata.namespace: Required value"#;
        assert_eq!((status.as_u16(), &answer["message"]), (422, &told.into()));
    }
    let review =
        json!({"spec": {"user": "a", "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let reviews = "/apis/authorization.k8s.io/v1/namespaces//localsubjectaccessreviews";
    let (status, answer) = call(&server, "POST", reviews, review).await;
    let told = "namespace is required on this type: ";
    assert_eq!((status.as_u16(), &answer["message"]), (400, &told.into()));
    let (status, answer) = call(&server, "DELETE", empty, Value::Null).await;
    assert_eq!((status.as_u16(), &answer["items"]), (200, &json!([])));
    assert_eq!(get(&server, &format!("{MAPS}/x")).await.0, 200);
}

/// This too.
#[tokio::test]
async fn nothing_between_slashes_is_no_name() {
    let server = server().await;
    let unnamed = "name must be provided";
    for (method, path) in [
        ("GET", "/api/v1/namespaces/default/pods//log"),
        ("GET", "/api/v1/namespaces/default/pods//status"),
        ("PATCH", "/api/v1/namespaces/default/pods//status"),
        ("POST", "/api/v1/namespaces/default/pods//eviction"),
        ("POST", "/api/v1/namespaces/default/serviceaccounts//token"),
        ("GET", "/apis/apps/v1/namespaces/default/deployments//scale"),
        ("GET", "/api/v1/nodes//status"),
        ("GET", "/api/v1/namespaces//status"),
        ("PUT", "/api/v1/namespaces//finalize"),
        ("GET", "/api/v1/namespaces/default/services//proxy/"),
    ] {
        let (status, answer) = call(&server, method, path, json!({})).await;
        assert_eq!(
            (status.as_u16(), &answer["message"]),
            (400, &unnamed.into()),
            "{method} {path}"
        );
    }
    let missing = "the server could not find the requested resource";
    for path in [
        "/api/v1//configmaps",
        "/api//v1/configmaps",
        "/api/v1//nodes",
        "/api/v1/namespaces//nodes",
        "/api/v1/namespaces/default//configmaps",
        "/api/v1/namespaces/default/configmaps//x",
        "/api/v1/namespaces/default/pods/x//status",
        "/apis/apps//v1/deployments",
        "/apis/apps/v1//deployments",
    ] {
        let (status, answer) = get(&server, path).await;
        assert_eq!(
            (status.as_u16(), &answer["message"]),
            (404, &missing.into()),
            "{path}"
        );
    }
    for path in [
        "//api/v1/configmaps",
        "/apis//apps/v1/deployments",
        "//healthz",
    ] {
        let (status, answer) = get(&server, path).await;
        assert_eq!(
            (status.as_u16(), answer),
            (404, "404 page not found\n".into()),
            "{path}"
        );
    }
    for path in ["/api/v1/configmaps//", "/api/v1/namespaces//"] {
        assert_eq!(get(&server, path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn old_labels_of_nodes_are_warned_of() {
    let server = server().await;
    call(
        &server,
        "POST",
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "default"}}),
    )
    .await;
    let term =
        json!({"matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "Exists"}]});
    let arch = r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#;
    let is_arch = format!("beta.kubernetes.io/arch is {arch}");
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let pod = json!({
        "nodeSelector": {"beta.kubernetes.io/arch": "x"},
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]}},
        "containers": [{"name": "c", "image": "i", "env": [env("A", "1"), env("A", "$(A)2"), env("A", "3")]}],
        "volumes": [{"name": "v", "flocker": {"datasetName": "d"}}],
    });
    for (path, object, told) in [
        (
            "/api/v1/namespaces/default/pods",
            json!({"spec": pod}),
            vec![
                format!("spec.nodeSelector[beta.kubernetes.io/arch]: {arch}"),
                format!(
                    "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference\
                     .matchExpressions[0].key: {is_arch}"
                ),
                "spec.volumes[0].flocker: deprecated in v1.22, non-functional in v1.25+".into(),
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply".into(),
            ],
        ),
        (
            "/api/v1/persistentvolumes",
            json!({"spec": {
                "capacity": {"storage": "1"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            }}),
            vec![format!(
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: {is_arch}"
            )],
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1500m"}}}}),
            vec![
                "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer".into(),
            ],
        ),
        (
            "/apis/node.k8s.io/v1/runtimeclasses",
            json!({"handler": "h", "scheduling": {"nodeSelector": {"beta.kubernetes.io/arch": "x"}}}),
            vec![format!("scheduling.nodeSelector: {arch}")],
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"provisioner": "p", "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "beta.kubernetes.io/arch", "values": ["x"]}]},
            ]}),
            vec![format!("allowedTopologies[0].matchLabelExpressions[0].key: {arch}")],
        ),
        (
            "/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities",
            json!({"storageClassName": "s", "nodeTopology": {"matchLabels": {"beta.kubernetes.io/arch": "x"}}}),
            vec![format!("nodeTopology.matchLabels.beta.kubernetes.io/arch: {arch}")],
        ),
    ] {
        let mut object = object;
        object["metadata"] = json!({"name": "x"});
        let answer = ask(&server, "POST", path, object).await;
        let warned: Vec<String> = warnings(&answer)
            .iter()
            .map(|text| text.trim_start_matches("299 - ").trim_matches('"').replace("\\\"", "\""))
            .collect();
        let status = answer.status();
        let (_, body) = text(answer).await;
        assert_eq!(status, 201, "{path}: {body}");
        assert_eq!(warned, told, "{path}");
    }
}

#[tokio::test]
async fn labels_are_no_part_of_some_statuses() {
    let server = server().await;
    for (path, name, object, changes) in [
        (
            "/apis/storage.k8s.io/v1/volumeattachments",
            "x",
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            false,
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices",
            "v1.a.b",
            json!({"spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
            false,
        ),
        (
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
            "x",
            json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
            false,
        ),
        ("/api/v1/nodes", "x", json!({}), true),
    ] {
        let mut object = object;
        object["metadata"] = json!({"name": name, "labels": {"a": "1"}, "finalizers": ["x.y/z"]});
        let (status, made) = call(&server, "POST", path, object).await;
        assert_eq!(status, 201, "{made}");
        let patch = json!({"metadata": {"labels": {"a": "2"}, "finalizers": null}});
        let uri = format!("{path}/{name}/status");
        let (status, patched) = call(&server, "PATCH", &uri, patch).await;
        assert_eq!(status, 200, "{patched}");
        let meta = &patched["metadata"];
        let wanted = if changes { "2" } else { "1" };
        assert_eq!(meta["labels"]["a"], wanted, "{path}");
        assert_eq!(meta.get("finalizers").is_none(), changes, "{path}");
    }
}

#[tokio::test]
async fn a_list_of_whatever_there_is_has_one_page() {
    let server = server().await;
    for name in ["a", "b", "c"] {
        call(&server, "POST", MAPS, json!({"metadata": {"name": name}})).await;
    }
    let page = |query| {
        let (server, uri) = (&server, format!("{MAPS}?limit=1{query}"));
        async move { get(server, &uri).await.1 }
    };
    let all = page("&resourceVersion=0").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
    assert!(all["metadata"].get("continue").is_none());
    let first = page("").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 1);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
}

#[tokio::test]
async fn events_of_the_new_group_are_named_as_other_objects() {
    let server = server().await;
    let about = json!({"namespace": "default"});
    let old = json!({"metadata": {"name": "A_b"}, "involvedObject": about});
    let (status, made) = call(&server, "POST", "/api/v1/namespaces/default/events", old).await;
    assert_eq!(status, 201, "{made}");
    let new = json!({
        "metadata": {"name": "A_c"}, "regarding": about, "eventTime": "2020-01-01T00:00:00.000000Z", "type": "Normal",
        "action": "a", "reason": "r", "reportingController": "a.b/c", "reportingInstance": "i",
    });
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (status, error) = call(&server, "POST", events, new).await;
    assert_eq!(status, 422, "{error}");
    assert_eq!(error["details"]["causes"][0]["field"], "metadata.name");
}
