//! `/stats/summary`: what node and pods use.

use std::collections::BTreeMap;

use k8s_runtime::{ContainerState, ContainerStats};
use serde_json::{Value, json};

use crate::{context::Context, node::machine, pod::labels};

/// What a running container uses.
#[derive(Debug)]
pub(super) struct Used {
    /// Namespace, name and UID.
    pub(super) pod: (String, String, String),
    pub(super) container: String,
    pub(super) started: Option<jiff::Timestamp>,
    pub(super) stats: ContainerStats,
}

pub(super) async fn used(cx: &Context) -> Result<Vec<Used>, k8s_runtime::Error> {
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
    Ok(json!({"node": node(cx, (node_cpu, node_memory), now), "pods": list}))
}

/// Whether containers run on this machine: simulated ones use nothing of it.
fn is_real(cx: &Context) -> bool {
    cx.runtime.name() != "sim"
}

/// The CPU time in nanoseconds and the memory in bytes that the node uses as a whole: its machine,
/// or where nothing runs on that, the sum of its pods.
pub(super) fn whole(cx: &Context, pods: (u64, u64)) -> (u64, u64) {
    let machine = machine::cpu_nanos().zip(machine::working_set());
    machine.filter(|_| is_real(cx)).unwrap_or(pods)
}

fn node(cx: &Context, pods: (u64, u64), now: jiff::Timestamp) -> Value {
    let real = is_real(cx);
    let (nanos, bytes) = whole(cx, pods);
    let (cpu, mut memory) = amounts(nanos, bytes, now);
    if let Some(free) = machine::meminfo("MemAvailable") {
        memory["availableBytes"] = json!(free);
    }
    let used = machine::meminfo("MemTotal").zip(machine::meminfo("MemFree"));
    if let Some((total, free)) = used.filter(|_| real) {
        memory["usageBytes"] = json!(total.saturating_sub(free));
    }
    let rss = machine::meminfo("AnonPages").filter(|_| real).unwrap_or(0);
    memory["rssBytes"] = json!(rss);
    let mut node = json!({"nodeName": cx.settings.node_name, "cpu": cpu, "memory": memory});
    if let Ok(fs) = nix::sys::statvfs::statvfs(&cx.volumes.pods_dir) {
        let unit = fs.fragment_size();
        node["fs"] = json!({
            "time": crate::time::whole_second(now).to_string(),
            "availableBytes": fs.blocks_available() * unit,
            "capacityBytes": fs.blocks() * unit,
            "usedBytes": fs.blocks().saturating_sub(fs.blocks_free()) * unit,
            "inodesFree": fs.files_free(),
            "inodes": fs.files(),
            "inodesUsed": fs.files().saturating_sub(fs.files_free()),
        });
    }
    if let Some((running, max)) = machine::pids().filter(|_| real) {
        node["rlimit"] = json!({
            "time": crate::time::whole_second(now).to_string(),
            "maxpid": max, "curproc": running,
        });
    }
    node
}
