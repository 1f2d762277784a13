//! The store alone: commits, reads, and watch fan-out.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt;
use k8s_store::{EmbeddedStore, Expect, MemoryStore, Op, Revision, Store, Write};

const VALUE: &[u8] = &[b'v'; 1024];

fn put(n: u64) -> Vec<Write> {
    vec![Write {
        key: format!("/registry/bench/{n}").into(),
        expect: Expect::Any,
        op: Op::Put {
            value: Bytes::from_static(VALUE),
            ttl: None,
        },
    }]
}

/// `writers` tasks that commit at once, until all have done `each`.
async fn commit_all(store: &Arc<dyn Store>, writers: u64, each: u64) {
    let tasks: Vec<_> = (0..writers)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    store
                        .commit(put(w * each + n))
                        .await
                        .expect("a commit without a guard");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
}

fn commits(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let folder = tempfile::tempdir().expect("a folder");
    let embedded: Arc<dyn Store> = {
        let _inside = runtime.enter();
        Arc::new(
            runtime
                .block_on(EmbeddedStore::open(folder.path()))
                .expect("a new store"),
        )
    };
    let memory: Arc<dyn Store> = {
        let _inside = runtime.enter();
        Arc::new(MemoryStore::new())
    };
    let mut group = c.benchmark_group("store");
    group.sample_size(20);
    for (name, store) in [("memory", memory), ("embedded", embedded)] {
        group.throughput(Throughput::Elements(64 * 100));
        group.bench_function(format!("{name}: 64 writers, 1 KiB"), |b| {
            b.to_async(&runtime).iter(|| commit_all(&store, 64, 100));
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{name}: one writer, 1 KiB"), |b| {
            b.to_async(&runtime)
                .iter(|| async { store.commit(put(0)).await.expect("a commit") });
        });
        group.bench_function(format!("{name}: get"), |b| {
            b.to_async(&runtime).iter(|| async {
                black_box(store.get(b"/registry/bench/1", None).await.expect("a read"))
            });
        });
    }
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (watchers, writes) = (1_000_u64, 100_u64);
    let mut group = c.benchmark_group("watch");
    group.sample_size(10);
    group.throughput(Throughput::Elements(watchers * writes));
    group.bench_function("memory: 1,000 watchers of one prefix", |b| {
        b.to_async(&runtime).iter(|| async {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let mut tasks = Vec::new();
            for _ in 0..watchers {
                let mut events = store
                    .watch(Bytes::from_static(b"/registry/"), Revision(1))
                    .await
                    .expect("a watch from the start");
                tasks.push(tokio::spawn(async move {
                    let mut seen = 0;
                    while seen < writes {
                        let batch = events
                            .next()
                            .await
                            .expect("the watch goes on")
                            .expect("nobody lags");
                        seen += batch.changes.len() as u64;
                    }
                }));
            }
            commit_all(&store, 1, writes).await;
            for task in tasks {
                task.await.expect("a watcher");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, commits, fan_out);
criterion_main!(benches);
