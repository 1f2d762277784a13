//! What configurations of webhooks promise besides what the conformance suite asks.

use std::sync::Arc;

use http::StatusCode;
use k8s_apiserver::ApiServer;
use k8s_store::MemoryStore;
use serde_json::{Value, json};

use crate::{
    common::hooks::{Cluster, MUTATING, VALIDATING, config_map, pod, rule},
    webhooks::{maps, webhook},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_webhook_behind_a_service_is_asked_there() {
    let store = Arc::new(MemoryStore::new());
    let cluster = Cluster::start_with(ApiServer::builder().store(store.clone())).await;
    let hook = webhook().await;
    let mut behind = hook.hook("/", maps(&["CREATE"]));
    behind["name"] = "service.example.com".into();
    behind["clientConfig"] = hook.behind_service(&cluster, &store).await;
    behind["clientConfig"]["service"]["path"] = "/deny-bad".into();
    cluster
        .install(&hook, VALIDATING, "service", &[behind])
        .await;
    let bad = json!({"webhook-e2e-test": "webhook-disallow"});
    let refused = cluster.post(MAPS, config_map("a", bad)).await;
    assert!(
        refused
            .message()
            .ends_with("the configmap contains unwanted key and value"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_webhook_that_wants_to_see_later_changes_is_asked_again() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let mut first = hook.hook("/by-label", maps(&["CREATE"]));
    first["reinvocationPolicy"] = "IfNeeded".into();
    let hooks = [first, hook.hook("/label", maps(&["CREATE"]))];
    cluster.install(&hook, MUTATING, "again", &hooks).await;
    let made = cluster
        .post(MAPS, config_map("a", json!({"a": "b"})))
        .await
        .expect(201);
    assert_eq!(made["data"]["again"], "yes");
    let of_a = |path: &str| {
        let all = hook.asked(path);
        all.iter().filter(|r| r["request"]["name"] == "a").count()
    };
    assert_eq!((of_a("/by-label"), of_a("/label")), (2, 1));
}

#[tokio::test]
async fn conditions_say_which_requests_a_webhook_sees() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let condition = |expression: &str| json!([{"name": "condition", "expression": expression}]);
    let mut skipped = hook.hook("/skipped", maps(&["CREATE"]));
    skipped["matchConditions"] = condition("request.userInfo.username != 'admin'");
    let mut asked = hook.hook("/with-status", maps(&["CREATE"]));
    asked["matchConditions"] = condition(
        "has(object.data) && object.data.exists(k, k == 'tea') && authorizer.group('').resource('secrets').namespace('default').check('get').allowed()",
    );
    let mut broken = hook.hook("/broken", maps(&["CREATE"]));
    broken["matchConditions"] =
        condition("object.metadata.labels.broken == 'yes' && object.nothing == 1");
    broken["objectSelector"] = json!({"matchLabels": {"broken": "yes"}});
    let hooks = [skipped, asked, broken];
    cluster
        .install(&hook, VALIDATING, "conditions", &hooks)
        .await;
    cluster
        .post(MAPS, config_map("a", json!({"coffee": "yes"})))
        .await
        .expect(201);
    let refused = cluster
        .post(MAPS, config_map("b", json!({"tea": "yes"})))
        .await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(refused.body["reason"], "Teapot");
    assert!(
        refused.message().ends_with("denied the request: no tea"),
        "{}",
        refused.message()
    );
    assert!(hook.asked("/skipped").is_empty());
    let mut map = config_map("c", json!({}));
    map["metadata"]["labels"] = json!({"broken": "yes"});
    let refused = cluster.post(MAPS, map).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert!(
        refused
            .message()
            .contains("resulted in error: no such key: nothing"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn nothing_is_stored_and_no_side_effect_had_in_a_dry_run() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let hooks = [hook.hook("/warns", maps(&["CREATE"]))];
    cluster.install(&hook, VALIDATING, "dry", &hooks).await;
    let answer = cluster
        .post(&format!("{MAPS}?dryRun=All"), config_map("a", json!({})))
        .await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert!(
        answer.warnings.iter().any(|w| w.contains("mind the gap")),
        "{answer:?}"
    );
    let asked = hook.asked("/warns");
    let request = &asked.last().unwrap()["request"];
    assert_eq!(
        (&request["dryRun"], &request["options"]["dryRun"]),
        (&json!(true), &json!(["All"]))
    );
    assert_eq!(
        cluster.get(&format!("{MAPS}/a")).await.code,
        StatusCode::NOT_FOUND
    );
    let refused = cluster
        .post(
            VALIDATING,
            cluster.configuration(
                &hook,
                VALIDATING,
                "some",
                &[{
                    let mut some = hook.hook("/some", maps(&["CREATE"]));
                    some["sideEffects"] = "Some".into();
                    some
                }],
            ),
        )
        .await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused
            .message()
            .contains("webhooks[0].sideEffects: Unsupported value: \"Some\""),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn answers_that_make_no_sense_are_told_as_upstream_does() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster
        .install(
            &hook,
            MUTATING,
            "wrong",
            &[hook.hook("/wrong-uid", maps(&["CREATE"]))],
        )
        .await;
    let refused = cluster.post(MAPS, config_map("a", json!({}))).await;
    assert_eq!(
        refused.message(),
        "Internal error occurred: failed calling webhook \"wrong-uid.example.com\": received invalid webhook response: webhook returned response.patchType but not response.patch"
    );
}

#[tokio::test]
async fn scales_evictions_and_deletions_pass_webhooks_in_their_own_kinds() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    let all = json!({"rules": [
        rule(&["UPDATE"], "apps", "deployments/scale"),
        rule(&["CREATE"], "", "pods/eviction"),
        rule(&["DELETE"], "", "pods"),
    ]});
    cluster
        .install(&hook, VALIDATING, "kinds", &[hook.hook("/allow", all)])
        .await;
    let labels = json!({"app": "a"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    cluster.post(path, deployment).await.expect(201);
    let scale = json!({"spec": {"replicas": 3}});
    cluster
        .ask("PATCH", &format!("{path}/a/scale"), scale)
        .await
        .expect(200);
    cluster.post(PODS, pod("a")).await.expect(201);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    cluster
        .post(&format!("{PODS}/a/eviction"), eviction)
        .await
        .expect(201);
    // What an eviction deletes was asked about as an eviction.
    cluster.post(PODS, pod("b")).await.expect(201);
    cluster
        .ask("DELETE", &format!("{PODS}/b"), Value::Null)
        .await
        .expect(200);
    let seen: Vec<Value> = hook
        .asked("/allow")
        .iter()
        .map(|r| r["request"].clone())
        .collect();
    let kinds: Vec<&str> = seen
        .iter()
        .map(|r| r["kind"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Scale", "Eviction", "Pod"]);
    assert_eq!(seen[0]["object"]["spec"]["replicas"], 3);
    assert_eq!(seen[0]["oldObject"]["spec"]["replicas"], 1);
    assert_eq!(seen[2]["operation"], "DELETE");
    assert_eq!(seen[2]["object"], Value::Null);
    assert_eq!(seen[2]["oldObject"]["metadata"]["name"], "b");
    assert_eq!(seen[2]["options"]["kind"], "DeleteOptions");
}

#[tokio::test]
async fn managed_fields_that_a_webhook_takes_away_stay_away() {
    let (cluster, hook) = (Cluster::start().await, webhook().await);
    cluster
        .install(
            &hook,
            MUTATING,
            "managed",
            &[hook.hook("/managed", maps(&["CREATE"]))],
        )
        .await;
    let made = cluster
        .post(MAPS, config_map("a", json!({"a": "b"})))
        .await
        .expect(201);
    assert_eq!(made["metadata"]["managedFields"], Value::Null);
    assert_eq!(made["data"]["a"], "b");
}
