//! The kit against runc. Needs root, runc, nftables and busybox-static:
//! `cargo nextest run -p k8s-runtime --run-ignored only`.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod common;

use std::sync::Arc;

use k8s_runtime::testing::Fixture;

async fn fresh() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let common::Node {
        runtime,
        images,
        network,
        image,
    } = common::open(dir.path(), common::network_options()).await;
    let logs = dir.path().join("logs");
    Fixture::new(Arc::new(runtime.clone()), Arc::new(images), image, logs).finish(async move {
        runtime.shut_down().await.unwrap();
        network.remove().await.unwrap();
        drop(dir);
    })
}

k8s_runtime::runtime_conformance!(fresh(), #[ignore = "needs root, runc"]);
k8s_runtime::image_conformance!(fresh(), #[ignore = "needs root, runc"]);
k8s_runtime::process_conformance!(fresh(), #[ignore = "needs root, runc"]);
