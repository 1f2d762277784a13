//! Pods that use more of their node's disk than they may, on the real API server with simulated
//! containers.

mod common;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use common::{World, container, is_ready, phase};
use k8s_openapi::api::core::v1::Pod;
use k8s_runtime::ContainerRuntime;
use serde_json::json;

async fn world() -> Result<World> {
    World::with(|b| b.storage_check_period(Duration::from_millis(20))).await
}

async fn until_evicted(world: &World, name: &str, message: &str) -> Result<()> {
    let pod = world
        .until(name, "the eviction", |p| phase(p) == "Failed")
        .await?;
    let status = pod.status.unwrap_or_default();
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.message.as_deref(), Some(message));
    world
        .until_event(name, &format!("Evicted: {message}"))
        .await?;
    let ended = |p: &Pod| {
        let statuses = p.status.iter().flat_map(|s| &s.container_statuses);
        let mut states = statuses.flatten().flat_map(|s| &s.state);
        states.any(|s| s.terminated.is_some())
    };
    world.until(name, "the end of its container", ended).await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_dir_past_its_size_limit_evicts_its_pod() -> Result<()> {
    let world = world().await?;
    let spec = json!({
        "containers": [container("busybox")],
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}],
    });
    let pod = world.run("p", spec.clone()).await?;
    world.run("other", spec).await?;
    world.until("p", "readiness", is_ready).await?;
    world.until("other", "readiness", is_ready).await?;
    let directory: PathBuf = world
        .dir
        .path()
        .join("kubelet/pods")
        .join(pod.metadata.uid.unwrap())
        .join("volumes/kubernetes.io~empty-dir/cache");
    std::fs::write(directory.join("file"), vec![1; 2 << 20])?;
    let message = "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". ";
    until_evicted(&world, "p", message).await?;
    assert!(is_ready(&world.pods().get("other").await?));
    Ok(())
}

#[tokio::test]
async fn a_container_that_writes_past_its_limit_is_evicted_with_its_pod() -> Result<()> {
    let world = world().await?;
    let limits = json!({"limits": {"ephemeral-storage": "5Mi"}});
    let containers = json!([
        {"name": "c", "image": "busybox", "resources": limits},
        {"name": "d", "image": "busybox", "resources": limits},
    ]);
    world.run("p", json!({"containers": containers})).await?;
    world.until("p", "readiness", is_ready).await?;
    let all = world.runtime.containers().await?;
    let c = all.iter().find(|c| c.config.name == "c").unwrap();
    world.runtime.set_written_bytes(&c.id, 6 << 20)?;
    let message = "Container c exceeded its local ephemeral storage limit \"5Mi\". ";
    until_evicted(&world, "p", message).await
}
