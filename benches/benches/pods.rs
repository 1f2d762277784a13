//! From a bound Pod to a ready one: API server and node agent in one process, on a runtime that
//! runs nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_kubelet::Kubelet;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_runtime::sim::{SimOptions, SimRuntime};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const NODE: &str = "node-1";

/// A server with one node; the client, and what stops the node.
async fn cluster(folder: &std::path::Path) -> (ApiServer, Client, CancellationToken) {
    let server = ApiServer::builder()
        .build()
        .await
        .expect("a server in memory needs nothing");
    let client = server.client(Identity::system_masters());
    let account: ServiceAccount =
        serde_json::from_value(json!({"metadata": {"name": "default"}})).expect("an account");
    Api::<ServiceAccount>::default_namespaced(client.clone())
        .create(&PostParams::default(), &account)
        .await
        .expect("accounts can be made");

    let options = SimOptions::new("10.244.0.0/24".parse().expect("a network"));
    let runtime = SimRuntime::new(options).expect("a runtime");
    let images = runtime.images();
    let identity = Identity::user(format!("system:node:{NODE}")).group("system:nodes");
    let kubelet = Kubelet::builder(server.client(identity), Arc::new(runtime), images)
        .node_name(NODE)
        .node_ip(std::net::Ipv4Addr::LOCALHOST.into())
        .root_dir(folder)
        .capacity("64", "64Gi", 1000)
        .build()
        .expect("a kubelet");
    let stop = CancellationToken::new();
    tokio::spawn(kubelet.run(stop.clone()));
    (server, client, stop)
}

fn pod(n: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{n}")},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "example.com/web:1"}],
        },
    }))
    .expect("a pod")
}

fn is_ready(pod: Option<&Pod>) -> bool {
    pod.is_some_and(k8s_model::pods::is_ready)
}

/// Makes that many pods at once, and waits until all are ready; how long it took. Then they go.
async fn start(client: &Client, numbers: std::ops::Range<usize>) -> Duration {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let started = Instant::now();
    let all = numbers.map(|n| {
        let pods = pods.clone();
        async move {
            let pod = pods
                .create(&PostParams::default(), &pod(n))
                .await
                .expect("pods can be made");
            let name = pod.name_any();
            await_condition(pods, &name, is_ready)
                .await
                .expect("the watch goes on");
            pod
        }
    });
    let made = futures::future::join_all(all).await;
    let took = started.elapsed();
    for pod in made {
        let (name, uid) = (pod.name_any(), pod.uid().expect("a uid"));
        pods.delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .expect("pods can be deleted");
        await_condition(pods.clone(), &name, conditions::is_deleted(&uid))
            .await
            .expect("the watch goes on");
    }
    took
}

fn starts(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let folder = tempfile::tempdir().expect("a folder");
    let (server, client, stop) = runtime.block_on(cluster(folder.path()));
    let mut group = c.benchmark_group("pod start");
    group.sample_size(10);
    let mut next = 0;
    for at_once in [1, 50] {
        group.bench_function(format!("{at_once} bound to ready, sim runtime"), |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    took += runtime.block_on(start(&client, next..next + at_once));
                    next += at_once;
                }
                took
            });
        });
    }
    group.finish();
    stop.cancel();
    runtime.block_on(server.shutdown());
}

criterion_group!(benches, starts);
criterion_main!(benches);
