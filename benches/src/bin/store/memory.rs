//! Reads, the cost of a commit as the store grows, and the memory that it holds.

use std::{
    hint::black_box,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use k8s_store::{EmbeddedStore, List, MemoryStore, Store};

use crate::{VALUE, figure, key, micros, put};

/// Gets, by one task and by two, and a range of 100,000 keys.
pub(crate) async fn reads(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    const KEYS: usize = 100_000;
    const READS: usize = 1_000_000;
    for n in 0..KEYS {
        store.commit(put(n)).await?;
    }
    for tasks in [1, 2] {
        let begun = Instant::now();
        let readers: Vec<_> = (0..tasks)
            .map(|task| {
                let store = store.clone();
                let keys: Vec<_> = (0..1000).map(|n| key((n * 97 + task) % KEYS)).collect();
                tokio::spawn(async move {
                    for n in 0..READS {
                        black_box(store.get(keys[n % 1000].as_bytes(), None).await?);
                    }
                    Ok::<_, k8s_store::Error>(())
                })
            })
            .collect();
        for reader in readers {
            reader.await??;
        }
        let rate = (tasks * READS) as f64 / begun.elapsed().as_secs_f64();
        figure(
            &format!("memory: gets, {tasks} reading"),
            format!("{rate:.0} /s"),
            ">= 1,000,000 /s",
        );
    }
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        let page = store.list(List::default()).await?;
        best = best.min(begun.elapsed());
        anyhow::ensure!(page.entries.len() == KEYS);
    }
    figure(
        "memory: range of 100,000 keys",
        format!("{:.1} ms", best.as_secs_f64() * 1e3),
        "no copy of values",
    );
    Ok(())
}

/// What a commit costs with 1,000 to 1,000,000 keys in the store.
pub(crate) async fn curve() -> anyhow::Result<()> {
    let store = MemoryStore::new();
    let mut filled = 0;
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        while filled < size {
            store.commit(put(filled)).await?;
            filled += 1;
        }
        // The best of many short rounds: other programs do not disturb all of them.
        let (rounds, writes) = (40, 5_000);
        let mut best = f64::MAX;
        for round in 0..rounds {
            let begun = Instant::now();
            for n in round * writes..(round + 1) * writes {
                store.commit(put(n * 7919 % size)).await?;
            }
            best = best.min(begun.elapsed().as_secs_f64() * 1e9 / writes as f64);
        }
        figure(
            &format!("memory: a commit among {size} keys"),
            format!("{best:.0} ns"),
            "flat",
        );
    }
    Ok(())
}

/// The bytes held for each stored byte, and the time to open the store again.
pub(crate) fn held(folder: &Path, keys: usize) -> anyhow::Result<()> {
    let dir = folder.join("large");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let store = Arc::new(EmbeddedStore::open(&dir).await?);
        for n in 0..keys.min(1000) {
            store.commit(put(n)).await?;
        }
        let few = alone(&store, keys.min(1000)).await?;
        figure("embedded: one writer among 1000 keys, p50", micros(few), "");
        let writers: Vec<_> = (0..64)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in (writer..keys).step_by(64) {
                        store.commit(put(n)).await?;
                    }
                    Ok::<_, k8s_store::Error>(())
                })
            })
            .collect();
        for writer in writers {
            writer.await??;
        }
        let many = alone(&store, keys).await?;
        let name = format!("embedded: one writer among {keys} keys, p50");
        figure(&name, micros(many), "the same");
        store.close().await?;
        anyhow::Ok(())
    })?;
    drop(runtime);
    // In a process that has held nothing else.
    let opened = Command::new(std::env::current_exe()?)
        .args(["--keys", &keys.to_string(), "--open"])
        .arg(&dir)
        .status()?;
    anyhow::ensure!(opened.success(), "the store does not open again");
    Ok(())
}

/// Opens a store again, and says how long it took and what it holds.
pub(crate) fn open(dir: &Path, keys: usize) -> anyhow::Result<()> {
    let before = resident()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let begun = Instant::now();
    let store = runtime.block_on(EmbeddedStore::open(dir))?;
    let took = begun.elapsed();
    let after = resident()?;
    let stored = keys * (VALUE + key(0).len());
    figure(
        &format!("embedded: recovery of {keys} keys"),
        format!("{:.2} s", took.as_secs_f64()),
        "<= 3 s",
    );
    let ratio = (after.saturating_sub(before)) as f64 / stored as f64;
    figure(
        "embedded: bytes held for each stored, opened",
        format!("{ratio:.2}"),
        "<= 1.30",
    );
    runtime.block_on(async {
        let page = store.list(List::default()).await?;
        anyhow::ensure!(page.entries.len() == keys, "keys were lost");
        store.close().await?;
        Ok(())
    })
}

/// The median time of a commit to any of the keys.
async fn alone(store: &EmbeddedStore, keys: usize) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for n in 0..2_000 {
        let writes = put(n * 7919 % keys);
        let begun = Instant::now();
        store.commit(writes).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The memory of this process that is in use, in bytes.
fn resident() -> anyhow::Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages: usize = text.split(' ').nth(1).context("a number")?.parse()?;
    Ok(pages * 4096)
}
