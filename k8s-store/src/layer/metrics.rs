//! Counts and times requests.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;
use tower_layer::Layer;

use crate::{Committed, Entry, Error, List, Page, Revision, Store, WatchStream, Write};

/// Upper bounds of the histograms' buckets, in microseconds: those of upstream's
/// `etcd_request_duration_seconds`, and some below for stores in memory.
const BUCKETS: [u64; 14] = [
    10, 100, 500, 1_000, 5_000, 25_000, 50_000, 100_000, 200_000, 400_000, 1_000_000, 2_000_000,
    5_000_000, 30_000_000,
];

const OPERATIONS: [&str; 6] = ["revision", "get", "list", "commit", "watch", "compact"];

/// Counts and times every request, for as many stores as it is put around.
///
/// Clones share their counters. [`text`](Self::text) has them in the format that
/// Prometheus reads. The names are those of upstream's API server; the labels are
/// `operation`, the method of [`Store`], and `le`.
#[derive(Clone, Debug, Default)]
pub struct MetricsLayer {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    operations: [Operation; OPERATIONS.len()],
    /// Watches that have begun and were not dropped.
    watches: AtomicU64,
    /// Changes that watches have yielded.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Operation {
    requests: AtomicU64,
    errors: AtomicU64,
    conflicts: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len()],
}

impl MetricsLayer {
    /// All counters, in the text format of Prometheus. They are all there from
    /// the start.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let all = || OPERATIONS.iter().zip(&self.counters.operations);
        let mut counter = |name: &str, help: &str, value: fn(&Operation) -> &AtomicU64| {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter")?;
            for (operation, counters) in all() {
                let value = value(counters).load(Relaxed);
                writeln!(out, "{name}{{operation=\"{operation}\"}} {value}")?;
            }
            Ok(())
        };
        counter("etcd_requests_total", "Requests to the store.", |o| {
            &o.requests
        })?;
        let help = "Requests to the store that did not succeed, conflicts apart.";
        counter("etcd_request_errors_total", help, |o| &o.errors)?;
        let help = "Commits whose guards did not hold.";
        counter("store_conflicts_total", help, |o| &o.conflicts)?;

        let name = "etcd_request_duration_seconds";
        writeln!(
            out,
            "# HELP {name} How long requests to the store took.\n# TYPE {name} histogram"
        )?;
        for (operation, counters) in all() {
            let mut sum = 0;
            for (bound, bucket) in BUCKETS.iter().zip(&counters.buckets) {
                sum += bucket.load(Relaxed);
                let bound = seconds(*bound);
                writeln!(
                    out,
                    "{name}_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {sum}"
                )?;
            }
            let count = counters.requests.load(Relaxed);
            let total = seconds(counters.micros.load(Relaxed));
            writeln!(
                out,
                "{name}_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {count}"
            )?;
            writeln!(out, "{name}_sum{{operation=\"{operation}\"}} {total}")?;
            writeln!(out, "{name}_count{{operation=\"{operation}\"}} {count}")?;
        }
        for (name, kind, help, value) in [
            (
                "store_watches",
                "gauge",
                "Watches that are open.",
                &self.counters.watches,
            ),
            (
                "store_watch_changes_total",
                "counter",
                "Changes that watches have yielded.",
                &self.counters.changes,
            ),
        ] {
            let value = value.load(Relaxed);
            writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            )?;
        }
        Ok(())
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Counters {
    async fn measure<T>(
        &self,
        operation: usize,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let outcome = request.await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let counters = &self.operations[operation];
        counters.requests.fetch_add(1, Relaxed);
        counters.micros.fetch_add(micros, Relaxed);
        let bucket = BUCKETS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = counters.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        match &outcome {
            Ok(_) => {}
            Err(Error::Conflict { .. }) => {
                counters.conflicts.fetch_add(1, Relaxed);
            }
            Err(_) => {
                counters.errors.fetch_add(1, Relaxed);
            }
        }
        outcome
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = MeasuredStore<S>;

    fn layer(&self, inner: S) -> MeasuredStore<S> {
        MeasuredStore {
            inner,
            counters: Arc::clone(&self.counters),
        }
    }
}

/// The store that [`MetricsLayer`] makes.
#[derive(Clone, Debug)]
pub struct MeasuredStore<S> {
    inner: S,
    counters: Arc<Counters>,
}

/// Counts a watch for as long as it is there.
struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Relaxed);
    }
}

#[async_trait]
impl<S: Store> Store for MeasuredStore<S> {
    async fn revision(&self) -> Result<Revision, Error> {
        self.counters.measure(0, self.inner.revision()).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.counters.measure(1, self.inner.get(key, at)).await
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        self.counters.measure(2, self.inner.list(list)).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        self.counters.measure(3, self.inner.commit(writes)).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        let begun = self.inner.watch(prefix, after);
        let stream = self.counters.measure(4, begun).await?;
        self.counters.watches.fetch_add(1, Relaxed);
        let open = Open(Arc::clone(&self.counters));
        let counted = stream.inspect(move |batch| {
            if let Ok(batch) = batch {
                open.0
                    .changes
                    .fetch_add(batch.changes.len() as u64, Relaxed);
            }
        });
        Ok(counted.boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.counters.measure(5, self.inner.compact(revision)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, MemoryStore, Op};

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_and_what_came_of_it_is_counted() {
        let metrics = MetricsLayer::default();
        let lines = || {
            metrics
                .text()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let store = metrics.layer(MemoryStore::new());
        let zero = "etcd_requests_total{operation=\"commit\"} 0".to_owned();
        assert!(lines().contains(&zero), "all is there from the start");
        let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
        let create = || Write {
            key: "a".into(),
            expect: Expect::Absent,
            op: Op::Put {
                value: "x".into(),
                ttl: None,
            },
        };
        store.commit(vec![create()]).await.unwrap();
        store.commit(vec![create()]).await.unwrap_err();
        store.get(b"a", Some(Revision(9))).await.unwrap_err();
        watch.next().await.unwrap().unwrap();
        for line in [
            "etcd_requests_total{operation=\"commit\"} 2",
            "store_conflicts_total{operation=\"commit\"} 1",
            "etcd_request_errors_total{operation=\"commit\"} 0",
            "etcd_request_errors_total{operation=\"get\"} 1",
            "etcd_request_duration_seconds_bucket{operation=\"commit\",le=\"0.00001\"} 2",
            "etcd_request_duration_seconds_count{operation=\"commit\"} 2",
            "store_watches 1",
            "store_watch_changes_total 1",
        ] {
            assert!(
                lines().contains(&line.to_owned()),
                "{line}\n{}",
                metrics.text()
            );
        }
        drop(watch);
        assert!(lines().contains(&"store_watches 0".to_owned()));
    }

    #[test]
    fn bounds_are_in_seconds() {
        assert_eq!(seconds(10), "0.00001");
        assert_eq!(seconds(30_000_000), "30");
        assert_eq!(seconds(0), "0");
    }
}
