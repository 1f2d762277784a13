//! [`ContainerRuntime`] for [`OciRuntime`].

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{OciRuntime, blocking, detached, exec, namespaces, rootfs, shim_client};
use crate::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerStats, ContainerStatus, Duplex, Error,
    ExecOutput, ExecSession, NamespaceMode, RuntimeEvent, SandboxConfig, SandboxId, SandboxStatus,
    Streams, disk_usage, error::IoContext, net::netns,
};

#[async_trait]
impl ContainerRuntime for OciRuntime {
    fn name(&self) -> &str {
        &self.inner.name
    }

    async fn version(&self) -> Result<String, Error> {
        self.inner.version().await.map(str::to_owned)
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, Error> {
        let inner = Arc::clone(&self.inner);
        detached(async move { inner.run_sandbox(config).await }).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.inner.stop_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.inner.remove_sandbox(id).await
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self
            .inner
            .sandboxes
            .lock()
            .values()
            .map(|s| s.status())
            .collect())
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxStatus, Error> {
        self.inner.find_sandbox(id).map(|s| s.status())
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error> {
        let (inner, sandbox) = (Arc::clone(&self.inner), sandbox.clone());
        detached(async move { inner.create_container(&sandbox, config).await }).await
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
        Ok(self
            .inner
            .containers
            .lock()
            .values()
            .map(|c| c.status())
            .collect())
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus, Error> {
        self.inner.find_container(id).map(|c| c.status())
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        let container = self.inner.find_container(id)?;
        container.need_running("exec")?;
        exec::exec_sync(&self.inner.runtime, &container.dir, &id.0, command, timeout).await
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        streams: Streams,
    ) -> Result<ExecSession, Error> {
        let container = self.inner.find_container(id)?;
        container.need_running("exec")?;
        exec::exec(&self.inner.runtime, &container.dir, &id.0, command, streams)
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<ExecSession, Error> {
        let container = self.inner.find_container(id)?;
        container.need_running("attach")?;
        let streams = Streams {
            stdin: streams.stdin && container.record.config.stdin,
            tty: container.record.config.tty,
            ..streams
        };
        let session = shim_client::attach(&container.dir, streams).await?;
        // Without a shim it has just ended.
        session.ok_or_else(|| Error::InvalidState {
            kind: "container",
            id: id.0.clone(),
            state: "exited".to_owned(),
            operation: "attach",
        })
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>, Error> {
        let sandbox = self.inner.find_sandbox(id)?;
        if !sandbox.is_ready() {
            return Err(Error::InvalidState {
                kind: "sandbox",
                id: id.0.clone(),
                state: "not ready".to_owned(),
                operation: "forward a port",
            });
        }
        let netns: Option<PathBuf> = match sandbox.config().network {
            NamespaceMode::Node => self
                .inner
                .network
                .as_ref()
                .and_then(|n| n.node_netns())
                .map(PathBuf::from),
            _ => Some(sandbox.dir.join("ns").join(namespaces::NET)),
        };
        let stream = netns::inside(netns, move || {
            let v6 = || std::net::TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, port));
            let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .or_else(|e| v6().map_err(|_| e));
            let stream = stream.context(|| format!("connect to port {port} of the pod"))?;
            stream
                .set_nonblocking(true)
                .context(|| "set up a connection".to_owned())?;
            Ok(stream)
        })
        .await?;
        let stream =
            tokio::net::TcpStream::from_std(stream).context(|| "set up a connection".to_owned())?;
        Ok(Box::new(stream))
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<ContainerStats, Error> {
        let container = self.inner.find_container(id)?;
        container.need_running("measure it")?;
        let (cgroups, id) = (self.inner.cgroups.clone(), id.clone());
        blocking(move || cgroups.stats(&id, &container.record.cgroup)).await?
    }

    async fn written_bytes(&self, id: &ContainerId) -> Result<u64, Error> {
        let container = self.inner.find_container(id)?;
        let upper = rootfs::upper(&container.dir);
        blocking(move || disk_usage(&upper).context(|| format!("measure {upper:?}"))).await?
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        let container = self.inner.find_container(id)?;
        container.need_running("reopen its log")?;
        match shim_client::reopen_log(&container.dir).await? {
            true => Ok(()),
            false => container.need_running("reopen its log"),
        }
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, Error>>, Error> {
        Ok(self.inner.events.subscribe())
    }
}
