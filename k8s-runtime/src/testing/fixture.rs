//! [`Fixture`]: a fresh node for one test.

use std::{
    fmt,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};

use crate::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStatus, Image,
    ImageService, NamespaceMode, SandboxConfig, SandboxId,
};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that nothing else uses, with one image.
pub struct Fixture {
    /// The runtime.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Its images.
    pub images: Arc<dyn ImageService>,
    /// An image that is there.
    pub image: Image,
    /// Where logs may be written.
    pub logs: PathBuf,
    finish: Option<BoxFuture<'static, ()>>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("runtime", &self.runtime)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

impl Fixture {
    /// A node with this runtime and this image, which writes logs below this directory.
    pub fn new(
        runtime: Arc<dyn ContainerRuntime>,
        images: Arc<dyn ImageService>,
        image: Image,
        logs: impl Into<PathBuf>,
    ) -> Self {
        Self {
            runtime,
            images,
            image,
            logs: logs.into(),
            finish: None,
        }
    }

    /// Sets what is to be done after the test, whether it failed or not.
    #[must_use]
    pub fn finish(mut self, finish: impl Future<Output = ()> + Send + 'static) -> Self {
        self.finish = Some(finish.boxed());
        self
    }

    /// The configuration of a pod's sandbox.
    pub(super) fn pod(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: format!("uid-{name}-{}", uuid::Uuid::new_v4().simple()),
            hostname: name.to_owned(),
            pid: NamespaceMode::Container,
            cgroup_parent: format!(
                "k8s-runtime-test/{}/pod-{name}",
                uuid::Uuid::new_v4().simple()
            ),
            log_directory: self
                .logs
                .join(format!("{name}-{}", uuid::Uuid::new_v4().simple())),
            ..SandboxConfig::default()
        }
    }

    /// The configuration of a container that runs a shell script, or the image's default for an
    /// empty one.
    pub(super) fn container(&self, name: &str, script: &str) -> ContainerConfig {
        let command = if script.is_empty() {
            "exec sleep 1000"
        } else {
            script
        };
        ContainerConfig {
            name: name.to_owned(),
            image: self.image.id.clone(),
            command: ["/bin/sh", "-c", command].map(str::to_owned).into(),
            log_path: PathBuf::from(format!("{name}/0.log")),
            ..ContainerConfig::default()
        }
    }

    pub(super) async fn sandbox(&self, name: &str) -> SandboxId {
        self.runtime
            .run_sandbox(self.pod(name))
            .await
            .expect("a sandbox")
    }

    pub(super) async fn start(&self, sandbox: &SandboxId, config: ContainerConfig) -> ContainerId {
        let id = self
            .runtime
            .create_container(sandbox, config)
            .await
            .expect("a container");
        self.runtime.start_container(&id).await.expect("a start");
        id
    }

    /// Runs a script in a pod of its own.
    pub(super) async fn script(&self, script: &str) -> ContainerId {
        let sandbox = self.sandbox("script").await;
        self.start(&sandbox, self.container("main", script)).await
    }

    /// Waits until a container has ended.
    pub(super) async fn exited(&self, id: &ContainerId) -> ContainerStatus {
        let mut events = self.runtime.events().await.expect("events");
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.runtime.container(id).await.expect("a status");
            if status.state == ContainerState::Exited {
                return status;
            }
            let next = tokio::time::timeout_at(end, events.next()).await;
            assert!(next.is_ok(), "the container did not end: {status:?}");
        }
    }

    /// What a container logged: stream and text of each record.
    pub(super) async fn log(&self, id: &ContainerId) -> Vec<(String, String)> {
        let path = self.runtime.container(id).await.expect("a status").log_path;
        records(&std::fs::read_to_string(path).expect("a log"))
    }
}

/// Takes a CRI log apart, and checks its format.
pub(super) fn records(text: &str) -> Vec<(String, String)> {
    let record = |line: &str| {
        let mut parts = line.splitn(4, ' ');
        let mut part = || {
            parts
                .next()
                .unwrap_or_else(|| panic!("malformed record {line:?}"))
                .to_owned()
        };
        let (time, stream, tag, text) = (part(), part(), part(), part());
        time.parse::<jiff::Timestamp>()
            .unwrap_or_else(|e| panic!("malformed time in {line:?}: {e}"));
        assert!(
            matches!(stream.as_str(), "stdout" | "stderr"),
            "malformed stream in {line:?}"
        );
        assert!(
            matches!(tag.as_str(), "F" | "P"),
            "malformed tag in {line:?}"
        );
        (stream, text)
    };
    text.lines().map(record).collect()
}

/// Repeats a check until it holds.
pub(super) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs one test and cleans up after it.
pub async fn run(mut fixture: Fixture, test: impl AsyncFnOnce(&Fixture)) {
    let result = AssertUnwindSafe(test(&fixture)).catch_unwind().await;
    if let Some(finish) = fixture.finish.take() {
        finish.await;
    }
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}
