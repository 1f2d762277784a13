//! A cluster of a test's own.

use std::ops::Deref;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;

use crate::{rest::Rest, support::Cluster};

/// A running cluster, its administrator's client, and `kubectl` pointed at it.
pub(crate) struct Fixture {
    pub(crate) api: Rest,
    cluster: Cluster,
    pub(crate) folder: TempDir,
}

impl Fixture {
    /// A control plane alone: pods stay Pending.
    pub(crate) async fn server() -> Self {
        Self::start(0).await
    }

    /// One with so many simulated nodes: pods become Running.
    pub(crate) async fn with_nodes(count: usize) -> Self {
        Self::start(count).await
    }

    async fn start(nodes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().join("data");
        std::fs::create_dir(&data_dir).expect("a folder");
        let cluster = if nodes == 0 {
            Cluster::server(&data_dir, &["--store", "memory"])
        } else {
            let nodes = nodes.to_string();
            let arguments = ["--runtime", "sim", "--store", "memory", "--nodes", &nodes];
            Cluster::up(&data_dir, &arguments)
        };
        // Fails if another test of this process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("a kubeconfig");
        let api = Rest::new(client(kubeconfig).await);
        // Whoever makes pods needs it, and it counts against quotas.
        api.until(
            "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
            |_| true,
        )
        .await;
        api.until("/api/v1/namespaces/default/serviceaccounts/default", |_| {
            true
        })
        .await;
        Self {
            api,
            cluster,
            folder,
        }
    }
}

impl Deref for Fixture {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    Client::try_from(config).expect("a client")
}
