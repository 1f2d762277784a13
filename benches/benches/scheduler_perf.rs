//! Scheduling end to end: pods are created through the API, on the durable store, and the time counts
//! until the last one has its node. The workloads are upstream's scheduler_perf's.
//!
//! ```text
//! cargo bench -p benches --bench scheduler_perf -- [--nodes 5000] [--pods 3000] [NAME]
//! ```

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
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Requests under way at once.
const WRITERS: usize = 32;

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

async fn create<K>(api: &Api<K>, objects: impl Iterator<Item = K>) -> anyhow::Result<()>
where
    K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let params = PostParams::default();
    stream::iter(objects)
        .map(Ok)
        .try_for_each_concurrent(WRITERS, |object| {
            let (api, params) = (api.clone(), &params);
            async move { api.create(params, &object).await.map(drop) }
        })
        .await
        .context("cannot create")
}

/// Creates pods and waits until so many with that prefix have their nodes; the time that took.
async fn place(
    client: &Client,
    prefix: &str,
    count: usize,
    spec: &Value,
) -> anyhow::Result<Duration> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let config = watcher::Config::default().fields("spec.nodeName!=");
    let mut bound = watcher(api.clone(), config).applied_objects().boxed();
    let start = Instant::now();
    let creating = create(&api, (0..count).map(|n| pod(format!("{prefix}-{n}"), spec)));
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
    created?;
    waited.context("not all pods were placed")??;
    Ok(start.elapsed())
}

async fn run(workload: &Workload, nodes: usize, pods: usize) -> anyhow::Result<Duration> {
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
    create(&all, (0..nodes).map(node)).await?;
    // A new node is tainted as not ready; whoever watches over nodes would take that away.
    let ready = Patch::Merge(json!({"spec": {"taints": null}}));
    stream::iter((0..nodes).map(Ok))
        .try_for_each_concurrent(WRITERS, |n| {
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
    place(&client, "base", base, &spec).await?;
    let took = place(&client, "measured", pods, &(workload.spec)()).await?;
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
        "{:28} {:>7} {:>7} {:>9} {:>9}",
        "workload", "nodes", "pods", "seconds", "pods/s"
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
        let took = run(workload, nodes, pods).await?.as_secs_f64();
        let rate = pods as f64 / took;
        println!(
            "{:28} {nodes:>7} {pods:>7} {took:>9.2} {rate:>9.0}",
            workload.name
        );
    }
    Ok(())
}
