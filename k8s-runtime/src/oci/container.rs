//! Containers: making, starting, ending and removing them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::watch,
};

use super::{
    Inner, blocking, detached, namespaces, new_id, read_json, rootfs,
    sandbox::Sandbox,
    shim_client,
    spec::{self, Input, Namespace},
    user, write_json,
};
use crate::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Error, NamespaceMode,
    RuntimeEvent, RuntimeEventKind, SandboxId,
    error::IoContext,
    net::netns,
    shim::{self, Exit, ShimConfig, Started, files},
};

/// How long a killed container may take to end. Longer means that the kernel can't kill it.
const KILL_TIMEOUT: Duration = Duration::from_secs(120);

/// The exit code of a container whose end nobody saw, as with containerd.
const UNKNOWN_EXIT: i32 = 255;

/// The exit code of a container that could not be started, as with containerd.
const START_FAILED: i32 = 128;

/// What a container is, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) sandbox: SandboxId,
    pub(super) config: ContainerConfig,
    pub(super) created_at: Timestamp,
    pub(super) image_ref: String,
    pub(super) log_path: PathBuf,
    pub(super) stop_signal: i32,
    pub(super) cgroup: String,
}

/// How a container is, as it is written down.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) pid: Option<u32>,
}

impl State {
    fn phase(&self) -> ContainerState {
        match (self.started_at, self.finished_at) {
            (_, Some(_)) => ContainerState::Exited,
            (Some(_), None) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        }
    }
}

pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) dir: PathBuf,
    pub(super) record: Record,
    pub(super) state: watch::Sender<State>,
    /// Starting and removing take turns.
    turn: tokio::sync::Mutex<()>,
    /// Whether what it had while it ran was given back.
    cleaned: tokio::sync::Mutex<bool>,
    removed: Mutex<bool>,
}

impl Container {
    pub(super) fn new(id: ContainerId, dir: PathBuf, record: Record, state: State) -> Self {
        Self {
            id,
            dir,
            record,
            state: watch::Sender::new(state),
            turn: tokio::sync::Mutex::default(),
            cleaned: tokio::sync::Mutex::default(),
            removed: Mutex::default(),
        }
    }

    pub(super) fn phase(&self) -> ContainerState {
        self.state.borrow().phase()
    }

    pub(super) fn status(&self) -> ContainerStatus {
        let state = self.state.borrow().clone();
        ContainerStatus {
            id: self.id.clone(),
            sandbox: self.record.sandbox.clone(),
            config: self.record.config.clone(),
            state: state.phase(),
            created_at: self.record.created_at,
            started_at: state.started_at,
            finished_at: state.finished_at,
            exit_code: state.exit_code,
            signal: state.signal,
            reason: state.reason,
            message: state.message,
            image_ref: self.record.image_ref.clone(),
            pid: state.pid,
            log_path: self.record.log_path.clone(),
        }
    }

    /// Refuses an operation that needs a running container.
    pub(super) fn need_running(&self, operation: &'static str) -> Result<(), Error> {
        match self.phase() {
            ContainerState::Running => Ok(()),
            state => Err(self.invalid(state, operation)),
        }
    }

    fn invalid(&self, state: ContainerState, operation: &'static str) -> Error {
        let state = format!("{state:?}").to_lowercase();
        Error::InvalidState {
            kind: "container",
            id: self.id.0.clone(),
            state,
            operation,
        }
    }

    /// Changes the state and writes it down. A failure to write is logged: the change happened.
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
        if *self.removed.lock() {
            return;
        }
        let state = self.state.borrow().clone();
        if let Err(error) = write_json(&self.dir.join("state.json"), &state) {
            tracing::warn!(container = self.id.0, %error, "a container's state was not written");
        }
    }

    /// Waits for the end.
    async fn ended(&self) {
        let mut state = self.state.subscribe();
        let _ = state
            .wait_for(|s| s.phase() != ContainerState::Running)
            .await;
    }
}

impl Inner {
    pub(super) fn find_container(&self, id: &ContainerId) -> Result<Arc<Container>, Error> {
        self.containers
            .lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found("container", &id.0))
    }

    pub(super) fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        self.containers
            .lock()
            .values()
            .filter(|c| c.record.sandbox == *sandbox)
            .cloned()
            .collect()
    }

    pub(super) fn announce(&self, container: &Container, kind: RuntimeEventKind) {
        let pod_uid = match self.sandboxes.lock().get(&container.record.sandbox) {
            Some(sandbox) => sandbox.config().uid,
            None => return,
        };
        self.events.send(RuntimeEvent {
            pod_uid,
            container: Some(container.id.clone()),
            kind,
        });
    }

    pub(super) async fn create_container(
        self: &Arc<Self>,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error> {
        let sandbox = self.find_sandbox(sandbox)?;
        if !sandbox.is_ready() {
            return Err(Error::InvalidState {
                kind: "sandbox",
                id: sandbox.id.0.clone(),
                state: "not ready".to_owned(),
                operation: "create a container",
            });
        }
        let key = format!(
            "container {} {} {}",
            sandbox.id.0, config.name, config.attempt
        );
        let exists = |id: &str| Error::AlreadyExists {
            kind: "container",
            id: id.to_owned(),
        };
        let _making = self.begin(key).ok_or_else(|| exists(&config.name))?;
        let same = |c: &&Arc<Container>| {
            c.record.config.name == config.name && c.record.config.attempt == config.attempt
        };
        if let Some(c) = self.containers_of(&sandbox.id).iter().find(same) {
            return Err(exists(&c.id.0));
        }
        if let Some(score) = config
            .resources
            .oom_score_adj
            .filter(|s| *s < self.oom_score_floor)
            && !self.oom_score_said.swap(true, Ordering::Relaxed)
        {
            let floor = self.oom_score_floor;
            tracing::warn!(
                score,
                floor,
                "no privilege to protect containers from the out-of-memory killer; clamped"
            );
        }
        let id = new_id();
        let dir = self.container_dir(&id);
        let inner = Arc::clone(self);
        let made = {
            let (id, dir, sandbox) = (id.clone(), dir.clone(), Arc::clone(&sandbox));
            netns::on_thread("container", move || {
                inner.make_container(&id, &dir, &sandbox, config)
            })
            .await
        };
        match made {
            Ok(record) => {
                let id = ContainerId(id);
                let container = Arc::new(Container::new(id.clone(), dir, record, State::default()));
                self.containers.lock().insert(id.clone(), container);
                Ok(id)
            }
            Err(e) => {
                self.images.release(&id);
                let _ = blocking(move || {
                    namespaces::unmount(&dir.join("rootfs"));
                    fs::remove_dir_all(dir)
                })
                .await;
                Err(e)
            }
        }
    }

    /// Makes a container's files. Blocks, and spoils the thread that it runs on.
    fn make_container(
        &self,
        id: &str,
        dir: &Path,
        sandbox: &Sandbox,
        config: ContainerConfig,
    ) -> Result<Record, Error> {
        let sandbox_config = sandbox.config();
        fs::create_dir(dir).context(|| format!("make {dir:?}"))?;
        let image = self.images.prepare(&config.image, id)?;
        spec::command_line(&config, &image.config)?;
        rootfs::mount_overlay(&self.images.layers_dir(), &image.lower, dir)?;
        let image_user = image.config.user.as_deref().unwrap_or_default();
        let user = user::resolve(&dir.join("rootfs"), image_user, &config.security)?;
        spec::make_sources(&config)?;
        let stop_signal = config.stop_signal.as_deref().filter(|s| !s.is_empty());
        let stop_signal = parse_signal(
            stop_signal
                .or(image.config.stop_signal.as_deref())
                .unwrap_or_default(),
        )?;
        let parent = sandbox_config.cgroup_parent.trim_matches('/');
        let cgroup = format!("{parent}/{id}");

        let mut net = sandbox.namespace(namespaces::NET, sandbox_config.network);
        if let (Namespace::Node, Some(netns)) =
            (&net, self.network.as_ref().and_then(|n| n.node_netns()))
        {
            net = Namespace::At(netns.to_owned());
        }
        let uts = sandbox.namespace(namespaces::UTS, sandbox_config.network);
        let own_pids = sandbox_config.pid == NamespaceMode::Container;
        let spec = spec::build(&Input {
            container: &config,
            image: &image.config,
            user,
            net,
            ipc: sandbox.namespace(namespaces::IPC, sandbox_config.ipc),
            uts,
            pid: sandbox.namespace(namespaces::PID, sandbox_config.pid),
            files: sandbox.files(),
            shm: sandbox.shm(),
            cgroup: cgroup.clone(),
            oom_score_floor: self.oom_score_floor,
            sandbox: &sandbox_config,
        })?;
        write_json(&dir.join("config.json"), &spec)?;

        let log_path = match sandbox_config.log_directory.as_os_str().is_empty()
            || config.log_path.as_os_str().is_empty()
        {
            true => PathBuf::new(),
            false => sandbox_config.log_directory.join(&config.log_path),
        };
        if let Some(parent) = log_path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).context(|| format!("make the log directory {parent:?}"))?;
        }
        let mut runtime = self.runtime.clone();
        runtime.extend([
            "--log".into(),
            files::RUNTIME_LOG.into(),
            "--log-format".into(),
            "json".into(),
        ]);
        let shim = ShimConfig {
            runtime,
            id: id.to_owned(),
            log: log_path.clone(),
            tty: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            kill_all: (!own_pids).then(|| self.cgroups.procs(&cgroup)).flatten(),
        };
        write_json(&dir.join(files::CONFIG), &shim)?;
        let record = Record {
            sandbox: sandbox.id.clone(),
            config,
            created_at: Timestamp::now(),
            image_ref: image.image_ref,
            log_path,
            stop_signal,
            cgroup,
        };
        write_json(&dir.join("container.json"), &record)?;
        Ok(record)
    }

    pub(super) async fn start_container(self: &Arc<Self>, id: &ContainerId) -> Result<(), Error> {
        let container = self.find_container(id)?;
        let inner = Arc::clone(self);
        detached(async move {
            let _turn = container.turn.lock().await;
            match container.phase() {
                ContainerState::Created => {}
                state => return Err(container.invalid(state, "start it")),
            }
            let sandbox = inner.find_sandbox(&container.record.sandbox)?;
            if !sandbox.is_ready() {
                return Err(Error::InvalidState {
                    kind: "sandbox",
                    id: sandbox.id.0.clone(),
                    state: "not ready".to_owned(),
                    operation: "start a container",
                });
            }
            let started = match inner.spawn_shim(&container.dir).await {
                Ok(started) => shim_client::watch(&container.dir)
                    .await
                    .map(|w| (started, w)),
                Err(e) => Err(e),
            };
            match started {
                Ok(((pid, at), watch)) => {
                    container.change(|s| {
                        s.started_at = Some(at);
                        s.pid = Some(pid);
                    });
                    inner.announce(&container, RuntimeEventKind::Started);
                    inner.follow(&container, watch);
                    Ok(())
                }
                Err(e) => {
                    let message = e.to_string();
                    container.change(|s| {
                        s.finished_at = Some(Timestamp::now());
                        s.exit_code = Some(START_FAILED);
                        s.reason = "StartError".to_owned();
                        s.message = message;
                    });
                    inner.announce(&container, RuntimeEventKind::Stopped);
                    inner.clean_up(&container).await;
                    Err(e)
                }
            }
        })
        .await
    }

    /// Starts a shim, which starts the container. Gives the container's process ID and the
    /// time of its start.
    async fn spawn_shim(&self, dir: &Path) -> Result<(u32, Timestamp), Error> {
        let errors = dir.join("shim.log");
        let stderr = fs::File::create(&errors).context(|| format!("make {errors:?}"))?;
        let mut child = Command::new(&self.shim)
            .arg(shim::SHIM_ARG)
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .context(|| format!("start the shim {:?}", self.shim))?;
        let stdout = child.stdout.take();
        tokio::spawn(async move { child.wait().await });
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .await
                .context(|| "hear from the shim".to_owned())?;
        }
        let failed = |message| Error::RuntimeFailed {
            operation: "start",
            message,
        };
        match serde_json::from_str(&line) {
            Ok(Started::Pid { pid, at }) => match u32::try_from(pid) {
                Ok(pid) => Ok((pid, at)),
                Err(e) => Err(failed(e.to_string())),
            },
            Ok(Started::Error(message)) => Err(failed(message)),
            Err(_) => {
                let said = fs::read_to_string(&errors).unwrap_or_default();
                Err(failed(format!(
                    "the shim {:?} did not answer: {}",
                    self.shim,
                    said.trim()
                )))
            }
        }
    }

    /// Waits for a container's end in the background.
    pub(super) fn follow(
        self: &Arc<Self>,
        container: &Arc<Container>,
        watch: Option<shim_client::Watch>,
    ) {
        let (inner, container, closed) = (
            Arc::downgrade(self),
            Arc::clone(container),
            self.closed.clone(),
        );
        tokio::spawn(async move {
            let told = match watch {
                Some(watch) => {
                    tokio::select! {
                        told = watch.exit() => told,
                        () = closed.cancelled() => return,
                    }
                }
                None => None,
            };
            let exit = told.or_else(|| read_json::<Exit>(&container.dir.join(files::EXIT)).ok());
            let Some(inner) = inner.upgrade() else { return };
            inner.note_exit(&container, exit);
            inner.clean_up(&container).await;
        });
    }

    /// Notes how a container ended; `None` if nobody knows.
    pub(super) fn note_exit(&self, container: &Container, exit: Option<Exit>) {
        let oom = self.cgroups.oom_kills(&container.record.cgroup) > 0;
        container.change(|s| {
            s.pid = None;
            match exit {
                Some(exit) => {
                    s.finished_at = Some(exit.at);
                    s.exit_code = Some(exit.code);
                    s.signal = exit.signal;
                    s.reason = match exit.code {
                        0 => "Completed",
                        _ if oom => "OOMKilled",
                        _ => "Error",
                    }
                    .to_owned();
                }
                None => {
                    s.finished_at = Some(Timestamp::now());
                    s.exit_code = Some(UNKNOWN_EXIT);
                    s.reason = "Unknown".to_owned();
                    s.message = "the process that watched the container is gone".to_owned();
                }
            }
        });
        self.announce(container, RuntimeEventKind::Stopped);
    }

    /// Gives back what a container had while it ran. Its files stay.
    pub(super) async fn clean_up(&self, container: &Container) {
        let mut cleaned = container.cleaned.lock().await;
        if std::mem::replace(&mut *cleaned, true) {
            return;
        }
        if self.root.join("runtime").join(&container.id.0).exists()
            && let Err(error) = self
                .run("delete", &["delete", "--force", &container.id.0])
                .await
        {
            tracing::warn!(container = container.id.0, %error, "the runtime did not delete a container");
        }
        let (rootfs, cgroups, cgroup) = (
            container.dir.join("rootfs"),
            self.cgroups.clone(),
            container.record.cgroup.clone(),
        );
        let _ = blocking(move || {
            namespaces::unmount(&rootfs);
            cgroups.remove(&cgroup);
        })
        .await;
    }

    pub(super) async fn stop_container(
        self: &Arc<Self>,
        id: &ContainerId,
        grace: Duration,
    ) -> Result<(), Error> {
        let Some(container) = self.containers.lock().get(id).cloned() else {
            return Ok(());
        };
        // One that is being started must be waited for.
        drop(container.turn.lock().await);
        if container.phase() != ContainerState::Running {
            return Ok(());
        }
        if !grace.is_zero() {
            shim_client::kill(&container.dir, container.record.stop_signal).await?;
            if tokio::time::timeout(grace, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        shim_client::kill(&container.dir, nix::libc::SIGKILL).await?;
        let late = |_| Error::Timeout {
            operation: "kill",
            after: KILL_TIMEOUT,
        };
        tokio::time::timeout(KILL_TIMEOUT, container.ended())
            .await
            .map_err(late)
    }

    pub(super) async fn remove_container(self: &Arc<Self>, id: &ContainerId) -> Result<(), Error> {
        let Some(container) = self.containers.lock().get(id).cloned() else {
            return Ok(());
        };
        self.stop_container(id, Duration::ZERO).await?;
        let inner = Arc::clone(self);
        detached(async move {
            let _turn = container.turn.lock().await;
            inner.clean_up(&container).await;
            *container.removed.lock() = true;
            let dir = container.dir.clone();
            blocking(move || match fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(Error::io(format!("remove {dir:?}"), e))
                }
                _ => Ok(()),
            })
            .await??;
            inner.images.release(&container.id.0);
            inner.containers.lock().remove(&container.id);
            Ok(())
        })
        .await
    }
}

/// A signal by name, with or without `SIG`, or by number. `SIGTERM` if there is none.
fn parse_signal(text: &str) -> Result<i32, Error> {
    let invalid = || Error::InvalidConfig(format!("invalid stop signal {text:?}"));
    if text.is_empty() {
        return Ok(nix::libc::SIGTERM);
    }
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(invalid())
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.parse().map_err(|_| invalid())?
        };
        return if (0..=30).contains(&offset) {
            Ok(34 + offset)
        } else {
            Err(invalid())
        };
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().map_err(|_| invalid())?;
    Ok(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [
            ("", 15),
            ("SIGQUIT", 3),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["SIGNOPE", "0", "65", "-1", "RTMIN+99"] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }
}
