//! What nodes offer to pods.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_testing::{TestCluster, eventually};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

fn offered(node: Option<&Node>) -> Option<String> {
    let allocatable = node?.status.as_ref()?.allocatable.as_ref()?;
    allocatable.get("example.com/dongle").map(|q| q.0.clone())
}

/// As the page on extended resources of nodes has it.
#[tokio::test]
async fn a_node_offers_what_its_administrator_says_that_it_has() {
    let cluster = TestCluster::start().await.unwrap();
    let nodes: Api<Node> = Api::all(cluster.client());
    let change = |capacity| Patch::Strategic(json!({"status": {"capacity": capacity}}));
    let params = PatchParams::default();
    let four = change(json!({"example.com/dongle": "4"}));
    nodes.patch_status("node-1", &params, &four).await.unwrap();

    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let wants = json!({"example.com/dongle": "3"});
    let pod = json!({
        "metadata": {"name": "pod"},
        "spec": {"containers": [{"name": "c", "image": "x", "resources": {"limits": wants}}]},
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let running = |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        status.and_then(|status| status.phase.as_deref()) == Some("Running")
    };
    eventually(&pods, "pod", running).await.unwrap();

    let none = change(json!({"example.com/dongle": null}));
    nodes.patch_status("node-1", &params, &none).await.unwrap();
    let offers_nothing = |node: Option<&Node>| node.is_some() && offered(node).is_none();
    eventually(&nodes, "node-1", offers_nothing).await.unwrap();
}
