//! The scheduler alone, in place of upstream's, for any cluster.
//!
//! Run it with `cargo run -p examples --example scheduler -- KUBECONFIG [CONFIGURATION]`, where the second file is a
//! `KubeSchedulerConfiguration`. It prints nothing unless something is wrong, and ends at Ctrl-C.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).init();
    let mut arguments = std::env::args_os().skip(1);
    let kubeconfig = arguments.next().context("name a kubeconfig")?;
    let configuration = arguments.next();
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            signal.cancel();
        }
    });
    let configuration = configuration.as_deref().map(AsRef::as_ref);
    examples::programs::scheduler::schedule(kubeconfig.as_ref(), configuration, stop).await
}
