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

mod workloads;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service, ServiceAccount},
    scheduling::v1::PriorityClass,
};
use k8s_scheduler::{Driver, DriverConfig, Profile};
use k8s_store::EmbeddedStore;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Request},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use workloads::{Setting, WORKLOADS, Workload, node, pod, taking};

/// Where the pods are that are measured.
const NAMESPACE: &str = "default";

fn pods_of(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

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

/// Creates objects, given as paths and bodies of requests; what the server answers is not looked at.
async fn create(
    client: &Client,
    writers: usize,
    requests: impl Iterator<Item = (String, Vec<u8>)>,
) -> anyhow::Result<()> {
    stream::iter(requests)
        .map(Ok)
        .try_for_each_concurrent(writers, |(path, body)| async move {
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

/// Pods to be placed.
struct Batch<'a> {
    prefix: &'a str,
    count: usize,
    /// Taken in turns.
    specs: &'a [fn() -> Value],
    /// Taken in turns.
    namespaces: &'a [String],
}

impl Batch<'_> {
    /// The path and the body of each one's creation.
    fn requests(&self) -> Vec<(String, Vec<u8>)> {
        let specs: Vec<Value> = self.specs.iter().map(|spec| spec()).collect();
        let paths: Vec<String> = self.namespaces.iter().map(|n| pods_of(n)).collect();
        (0..self.count)
            .map(|n| {
                let pod = pod(format!("{}-{n}", self.prefix), &specs[n % specs.len()]);
                (paths[n % paths.len()].clone(), body(&pod))
            })
            .collect()
    }
}

/// Creates pods and waits until all have their nodes; the time that took.
async fn place(client: &Client, writers: usize, batch: &Batch<'_>) -> anyhow::Result<Took> {
    let (prefix, count) = (format!("{}-", batch.prefix), batch.count);
    let api = Api::<PartialObjectMeta<Pod>>::all(client.clone());
    let config = watcher::Config::default().fields("spec.nodeName!=");
    let mut bound = watcher(api, config).applied_objects().boxed();
    let requests = batch.requests();
    let (start, cpu_before) = (Instant::now(), cpu());
    let creating = async {
        create(client, writers, requests.into_iter()).await?;
        anyhow::Ok(start.elapsed())
    };
    let waiting = async {
        let mut seen = std::collections::HashSet::new();
        while seen.len() < count {
            let pod = bound.try_next().await?.context("the watch ended")?;
            if let Some(name) = pod.metadata.name.filter(|n| n.starts_with(&prefix)) {
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

async fn make_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": "devops"}}}))?;
    let all = Api::<Namespace>::all(client.clone());
    // There already, where the server makes it.
    if all
        .create(&PostParams::default(), &namespace)
        .await
        .is_err()
    {
        let labels = Patch::Merge(&namespace);
        all.patch(name, &PatchParams::default(), &labels).await?;
    }
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), name);
    accounts.create(&PostParams::default(), &account).await?;
    Ok(())
}

/// Makes a node, a pod that fits nowhere and a Service, removes them, and begins anew. Returns when it cannot.
async fn churn(client: &Client) -> anyhow::Error {
    let round = async || {
        let parameters = PostParams::default();
        let nodes = Api::<Node>::all(client.clone());
        let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        let services = Api::<Service>::namespaced(client.clone(), NAMESPACE);
        let service = serde_json::from_value(json!({"metadata": {"name": "churn"},
            "spec": {"selector": {"app": "churn"}, "ports": [{"port": 80}]}}))?;
        nodes.create(&parameters, &node("churn", 0)).await?;
        let pod = pod("churn".into(), &taking("100"));
        pods.create(&parameters, &pod).await?;
        services.create(&parameters, &service).await?;
        // Upstream's comes and goes once a second, beside pods that take a hundred times as long.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let parameters = DeleteParams::default().grace_period(0);
        services.delete("churn", &parameters).await?;
        pods.delete("churn", &parameters).await?;
        nodes.delete("churn", &parameters).await?;
        anyhow::Ok(())
    };
    loop {
        if let Err(error) = round().await {
            return error.context("cannot churn");
        }
    }
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
    let mut others = Vec::new();
    if workload.setting == Setting::Namespaces {
        others.extend((0..10).map(|n| format!("team-{n}")));
    }
    let here = [NAMESPACE.to_owned()];
    for name in here.iter().chain(&others) {
        make_namespace(&client, name).await?;
    }
    let class: PriorityClass =
        serde_json::from_value(json!({"metadata": {"name": "high"}, "value": 10}))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &class)
        .await?;
    let all = Api::<Node>::all(client.clone());
    let requests = (0..nodes).map(|n| {
        let node = node(&format!("node-{n}"), n);
        ("/api/v1/nodes".to_owned(), body(&node))
    });
    create(&client, writers, requests).await?;
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
    let base = Batch {
        prefix: "base",
        count: match workload.setting {
            Setting::Full => nodes * 4,
            Setting::Stuck => nodes / 25,
            _ => nodes / 5,
        },
        specs: workload.base,
        namespaces: if others.is_empty() { &here } else { &others },
    };
    if workload.setting == Setting::Stuck {
        create(&client, writers, base.requests().into_iter()).await?;
    } else {
        place(&client, writers, &base).await?;
    }
    let measured = Batch {
        prefix: "measured",
        count: pods,
        specs: &[workload.spec],
        namespaces: &here,
    };
    let placing = place(&client, writers, &measured);
    let took = if workload.setting == Setting::Churn {
        tokio::select! {
            took = placing => took?,
            failed = churn(&client) => return Err(failed),
        }
    } else {
        placing.await?
    };
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
        "{:48} {:>7} {:>7} {:>9} {:>9} {:>10} {:>8}",
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
        let (nodes, pods) = if workload.setting == Setting::Full {
            (arguments.nodes / 10, arguments.nodes / 10)
        } else {
            (arguments.nodes, arguments.pods)
        };
        let took = run(workload, nodes, pods, arguments.writers).await?;
        let rate = |time: Duration| pods as f64 / time.as_secs_f64();
        println!(
            "{:48} {nodes:>7} {pods:>7} {:>9.2} {:>9.0} {:>10.0} {:>8.0}",
            workload.name,
            took.all.as_secs_f64(),
            rate(took.all),
            rate(took.creating),
            took.cpu.as_micros() as f64 / pods as f64,
        );
    }
    Ok(())
}
