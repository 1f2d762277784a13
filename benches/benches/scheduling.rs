//! One scheduling decision, with every node considered.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_scheduler::{
    Profile, Scheduler,
    snapshot::{PodInfo, Snapshot},
};
use serde_json::json;

fn node(n: usize) -> Node {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{n}"), "labels": {"zone": format!("zone-{}", n % 10)}},
        "status": {"allocatable": {"cpu": "32", "memory": "64Gi", "pods": "110"}},
    }))
    .expect("a node")
}

fn pod(n: usize, node: Option<usize>) -> PodInfo {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{n}"), "namespace": "default", "uid": format!("uid-{n}")},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = format!("node-{node}").into();
    }
    serde_json::from_value::<Pod>(pod).expect("a pod").into()
}

fn basic(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    group.sample_size(20);
    for nodes in [500, 5_000] {
        let snapshot = Snapshot::new(
            (0..nodes).map(node),
            (0..nodes * 2).map(|n| pod(n, Some(n % nodes))),
        );
        let scheduler = Scheduler::new(Profile::default());
        let waiting = pod(usize::MAX, None);
        group.bench_with_input(
            BenchmarkId::new("basic", nodes),
            &snapshot,
            |b, snapshot| {
                let mut seed = 0;
                b.iter(|| {
                    seed += 1;
                    black_box(scheduler.schedule(snapshot, &waiting, seed))
                        .expect("it fits")
                        .node
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, basic);
criterion_main!(benches);
