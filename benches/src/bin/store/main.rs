//! `store`: the store's speed and memory, and etcd's beside it on the same disk.
//!
//! `cargo run --release -p benches --bin store -- --etcd /usr/bin/etcd --engines` prints a table of all
//! figures, with what each should be; without `--etcd`, ours alone. `--engines` puts redb and fjall in
//! the place of the embedded store's own log. `--only commits,memory` measures parts of it. Every figure
//! is of one run; run it again to see how far they vary.

mod engines;
mod memory;
mod peer;
mod watches;
mod writes;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use k8s_store::{EmbeddedStore, EtcdOptions, EtcdStore, Expect, MemoryStore, Op, Store, Write};

#[derive(Parser)]
#[command(about = "Measure the store")]
struct Arguments {
    /// An etcd to measure on the same disk
    #[arg(long, value_name = "PATH")]
    etcd: Option<PathBuf>,
    /// Measure other engines in the place of the log, too
    #[arg(long)]
    engines: bool,
    /// Where all of them keep their data; a temporary directory if absent
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure these parts only
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Keys, for memory and recovery
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// Only open this store and say what it holds
    #[arg(long, value_name = "DIR", hide = true)]
    open: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    /// Durable writes, beside etcd's
    Writes,
    /// Reads from memory
    Reads,
    /// What watchers cost, and get
    Watches,
    /// What a commit costs as the store grows
    Commits,
    /// Memory and recovery
    Memory,
}

/// The size of all values, in bytes.
const VALUE: usize = 1024;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(dir) = &arguments.open {
        return memory::open(dir, arguments.keys);
    }
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }?;
    figure("what", "measured", "should be");
    runtime.block_on(async {
        if wanted(Part::Writes) {
            durable(&arguments, folder.path()).await?;
        }
        if wanted(Part::Reads) {
            let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
            memory::reads(&memory).await?;
        }
        if wanted(Part::Watches) {
            watches::disjoint().await?;
            watches::one_prefix().await?;
        }
        if wanted(Part::Commits) {
            memory::curve().await?;
        }
        anyhow::Ok(())
    })?;
    if arguments.engines {
        engines::measure(folder.path())?;
    }
    if wanted(Part::Memory) {
        memory::held(folder.path(), arguments.keys)?;
    }
    Ok(())
}

async fn durable(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let etcd = match &arguments.etcd {
        Some(program) => Some(peer::Peer::start(program, folder).context("etcd")?),
        None => None,
    };
    let theirs: Option<Arc<dyn Store>> = match &etcd {
        Some(etcd) => Some(Arc::new(connect(etcd.url()).await)),
        None => None,
    };
    let embedded = EmbeddedStore::open(folder.join("embedded")).await?;
    let embedded: Arc<dyn Store> = Arc::new(embedded);
    side_by_side(&embedded, theirs.as_ref()).await
}

/// Durable writes to ours and to etcd, by turns; the medians of all rounds.
async fn side_by_side(
    ours: &Arc<dyn Store>,
    theirs: Option<&Arc<dyn Store>>,
) -> anyhow::Result<()> {
    let named = [("embedded", Some(ours)), ("etcd", theirs)];
    let mut rates = [Vec::new(), Vec::new()];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..writes::ROUNDS {
        for (n, (_, store)) in named.iter().enumerate() {
            if let Some(store) = store {
                // What the other one has left to do in the background is no concern of this one.
                tokio::time::sleep(Duration::from_millis(500)).await;
                times[n].push(writes::alone(store).await?);
                rates[n].push(writes::concurrent(store).await?);
            }
        }
    }
    let [our_rate, their_rate] = rates.map(writes::median);
    let [our_time, their_time] = times.map(writes::median);
    for (name, rate, time) in [
        ("embedded", our_rate, our_time),
        ("etcd", their_rate, their_time),
    ] {
        if let (Some(rate), Some(time)) = (rate, time) {
            figure(
                &format!("{name}: durable puts, 64 writers"),
                format!("{rate:.0} /s"),
                "",
            );
            figure(&format!("{name}: one writer, p50"), micros(time), "");
        }
    }
    if let (Some(a), Some(b)) = (our_rate, their_rate) {
        let ratio = format!("{:.1}", a / b);
        figure("ratio: durable puts, 64 writers", ratio, ">= 10");
    }
    if let (Some(a), Some(b)) = (our_time, their_time) {
        let ratio = a.as_secs_f64() / b.as_secs_f64();
        figure("ratio: one writer, p50", format!("{ratio:.2}"), "<= 0.50");
    }
    Ok(())
}

async fn connect(url: &str) -> EtcdStore {
    loop {
        if let Ok(store) = EtcdStore::connect(EtcdOptions::new([url])).await {
            return store;
        }
    }
}

fn key(n: usize) -> String {
    format!("/registry/pods/default/pod-{n:09}")
}

fn put(n: usize) -> Vec<Write> {
    vec![Write {
        key: key(n).into(),
        expect: Expect::Any,
        op: Op::Put {
            // A copy of its own, as a request's body is.
            value: Bytes::from(vec![b'v'; VALUE]),
            ttl: None,
        },
    }]
}

fn micros(time: Duration) -> String {
    format!("{} us", time.as_micros())
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn figure(name: &str, value: impl std::fmt::Display, goal: &str) {
    println!("{}", format!("{name:<52} {value:>16}   {goal}").trim_end());
}
