//! A scheduler plugin of one's own, tried without a cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_scheduler::{
    Profile, Scheduler,
    framework::{CycleState, Plugin, Score},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};
use serde_json::json;

/// Prefers nodes that run on green electricity, as their label `power` says.
#[derive(Debug)]
pub struct GreenPower;

impl Plugin for GreenPower {
    fn name(&self) -> &'static str {
        "GreenPower"
    }
}

impl Score for GreenPower {
    fn score(&self, _: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        if node.label("power") == Some("green") {
            100
        } else {
            0
        }
    }
}

/// Where a pod goes among three nodes, and how it came to that.
///
/// # Errors
///
/// If the pod fits nowhere.
pub fn place() -> anyhow::Result<(String, Vec<String>)> {
    let node = |name: &str, power: &str| -> Result<Node, serde_json::Error> {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"power": power}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
        }))
    };
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "batch"},
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]},
    }))?;
    let snapshot = Snapshot::new(
        [
            node("coal", "grey")?,
            node("wind", "green")?,
            node("gas", "grey")?,
        ],
        [],
    );
    let scheduler = Scheduler::new(Profile::default().with_score(Arc::new(GreenPower), 10));
    let pod = PodInfo::from(pod);
    let placement = scheduler.schedule(&snapshot, &pod, 1)?;
    let scores = scheduler
        .explain(&snapshot, &pod)?
        .scores
        .iter()
        .map(|s| format!("{} {} {:?}", s.node, s.total, s.by_plugin))
        .collect();
    Ok((placement.node, scores))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_plugin_decides() {
        assert_eq!(super::place().unwrap().0, "wind");
    }
}
