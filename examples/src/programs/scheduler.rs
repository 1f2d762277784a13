//! The scheduler alone, for a cluster that is elsewhere.

use std::path::Path;

use anyhow::Context;
use k8s_scheduler::{
    Driver,
    config::{Configuration, Registry},
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

/// Upstream's defaults.
const DEFAULT: &str =
    "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration}";

/// Schedules the pods of the cluster that a kubeconfig names, as a `KubeSchedulerConfiguration` file says, until it is
/// told to stop.
///
/// # Errors
///
/// If one of the files can't be used.
pub async fn schedule(
    kubeconfig: &Path,
    configuration: Option<&Path>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // More than one TLS provider may be linked in; an earlier choice stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot use the kubeconfig")?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    let client = Client::try_from(config)?;
    let text = match configuration {
        None => DEFAULT.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
    };
    let configuration = Configuration::parse(&text, &Registry::default())
        .context("cannot use the configuration")?
        .with_identity(format!("scheduler_{}", std::process::id()));
    let driver = Driver::new(client, configuration.profiles, configuration.driver);
    driver.run(stop).await;
    Ok(())
}
