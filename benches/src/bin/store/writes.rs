//! Durable writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_store::Store;

use crate::put;

const WRITERS: usize = 64;
const FOR: Duration = Duration::from_secs(1);
/// How often the stores take turns: the machine is not equally busy all the time.
pub(crate) const ROUNDS: usize = 5;

/// Commits a second of 64 writers.
pub(crate) async fn concurrent(store: &Arc<dyn Store>) -> anyhow::Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (store, next) = (store.clone(), next.clone());
            tokio::spawn(async move {
                while begun.elapsed() < FOR {
                    // A bounded set of keys: this is not about memory.
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    store.commit(put(n % 50_000)).await?;
                }
                Ok::<_, k8s_store::Error>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    Ok(next.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// The median time of one commit, of one writer.
pub(crate) async fn alone(store: &Arc<dyn Store>) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for n in 0..400 {
        let writes = put(n);
        let begun = Instant::now();
        store.commit(writes).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The value in the middle.
pub(crate) fn median<T: PartialOrd + Copy>(mut all: Vec<T>) -> Option<T> {
    all.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    all.get(all.len() / 2).copied()
}
