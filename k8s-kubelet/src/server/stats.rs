//! `/stats/summary` and `/metrics`: what node and pods use.

use std::{collections::BTreeMap, fmt::Write as _};

use k8s_runtime::{ContainerState, ContainerStats};
use serde_json::{Value, json};

use crate::{context::Context, node::machine, pod::labels};

struct Used {
    pod: (String, String, String),
    container: String,
    started: Option<jiff::Timestamp>,
    stats: ContainerStats,
}

async fn used(cx: &Context) -> Result<Vec<Used>, k8s_runtime::Error> {
    let mut out = Vec::new();
    for container in cx.runtime.containers().await? {
        if container.state != ContainerState::Running {
            continue;
        }
        // It may have ended since.
        let Ok(stats) = cx.runtime.container_stats(&container.id).await else {
            continue;
        };
        let label = |key: &str| {
            container
                .config
                .labels
                .get(key)
                .cloned()
                .unwrap_or_default()
        };
        out.push(Used {
            pod: (
                label(labels::POD_NAMESPACE),
                label(labels::POD_NAME),
                label(labels::POD_UID),
            ),
            container: labels::container_name(&container).to_owned(),
            started: container.started_at,
            stats,
        });
    }
    Ok(out)
}

fn amounts(cpu_nanos: u64, memory: u64, at: jiff::Timestamp) -> (Value, Value) {
    let time = crate::time::whole_second(at).to_string();
    (
        json!({"time": time, "usageCoreNanoSeconds": cpu_nanos}),
        json!({"time": time, "workingSetBytes": memory, "usageBytes": memory}),
    )
}

/// Upstream's summary, as far as it is measured here.
pub(crate) async fn summary(cx: &Context) -> Result<Value, k8s_runtime::Error> {
    let mut pods: BTreeMap<(String, String, String), Vec<Used>> = BTreeMap::new();
    for used in used(cx).await? {
        pods.entry(used.pod.clone()).or_default().push(used);
    }
    let now = cx.clock.now();
    let (mut node_cpu, mut node_memory) = (0, 0);
    let mut list = Vec::new();
    for ((namespace, name, uid), containers) in pods {
        let cpu: u64 = containers.iter().map(|c| c.stats.cpu_usage_nanos).sum();
        let memory: u64 = containers
            .iter()
            .map(|c| c.stats.memory_working_set_bytes)
            .sum();
        node_cpu += cpu;
        node_memory += memory;
        let pids: u64 = containers.iter().map(|c| c.stats.pids).sum();
        let shown: Vec<Value> = containers
            .iter()
            .map(|c| {
                let (cpu, memory) = amounts(c.stats.cpu_usage_nanos, c.stats.memory_working_set_bytes, c.stats.at);
                json!({"name": c.container, "startTime": c.started.map(|t| t.to_string()), "cpu": cpu, "memory": memory})
            })
            .collect();
        let (cpu, memory) = amounts(cpu, memory, now);
        list.push(json!({
            "podRef": {"name": name, "namespace": namespace, "uid": uid},
            "containers": shown, "cpu": cpu, "memory": memory,
            "process_stats": {"process_count": pids},
        }));
    }
    let (cpu, mut memory) = amounts(node_cpu, node_memory, now);
    if let Some(free) = machine::meminfo("MemAvailable") {
        memory["availableBytes"] = json!(free);
    }
    Ok(json!({
        "node": {"nodeName": cx.settings.node_name, "cpu": cpu, "memory": memory},
        "pods": list,
    }))
}

/// A few metrics under upstream's names.
pub(crate) async fn metrics(cx: &Context) -> Result<String, k8s_runtime::Error> {
    let known = cx.all_known();
    let containers = cx.runtime.containers().await?;
    let mut out = String::new();
    let count = |state: ContainerState| containers.iter().filter(|c| c.state == state).count();
    let running_pods = known.iter().filter(|k| k.sandbox.is_some()).count();
    out.push_str("# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n");
    out.push_str("# TYPE kubelet_running_pods gauge\n");
    let _ = writeln!(out, "kubelet_running_pods {running_pods}");
    out.push_str("# HELP kubelet_running_containers Number of containers currently running\n");
    out.push_str("# TYPE kubelet_running_containers gauge\n");
    for (name, state) in [
        ("created", ContainerState::Created),
        ("exited", ContainerState::Exited),
        ("running", ContainerState::Running),
    ] {
        let _ = writeln!(
            out,
            "kubelet_running_containers{{container_state=\"{name}\"}} {}",
            count(state)
        );
    }
    out.push_str("# HELP kubelet_node_name The node's name. The count is always 1.\n");
    out.push_str("# TYPE kubelet_node_name gauge\n");
    let _ = writeln!(
        out,
        "kubelet_node_name{{node=\"{}\"}} 1",
        cx.settings.node_name
    );
    Ok(out)
}
