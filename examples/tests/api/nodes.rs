//! The nodes that pods may go to.

use serde_json::Value;

use crate::{Entry, fixture::Fixture};

pub(crate) const ENTRIES: &[Entry] = &[(
    "[sig-architecture] Conformance Tests should have at least two untainted nodes",
    all_nodes_take_pods,
)];

#[tokio::test]
async fn all_nodes_take_pods() {
    let cluster = Fixture::with_nodes(2).await;
    let takes_pods = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array();
        let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        conditions.into_iter().flatten().any(ready)
            && node["spec"]["taints"].is_null()
            && node["spec"]["unschedulable"].is_null()
    };
    let two = |nodes: &[Value]| nodes.iter().filter(|node| takes_pods(node)).count() == 2;
    cluster.api.settles("/api/v1/nodes", two).await;
}
