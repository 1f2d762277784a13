//! The scheduler alone, for a cluster that is elsewhere: upstream's API server, for example.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::{from, node_of, refusal};

/// Names the kubeconfig of somebody who may do everything in a cluster that has no scheduler and needs no service accounts.
const KUBECONFIG: &str = "SCHEDULER_TEST_KUBECONFIG";

#[tokio::test]
#[ignore = "needs an API server whose kubeconfig SCHEDULER_TEST_KUBECONFIG names"]
async fn it_schedules_the_pods_of_a_cluster_elsewhere() {
    let path: PathBuf = std::env::var_os(KUBECONFIG).expect("the variable").into();
    let kubeconfig = Kubeconfig::read_from(&path).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let client = Client::try_from(config.expect("a configuration")).expect("a client");
    let (nodes, pods) = (
        Api::<Node>::all(client.clone()),
        Api::<Pod>::default_namespaced(client),
    );
    let amounts = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
    for name in ["one", "two", "three"] {
        let node: Node = from(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": amounts, "capacity": amounts},
        }));
        nodes
            .create(&PostParams::default(), &node)
            .await
            .expect("a node");
        let ready = Patch::Merge(json!({"spec": {"taints": null}}));
        let params = PatchParams::default();
        nodes.patch(name, &params, &ready).await.expect("no taint");
    }
    let stop = CancellationToken::new();
    let scheduler = tokio::spawn({
        let stop = stop.clone();
        async move { examples::programs::scheduler::schedule(&path, None, stop).await }
    });
    let pod = |name: &str, cpu: &str| -> Pod {
        from(json!({
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "example.com/pause", "resources": {"requests": {"cpu": cpu}}}],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]},
        }))
    };
    for n in 0..9 {
        pods.create(&PostParams::default(), &pod(&format!("web-{n}"), "500m"))
            .await
            .expect("a pod");
    }
    pods.create(&PostParams::default(), &pod("big", "100"))
        .await
        .expect("a pod");
    let done = async {
        loop {
            let list = pods.list(&ListParams::default()).await.expect("pods").items;
            let placed: Vec<String> = list.iter().filter_map(|p| node_of(Some(p))).collect();
            let said = list.iter().find_map(|p| refusal(Some(p)));
            if let (9, Some(said)) = (placed.len(), said) {
                return (placed, said);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (placed, said) = tokio::time::timeout(Duration::from_secs(60), done)
        .await
        .expect("all are placed or refused in time");
    for node in ["one", "two", "three"] {
        let there = placed.iter().filter(|n| *n == node).count();
        assert_eq!(there, 3, "{placed:?}");
    }
    assert!(
        said.starts_with("0/3 nodes are available: 3 Insufficient cpu."),
        "{said}"
    );
    stop.cancel();
    scheduler
        .await
        .expect("no panic")
        .expect("it could use its files");
}
