//! What watchers cost, and how fast they are served.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures::StreamExt;
use k8s_store::{MemoryStore, Revision, Store};

use crate::{figure, put};

/// The best of many short rounds: other programs do not disturb all of them.
async fn time_of_a_write(store: &MemoryStore) -> anyhow::Result<f64> {
    let (rounds, writes) = (40, 5_000);
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let begun = Instant::now();
        for n in 0..writes {
            store.commit(put(n % 1000)).await?;
        }
        best = best.min(begun.elapsed().as_secs_f64() * 1e9 / writes as f64);
    }
    Ok(best)
}

/// What a write costs without watchers, and with 10,000 on prefixes of their own.
pub(crate) async fn disjoint() -> anyhow::Result<()> {
    let store = MemoryStore::new();
    time_of_a_write(&store).await?;
    let without = time_of_a_write(&store).await?;
    let mut watches = Vec::new();
    let now = store.revision().await?;
    for n in 0..10_000 {
        watches.push(
            store
                // Neighbours of the keys that are written.
                .watch(format!("/registry/pods/app-{n}/").into(), now)
                .await?,
        );
    }
    let with = time_of_a_write(&store).await?;
    let name = "memory: a write, no watchers";
    figure(name, format!("{without:.0} ns"), "");
    let name = "memory: a write, 10,000 disjoint watchers";
    figure(name, format!("{with:.0} ns"), "the same");
    Ok(())
}

/// Events a second that 1,000 watchers of one prefix get.
pub(crate) async fn one_prefix() -> anyhow::Result<()> {
    let (watchers, writes) = (1_000, 2_000);
    let store = Arc::new(MemoryStore::new());
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        let mut stream = store
            .watch(Bytes::from_static(b"/registry/"), Revision(1))
            .await?;
        tasks.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < writes {
                match stream.next().await {
                    Some(Ok(batch)) => seen += batch.changes.len(),
                    _ => return false,
                }
            }
            true
        }));
    }
    let begun = Instant::now();
    for n in 0..writes {
        store.commit(put(n % 100)).await?;
        // An API server has other things to do between two writes.
        tokio::task::yield_now().await;
    }
    let mut served = 0;
    for task in tasks {
        served += usize::from(task.await?);
    }
    anyhow::ensure!(served == watchers, "only {served} watchers kept up");
    let rate = (watchers * writes) as f64 / begun.elapsed().as_secs_f64();
    figure(
        "memory: events to 1,000 watchers of one prefix",
        format!("{rate:.0} /s"),
        ">= 1,000,000 /s",
    );
    Ok(())
}
