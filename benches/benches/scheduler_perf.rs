//! Scheduling end to end: pods are created through the API, on the durable store, and the time counts
//! until the last one has its node. The workloads are upstream's scheduler_perf's.
//!
//! ```text
//! cargo bench -p benches --bench scheduler_perf -- [--nodes 5000] [--pods 3000] [--writers 64] [NAME]
//! ```
//!
//! Server, scheduler and whoever makes the pods are one process; their clients call the server without a
//! socket and without TLS, in JSON. `created/s` says how fast the pods were made, which bounds the rest; `cpu us` is the
//! processor time of the whole process for each pod: of its creation, its scheduling and its two watch events.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, ServiceAccount},
    scheduling::v1::PriorityClass,
};
use k8s_scheduler::{Driver, DriverConfig, Profile};
use k8s_store::EmbeddedStore;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams, Request},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[derive(Debug, Parser)]
struct Arguments {
    /// Only workloads whose name has this in it.
    name: Option<String>,
    /// The cluster's size; preemption runs on a tenth of it.
    #[arg(long, default_value_t = 5000)]
    nodes: usize,
    /// Pods to place.
    #[arg(long, default_value_t = 3000)]
    pods: usize,
    /// Requests under way at once of those who make nodes and pods.
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Workload {
    name: &'static str,
    spec: fn() -> Value,
    preempts: bool,
}

fn affinity(kind: &str, key: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}]}}})
}

fn spread(when: &str) -> Value {
    json!({"topologySpreadConstraints": [{
        "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}}]})
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "SchedulingBasic",
        spec: || json!({}),
        preempts: false,
    },
    Workload {
        name: "SchedulingPodAffinity",
        spec: || affinity("podAffinity", "topology.kubernetes.io/zone"),
        preempts: false,
    },
    Workload {
        name: "SchedulingPodAntiAffinity",
        spec: || affinity("podAntiAffinity", "kubernetes.io/hostname"),
        preempts: false,
    },
    Workload {
        name: "TopologySpreading",
        spec: || spread("DoNotSchedule"),
        preempts: false,
    },
    Workload {
        name: "PreferredTopologySpreading",
        spec: || spread("ScheduleAnyway"),
        preempts: false,
    },
    Workload {
        name: "PreemptionBasic",
        spec: || {
            json!({"priorityClassName": "high", "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "3000m", "memory": "500Mi"}}}]})
        },
        preempts: true,
    },
];

fn node(n: usize) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": format!("node-{n}"), "labels": {
            "kubernetes.io/hostname": format!("node-{n}"),
            "topology.kubernetes.io/zone": format!("zone-{}", n % 10)}},
        "status": {
            "capacity": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .expect("a node")
}

fn pod(name: String, spec: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
                "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

/// Creates objects, given as bodies of requests; what the server answers is not looked at.
async fn create(
    client: &Client,
    path: &str,
    writers: usize,
    bodies: impl Iterator<Item = Vec<u8>>,
) -> anyhow::Result<()> {
    stream::iter(bodies)
        .map(Ok)
        .try_for_each_concurrent(writers, |body| async move {
            let request = Request::new(path).create(&PostParams::default(), body)?;
            client.request::<IgnoredAny>(request).await?;
            anyhow::Ok(())
        })
        .await
        .context("cannot create")
}

fn body(object: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(object).expect("objects are JSON")
}

/// How long it took.
struct Took {
    /// Until the last pod was created.
    creating: Duration,
    /// Until the last one had its node.
    all: Duration,
    /// The processor's time.
    cpu: Duration,
}

/// The processor time of this process so far, to a hundredth of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, in parentheses: the 12th and 13th field are ticks in the program and in the kernel.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>())
}

/// Creates pods and waits until so many with that prefix have their nodes; the time that took.
async fn place(
    client: &Client,
    writers: usize,
    prefix: &str,
    count: usize,
    spec: &Value,
) -> anyhow::Result<Took> {
    let api = Api::<PartialObjectMeta<Pod>>::default_namespaced(client.clone());
    let config = watcher::Config::default().fields("spec.nodeName!=");
    let mut bound = watcher(api, config).applied_objects().boxed();
    let bodies: Vec<Vec<u8>> = (0..count)
        .map(|n| body(&pod(format!("{prefix}-{n}"), spec)))
        .collect();
    let (start, cpu_before) = (Instant::now(), cpu());
    let creating = async {
        create(client, PODS, writers, bodies.into_iter()).await?;
        anyhow::Ok(start.elapsed())
    };
    let waiting = async {
        let mut seen = std::collections::HashSet::new();
        while seen.len() < count {
            let pod = bound.try_next().await?.context("the watch ended")?;
            if let Some(name) = pod.metadata.name.filter(|n| n.starts_with(prefix)) {
                seen.insert(name);
            }
        }
        anyhow::Ok(())
    };
    let limit = Duration::from_secs(120);
    let (created, waited) = tokio::join!(creating, tokio::time::timeout(limit, waiting));
    waited.context("not all pods were placed")??;
    Ok(Took {
        creating: created?,
        all: start.elapsed(),
        cpu: cpu() - cpu_before,
    })
}

async fn run(
    workload: &Workload,
    nodes: usize,
    pods: usize,
    writers: usize,
) -> anyhow::Result<Took> {
    let folder = tempfile::tempdir()?;
    let store = EmbeddedStore::open(folder.path()).await?;
    let server = ApiServer::builder()
        .store(Arc::new(store.clone()))
        .build()
        .await?;
    let client = server.client(Identity::system_masters());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    // There already, where the server makes it.
    let _ = Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    let accounts = Api::<ServiceAccount>::default_namespaced(client.clone());
    accounts.create(&PostParams::default(), &account).await?;
    let class: PriorityClass =
        serde_json::from_value(json!({"metadata": {"name": "high"}, "value": 10}))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &class)
        .await?;
    let all = Api::<Node>::all(client.clone());
    let bodies = (0..nodes).map(|n| body(&node(n)));
    create(&client, "/api/v1/nodes", writers, bodies).await?;
    // A new node is tainted as not ready; whoever watches over nodes would take that away.
    let ready = Patch::Merge(json!({"spec": {"taints": null}}));
    stream::iter((0..nodes).map(Ok))
        .try_for_each_concurrent(writers, |n| {
            let (all, ready) = (all.clone(), &ready);
            let name = format!("node-{n}");
            async move {
                let params = PatchParams::default();
                all.patch(&name, &params, ready).await.map(drop)
            }
        })
        .await
        .context("cannot untaint")?;

    let scheduler = server.client(Identity::user("system:kube-scheduler"));
    let driver = Driver::new(scheduler, Profile::default(), DriverConfig::default());
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    // Pods that are there before, as in upstream's workloads; placing them warms everything up.
    let (base, spec) = if workload.preempts {
        let low = json!({"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "900m", "memory": "500Mi"}}}]});
        (nodes * 4, low)
    } else {
        (nodes / 5, (workload.spec)())
    };
    place(&client, writers, "base", base, &spec).await?;
    let took = place(&client, writers, "measured", pods, &(workload.spec)()).await?;
    stop.cancel();
    driver.await?;
    server.shutdown().await;
    store.close().await?;
    Ok(took)
}

#[allow(clippy::print_stdout, reason = "this is its output")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!(
        "{:28} {:>7} {:>7} {:>9} {:>9} {:>10} {:>8}",
        "workload", "nodes", "pods", "seconds", "pods/s", "created/s", "cpu us"
    );
    for workload in WORKLOADS {
        if arguments
            .name
            .as_ref()
            .is_some_and(|n| !workload.name.contains(n.as_str()))
        {
            continue;
        }
        let (nodes, pods) = if workload.preempts {
            (arguments.nodes / 10, arguments.nodes / 10)
        } else {
            (arguments.nodes, arguments.pods)
        };
        let took = run(workload, nodes, pods, arguments.writers).await?;
        let rate = |time: Duration| pods as f64 / time.as_secs_f64();
        println!(
            "{:28} {nodes:>7} {pods:>7} {:>9.2} {:>9.0} {:>10.0} {:>8.0}",
            workload.name,
            took.all.as_secs_f64(),
            rate(took.all),
            rate(took.creating),
            took.cpu.as_micros() as f64 / pods as f64,
        );
    }
    Ok(())
}
