//! What a cluster inside a test does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod},
};
use k8s_testing::{Identity, TestCluster};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::json;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

/// Fails a test that waits in vain.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, what)
        .await
        .expect("waited in vain")
}

#[tokio::test]
async fn pods_run_and_end_as_their_annotations_say() {
    let cluster = TestCluster::start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "once", "annotations": {"sim.k8s-runtime/exit-after": "10ms"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        phase == Some("Succeeded")
    };
    let pod = in_time(await_condition(pods, "once", ended)).await.unwrap();
    let node = pod.unwrap().spec.unwrap().node_name;
    assert_eq!(node.as_deref(), Some("node-1"));
    cluster.stop().await;
}

#[tokio::test]
async fn pods_are_spread_over_the_nodes() {
    let whole = TestCluster::builder().controllers().scheduler().nodes(2);
    let cluster = whole.start().await.unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    let web = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "c", "image": "i", "resources": {"requests": {"cpu": "1500m"}},
                }]},
            },
        },
    }))
    .unwrap();
    deployments
        .create(&PostParams::default(), &web)
        .await
        .unwrap();
    let all =
        |d: Option<&Deployment>| d.and_then(|d| d.status.as_ref()?.available_replicas) == Some(4);
    in_time(await_condition(deployments, "web", all))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let on = |node: &str| ListParams::default().fields(&format!("spec.nodeName={node}"));
    for node in ["node-1", "node-2"] {
        assert_eq!(pods.list(&on(node)).await.unwrap().items.len(), 2, "{node}");
    }
}

#[tokio::test]
async fn a_namespace_terminates_with_all_that_is_in_it() {
    let cluster = TestCluster::builder().controllers().start().await.unwrap();
    let made = cluster.namespace("short").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "short");
    maps.create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces
        .delete("short", &DeleteParams::default())
        .await
        .unwrap();
    let uid = made.metadata.uid.unwrap();
    let gone = await_condition(namespaces, "short", conditions::is_deleted(&uid));
    in_time(gone).await.unwrap();
    assert!(
        maps.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn an_identity_may_do_what_its_roles_say() {
    let cluster = TestCluster::builder().start().await.unwrap();
    let alice: Api<ConfigMap> = Api::default_namespaced(cluster.client_as(Identity::user("alice")));
    let refused = alice.list(&ListParams::default()).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("User \"alice\" cannot list resource \"configmaps\""),
        "{refused}"
    );
}

#[tokio::test]
async fn a_cluster_without_nodes_takes_pods_and_lets_them_wait() {
    let cluster = TestCluster::builder().start().await.unwrap();
    cluster.namespace("own").await.unwrap();
    for namespace in ["default", "own"] {
        let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "x"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clusters_run_at_once_and_share_nothing() {
    let clusters = (0..8).map(|number| async move {
        let whole = TestCluster::builder().controllers().scheduler().nodes(1);
        let cluster = whole.start().await.unwrap();
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        let name = format!("only-{number}");
        maps.create(&PostParams::default(), &config_map(&name))
            .await
            .unwrap();
        let all = maps.list(&ListParams::default()).await.unwrap();
        let names: Vec<String> = all
            .into_iter()
            .filter_map(|map| map.metadata.name)
            .filter(|name| name.starts_with("only-"))
            .collect();
        assert_eq!(names, [name]);
        cluster.stop().await;
    });
    in_time(futures::future::join_all(clusters)).await;
}

#[tokio::test]
async fn a_restart_keeps_what_there_is_and_clients_go_on() {
    let cluster = TestCluster::start().await.unwrap();
    let client = cluster.client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let before = maps
        .create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    cluster.restart().await.unwrap();
    let after = maps.get("x").await.unwrap();
    assert_eq!(after, before);
    // Scheduler and node have found their way back.
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "late"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    in_time(await_condition(pods, "late", conditions::is_pod_running()))
        .await
        .unwrap();
}

#[tokio::test]
async fn nothing_is_left_when_a_cluster_is_dropped() {
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = alive();
    let cluster = TestCluster::start().await.unwrap();
    assert!(alive() > before);
    let folder = cluster.folder().to_owned();
    assert!(folder.exists());
    let client = cluster.client();
    drop(cluster);
    // The client outlives it, and reaches nobody.
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    assert!(maps.get_opt("x").await.is_err());
    drop(maps);
    in_time(async {
        while alive() > before || folder.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
