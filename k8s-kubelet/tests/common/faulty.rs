//! [`Faulty`]: a runtime that panics when it is told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_runtime::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerStats, ContainerStatus, Duplex, Error,
    ExecOutput, ExecSession, RuntimeEvent, SandboxConfig, SandboxId, SandboxStatus, Streams,
    sim::SimRuntime,
};

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<SimRuntime>,
    panics: AtomicU32,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<SimRuntime>) -> Self {
        let panics = AtomicU32::new(0);
        Faulty { inner, panics }
    }

    /// Panics so many times when it is asked for a container.
    pub(crate) fn panic(&self, times: u32) {
        self.panics.store(times, Ordering::Relaxed);
    }

    /// How often it will still panic.
    pub(crate) fn panics(&self) -> u32 {
        self.panics.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ContainerRuntime for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn version(&self) -> Result<String, Error> {
        self.inner.version().await
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, Error> {
        self.inner.run_sandbox(config).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.inner.stop_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.inner.remove_sandbox(id).await
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        self.inner.sandboxes().await
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxStatus, Error> {
        self.inner.sandbox(id).await
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error> {
        self.inner.create_container(sandbox, config).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.inner.start_container(id).await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.inner.stop_container(id, grace).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.inner.remove_container(id).await
    }

    async fn containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        self.inner.containers().await
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus, Error> {
        let left = |left: u32| left.checked_sub(1);
        let told = (self.panics).fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        assert!(told.is_err(), "as it was told");
        self.inner.container(id).await
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        self.inner.exec_sync(id, command, timeout).await
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        streams: Streams,
    ) -> Result<ExecSession, Error> {
        self.inner.exec(id, command, streams).await
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<ExecSession, Error> {
        self.inner.attach(id, streams).await
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>, Error> {
        self.inner.port_forward(id, port).await
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<ContainerStats, Error> {
        self.inner.container_stats(id).await
    }

    async fn written_bytes(&self, id: &ContainerId) -> Result<u64, Error> {
        self.inner.written_bytes(id).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.inner.reopen_log(id).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, Error>>, Error> {
        self.inner.events().await
    }
}
