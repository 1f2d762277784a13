//! `demo`: boots a cluster, runs a web application on it, shows that it works, and cleans up.
//!
//! Run it through `cargo xtask demo`, which builds it and installs what it needs. It ends
//! with a table, a line for each proof.

mod cluster;
mod image;
mod proofs;
mod traffic;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;
use proofs::Proofs;

#[derive(Parser)]
#[command(about = "Boot a cluster and show that it works")]
struct Arguments {
    /// The `cluster` binary
    #[arg(long)]
    cluster: PathBuf,
    /// The manifest to apply
    #[arg(long)]
    manifest: PathBuf,
    /// Leave the cluster running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Several may be compiled in; the client wants to know which.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("a TLS provider was installed already");
    }
    require_root_and_programs()?;
    let progress = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}")
        .unwrap_or(ProgressStyle::default_spinner());
    progress.set_style(style);
    progress.enable_steady_tick(std::time::Duration::from_millis(100));

    progress.set_message("booting the cluster");
    let mut cluster = Cluster::boot(&arguments.cluster).await?;
    let shown = tokio::select! {
        shown = show(&cluster, &arguments, &progress) => shown,
        ended = interrupted() => Err(ended.err().unwrap_or_else(|| anyhow::anyhow!("interrupted"))),
    };
    progress.finish_and_clear();
    let result = match shown {
        Ok(proofs) => {
            eprintln!("{}\n\n{proofs}", cluster.ready_line());
            if arguments.keep {
                eprintln!(
                    "\nexport KUBECONFIG={}\nCtrl-C ends the cluster.",
                    cluster.kubeconfig().display()
                );
                interrupted().await?;
            }
            if proofs.all_hold() {
                Ok(())
            } else {
                Err(anyhow::anyhow!("not everything holds"))
            }
        }
        Err(error) => {
            eprintln!("{}", cluster.log_tail());
            Err(error)
        }
    };
    cluster.stop().await?;
    result
}

/// Waits for Ctrl-C, or that the terminal is closed, or that somebody else ends this program.
async fn interrupted() -> anyhow::Result<()> {
    let on = |kind| signal(kind).context("cannot wait for signals");
    let (mut interrupt, mut hangup) = (on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    let mut terminate = on(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn show(
    cluster: &Cluster,
    arguments: &Arguments,
    progress: &ProgressBar,
) -> anyhow::Result<Proofs> {
    progress.set_message("importing an image made of busybox");
    cluster.import(&image::build(cluster.folder())?).await?;
    proofs::gather(cluster, &arguments.manifest, progress).await
}

fn require_root_and_programs() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the demo runs containers and programs the kernel's network: run it as root");
    }
    for (program, package) in [("runc", "runc"), ("nft", "nftables")] {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).exists())
        }) || PathBuf::from("/usr/sbin").join(program).exists();
        if !found {
            bail!("{program} is not installed: install it with `apt-get install {package}`");
        }
    }
    if !image::busybox_exists() {
        bail!("/bin/busybox is not there: install it with `apt-get install busybox-static`");
    }
    Ok(())
}
