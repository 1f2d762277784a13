//! A backend on any OCI runtime: runc, crun, youki.
//!
//! What it keeps is in one directory:
//!
//! ```text
//! runtime/                        the OCI runtime's own state
//! cgroups.json                    the control groups that pods' groups are in
//! sandboxes/<id>/sandbox.json     what the sandbox is
//! sandboxes/<id>/ns/{net,ipc,uts} its pinned namespaces
//! sandboxes/<id>/{resolv.conf,hostname,shm}
//! containers/<id>/container.json  what the container is
//! containers/<id>/state.json      how it is
//! containers/<id>/config.json     the OCI runtime's bundle, with rootfs/ beside it
//! containers/<id>/shim.sock       where its shim listens, while it runs
//! containers/<id>/exit.json       how it ended
//! ```
//!
//! A sandbox is a set of pinned namespaces; no process holds them, except where the pod shares its
//! process namespace. Each running container has a [shim](crate::shim) that outlives this program.
//! [`OciRuntime::open`] takes over what a former run left: running containers keep running, those
//! that ended meanwhile have their exit codes, and remains of what was only half made are removed.

mod capabilities;
mod cgroup;
mod container;
mod exec;
mod namespaces;
mod recover;
mod rootfs;
mod runtime;
mod sandbox;
mod seccomp;
mod shim_client;
mod spec;
mod user;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{cgroup::Cgroups, container::Container, sandbox::Sandbox};
use crate::{
    ContainerId, Error, SandboxId, error::IoContext, events::EventHub, images::ImageStore,
    net::PodNetwork,
};

/// How an [`OciRuntime`] works.
#[derive(Clone, Debug)]
pub struct OciOptions {
    root: PathBuf,
    runtime: PathBuf,
    shim: PathBuf,
    network: Option<Arc<PodNetwork>>,
}

impl OciOptions {
    /// Keeps its state below this directory and uses `runc` as found in `PATH`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            runtime: PathBuf::from("runc"),
            // The executable that runs now, even if its file was replaced meanwhile.
            shim: PathBuf::from("/proc/self/exe"),
            network: None,
        }
    }

    /// Sets the OCI runtime: a name to be looked up in `PATH`, or a path.
    #[must_use]
    pub fn runtime(mut self, runtime: impl Into<PathBuf>) -> Self {
        self.runtime = runtime.into();
        self
    }

    /// Sets the executable that becomes the [shim](crate::shim). It must call
    /// [`shim::main_if_requested`](crate::shim::main_if_requested). The current one when not set.
    #[must_use]
    pub fn shim(mut self, shim: impl Into<PathBuf>) -> Self {
        self.shim = shim.into();
        self
    }

    /// Sets the network that pods are connected to. Without it they have a loop-back interface
    /// only.
    #[must_use]
    pub fn network(mut self, network: Arc<PodNetwork>) -> Self {
        self.network = Some(network);
        self
    }
}

/// A [`ContainerRuntime`](crate::ContainerRuntime) on an OCI runtime; see [the module](self).
///
/// Dropping it leaves everything running; [`shut_down`](Self::shut_down) removes everything.
/// Operations that were begun are brought to an end also when their futures are dropped.
#[derive(Clone)]
pub struct OciRuntime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    name: String,
    root: PathBuf,
    /// The OCI runtime and its general arguments.
    runtime: Vec<OsString>,
    shim: PathBuf,
    network: Option<Arc<PodNetwork>>,
    images: ImageStore,
    cgroups: Cgroups,
    oom_score_floor: i32,
    oom_score_said: std::sync::atomic::AtomicBool,
    events: EventHub,
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<Sandbox>>>,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    /// The groups that pods' groups were made in.
    groups: Mutex<BTreeSet<String>>,
    /// What is being made: pods' UIDs and attempts, sandboxes' IDs and containers' names.
    making: Mutex<HashSet<String>>,
    version: tokio::sync::OnceCell<String>,
    closed: CancellationToken,
    _close: DropGuard,
    _lock: fs::File,
}

impl fmt::Debug for OciRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, root, .. } = &*self.inner;
        f.debug_struct("OciRuntime")
            .field("name", name)
            .field("root", root)
            .finish_non_exhaustive()
    }
}

impl OciRuntime {
    /// Opens the runtime and takes over what a former run left.
    ///
    /// # Errors
    /// If the OCI runtime is missing, another process has the directory open, or privileges are
    /// missing.
    pub async fn open(options: OciOptions, images: ImageStore) -> Result<Self, Error> {
        let OciOptions {
            root,
            runtime,
            shim,
            network,
        } = options;
        for dir in ["runtime", "sandboxes", "containers"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).context(|| format!("make {dir:?}"))?;
        }
        let root = root.canonicalize().context(|| format!("open {root:?}"))?;
        let lock = lock(&root)?;
        let name = runtime
            .file_stem()
            .map_or_else(|| "oci".to_owned(), |n| n.to_string_lossy().into_owned());
        let runtime = vec![
            runtime.into_os_string(),
            "--root".into(),
            root.join("runtime").into_os_string(),
        ];
        let groups = read_json(&root.join("cgroups.json")).unwrap_or_default();
        let closed = CancellationToken::new();
        let inner = Arc::new(Inner {
            name,
            root,
            runtime,
            shim,
            network,
            images,
            cgroups: Cgroups::detect()?,
            oom_score_floor: cgroup::oom_score_floor(),
            oom_score_said: false.into(),
            events: EventHub::new(),
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            groups: Mutex::new(groups),
            making: Mutex::default(),
            version: tokio::sync::OnceCell::new(),
            _close: closed.clone().drop_guard(),
            closed,
            _lock: lock,
        });
        inner.version().await?;
        recover::recover(&inner).await?;
        Ok(Self { inner })
    }

    /// Ends and removes all sandboxes and containers with everything made for them: mounts,
    /// namespaces, links, control groups. The pod network's bridge and rules are
    /// [its owner's](PodNetwork::remove) to remove.
    ///
    /// # Errors
    /// The first failure, after everything was tried.
    pub async fn shut_down(&self) -> Result<(), Error> {
        let ids: Vec<SandboxId> = self.inner.sandboxes.lock().keys().cloned().collect();
        let removals = ids.iter().map(|id| self.inner.remove_sandbox(id));
        let results = futures::future::join_all(removals).await;
        let groups = std::mem::take(&mut *self.inner.groups.lock());
        for group in groups {
            self.inner.cgroups.remove_empty(&group);
        }
        let _ = fs::remove_file(self.inner.root.join("cgroups.json"));
        results.into_iter().collect()
    }
}

impl Inner {
    fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.root.join("sandboxes").join(id)
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    async fn version(&self) -> Result<&str, Error> {
        let get = || async {
            let output = Command::new(&self.runtime[0])
                .arg("--version")
                .output()
                .await
                .context(|| format!("run {}", self.runtime[0].display()))?;
            let text = String::from_utf8_lossy(&output.stdout);
            // `runc version 1.1.5`, `crun version 1.8`, `youki version 0.3.3`.
            let version = text
                .lines()
                .next()
                .and_then(|l| l.split_whitespace().last());
            Ok(version.unwrap_or("unknown").to_owned())
        };
        self.version.get_or_try_init(get).await.map(String::as_str)
    }

    /// Runs the OCI runtime for an administrative command.
    async fn run(&self, operation: &'static str, args: &[&str]) -> Result<(), Error> {
        let output = Command::new(&self.runtime[0])
            .args(&self.runtime[1..])
            .args(args)
            .output()
            .await
            .context(|| format!("run {}", self.runtime[0].display()))?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::RuntimeFailed { operation, message })
    }

    /// Marks something as being made, so that nobody makes it a second time.
    fn begin(self: &Arc<Self>, what: String) -> Option<Making> {
        self.making.lock().insert(what.clone()).then(|| Making {
            inner: Arc::clone(self),
            what,
        })
    }
}

/// Something that is being made.
struct Making {
    inner: Arc<Inner>,
    what: String,
}

impl Drop for Making {
    fn drop(&mut self) {
        self.inner.making.lock().remove(&self.what);
    }
}

fn lock(root: &Path) -> Result<fs::File, Error> {
    let path = root.join("lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .context(|| format!("open {path:?}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::io(
            format!("{root:?} is in use"),
            io::Error::from(io::ErrorKind::ResourceBusy),
        )),
        Err(fs::TryLockError::Error(e)) => Err(Error::io(format!("lock {path:?}"), e)),
    }
}

fn new_id() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", half(), half())
}

/// Runs to the end even if nobody waits any more.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work)
        .await
        .map_err(|e| Error::io("runtime", io::Error::other(e)))?
}

/// Blocking work on files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::io("runtime", io::Error::other(e)))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let json = serde_json::to_vec(value).map_err(|e| Error::io(format!("write {path:?}"), e))?;
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, json)
        .and_then(|()| fs::rename(&temporary, path))
        .context(|| format!("write {path:?}"))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let json = fs::read(path).context(|| format!("read {path:?}"))?;
    serde_json::from_slice(&json).map_err(|e| Error::io(format!("read {path:?}"), e))
}

/// The last error in an OCI runtime's log, which has one JSON object on each line.
pub(crate) fn last_runtime_error(log: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let text = fs::read_to_string(log).ok()?;
    let lines = text
        .lines()
        .rev()
        .filter_map(|l| serde_json::from_str::<Line>(l).ok());
    lines
        .into_iter()
        .find(|l| matches!(l.level.as_str(), "error" | "fatal"))
        .map(|l| l.msg)
}
