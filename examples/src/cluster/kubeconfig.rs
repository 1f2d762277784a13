//! `cluster kubeconfig`: credentials for a user.

use anyhow::{Context, bail};
use k8s_apiserver::pki::Pki;

use super::{arguments::KubeconfigOptions, layout::Layout};

pub(super) fn run(options: KubeconfigOptions) -> anyhow::Result<()> {
    let layout = Layout::new(&options.data_dir);
    if !layout.pki().exists() {
        bail!(
            "{} holds no cluster: `cluster up --data-dir {0}` makes one",
            options.data_dir.display()
        );
    }
    let pki = Pki::open_or_create(layout.pki()).context("cannot open the cluster's keys")?;
    let server = server(&layout)?;
    let text = pki
        .kubeconfig(&server, &options.user, &options.group)
        .context("cannot issue a certificate")?;
    print(&text.to_string());
    Ok(())
}

/// Where the cluster serves, as its administrator's kubeconfig says.
fn server(layout: &Layout) -> anyhow::Result<String> {
    let path = layout.kubeconfig();
    let config = kube::config::Kubeconfig::read_from(&path)
        .with_context(|| format!("cannot read {}: start the cluster once", path.display()))?;
    let cluster = config.clusters.into_iter().find_map(|c| c.cluster);
    cluster
        .and_then(|c| c.server)
        .with_context(|| format!("{} names no server", path.display()))
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn print(text: &str) {
    print!("{text}");
}
