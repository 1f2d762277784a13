//! The kit against the simulated runtime.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::sync::Arc;

use futures::StreamExt;
use k8s_runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, ImageService, RuntimeEventKind,
    SandboxConfig,
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

#[tokio::test(start_paused = true)]
async fn a_container_ends_as_its_command_does() {
    let runtime = SimRuntime::new(SimOptions::new("10.9.0.0/24".parse().unwrap())).unwrap();
    let image = runtime.images().pull("busybox", None).await.unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let config = SandboxConfig {
        log_directory: folder.path().to_owned(),
        ..SandboxConfig::default()
    };
    let sandbox = runtime.run_sandbox(config).await.unwrap();
    let mut events = runtime.events().await.unwrap();
    let start = async |name: &str, script: &str| {
        let config = ContainerConfig {
            name: name.to_owned(),
            image: image.clone(),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            env: vec![("WHO".to_owned(), "you".to_owned())],
            log_path: name.into(),
            ..ContainerConfig::default()
        };
        let id = runtime.create_container(&sandbox, config).await.unwrap();
        runtime.start_container(&id).await.unwrap();
        id
    };
    let serving = start("serving", "httpd -f").await;
    let ending = start("ending", "echo to $WHO; sleep 30; exit 3").await;
    let ended = loop {
        let event = events.next().await.unwrap().unwrap();
        if event.kind == RuntimeEventKind::Stopped {
            break event.container.unwrap();
        }
    };
    assert_eq!(ended, ending);
    let status = runtime.container(&ended).await.unwrap();
    assert_eq!(status.exit_code, Some(3));
    let (from, to) = (status.started_at.unwrap(), status.finished_at.unwrap());
    assert_eq!(to.duration_since(from).as_secs(), 30);
    let log = std::fs::read_to_string(status.log_path).unwrap();
    assert!(log.ends_with("stdout F to you\n"), "{log}");
    let status = runtime.container(&serving).await.unwrap();
    assert_eq!(
        status.state,
        ContainerState::Running,
        "it is not known here"
    );
}
