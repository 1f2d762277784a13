//! What every container runtime promises.

use std::time::Duration;

use futures::StreamExt;

use super::Fixture;
use crate::{
    ContainerId, ContainerState, Error, NamespaceMode, RuntimeEventKind, SandboxConfig, SandboxId,
    SandboxState, Streams,
};

pub async fn a_sandbox_is_ready_and_has_an_address(f: &Fixture) {
    let id = f.sandbox("a").await;
    let status = f.runtime.sandbox(&id).await.expect("a status");
    assert_eq!(
        (status.id, status.state, status.ips.len()),
        (id, SandboxState::Ready, 1)
    );
}

pub async fn a_sandbox_on_the_nodes_network_has_no_address(f: &Fixture) {
    let config = SandboxConfig {
        network: NamespaceMode::Node,
        ..f.pod("a")
    };
    let id = f.runtime.run_sandbox(config).await.expect("a sandbox");
    assert!(
        f.runtime
            .sandbox(&id)
            .await
            .expect("a status")
            .ips
            .is_empty()
    );
}

pub async fn two_sandboxes_have_different_addresses(f: &Fixture) {
    let (a, b) = tokio::join!(f.sandbox("a"), f.sandbox("b"));
    let a = f.runtime.sandbox(&a).await.expect("a status").ips;
    let b = f.runtime.sandbox(&b).await.expect("a status").ips;
    assert_ne!(a, b);
}

pub async fn the_same_attempt_of_a_pod_is_refused_a_second_time(f: &Fixture) {
    let config = f.pod("a");
    f.runtime
        .run_sandbox(config.clone())
        .await
        .expect("a sandbox");
    let again = f.runtime.run_sandbox(config.clone()).await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
    f.runtime
        .run_sandbox(SandboxConfig {
            attempt: 1,
            ..config
        })
        .await
        .expect("another attempt");
}

pub async fn a_runtime_handler_that_is_not_there_is_refused(f: &Fixture) {
    let config = SandboxConfig {
        runtime_handler: "nobody-has-this-one".to_owned(),
        ..f.pod("a")
    };
    let refused = f.runtime.run_sandbox(config).await;
    assert!(
        matches!(&refused, Err(Error::InvalidConfig(text)) if text.contains("nobody-has-this-one")),
        "{refused:?}"
    );
    assert!(f.runtime.sandboxes().await.expect("a list").is_empty());
    f.sandbox("a").await;
}

pub async fn a_configuration_comes_back_unchanged(f: &Fixture) {
    let mut config = f.pod("a");
    config.labels.insert("label".to_owned(), "1".to_owned());
    config
        .annotations
        .insert("annotation".to_owned(), "ä\n".to_owned());
    let id = f
        .runtime
        .run_sandbox(config.clone())
        .await
        .expect("a sandbox");
    assert_eq!(
        f.runtime.sandbox(&id).await.expect("a status").config,
        config
    );
    let mut container = f.container("main", "");
    container.labels.insert("label".to_owned(), "2".to_owned());
    container
        .annotations
        .insert("annotation".to_owned(), "ö".to_owned());
    let id = f
        .runtime
        .create_container(&id, container.clone())
        .await
        .expect("a container");
    assert_eq!(
        f.runtime.container(&id).await.expect("a status").config,
        container
    );
}

pub async fn what_is_not_there_is_not_found(f: &Fixture) {
    let (sandbox, container) = (SandboxId("none".to_owned()), ContainerId("none".to_owned()));
    let errors = [
        f.runtime.sandbox(&sandbox).await.err(),
        f.runtime
            .create_container(&sandbox, f.container("main", ""))
            .await
            .err(),
        f.runtime.container(&container).await.err(),
        f.runtime.start_container(&container).await.err(),
        f.runtime
            .exec_sync(&container, &["true".to_owned()], None)
            .await
            .err(),
        f.runtime.container_stats(&container).await.err(),
        f.runtime.written_bytes(&container).await.err(),
        f.runtime.port_forward(&sandbox, 80).await.err(),
    ];
    for (i, error) in errors.into_iter().enumerate() {
        assert!(
            error.as_ref().is_some_and(Error::is_not_found),
            "{i}: {error:?}"
        );
    }
}

pub async fn stopping_and_removing_are_idempotent(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let container = f.start(&sandbox, f.container("main", "")).await;
    for _ in 0..2 {
        f.runtime
            .stop_container(&container, Duration::ZERO)
            .await
            .expect("a stop");
        f.runtime.stop_sandbox(&sandbox).await.expect("a stop");
    }
    for _ in 0..2 {
        f.runtime
            .remove_container(&container)
            .await
            .expect("a removal");
        f.runtime.remove_sandbox(&sandbox).await.expect("a removal");
        f.runtime
            .stop_container(&container, Duration::ZERO)
            .await
            .expect("a stop");
        f.runtime.stop_sandbox(&sandbox).await.expect("a stop");
    }
}

pub async fn a_stopped_sandbox_is_not_ready_and_takes_no_containers(f: &Fixture) {
    let id = f.sandbox("a").await;
    f.runtime.stop_sandbox(&id).await.expect("a stop");
    assert_eq!(
        f.runtime.sandbox(&id).await.expect("a status").state,
        SandboxState::NotReady
    );
    let refused = f
        .runtime
        .create_container(&id, f.container("main", ""))
        .await;
    assert!(
        matches!(refused, Err(Error::InvalidState { .. })),
        "{refused:?}"
    );
}

pub async fn removing_a_sandbox_removes_its_containers(f: &Fixture) {
    let (a, b) = (f.sandbox("a").await, f.sandbox("b").await);
    f.start(&a, f.container("one", "")).await;
    f.runtime
        .create_container(&a, f.container("two", ""))
        .await
        .expect("a container");
    let other = f.start(&b, f.container("one", "")).await;
    f.runtime.remove_sandbox(&a).await.expect("a removal");
    let left = f.runtime.containers().await.expect("a list");
    assert_eq!(left.iter().map(|c| &c.id).collect::<Vec<_>>(), [&other]);
    assert_eq!(f.runtime.sandboxes().await.expect("a list").len(), 1);
    assert!(f.runtime.sandbox(&a).await.is_err_and(|e| e.is_not_found()));
}

pub async fn a_container_is_created_then_running_then_exited(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let id = f
        .runtime
        .create_container(&sandbox, f.container("main", ""))
        .await
        .expect("a container");
    let created = f.runtime.container(&id).await.expect("a status");
    assert_eq!(created.state, ContainerState::Created);
    assert_eq!(
        (created.started_at, created.finished_at, created.exit_code),
        (None, None, None)
    );
    f.runtime.start_container(&id).await.expect("a start");
    let running = f.runtime.container(&id).await.expect("a status");
    assert_eq!(running.state, ContainerState::Running);
    assert!(
        running.started_at.is_some_and(|t| t >= running.created_at)
            && running.finished_at.is_none()
    );
    f.runtime
        .stop_container(&id, Duration::ZERO)
        .await
        .expect("a stop");
    let exited = f.runtime.container(&id).await.expect("a status");
    assert_eq!(exited.state, ContainerState::Exited);
    assert_eq!(
        (exited.exit_code, exited.signal, exited.reason.as_str()),
        (Some(137), Some(9), "Error")
    );
    assert!(exited.finished_at >= exited.started_at && exited.pid.is_none());
    assert!(!exited.image_ref.is_empty());
}

pub async fn the_same_attempt_of_a_container_is_refused_a_second_time(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "");
    f.runtime
        .create_container(&sandbox, config.clone())
        .await
        .expect("a container");
    let again = f.runtime.create_container(&sandbox, config.clone()).await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
    config.attempt = 1;
    f.runtime
        .create_container(&sandbox, config)
        .await
        .expect("another attempt");
}

pub async fn a_container_is_started_once(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let id = f.start(&sandbox, f.container("main", "")).await;
    let again = f.runtime.start_container(&id).await;
    assert!(
        matches!(again, Err(Error::InvalidState { .. })),
        "{again:?}"
    );
    f.runtime
        .stop_container(&id, Duration::ZERO)
        .await
        .expect("a stop");
    let again = f.runtime.start_container(&id).await;
    assert!(
        matches!(again, Err(Error::InvalidState { .. })),
        "{again:?}"
    );
}

pub async fn a_container_needs_an_image_that_is_there(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "");
    config.image = format!("sha256:{}", "0".repeat(64));
    let refused = f.runtime.create_container(&sandbox, config).await;
    assert!(
        matches!(refused, Err(Error::NotFound { kind: "image", .. })),
        "{refused:?}"
    );
    assert!(f.runtime.containers().await.expect("a list").is_empty());
}

pub async fn stopping_a_sandbox_ends_its_containers(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let id = f.start(&sandbox, f.container("main", "")).await;
    f.runtime.stop_sandbox(&sandbox).await.expect("a stop");
    let status = f.runtime.container(&id).await.expect("a status");
    assert_eq!(
        (status.state, status.exit_code),
        (ContainerState::Exited, Some(137))
    );
}

pub async fn lists_and_single_answers_agree(f: &Fixture) {
    for name in ["a", "b"] {
        let sandbox = f.sandbox(name).await;
        f.runtime
            .create_container(&sandbox, f.container("main", ""))
            .await
            .expect("a container");
    }
    for status in f.runtime.sandboxes().await.expect("a list") {
        assert_eq!(
            f.runtime.sandbox(&status.id).await.expect("a status"),
            status
        );
    }
    let containers = f.runtime.containers().await.expect("a list");
    assert_eq!(containers.len(), 2);
    for status in containers {
        assert_eq!(
            f.runtime.container(&status.id).await.expect("a status"),
            status
        );
    }
}

pub async fn events_tell_of_starts_and_ends(f: &Fixture) {
    let mut events = f.runtime.events().await.expect("events");
    let config = f.pod("a");
    let uid = config.uid.clone();
    let sandbox = f.runtime.run_sandbox(config).await.expect("a sandbox");
    let id = f.start(&sandbox, f.container("main", "")).await;
    f.runtime
        .stop_container(&id, Duration::ZERO)
        .await
        .expect("a stop");
    f.runtime.stop_sandbox(&sandbox).await.expect("a stop");
    let expected = [
        (None, RuntimeEventKind::Started),
        (Some(id.clone()), RuntimeEventKind::Started),
        (Some(id), RuntimeEventKind::Stopped),
        (None, RuntimeEventKind::Stopped),
    ];
    for expected in expected {
        let next = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
        let event = next
            .expect("an event in time")
            .expect("an event")
            .expect("no lag");
        assert_eq!(event.pod_uid, uid);
        assert_eq!((event.container, event.kind), expected);
    }
}

pub async fn what_does_not_run_refuses_exec_attach_and_stats(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let id = f
        .runtime
        .create_container(&sandbox, f.container("main", ""))
        .await
        .expect("a container");
    let command = ["true".to_owned()];
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let errors = [
        f.runtime.exec_sync(&id, &command, None).await.err(),
        f.runtime.exec(&id, &command, streams).await.err(),
        f.runtime.attach(&id, streams).await.err(),
        f.runtime.container_stats(&id).await.err(),
    ];
    for (i, error) in errors.into_iter().enumerate() {
        assert!(
            matches!(error, Some(Error::InvalidState { .. })),
            "{i}: {error:?}"
        );
    }
}
