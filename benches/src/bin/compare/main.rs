//! `compare`: the same requests to this project's API server and to upstream's, in one run.
//!
//! `cargo run --release -p benches --bin compare` measures ours alone. With `--peer-apiserver PATH
//! --peer-etcd PATH` it starts upstream's kube-apiserver on its own etcd beside ours, and prints both
//! and the ratio. Both serve TLS on loopback, write durably to the same disk, and are driven by the same
//! clients in this process, one server after the other.

mod client;
mod ours;
mod peer;
mod report;
mod server;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use report::Report;
use workload::Scale;

#[derive(Parser)]
#[command(about = "Drive API servers with the same requests")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Upstream's kube-apiserver
    #[arg(long, value_name = "PATH", requires = "peer_etcd")]
    peer_apiserver: Option<PathBuf>,
    /// The etcd that it is to use
    #[arg(long, value_name = "PATH", requires = "peer_apiserver")]
    peer_etcd: Option<PathBuf>,
    /// Connections at once
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Objects of each kind
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Watchers at once
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// Where the servers keep their data; a temporary directory if absent
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
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
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let Some(Command::Serve { dir, port }) = &arguments.command {
            return ours::serve(dir, *port).await;
        }
        let scale = Scale {
            connections: arguments.connections.max(1),
            objects: arguments.objects.max(1),
            watchers: arguments.watchers.max(1),
        };
        let temporary = tempfile::Builder::new().prefix("compare-").tempdir()?;
        let dir = arguments
            .dir
            .clone()
            .unwrap_or_else(|| temporary.path().to_owned());
        let mut report = Report {
            boot: ours::boot().await?,
            ..Report::default()
        };
        if let (Some(apiserver), Some(etcd)) = (&arguments.peer_apiserver, &arguments.peer_etcd) {
            let server = peer::start(apiserver, etcd, &dir.join("peer")).await?;
            report.peer = Some(workload::run(&server, scale).await?);
            server.stop().await?;
        }
        let server = ours::start(&dir.join("ours")).await?;
        report.ours = workload::run(&server, scale).await?;
        server.stop().await?;
        report.print();
        Ok(())
    })
}
