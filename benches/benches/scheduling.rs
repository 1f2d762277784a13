//! The scheduling core alone, on upstream's scheduler_perf workloads: microseconds for each pod, with every
//! node considered and each decision applied before the next.
//!
//! ```text
//! cargo bench -p benches --bench scheduling -- [--nodes 500,5000,50000] [--pods 1000] [--bound 1000,500000] [NAME]
//! ```
//!
//! `NAME` is part of a workload's name, or `memory` for what nodes and pods take in memory.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_scheduler::{
    Profile, Scheduler,
    snapshot::{PodInfo, Snapshot},
};
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Arguments {
    /// Only workloads whose name has this in it.
    name: Option<String>,
    /// Cluster sizes.
    #[arg(long, value_delimiter = ',', default_value = "500,5000,50000")]
    nodes: Vec<usize>,
    /// Pods to place in each run.
    #[arg(long, default_value_t = 2000)]
    pods: usize,
    /// Pods that are there already: for the run over their number, on 5,000 nodes.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000,100000,500000"
    )]
    bound: Vec<usize>,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A kind of pod, and the labels that it has.
struct Workload {
    name: &'static str,
    labels: fn(usize) -> Value,
    spec: fn() -> Value,
    /// The pods that are there before: of another kind or of the same.
    base: fn() -> Value,
}

fn none() -> Value {
    json!({})
}

fn app(_: usize) -> Value {
    json!({"app": "web"})
}

fn affinity(kind: &str, key: &str, required: bool) -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key});
    let terms = if required {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
    } else {
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]})
    };
    json!({"affinity": {kind: terms}})
}

fn spread(when: &str) -> Value {
    json!({"topologySpreadConstraints": [{
        "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}}]})
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "SchedulingBasic",
        labels: |_| none(),
        spec: none,
        base: none,
    },
    Workload {
        name: "SchedulingPodAffinity",
        labels: app,
        spec: || affinity("podAffinity", "topology.kubernetes.io/zone", true),
        base: || affinity("podAffinity", "topology.kubernetes.io/zone", true),
    },
    Workload {
        name: "SchedulingPodAntiAffinity",
        labels: app,
        spec: || affinity("podAntiAffinity", "kubernetes.io/hostname", true),
        base: none,
    },
    Workload {
        name: "SchedulingPreferredPodAffinity",
        labels: app,
        spec: || affinity("podAffinity", "kubernetes.io/hostname", false),
        base: || affinity("podAffinity", "kubernetes.io/hostname", false),
    },
    Workload {
        name: "SchedulingPreferredPodAntiAffinity",
        labels: app,
        spec: || affinity("podAntiAffinity", "kubernetes.io/hostname", false),
        base: || affinity("podAntiAffinity", "kubernetes.io/hostname", false),
    },
    Workload {
        name: "SchedulingNodeAffinity",
        labels: |_| none(),
        spec: || {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone",
                "operator": "In", "values": ["zone-1", "zone-2"]}]}]}}}})
        },
        base: none,
    },
    Workload {
        name: "TopologySpreading",
        labels: app,
        spec: || spread("DoNotSchedule"),
        base: none,
    },
    Workload {
        name: "PreferredTopologySpreading",
        labels: app,
        spec: || spread("ScheduleAnyway"),
        base: none,
    },
    Workload {
        name: "MixedSchedulingBasePod",
        labels: |_| none(),
        spec: none,
        base: || affinity("podAntiAffinity", "kubernetes.io/hostname", false),
    },
    Workload {
        name: "Unschedulable",
        labels: |_| none(),
        spec: || json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "100"}}}]}),
        base: none,
    },
];

fn node(n: usize) -> Node {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{n}"), "labels": {
            "kubernetes.io/hostname": format!("node-{n}"),
            "topology.kubernetes.io/zone": format!("zone-{}", n % 10)}},
        "status": {"allocatable": {"cpu": "32", "memory": "64Gi", "pods": "110"}},
    }))
    .expect("a node")
}

/// A node as a node agent keeps it, with its conditions, addresses and images.
fn whole_node(n: usize) -> Node {
    let mut node = serde_json::to_value(node(n)).expect("a node");
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "False", "reason": reason, "message": message,
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    node["metadata"]["uid"] = format!("7f1e5a10-0000-4000-8000-{n:012}").into();
    node["metadata"]["annotations"] = json!({"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    for (key, value) in [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/os", "linux"),
        ("node.kubernetes.io/instance-type", "m5.8xlarge"),
        ("topology.kubernetes.io/region", "region-1"),
    ] {
        node["metadata"]["labels"][key] = value.into();
    }
    node["spec"] = json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "providerID": format!("example://{n}")});
    let status = &mut node["status"];
    status["capacity"] = status["allocatable"].clone();
    status["conditions"] = json!([
        condition(
            "MemoryPressure",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition("Ready", "KubeletReady", "kubelet is posting ready status"),
    ]);
    status["addresses"] = json!([{"type": "InternalIP", "address": "10.1.2.3"}, {"type": "Hostname", "address": format!("node-{n}")}]);
    status["nodeInfo"] = json!({"machineID": "ec2a9b0c5d6e4f70", "systemUUID": "ec2a9b0c-5d6e-4f70", "bootID": "b0f1",
        "kernelVersion": "6.1.0", "osImage": "Debian GNU/Linux 12", "containerRuntimeVersion": "containerd://2.0.0",
        "kubeletVersion": "v1.37.0", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"});
    let image = |i: usize| json!({"names": [format!("registry.example.com/team/image-{i}:v1")], "sizeBytes": 100_000_000 + i});
    status["images"] = (0..20).map(image).collect();
    serde_json::from_value(node).expect("a node")
}

/// What this process has in memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0) * 4096
}

/// Bytes for each node, and for each pod that has its node.
fn memory(nodes: usize, pods: usize) -> (usize, usize) {
    let start = resident();
    let mut snapshot = Snapshot::new((0..nodes).map(whole_node), []);
    let with_nodes = resident();
    for n in 0..pods {
        // A hundred workloads.
        let labels = json!({"app": format!("web-{}", n % 100), "pod-template-hash": "5d69f7c5b8"});
        let pod = pod(n, labels, json!({}), Some(n % nodes)).without_pod();
        snapshot.place(Arc::new(pod), &format!("node-{}", n % nodes));
    }
    let with_pods = resident();
    black_box(&snapshot);
    (
        with_nodes.saturating_sub(start) / nodes,
        with_pods.saturating_sub(with_nodes) / pods,
    )
}

fn pod(n: usize, labels: Value, spec: Value, node: Option<usize>) -> PodInfo {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{n}"), "namespace": "default", "uid": format!("uid-{n}"), "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    if let Some(node) = node {
        pod["spec"]["nodeName"] = format!("node-{node}").into();
    }
    serde_json::from_value::<Pod>(pod).expect("a pod").into()
}

fn cluster(workload: &Workload, nodes: usize, bound: usize) -> Snapshot {
    let mut snapshot = Snapshot::new((0..nodes).map(node), []);
    for n in 0..bound {
        // A new one each, as they come from the API.
        let pod = pod(n, (workload.labels)(n), (workload.base)(), Some(n % nodes)).without_pod();
        snapshot.place(Arc::new(pod), &format!("node-{}", n % nodes));
    }
    snapshot
}

struct Figures {
    median: Duration,
    p99: Duration,
    mean: Duration,
    placed: usize,
}

fn run(workload: &Workload, nodes: usize, bound: usize, pods: usize) -> Figures {
    let mut snapshot = cluster(workload, nodes, bound);
    let scheduler = Scheduler::new(Profile::default());
    let mut times = Vec::with_capacity(pods);
    let mut placed = 0;
    for n in 0..pods {
        let pod = Arc::new(pod(
            bound + n,
            (workload.labels)(n),
            (workload.spec)(),
            None,
        ));
        let start = Instant::now();
        let result = black_box(scheduler.schedule(&snapshot, &pod, n as u64));
        if let Ok(placement) = result {
            snapshot.place(pod, &placement.node);
            placed += 1;
        }
        times.push(start.elapsed());
    }
    let mean = times.iter().sum::<Duration>() / u32::try_from(pods.max(1)).unwrap_or(1);
    times.sort();
    Figures {
        median: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        mean,
        placed,
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the table is what the benchmark is for"
)]
fn print(name: &str, nodes: usize, bound: usize, figures: &Figures) {
    let us = |d: Duration| d.as_nanos() as f64 / 1000.0;
    println!(
        "{name:36} {nodes:>7} {bound:>8} {:>10.1} {:>10.1} {:>10.1} {:>8}",
        us(figures.median),
        us(figures.mean),
        us(figures.p99),
        figures.placed
    );
}

#[allow(clippy::print_stdout, reason = "this is its output")]
fn main() {
    let arguments = Arguments::parse();
    let wanted = |w: &&Workload| {
        arguments
            .name
            .as_ref()
            .is_none_or(|n| w.name.contains(n.as_str()))
    };
    if arguments.name.as_deref().is_none_or(|n| n == "memory") {
        // First, while nothing else has been in memory.
        let (node, pod) = memory(20_000, 200_000);
        println!(
            "memory: {node} bytes for each of 20,000 nodes, {pod} for each of 200,000 bound pods\n"
        );
    }
    println!(
        "{:36} {:>7} {:>8} {:>10} {:>10} {:>10} {:>8}",
        "workload", "nodes", "bound", "median us", "mean us", "p99 us", "placed"
    );
    for workload in WORKLOADS.iter().filter(wanted) {
        for nodes in &arguments.nodes {
            // As upstream's workloads do: a fifth as many pods as nodes are there before.
            let figures = run(workload, *nodes, nodes / 5, arguments.pods.min(nodes / 2));
            print(workload.name, *nodes, nodes / 5, &figures);
        }
    }
    for workload in WORKLOADS
        .iter()
        .filter(wanted)
        .filter(|w| w.name != "SchedulingPodAntiAffinity")
    {
        for bound in &arguments.bound {
            let figures = run(workload, 5000, *bound, arguments.pods);
            print(workload.name, 5000, *bound, &figures);
        }
    }
}
