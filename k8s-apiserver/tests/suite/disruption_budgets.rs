//! What the conformance suite asks of PodDisruptionBudgets without a controller: the API and the eviction.

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::hooks::{Cluster, pod};

const ALL: &str = "/apis/policy/v1/poddisruptionbudgets";

fn budgets(namespace: &str) -> String {
    format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")
}

fn budget(name: &str, least: Value) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": {"foo_pdb": "bar_pdb"}},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"foo": "bar"}}}})
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|i| i["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn should_list_and_delete_a_collection_of_poddisruptionbudgets() {
    let cluster = Cluster::start().await;
    let namespace = json!({"metadata": {"name": "other"}});
    cluster
        .post("/api/v1/namespaces", namespace)
        .await
        .expect(201);
    for (namespace, name, least) in [
        ("default", "foo", json!(2)),
        ("default", "foo2", json!("1%")),
        ("other", "foo3", json!(2)),
    ] {
        let made = cluster
            .post(&budgets(namespace), budget(name, least.clone()))
            .await;
        let made = made.expect(201);
        assert_eq!(made["spec"]["minAvailable"], least);
        assert_eq!(made["metadata"]["generation"], 1);
    }
    let mut unlabelled = budget("unlabelled", json!(1));
    unlabelled["metadata"] = json!({"name": "unlabelled"});
    cluster
        .post(&budgets("default"), unlabelled)
        .await
        .expect(201);

    let selector = "?labelSelector=foo_pdb%3Dbar_pdb";
    let all = cluster.get(&format!("{ALL}{selector}")).await.expect(200);
    assert_eq!(all["kind"], "PodDisruptionBudgetList");
    assert_eq!(names(&all), ["foo", "foo2", "foo3"]);
    let path = format!("{}{selector}", budgets("default"));
    assert_eq!(
        names(&cluster.get(&path).await.expect(200)),
        ["foo", "foo2"]
    );
    let deleted = cluster.delete(&path).await.expect(200);
    assert_eq!(names(&deleted), ["foo", "foo2"]);
    assert_eq!(
        names(&cluster.get(ALL).await.expect(200)),
        ["unlabelled", "foo3"]
    );
    cluster.delete(&budgets("default")).await.expect(200);
    assert_eq!(names(&cluster.get(ALL).await.expect(200)), ["foo3"]);
}

#[tokio::test]
async fn should_create_a_poddisruptionbudget() {
    let cluster = Cluster::start().await;
    let (path, one) = (budgets("default"), format!("{}/foo", budgets("default")));
    let before = cluster.get(&path).await.expect(200);
    let since = before["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut made = cluster
        .post(&path, budget("foo", json!("1%")))
        .await
        .expect(201);
    assert_eq!(cluster.get(&one).await.expect(200), made);

    made["spec"]["minAvailable"] = json!("2%");
    let updated = cluster.ask("PUT", &one, made.clone()).await.expect(200);
    assert_eq!(updated["spec"]["minAvailable"], "2%");
    assert_eq!(updated["metadata"]["generation"], 2);
    let stale = cluster.ask("PUT", &one, made).await;
    assert_eq!(stale.code, StatusCode::CONFLICT);

    let patch = json!({"spec": {"minAvailable": "3%"}});
    let patched = cluster.ask("PATCH", &one, patch).await.expect(200);
    assert_eq!(patched["spec"]["minAvailable"], "3%");
    assert_eq!(patched["metadata"]["generation"], 3);
    for (bad, text) in [
        (
            json!({"spec": {"maxUnavailable": 1}}),
            "minAvailable and maxUnavailable cannot be both set",
        ),
        (
            json!({"spec": {"minAvailable": "101%"}}),
            "must not be greater than 100%",
        ),
        (
            json!({"spec": {"unhealthyPodEvictionPolicy": "Sometimes"}}),
            "supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        ),
    ] {
        let refused = cluster.ask("PATCH", &one, bad).await;
        assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.message().contains(text), "{}", refused.message());
    }
    let deleted = cluster.delete(&one).await.expect(200);
    assert_eq!(
        (&deleted["status"], &deleted["details"]["name"]),
        (&json!("Success"), &json!("foo"))
    );
    assert_eq!(cluster.get(&one).await.code, StatusCode::NOT_FOUND);

    // Who has watched has seen all of it, in order.
    let watch = format!("{path}?watch=1&timeoutSeconds=1&resourceVersion={since}");
    let events = cluster.get(&watch).await.body;
    let events = events.as_str().unwrap().lines();
    let seen: Vec<(String, Value)> = events
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| {
            let kind = event["type"].as_str().unwrap().to_owned();
            (kind, event["object"]["spec"]["minAvailable"].clone())
        })
        .collect();
    let wanted = [
        ("ADDED", "1%"),
        ("MODIFIED", "2%"),
        ("MODIFIED", "3%"),
        ("DELETED", "3%"),
    ];
    assert_eq!(
        seen,
        wanted.map(|(kind, least)| (kind.to_owned(), json!(least)))
    );
}

#[tokio::test]
async fn should_update_and_patch_poddisruptionbudget_status() {
    let cluster = Cluster::start().await;
    let one = format!("{}/foo", budgets("default"));
    cluster
        .post(&budgets("default"), budget("foo", json!(1)))
        .await
        .expect(201);
    let status = format!("{one}/status");
    let mut changed = cluster.get(&status).await.expect(200);
    let since = "2030-01-01T00:00:00Z";
    changed["status"] = json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0,
        "expectedPods": 1, "disruptedPods": {"p": since}});
    // Whoever writes a status writes nothing else.
    changed["spec"]["minAvailable"] = json!(7);
    cluster.ask("PUT", &status, changed).await.expect(200);
    let updated = cluster.get(&one).await.expect(200);
    assert_eq!(updated["status"]["disruptedPods"], json!({"p": since}));
    assert_eq!(updated["spec"]["minAvailable"], 1);
    assert_eq!(updated["metadata"]["generation"], 1);
    let patch = json!({"status": {"disruptedPods": null}});
    let patched = cluster.ask("PATCH", &status, patch).await.expect(200);
    assert!(patched["status"].get("disruptedPods").is_none());
    assert_eq!(patched["status"]["expectedPods"], 1);
    // And whoever writes the rest, no status.
    let other = json!({"status": {"expectedPods": 9}, "spec": {"minAvailable": 2}});
    let patched = cluster.ask("PATCH", &one, other).await.expect(200);
    assert_eq!(patched["spec"]["minAvailable"], 2);
    assert_eq!(patched["status"]["expectedPods"], 1);
    let negative = json!({"status": {"disruptionsAllowed": -1}});
    let refused = cluster.ask("PATCH", &status, negative).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn should_block_an_eviction_until_the_pdb_is_updated_to_allow_it() {
    let cluster = Cluster::start().await;
    let one = format!("{}/foo", budgets("default"));
    let mut running = pod("p");
    running["metadata"]["labels"] = json!({"foo": "bar"});
    running["spec"]["nodeName"] = json!("n");
    let pods = "/api/v1/namespaces/default/pods";
    cluster.post(pods, running).await.expect(201);
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster
        .ask("PATCH", &format!("{pods}/p/status"), ready)
        .await
        .expect(200);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let evict = format!("{pods}/p/eviction");
    // A dry run of the same, before there is any budget.
    let dry = format!("{evict}?dryRun=All");
    cluster.post(&dry, eviction.clone()).await.expect(201);
    cluster
        .post(&budgets("default"), budget("foo", json!(1)))
        .await
        .expect(201);
    let say = async |allowed: i32| {
        let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed,
            "currentHealthy": 1, "desiredHealthy": 1 - allowed, "expectedPods": 1}});
        cluster
            .ask("PATCH", &format!("{one}/status"), status)
            .await
            .expect(200);
    };
    say(0).await;
    let blocked = cluster.post(&evict, eviction.clone()).await;
    assert_eq!(blocked.code, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        blocked.message(),
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let cause = &blocked.body["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    say(1).await;
    cluster.post(&evict, eviction.clone()).await.expect(201);
    let leaving = cluster.get(&format!("{pods}/p")).await.expect(200);
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    // The budget is used up at once, and says by whom.
    let used = cluster.get(&one).await.expect(200);
    assert_eq!(used["status"]["disruptionsAllowed"], 0);
    assert!(used["status"]["disruptedPods"]["p"].is_string());
}

/// Asked of v1.36.
#[tokio::test]
async fn how_a_pod_is_to_go_is_looked_at_when_it_is_there() {
    let cluster = Cluster::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    cluster.post(pods, pod("there")).await.expect(201);
    for (name, how, code, told) in [
        (
            "missing",
            json!({"propagationPolicy": "Bad"}),
            404,
            r#"pods "missing" not found"#,
        ),
        (
            "missing",
            json!({"dryRun": ["Bad"]}),
            404,
            r#"pods "missing" not found"#,
        ),
        (
            "there",
            json!({"propagationPolicy": "Bad"}),
            422,
            r#"DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Bad": supported values: "Foreground", "Background", "Orphan", "nil""#,
        ),
    ] {
        let eviction = json!({"metadata": {"name": name}, "deleteOptions": how});
        let path = format!("{pods}/{name}/eviction");
        let answer = cluster.post(&path, eviction).await;
        assert_eq!(answer.message(), told, "{how}");
        answer.expect(code);
    }
}
