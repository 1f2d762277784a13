//! [`SimRuntime`].

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    LOG, SimExit, SimImages, SimOptions, log, program, script,
    session::{self, Plan},
    shell::World,
};
use crate::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ContainerStats,
    ContainerStatus, Duplex, Error, ExecOutput, ExecSession, NamespaceMode, RuntimeEvent,
    RuntimeEventKind, SandboxConfig, SandboxId, SandboxState, SandboxStatus, Streams,
    events::EventHub, net::AddressPool,
};

/// A [`ContainerRuntime`] that runs nothing and keeps time; see [the module](super).
#[derive(Clone, Debug)]
pub struct SimRuntime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: SimOptions,
    started: Instant,
    images: Arc<SimImages>,
    events: EventHub,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pool: AddressPool,
    sequence: u64,
    sandboxes: BTreeMap<SandboxId, SandboxStatus>,
    containers: BTreeMap<ContainerId, ContainerStatus>,
    /// What containers are said to have written, in bytes.
    written: BTreeMap<ContainerId, u64>,
}

impl SimRuntime {
    /// A node that has nothing, with an image store of its own.
    ///
    /// # Errors
    /// If the pod CIDR is too small.
    pub fn new(options: SimOptions) -> Result<Self, Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                started: Instant::now(),
                images: Arc::new(SimImages::new()),
                events: EventHub::new(),
                state: Mutex::new(State {
                    pool: AddressPool::new(options.pod_cidr)?,
                    sequence: 0,
                    sandboxes: BTreeMap::new(),
                    containers: BTreeMap::new(),
                    written: BTreeMap::new(),
                }),
                options,
            }),
        })
    }

    /// The node's images.
    pub fn images(&self) -> Arc<SimImages> {
        Arc::clone(&self.inner.images)
    }

    /// Ends a running container, as if it had ended by itself.
    ///
    /// # Errors
    /// If it is not there or does not run.
    pub fn finish(&self, id: &ContainerId, exit_code: i32) -> Result<(), Error> {
        let state = self.container_state(id)?;
        if state != ContainerState::Running || !self.inner.end(id, None, exit_code, None) {
            return Err(invalid("container", &id.0, state_name(state), "finish"));
        }
        Ok(())
    }

    /// Takes a sandbox's namespaces away, as a node's reboot would: its containers end with 137.
    ///
    /// # Errors
    /// If it is not there.
    pub fn break_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        if !self.inner.state.lock().sandboxes.contains_key(id) {
            return Err(Error::not_found("sandbox", &id.0));
        }
        self.inner.stop_sandbox(id);
        Ok(())
    }

    /// Says how much a container has written into its root file system, in bytes.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_written_bytes(&self, id: &ContainerId, bytes: u64) -> Result<(), Error> {
        self.container_state(id)?;
        self.inner.state.lock().written.insert(id.clone(), bytes);
        Ok(())
    }

    fn container_state(&self, id: &ContainerId) -> Result<ContainerState, Error> {
        let state = self.inner.state.lock();
        state
            .containers
            .get(id)
            .map(|c| c.state)
            .ok_or_else(|| Error::not_found("container", &id.0))
    }

    /// Writes a line to a running container's log, as if it had written it to standard output.
    ///
    /// # Errors
    /// If it is not there or does not run, or the file cannot be written.
    pub fn log(&self, id: &ContainerId, line: &str) -> Result<(), Error> {
        let state = self.inner.state.lock();
        let c = running(&state, id, "log")?;
        log::append(&c.log_path, "stdout", line, self.inner.now())
    }

    /// What a command does in a running container.
    fn plan(&self, id: &ContainerId, command: &[String]) -> Result<Plan, Error> {
        let state = self.inner.state.lock();
        let c = running(&state, id, "exec")?;
        let sandbox = state
            .sandboxes
            .get(&c.sandbox)
            .ok_or_else(|| Error::not_found("sandbox", &c.sandbox.0))?;
        let said = script::scripted(&sandbox.config, &c.config, command)?.or_else(|| {
            let commands = self.inner.options.commands.as_ref()?;
            commands(&sandbox.config, &c.config, command)
        });
        if let Some(said) = said {
            return Ok(Plan::Scripted(said));
        }
        let world = self.inner.world(&sandbox.config, &c.config);
        Ok(Plan::Shell(Arc::new(world), command.to_vec()))
    }
}

/// A container that runs.
fn running<'s>(
    state: &'s State,
    id: &ContainerId,
    operation: &'static str,
) -> Result<&'s ContainerStatus, Error> {
    let c = state
        .containers
        .get(id)
        .ok_or_else(|| Error::not_found("container", &id.0))?;
    match c.state {
        ContainerState::Running => Ok(c),
        other => Err(invalid("container", &id.0, state_name(other), operation)),
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        self.options
            .epoch
            .checked_add(elapsed)
            .unwrap_or(Timestamp::MAX)
    }

    /// What the commands of a container see.
    fn world(&self, sandbox: &SandboxConfig, container: &ContainerConfig) -> World {
        let now = self.now();
        World {
            hostname: sandbox.hostname.clone(),
            working_dir: container.working_dir.clone(),
            env: container.env.iter().cloned().collect(),
            date: now.strftime("%a %b %e %H:%M:%S UTC %Y").to_string(),
        }
    }

    /// Writes what a container's own program says to its log, if it is still the start that was meant.
    fn say(&self, id: &ContainerId, start: Timestamp, stream: &str, line: &str) {
        let state = self.state.lock();
        if let Some(c) = state.containers.get(id)
            && c.state == ContainerState::Running
            && c.started_at == Some(start)
            && let Err(error) = log::append(&c.log_path, stream, line, self.now())
        {
            tracing::debug!(%error, "a simulated container's log cannot be written");
        }
    }

    /// Ends a container if it runs (and, where given, if this is still the start that was meant).
    fn end(
        &self,
        id: &ContainerId,
        start: Option<Timestamp>,
        code: i32,
        signal: Option<i32>,
    ) -> bool {
        let mut state = self.state.lock();
        let now = self.now();
        let Some(c) = state.containers.get_mut(id) else {
            return false;
        };
        if c.state != ContainerState::Running || (start.is_some() && c.started_at != start) {
            return false;
        }
        c.state = ContainerState::Exited;
        c.finished_at = Some(now);
        c.exit_code = Some(code);
        c.signal = signal;
        c.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        c.pid = None;
        let sandbox = c.sandbox.clone();
        self.announce(&state, &sandbox, Some(id), RuntimeEventKind::Stopped);
        true
    }

    fn announce(
        &self,
        state: &State,
        sandbox: &SandboxId,
        container: Option<&ContainerId>,
        kind: RuntimeEventKind,
    ) {
        if let Some(s) = state.sandboxes.get(sandbox) {
            self.events.send(RuntimeEvent {
                pod_uid: s.config.uid.clone(),
                container: container.cloned(),
                kind,
            });
        }
    }

    fn stop_sandbox(&self, id: &SandboxId) {
        let running: Vec<ContainerId> = {
            let state = self.state.lock();
            let in_it = state.containers.values().filter(|c| c.sandbox == *id);
            in_it
                .filter(|c| c.state == ContainerState::Running)
                .map(|c| c.id.clone())
                .collect()
        };
        for container in running {
            self.end(&container, None, 137, Some(9));
        }
        let mut state = self.state.lock();
        let Some(sandbox) = state.sandboxes.get_mut(id) else {
            return;
        };
        if sandbox.state == SandboxState::Ready {
            sandbox.state = SandboxState::NotReady;
            state.pool.release(&id.0);
            self.announce(&state, id, None, RuntimeEventKind::Stopped);
        }
    }
}

impl State {
    fn next_id(&mut self, what: &str) -> String {
        self.sequence += 1;
        super::hex(&Sha256::digest(format!("{what} {}", self.sequence)))
    }
}

fn invalid(kind: &'static str, id: &str, state: &str, operation: &'static str) -> Error {
    Error::InvalidState {
        kind,
        id: id.to_owned(),
        state: state.to_owned(),
        operation,
    }
}

fn state_name(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        ContainerState::Unknown => "unknown",
    }
}

#[async_trait]
impl ContainerRuntime for SimRuntime {
    fn name(&self) -> &str {
        "sim"
    }

    async fn version(&self) -> Result<String, Error> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, Error> {
        let mut state = self.inner.state.lock();
        if let Some(s) = state
            .sandboxes
            .values()
            .find(|s| s.config.uid == config.uid && s.config.attempt == config.attempt)
        {
            return Err(Error::AlreadyExists {
                kind: "sandbox",
                id: s.id.0.clone(),
            });
        }
        let mut handlers = vec!["sim", "runc"];
        handlers.extend(self.inner.options.handlers.iter().map(String::as_str));
        config.check_handler(&handlers)?;
        let id = SandboxId(state.next_id("sandbox"));
        let ips = match config.network {
            NamespaceMode::Node => Vec::new(),
            NamespaceMode::Pod | NamespaceMode::Container => vec![state.pool.allocate(&id.0)?],
        };
        let status = SandboxStatus {
            id: id.clone(),
            config,
            state: SandboxState::Ready,
            created_at: self.inner.now(),
            ips,
        };
        state.sandboxes.insert(id.clone(), status);
        self.inner
            .announce(&state, &id, None, RuntimeEventKind::Started);
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.inner.stop_sandbox(id);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.inner.stop_sandbox(id);
        let mut state = self.inner.state.lock();
        state.containers.retain(|_, c| c.sandbox != *id);
        let State {
            containers,
            written,
            ..
        } = &mut *state;
        written.retain(|id, _| containers.contains_key(id));
        state.sandboxes.remove(id);
        Ok(())
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self
            .inner
            .state
            .lock()
            .sandboxes
            .values()
            .cloned()
            .collect())
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxStatus, Error> {
        let state = self.inner.state.lock();
        state
            .sandboxes
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found("sandbox", &id.0))
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error> {
        let image_ref = self
            .inner
            .images
            .reference_of(&config.image)
            .ok_or_else(|| Error::not_found("image", &config.image))?;
        let mut state = self.inner.state.lock();
        let s = state
            .sandboxes
            .get(sandbox)
            .ok_or_else(|| Error::not_found("sandbox", &sandbox.0))?;
        if s.state != SandboxState::Ready {
            return Err(invalid(
                "sandbox",
                &sandbox.0,
                "not ready",
                "create a container",
            ));
        }
        script::planned(&s.config, &config)?;
        let log_path = match s.config.log_directory.as_os_str().is_empty() {
            true => PathBuf::new(),
            false => s.config.log_directory.join(&config.log_path),
        };
        if let Some(c) = state.containers.values().find(|c| {
            c.sandbox == *sandbox
                && c.config.name == config.name
                && c.config.attempt == config.attempt
        }) {
            return Err(Error::AlreadyExists {
                kind: "container",
                id: c.id.0.clone(),
            });
        }
        let id = ContainerId(state.next_id("container"));
        let status = ContainerStatus {
            id: id.clone(),
            sandbox: sandbox.clone(),
            config,
            state: ContainerState::Created,
            created_at: self.inner.now(),
            started_at: None,
            finished_at: None,
            exit_code: None,
            signal: None,
            reason: String::new(),
            message: String::new(),
            image_ref,
            pid: None,
            log_path,
        };
        state.containers.insert(id.clone(), status);
        Ok(id)
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        let (plan, program, started) = {
            let mut state = self.inner.state.lock();
            let State {
                containers,
                sandboxes,
                ..
            } = &mut *state;
            let c = containers
                .get_mut(id)
                .ok_or_else(|| Error::not_found("container", &id.0))?;
            let s = sandboxes
                .get(&c.sandbox)
                .ok_or_else(|| Error::not_found("sandbox", &c.sandbox.0))?;
            if c.state != ContainerState::Created {
                return Err(invalid("container", &id.0, state_name(c.state), "start it"));
            }
            if s.state != SandboxState::Ready {
                return Err(invalid(
                    "sandbox",
                    &c.sandbox.0,
                    "not ready",
                    "start a container",
                ));
            }
            let plan = match script::planned(&s.config, &c.config)? {
                Some(plan) => Some(plan),
                None => self
                    .inner
                    .options
                    .script
                    .as_ref()
                    .and_then(|f| f(&s.config, &c.config)),
            };
            let now = self.inner.now();
            // Without a script it says nothing, and who reads its log finds just that.
            let says = script::find(LOG, &s.config, &c.config);
            log::append(&c.log_path, "stdout", says.map_or("", String::as_str), now)?;
            let unscripted = plan.is_none() && says.is_none();
            let program = unscripted.then(|| program::of(&c.config)).flatten();
            let program = program.map(|words| (self.inner.world(&s.config, &c.config), words));
            c.state = ContainerState::Running;
            c.started_at = Some(now);
            let sandbox = c.sandbox.clone();
            self.inner
                .announce(&state, &sandbox, Some(id), RuntimeEventKind::Started);
            (plan, program, now)
        };
        if let Some((world, words)) = program {
            let inner: Weak<Inner> = Arc::downgrade(&self.inner);
            let id = id.clone();
            tokio::spawn(async move {
                let log = |stream: &'static str, line: &str| {
                    if let Some(inner) = inner.upgrade() {
                        inner.say(&id, started, stream, line);
                    }
                };
                let code = program::run(Arc::new(world), words, log).await;
                if let Some(inner) = inner.upgrade() {
                    inner.end(&id, Some(started), code, None);
                }
            });
        }
        if let Some(SimExit { after, code }) = plan {
            let inner: Weak<Inner> = Arc::downgrade(&self.inner);
            let id = id.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                if let Some(inner) = inner.upgrade() {
                    inner.end(&id, Some(started), code, None);
                }
            });
        }
        Ok(())
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let (code, signal) = if grace.is_zero() { (137, 9) } else { (143, 15) };
        self.inner.end(id, None, code, Some(signal));
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.inner.end(id, None, 137, Some(9));
        let mut state = self.inner.state.lock();
        state.containers.remove(id);
        state.written.remove(id);
        Ok(())
    }

    async fn containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        Ok(self
            .inner
            .state
            .lock()
            .containers
            .values()
            .cloned()
            .collect())
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus, Error> {
        let state = self.inner.state.lock();
        state
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found("container", &id.0))
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        let output = self.plan(id, command)?.output();
        let Some(after) = timeout else {
            return output.await;
        };
        tokio::time::timeout(after, output)
            .await
            .unwrap_or(Err(Error::Timeout {
                operation: "exec",
                after,
            }))
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        streams: Streams,
    ) -> Result<ExecSession, Error> {
        Ok(self.plan(id, command)?.session(streams))
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<ExecSession, Error> {
        let mut events = self.inner.events.subscribe();
        running(&self.inner.state.lock(), id, "attach")?;
        let (inner, id) = (Arc::downgrade(&self.inner), id.clone());
        let exit = async move {
            loop {
                let Some(inner) = inner.upgrade() else {
                    return Ok(137);
                };
                let ended = {
                    let state = inner.state.lock();
                    match state.containers.get(&id) {
                        None => Some(137),
                        Some(c) if c.state != ContainerState::Running => c.exit_code.or(Some(137)),
                        Some(_) => None,
                    }
                };
                drop(inner);
                if let Some(code) = ended {
                    return Ok(code);
                }
                if events.next().await.is_none() {
                    return Ok(137);
                }
            }
        };
        Ok(session::attached(streams, exit))
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>, Error> {
        let sandbox = self.sandbox(id).await?;
        match script::http(&sandbox.config, port) {
            Some(text) => Ok(session::http(text.clone())),
            None => Err(Error::io(
                format!("dial tcp4 127.0.0.1:{port}"),
                std::io::Error::from(std::io::ErrorKind::ConnectionRefused),
            )),
        }
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<ContainerStats, Error> {
        match self.container_state(id)? {
            ContainerState::Running => Ok(ContainerStats {
                id: id.clone(),
                at: self.inner.now(),
                cpu_usage_nanos: 0,
                memory_working_set_bytes: 0,
                pids: 1,
            }),
            state => Err(invalid("container", &id.0, state_name(state), "measure it")),
        }
    }

    async fn written_bytes(&self, id: &ContainerId) -> Result<u64, Error> {
        self.container_state(id)?;
        let state = self.inner.state.lock();
        Ok(state.written.get(id).copied().unwrap_or(0))
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.container_state(id).map(|_| ())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, Error>>, Error> {
        Ok(self.inner.events.subscribe())
    }
}
