//! `compare`: the same requests to this project's API server and to upstream's, in one run.
//!
//! `cargo run --profile dist -p benches --bin compare` measures ours alone. With `--peer-apiserver PATH
//! --peer-etcd PATH` it starts upstream's kube-apiserver on its own etcd beside ours, and prints both
//! and the ratio. Both serve TLS on loopback, write durably to the same disk, and are driven by the same
//! clients in this process, one server after the other. `--rounds` alternates between them and prints
//! medians, for machines that have other things to do. `--part` chooses what is measured:
//!
//! - `requests`: start, memory, creates, reads, lists
//! - `fan-out`: watch events delivered to 10, 100 and 1,000 watchers, and what becomes of the writers
//! - `idle`: memory of a watch that has nothing to tell
//! - `memory`: what a server takes that has 11,800 Pods and 18,500 ConfigMaps
//! - `growth`: what a write costs beside more and more objects and watchers
//! - `in-process`: what a request costs beyond what the store does for it (ours alone)

mod answer;
mod client;
mod events;
mod fan_out;
mod figures;
mod growth;
mod idle;
mod in_process;
mod load;
mod memory;
mod ours;
mod peer;
mod report;
mod requests;
mod server;
mod tls;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use figures::Figures;
use load::Scale;
use report::Report;
use server::Server;

// As the program `cluster` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Drive API servers with the same requests")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What is measured; everything if absent
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Upstream's kube-apiserver
    #[arg(long, value_name = "PATH", requires = "peer_etcd")]
    peer_apiserver: Option<PathBuf>,
    /// The etcd that it is to use
    #[arg(long, value_name = "PATH", requires = "peer_apiserver")]
    peer_etcd: Option<PathBuf>,
    /// How often each server has its turn
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Connections at once
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Objects of each kind
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// How many watch at once in `fan-out`
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000])]
    watchers: Vec<usize>,
    /// How many objects there are in `growth`
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    growth: Vec<usize>,
    /// Where the servers keep their data; a temporary directory if absent
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Requests,
    FanOut,
    Idle,
    Memory,
    Growth,
    InProcess,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API on an address (what `compare` starts as its subject)
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        port: u16,
    },
    /// Open watches in this process and print what each takes (what `compare` starts for `idle`)
    #[command(hide = true)]
    IdleInProcess,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &arguments.command {
            Some(Command::Serve { dir, port }) => ours::serve(dir, *port).await,
            Some(Command::IdleInProcess) => in_process::print_idle_watch().await,
            None => arguments.compare().await,
        }
    })
}

impl Arguments {
    fn has(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }

    async fn compare(&self) -> anyhow::Result<()> {
        let temporary = tempfile::Builder::new().prefix("compare-").tempdir()?;
        let dir = self
            .dir
            .clone()
            .unwrap_or_else(|| temporary.path().to_owned());
        let mut report = Report::default();
        for round in 0..self.rounds.max(1) {
            if let (Some(apiserver), Some(etcd)) = (&self.peer_apiserver, &self.peer_etcd) {
                let start = async |dir: &Path| peer::start(apiserver, etcd, dir).await;
                let dir = dir.join(format!("peer-{round}"));
                report.peer.push(self.measure(&dir, start).await?);
            }
            let dir = dir.join(format!("ours-{round}"));
            let mut ours = self.measure(&dir, ours::start).await?;
            if self.has(Part::Idle) {
                in_process::idle_watch(&mut ours).await?;
            }
            if self.has(Part::InProcess) {
                in_process::overhead(&mut ours).await?;
            }
            report.ours.push(ours);
        }
        report.print();
        Ok(())
    }

    /// Measures all parts that need a server, each with a new one.
    async fn measure(
        &self,
        dir: &Path,
        start: impl AsyncFn(&Path) -> anyhow::Result<Server>,
    ) -> anyhow::Result<Figures> {
        let scale = Scale {
            connections: self.connections.max(1),
            objects: self.objects.max(1),
        };
        let mut figures = Figures::default();
        if self.has(Part::Requests) {
            let server = start(&dir.join("requests")).await?;
            requests::run(&server, scale, &mut figures).await?;
            server.stop().await?;
        }
        if self.has(Part::FanOut) {
            for watchers in self.watchers.iter().filter(|n| **n > 0) {
                let server = start(&dir.join(format!("fan-out-{watchers}"))).await?;
                fan_out::run(&server, scale, *watchers, &mut figures).await?;
                server.stop().await?;
            }
        }
        if self.has(Part::Idle) {
            let server = start(&dir.join("idle")).await?;
            idle::run(&server, &mut figures).await?;
            server.stop().await?;
        }
        if self.has(Part::Memory) {
            let server = start(&dir.join("memory")).await?;
            memory::run(&server, scale, &mut figures).await?;
            server.stop().await?;
        }
        if self.has(Part::Growth) {
            let server = start(&dir.join("growth")).await?;
            growth::run(&server, scale, &self.growth, &mut figures).await?;
            server.stop().await?;
        }
        Ok(figures)
    }
}
