//! [`ContainerRuntime`]: sandboxes, containers and what runs in them.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;

/// Names a sandbox for as long as it exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SandboxId(pub String);

/// Names a container for as long as it exists. On the API it appears as `<runtime>://<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId(pub String);

/// Where a namespace comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The sandbox's own, shared by its containers.
    #[default]
    Pod,
    /// One for each container.
    Container,
    /// The node's.
    Node,
}

/// A DNS configuration, as a pod's `/etc/resolv.conf` will have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, such as `ndots:5`.
    pub options: Vec<String>,
}

/// What a sandbox should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID. Sandboxes are found again by it after a restart.
    pub uid: String,
    /// How many sandboxes the pod had before this one.
    pub attempt: u32,
    /// The host name inside; empty for the node's.
    pub hostname: String,
    /// Labels, stored with the sandbox and returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations, stored with the sandbox and returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod has a network namespace of its own or the node's.
    pub network: NamespaceMode,
    /// The process namespace: [`NamespaceMode::Container`] unless shared.
    pub pid: NamespaceMode,
    /// The IPC namespace.
    pub ipc: NamespaceMode,
    /// What goes into `/etc/resolv.conf`.
    pub dns: DnsConfig,
    /// The parent of the containers' cgroups, relative to each controller's root, as in
    /// `kubepods/burstable/pod1234`.
    pub cgroup_parent: String,
    /// Kernel parameters to set in the sandbox's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Where container logs go: each at `<log_directory>/<log_path>`.
    pub log_directory: PathBuf,
    /// Which of the runtime's configurations the containers run under, as a `RuntimeClass` names
    /// it; empty for the default one.
    pub runtime_handler: String,
}

impl SandboxConfig {
    /// Whether the handler is one of these, in containerd's words if not.
    pub(crate) fn check_handler(&self, known: &[&str]) -> Result<(), Error> {
        let handler = self.runtime_handler.as_str();
        if handler.is_empty() || known.contains(&handler) {
            return Ok(());
        }
        Err(Error::InvalidConfig(format!(
            "no runtime for {handler:?} is configured"
        )))
    }
}

/// A sandbox or container state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Its namespaces are there.
    Ready,
    /// They are not (any more).
    NotReady,
}

/// A sandbox as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxStatus {
    /// Its name.
    pub id: SandboxId,
    /// What it was made from.
    pub config: SandboxConfig,
    /// Whether it is usable.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses; empty with the node's network.
    pub ips: Vec<IpAddr>,
}

/// How a mount's later mounts propagate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A file or directory of the host, seen inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where it appears.
    pub container_path: PathBuf,
    /// What appears.
    pub host_path: PathBuf,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Propagation of later mounts.
    pub propagation: Propagation,
}

/// Which seccomp or AppArmor profile applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// The runtime's default.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// The one in this file on the node.
    Localhost(PathBuf),
}

/// What a container's processes may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityContext {
    /// All capabilities, all devices.
    pub privileged: bool,
    /// Capabilities to add to the default set; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop from it; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// The numeric user; the image's when absent.
    pub run_as_user: Option<i64>,
    /// The numeric group; the image's when absent.
    pub run_as_group: Option<i64>,
    /// The name of the user, when no number is given.
    pub run_as_username: Option<String>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the root file system can't be written.
    pub readonly_rootfs: bool,
    /// Whether a process may not gain privileges.
    pub no_new_privs: bool,
    /// The seccomp profile.
    pub seccomp: SecurityProfile,
}

/// Limits on a container's use of its node. Absent fields are unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds per period.
    pub cpu_quota: Option<i64>,
    /// Relative weight, 2 to 262144 (cgroup v1 `cpu.shares`).
    pub cpu_shares: Option<u64>,
    /// Memory in bytes.
    pub memory_limit_bytes: Option<i64>,
    /// The score adjustment for the out-of-memory killer, -1000 to 1000. One that the kernel
    /// does not let this process set is clamped.
    pub oom_score_adj: Option<i32>,
    /// The CPUs that may be used, as in `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// The most processes.
    pub pids_limit: Option<i64>,
}

/// What a container should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// The container's name in its pod.
    pub name: String,
    /// How many containers of that name the pod had before this one.
    pub attempt: u32,
    /// The image's ID, as [`crate::ImageService`] gave it.
    pub image: String,
    /// The entry point; the image's when empty.
    pub command: Vec<String>,
    /// Its arguments; the image's when both are empty.
    pub args: Vec<String>,
    /// The working directory; the image's when empty.
    pub working_dir: String,
    /// The environment, added to the image's.
    pub env: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Labels, stored with the container and returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations, stored with the container and returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// The log file, relative to the sandbox's log directory.
    pub log_path: PathBuf,
    /// Whether standard input stays open for [`ContainerRuntime::attach`].
    pub stdin: bool,
    /// Whether the first attach that closes standard input closes it for good.
    pub stdin_once: bool,
    /// Whether there is a terminal.
    pub tty: bool,
    /// Permissions.
    pub security: SecurityContext,
    /// Limits.
    pub resources: Resources,
    /// The signal that asks for an end; the image's or `SIGTERM` when absent.
    pub stop_signal: Option<String>,
}

/// A container's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// Its state can't be told.
    Unknown,
}

/// A container as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its name.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// What it was made from.
    pub config: ContainerConfig,
    /// Its state.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its exit code; 128 plus the signal where a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it ended, in upstream's words: `Completed`, `Error`, `OOMKilled`, `StartError` (it could
    /// not be started), `Unknown` (nobody saw it).
    pub reason: String,
    /// More about that.
    pub message: String,
    /// The digest reference of its image, as in `docker.io/library/busybox@sha256:…`.
    pub image_ref: String,
    /// The process ID on the node while it runs.
    pub pid: Option<u32>,
    /// The full path of its log.
    pub log_path: PathBuf,
}

/// A container's use of its node at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStats {
    /// The container.
    pub id: ContainerId,
    /// When it was measured.
    pub at: Timestamp,
    /// CPU time since the start, in nanoseconds.
    pub cpu_usage_nanos: u64,
    /// The memory in use that can't be reclaimed, in bytes.
    pub memory_working_set_bytes: u64,
    /// Processes.
    pub pids: u64,
}

/// Something that happened to a container without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// The pod's UID.
    pub pod_uid: String,
    /// The container; `None` for the sandbox itself.
    pub container: Option<ContainerId>,
    /// What happened.
    pub kind: RuntimeEventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeEventKind {
    /// It was started.
    Started,
    /// It ended.
    Stopped,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A process run inside a container at somebody's request.
pub struct ExecSession {
    /// Standard input, if it was asked for. Dropping it closes it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output (with a terminal: both).
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Tells the terminal its size; `None` without one.
    pub resize: Option<tokio::sync::mpsc::Sender<TerminalSize>>,
    /// Resolves with the exit code when the process (for attach: the container) ends. Dropping it
    /// kills an exec's process and leaves an attached one alone.
    pub exit: futures::future::BoxFuture<'static, Result<i32, Error>>,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecSession")
    }
}

/// Which streams an exec or attach wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal for all of them.
    pub tty: bool,
}

/// A short command's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
    /// The exit code.
    pub exit_code: i32,
}

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a node agent needs of a container runtime.
///
/// # The life of things
///
/// A sandbox is `Ready` from [`run_sandbox`](Self::run_sandbox) until it is stopped or loses its
/// namespaces, and then `NotReady` until it is removed. A container is `Created`, then `Running`,
/// then `Exited`, and never goes back; one that could not be started is `Exited` too, with the
/// exit code 128 and the reason `StartError`. Both are listed until they are removed.
///
/// # Promises
///
/// - **Names.** An ID means one thing for ever. For one pod UID and attempt there is one sandbox,
///   for one name and attempt in it one container; a second is refused with
///   [`Error::AlreadyExists`].
/// - **Configurations** come back from listing as they were given.
/// - **Idempotence.** Stopping and removing what is stopped, removed or was never there succeeds.
///   Everything else answers [`Error::NotFound`] for an ID that is unknown, and
///   [`Error::InvalidState`] for a thing in the wrong state.
/// - **Completion.** When a call returns, what it did is visible in the next answer, and the end
///   of what it stopped is complete.
/// - **Cancellation.** Dropping a future leaves no half-made thing that is not listed.
/// - **Independence.** Calls for different sandboxes run at the same time. A backend orders calls
///   for the same thing itself.
/// - **Survival.** Where a backend runs processes, they outlive the program: it finds them again,
///   running, with logs that go on and with the exit codes of those that ended meanwhile.
///
/// The kit in this crate's `testing` module has a test for each.
#[async_trait]
pub trait ContainerRuntime: fmt::Debug + Send + Sync + 'static {
    /// The runtime's name, as in container IDs on the API: `runc`, `containerd`.
    fn name(&self) -> &str;

    /// The runtime's version, for the node's status.
    async fn version(&self) -> Result<String, Error>;

    /// Makes a sandbox: namespaces, network, cgroup. It is ready when this returns. If it fails,
    /// nothing of it is left.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if this pod has a sandbox of this attempt,
    /// [`Error::InvalidConfig`] if there is no such
    /// [`runtime_handler`](SandboxConfig::runtime_handler).
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, Error>;

    /// Kills everything in a sandbox and gives its network back. Its containers stay listed, as
    /// exited. Idempotent.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error>;

    /// Stops a sandbox and removes it with its containers. Their logs stay. Idempotent.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error>;

    /// All sandboxes, ready or not.
    async fn sandboxes(&self) -> Result<Vec<SandboxStatus>, Error>;

    /// One sandbox.
    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxStatus, Error>;

    /// Makes a container in a sandbox, without starting it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such sandbox or image, [`Error::InvalidState`] if the
    /// sandbox is not ready, [`Error::AlreadyExists`] if it has this attempt of this container,
    /// [`Error::InvalidConfig`] if there is no command or no such user.
    async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error>;

    /// Starts a created container. Its main process runs when this returns, or has run already.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if it was started before; [`Error::RuntimeFailed`] with the
    /// runtime's own words if it can't be, in which case the container is exited.
    async fn start_container(&self, id: &ContainerId) -> Result<(), Error>;

    /// Asks a container to end, and kills it if it has not by `grace`. Returns when it has
    /// ended. Idempotent.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error>;

    /// Removes a container, killing it if it runs. Its log stays. Idempotent.
    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error>;

    /// All containers, running or not.
    async fn containers(&self) -> Result<Vec<ContainerStatus>, Error>;

    /// One container.
    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus, Error>;

    /// Runs a command in a running container and waits for it, at most for `timeout`. A command
    /// that runs longer is killed.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::RuntimeFailed`] if the command can't be started. An exit code
    /// other than 0 is no error.
    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error>;

    /// Runs a command in a running container with streams. That the command can't be started may
    /// show only in the session's exit, as [`Error::RuntimeFailed`].
    async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        streams: Streams,
    ) -> Result<ExecSession, Error>;

    /// Joins the streams of a running container, from now on. A reader that falls far behind is
    /// disconnected rather than holding the container up.
    ///
    /// When the session's input ends, so does the container's where it is to be attached to once
    /// ([`ContainerConfig::stdin_once`], without a terminal). Otherwise the container's stays open, for others, and
    /// the session ends with 0.
    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<ExecSession, Error>;

    /// Opens a connection to a TCP port of the loop-back interface inside a sandbox's network.
    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>, Error>;

    /// What a container uses now.
    async fn container_stats(&self, id: &ContainerId) -> Result<ContainerStats, Error>;

    /// The bytes on disk that a container has written outside of its mounts, whether it runs or
    /// not. May look at each of its files: not to be asked for often.
    async fn written_bytes(&self, id: &ContainerId) -> Result<u64, Error>;

    /// Starts a container's log file anew, after it was moved away for rotation.
    async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error>;

    /// What happens from now on, each start and end once and in order. A reader that falls behind gets [`Error::Lagged`] and lists again.
    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, Error>>, Error>;
}
