//! The object model: bodies to objects, defaults and rules, patches.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use k8s_model::{
    Resource, ResourceTable,
    apply::{OneVersion, Shape, Tracker},
    decode, patch,
    schema::Type,
};
use serde_json::{Value, json};

fn pods() -> &'static Resource {
    ResourceTable::builtin()
        .resource("", "v1", "pods")
        .expect("pods are built in")
}

/// A Pod as a Deployment's template makes it: two containers, probes, volumes.
fn pod() -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "example.com/web:1",
            "ports": [{"containerPort": 8080}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5},
            "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "default", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "containers": [container("main"), container("sidecar")],
            "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
        },
    })
}

fn objects(c: &mut Criterion) {
    let pods = pods();
    let body = pod().to_string().into_bytes();
    let decode =
        || (pods.codec.from_json)(&body, &mut |field| panic!("{field} is unknown")).expect("a Pod");
    let mut group = c.benchmark_group("model");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("decode a Pod", |b| b.iter(|| black_box(decode())));
    group.bench_function("decode a Pod to a value tree", |b| {
        b.iter(|| black_box(serde_json::from_slice::<Value>(&body)).expect("JSON"));
    });
    group.bench_function("look for duplicate fields in a Pod", |b| {
        b.iter(|| black_box(decode::duplicate_fields(&body)));
    });
    let mut complete = decode();
    group.bench_function("default a Pod", |b| {
        b.iter_batched(
            || complete.boxed_clone(),
            |mut pod| {
                pods.strategy.default(&mut *pod);
                pod
            },
            criterion::BatchSize::SmallInput,
        );
    });
    pods.strategy.default(&mut *complete);
    group.bench_function("validate a Pod", |b| {
        b.iter(|| black_box(pods.strategy.validate(&*complete)));
    });
    let mut out = Vec::with_capacity(4096);
    group.bench_function("encode a Pod", |b| {
        b.iter(|| {
            out.clear();
            complete.write_json(&mut out);
            out.len()
        });
    });
    group.finish();
}

fn patches(c: &mut Criterion) {
    let ty = Type::of_kind("", "v1", "Pod");
    let change = json!({
        "metadata": {"annotations": {"touched": "yes"}},
        "spec": {"containers": [{"name": "sidecar", "image": "example.com/web:2"}]},
    });
    let document = pod();
    c.bench_function("model/strategic merge patch of a Pod", |b| {
        b.iter_batched(
            || (document.clone(), change.clone()),
            |(document, change)| patch::strategic(document, change, ty).expect("it fits"),
            criterion::BatchSize::SmallInput,
        );
    });
}

fn ownership(c: &mut Criterion) {
    let pods = pods();
    let shape = Shape::Type(Type::of_kind("", "v1", "Pod").expect("pods are built in"));
    let tracker = |manager, subresource, reset| Tracker {
        shape: &shape,
        api_version: "v1",
        subresource,
        manager,
        reset,
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
        versions: &OneVersion,
    };
    let object = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod();
        change(&mut pod);
        let mut pod = (pods.codec.from_value)(pod, &mut |_| {}).expect("a Pod");
        pods.strategy.default(&mut *pod);
        pod
    };
    let json = |change: &dyn Fn(&mut Value)| {
        let mut out = Vec::new();
        object(change).write_json(&mut out);
        out
    };
    let made = object(&|_| {});
    let old = json(&|_| {});
    let new = json(&|pod| {
        pod["status"] = json!({"phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}]});
    });
    let creator = tracker("kubectl", "", &[&["status"]]);
    let mut group = c.benchmark_group("model");
    group.throughput(Throughput::Bytes(old.len() as u64));
    group.bench_function("own a new Pod", |b| {
        b.iter(|| black_box(creator.created(&*made)));
    });
    group.bench_function("own a new Pod that is JSON", |b| {
        b.iter(|| black_box(creator.created_json(&old)));
    });
    let managed = creator.created_json(&old);
    let kubelet = tracker("kubelet", "status", &[&["spec"]]);
    group.bench_function("own a Pod's new status", |b| {
        b.iter(|| black_box(kubelet.updated(&old, &new, &managed, None)));
    });
    group.bench_function("own nothing more of a Pod", |b| {
        b.iter(|| black_box(kubelet.updated(&old, &old, &managed, None)));
    });
    group.finish();
}

criterion_group!(benches, objects, patches, ownership);
criterion_main!(benches);
