//! The conformance requirements of Kubernetes' sig-node, sig-storage and sig-network that concern
//! what a pod sees and does, under runc. Needs root, and a machine to itself.
//!
//! Each file in `cases/` is a table: a pod, the objects it needs, and what must come of it.
//! What takes several steps is in [`pods`] and [`network`]; [`accounts`] and [`applications`] are
//! what sig-auth and sig-cli require of pods.

mod accounts;
mod applications;
mod case;
mod network;
mod pods;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use futures::{StreamExt, stream};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use support::{Cluster, busybox_image, command, image};

/// What containers run where a case names no image.
const IMAGE: &str = "example.com/busybox:test";
/// An image with an entry point and a command of its own.
const DEFAULTS: &str = "example.com/defaults:test";

#[tokio::test]
#[ignore = "needs root"]
async fn containers() {
    table(include_str!("cases/containers.yaml")).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn lifecycle() {
    table(include_str!("cases/lifecycle.yaml")).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn security() {
    table(include_str!("cases/security.yaml")).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn volumes() {
    table(include_str!("cases/volumes.yaml")).await;
}

/// Tries all cases of a table on one cluster, and names all that fail.
async fn table(text: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let (cluster, client) = boot(folder.path()).await;
    let cases = case::parse(text);
    let count = cases.len();
    let failures: Vec<String> = stream::iter(cases.into_iter().enumerate())
        .map(|(index, case)| {
            let client = client.clone();
            async move {
                let namespace = format!("case-{index}");
                let result = case.run(&client, &namespace).await;
                result
                    .err()
                    .map(|error| format!("{}\n    {error:#}", case.name))
            }
        })
        .buffer_unordered(16)
        .filter_map(async |failure| failure)
        .collect()
        .await;
    assert!(
        failures.is_empty(),
        "{} of {count} cases:\n{}",
        failures.len(),
        failures.join("\n")
    );
    cluster.stop();
}

/// A cluster under runc with the images that the cases use, and its administrator.
async fn boot(folder: &Path) -> (Cluster, Client) {
    let data_dir = folder.join("data");
    let cluster = Cluster::up(&data_dir, &[]);
    let defaults = serde_json::json!({"Entrypoint": ["/bin/echo", "entry"], "Cmd": ["default"]});
    let archives = [
        busybox_image(folder, IMAGE),
        image(folder, DEFAULTS, defaults),
    ];
    for archive in archives {
        let output = command()
            .args(["image", "import", "--data-dir"])
            .arg(&data_dir)
            .arg(archive)
            .output()
            .expect("it runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // Fails if another test of this process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    (cluster, Client::try_from(config).expect("a client"))
}
