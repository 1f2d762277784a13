//! The kit against the simulated runtime.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::sync::Arc;

use k8s_runtime::{
    ImageService,
    sim::{SimOptions, SimRuntime},
    testing::Fixture,
};

async fn fresh() -> Fixture {
    let runtime = SimRuntime::new(SimOptions::new("10.9.0.0/24".parse().unwrap())).unwrap();
    let images = runtime.images();
    let image = images.pull("busybox", None).await.unwrap();
    Fixture::new(
        Arc::new(runtime),
        images,
        image,
        env!("CARGO_TARGET_TMPDIR"),
    )
}

k8s_runtime::runtime_conformance!(fresh());
k8s_runtime::image_conformance!(fresh());
