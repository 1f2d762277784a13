//! Sandboxes: making them, ending them.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use jiff::Timestamp;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{Inner, blocking, detached, namespaces, new_id, spec::Namespace, write_json};
use crate::{
    DnsConfig, Error, Mount, NamespaceMode, RuntimeEvent, RuntimeEventKind, SandboxConfig,
    SandboxId, SandboxState, SandboxStatus, error::IoContext, net::netns, shim,
};

/// A sandbox as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) config: SandboxConfig,
    pub(super) created_at: Timestamp,
    pub(super) ips: Vec<IpAddr>,
    pub(super) ready: bool,
    /// The process that holds a shared process namespace.
    pub(super) holder: Option<i32>,
}

pub(super) struct Sandbox {
    pub(super) id: SandboxId,
    pub(super) dir: PathBuf,
    pub(super) record: Mutex<Record>,
    /// Stopping and removing take turns.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub(super) fn new(id: SandboxId, dir: PathBuf, record: Record) -> Self {
        Self {
            id,
            dir,
            record: Mutex::new(record),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> SandboxStatus {
        let record = self.record.lock();
        SandboxStatus {
            id: self.id.clone(),
            config: record.config.clone(),
            state: if record.ready {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            },
            created_at: record.created_at,
            ips: record.ips.clone(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.record.lock().ready
    }

    pub(super) fn config(&self) -> SandboxConfig {
        self.record.lock().config.clone()
    }

    fn save(&self) -> Result<(), Error> {
        let record = self.record.lock().clone();
        write_json(&self.dir.join("sandbox.json"), &record)
    }

    /// A namespace as its containers get it.
    pub(super) fn namespace(&self, name: &str, mode: NamespaceMode) -> Namespace {
        match mode {
            NamespaceMode::Node => Namespace::Node,
            NamespaceMode::Container => Namespace::New,
            NamespaceMode::Pod => Namespace::At(self.dir.join("ns").join(name)),
        }
    }

    /// The files that appear in all of its containers.
    pub(super) fn files(&self) -> Vec<Mount> {
        let file = |name: &str, at: &str| Mount {
            container_path: PathBuf::from(at),
            host_path: self.dir.join(name),
            ..Mount::default()
        };
        let mut out = vec![file("hostname", "/etc/hostname")];
        if self.dir.join("resolv.conf").exists() {
            out.push(file("resolv.conf", "/etc/resolv.conf"));
        } else if Path::new("/etc/resolv.conf").exists() {
            let host = PathBuf::from("/etc/resolv.conf");
            out.push(Mount {
                container_path: host.clone(),
                host_path: host,
                ..Mount::default()
            });
        }
        out
    }

    /// Where its containers' `/dev/shm` is.
    pub(super) fn shm(&self) -> PathBuf {
        match self.record.lock().config.ipc {
            NamespaceMode::Node => PathBuf::from("/dev/shm"),
            _ => self.dir.join("shm"),
        }
    }
}

impl Inner {
    pub(super) async fn run_sandbox(
        self: &Arc<Self>,
        config: SandboxConfig,
    ) -> Result<SandboxId, Error> {
        let _making = self
            .begin(format!("sandbox {} {}", config.uid, config.attempt))
            .ok_or_else(|| Error::AlreadyExists {
                kind: "sandbox",
                id: format!("{}/{}", config.namespace, config.name),
            })?;
        let same = |s: &&Arc<Sandbox>| {
            let record = s.record.lock();
            record.config.uid == config.uid && record.config.attempt == config.attempt
        };
        if let Some(s) = self.sandboxes.lock().values().find(same) {
            return Err(Error::AlreadyExists {
                kind: "sandbox",
                id: s.id.0.clone(),
            });
        }
        check_cgroup(&config.cgroup_parent)?;
        config.check_handler(&[&self.name])?;
        self.note_cgroup(&config.cgroup_parent)?;
        let id = new_id();
        let dir = self.sandbox_dir(&id);
        let parent = config.cgroup_parent.clone();
        match self.make_sandbox(&id, &dir, config).await {
            Ok(record) => {
                let sandbox = Arc::new(Sandbox::new(SandboxId(id), dir, record));
                let uid = sandbox.config().uid;
                let id = sandbox.id.clone();
                self.sandboxes.lock().insert(id.clone(), sandbox);
                self.events.send(RuntimeEvent {
                    pod_uid: uid,
                    container: None,
                    kind: RuntimeEventKind::Started,
                });
                Ok(id)
            }
            Err(e) => {
                self.take_down(&id, &dir, None).await;
                let cgroups = self.cgroups.clone();
                let _ = blocking(move || {
                    cgroups.remove(&parent);
                    fs::remove_dir_all(dir)
                })
                .await;
                Err(e)
            }
        }
    }

    async fn make_sandbox(
        &self,
        id: &str,
        dir: &Path,
        config: SandboxConfig,
    ) -> Result<Record, Error> {
        let mut record = Record {
            config: config.clone(),
            created_at: Timestamp::now(),
            ips: Vec::new(),
            ready: false,
            holder: None,
        };
        let (unfinished, cgroups, at) = (record.clone(), self.cgroups.clone(), dir.to_owned());
        blocking(move || {
            make_files(&at, &unfinished.config)?;
            // A former run's half-made sandbox must be known, for its cgroup to be removed.
            write_json(&at.join("sandbox.json"), &unfinished)?;
            cgroups.create(&unfinished.config.cgroup_parent)
        })
        .await??;
        let net = namespaces::pin(dir.join("ns"), &config).await?;
        if let (Some(net), Some(network)) = (&net, &self.network) {
            record
                .ips
                .push(network.attach(id, &net.fd, &net.handle).await?);
        }
        if config.pid == NamespaceMode::Pod {
            record.holder = Some(hold_pid_namespace(&self.shim, dir).await?);
        }
        record.ready = true;
        write_json(&dir.join("sandbox.json"), &record)?;
        Ok(record)
    }

    /// Remembers the group that pods' groups are in. It is removed when everything is shut down
    /// rather than with its last pod, because the next pod may be on its way.
    fn note_cgroup(&self, pod: &str) -> Result<(), Error> {
        let Some((above, _)) = pod.trim_matches('/').rsplit_once('/') else {
            return Ok(());
        };
        let mut groups = self.groups.lock();
        if groups.insert(above.to_owned()) {
            write_json(&self.root.join("cgroups.json"), &*groups)?;
        }
        Ok(())
    }

    /// Gives back what a sandbox has of the node, but for its directory.
    pub(super) async fn take_down(&self, id: &str, dir: &Path, holder: Option<i32>) {
        if let Some(network) = &self.network {
            network.detach(id).await;
        }
        let dir = dir.to_owned();
        let cleaned = blocking(move || {
            if let Some(pid) = holder.filter(|p| holds(*p, &dir)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            namespaces::unpin(&dir.join("ns"));
            namespaces::unmount(&dir.join("shm"));
        });
        if let Err(error) = cleaned.await {
            tracing::warn!(sandbox = id, %error, "a sandbox was not taken down");
        }
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, id: &SandboxId) -> Result<(), Error> {
        let Some(sandbox) = self.sandboxes.lock().get(id).cloned() else {
            return Ok(());
        };
        let inner = Arc::clone(self);
        detached(async move {
            let _turn = sandbox.turn.lock().await;
            inner.stop_sandbox_in_turn(&sandbox).await
        })
        .await
    }

    async fn stop_sandbox_in_turn(self: &Arc<Self>, sandbox: &Sandbox) -> Result<(), Error> {
        let was_ready = std::mem::replace(&mut sandbox.record.lock().ready, false);
        let ends = self.containers_of(&sandbox.id);
        let ends = ends
            .iter()
            .map(|c| self.stop_container(&c.id, std::time::Duration::ZERO));
        futures::future::try_join_all(ends).await?;
        if was_ready {
            let holder = sandbox.record.lock().holder.take();
            self.take_down(&sandbox.id.0, &sandbox.dir, holder).await;
            sandbox.save()?;
            let pod_uid = sandbox.config().uid;
            self.events.send(RuntimeEvent {
                pod_uid,
                container: None,
                kind: RuntimeEventKind::Stopped,
            });
        }
        Ok(())
    }

    pub(super) async fn remove_sandbox(self: &Arc<Self>, id: &SandboxId) -> Result<(), Error> {
        let Some(sandbox) = self.sandboxes.lock().get(id).cloned() else {
            return Ok(());
        };
        let inner = Arc::clone(self);
        detached(async move {
            let _turn = sandbox.turn.lock().await;
            inner.stop_sandbox_in_turn(&sandbox).await?;
            let removals = inner.containers_of(&sandbox.id);
            let removals = removals.iter().map(|c| inner.remove_container(&c.id));
            futures::future::try_join_all(removals).await?;
            let dir = sandbox.dir.clone();
            blocking(move || match fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io(format!("remove {dir:?}"), e))
                }
                _ => Ok(()),
            })
            .await??;
            let parent = sandbox.config().cgroup_parent;
            let shared = {
                let mut left = inner.sandboxes.lock();
                left.remove(&sandbox.id);
                // Another sandbox of the same pod may still be there.
                left.values().any(|s| s.config().cgroup_parent == parent)
            };
            if !shared {
                let cgroups = inner.cgroups.clone();
                blocking(move || cgroups.remove(&parent)).await?;
            }
            Ok(())
        })
        .await
    }

    pub(super) fn find_sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>, Error> {
        self.sandboxes
            .lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found("sandbox", &id.0))
    }
}

fn check_cgroup(path: &str) -> Result<(), Error> {
    let ok = !path.trim_matches('/').is_empty()
        && !path.split('/').any(|p| p == "..")
        && !path.contains('\0');
    if ok {
        Ok(())
    } else {
        Err(Error::InvalidConfig(format!(
            "invalid cgroup parent {path:?}"
        )))
    }
}

fn make_files(dir: &Path, config: &SandboxConfig) -> Result<(), Error> {
    let ns = dir.join("ns");
    fs::create_dir_all(&ns).context(|| format!("make {ns:?}"))?;
    let write = |name: &str, text: &str| {
        fs::write(dir.join(name), text).context(|| format!("write {name}"))
    };
    let hostname = match config.network {
        NamespaceMode::Node => fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        _ => format!("{}\n", config.hostname),
    };
    write("hostname", &hostname)?;
    if config.dns != DnsConfig::default() {
        write("resolv.conf", &resolv_conf(&config.dns))?;
    }
    if config.ipc != NamespaceMode::Node {
        let shm = dir.join("shm");
        fs::create_dir(&shm).context(|| format!("make {shm:?}"))?;
        let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("shm"),
            &shm,
            Some("tmpfs"),
            flags,
            Some("mode=1777,size=65536k"),
        )
        .context(|| format!("mount {shm:?}"))?;
    }
    Ok(())
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut out = String::new();
    if !dns.searches.is_empty() {
        let _ = writeln!(out, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(out, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(out, "options {}", dns.options.join(" "));
    }
    out
}

/// Starts the first process of a shared process namespace and pins that.
async fn hold_pid_namespace(shim: &Path, dir: &Path) -> Result<i32, Error> {
    let (shim, at) = (shim.to_owned(), dir.join("ns").join(namespaces::PID));
    netns::on_thread("pidns", move || {
        // For the children of this thread only.
        unshare(CloneFlags::CLONE_NEWPID).context(|| "make a process namespace".to_owned())?;
        let mut child = Command::new(shim)
            .arg(shim::PAUSE_ARG)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| "start the process namespace's first process".to_owned())?;
        let pid = child.id().and_then(|p| i32::try_from(p).ok()).unwrap_or(-1);
        File::create(&at).context(|| format!("make {at:?}"))?;
        let pinned = namespaces::bind(Path::new(&format!("/proc/{pid}/ns/pid")), &at);
        if pinned.is_err() {
            let _ = child.start_kill();
        }
        tokio::spawn(async move { child.wait().await });
        pinned.map(|()| pid)
    })
    .await
}

/// Whether a process is the first one of the namespace that is pinned in a sandbox.
pub(super) fn holds(pid: i32, dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| fs::metadata(path).map(|m| m.ino()).ok();
    let theirs = inode(Path::new(&format!("/proc/{pid}/ns/pid")));
    theirs.is_some() && theirs == inode(&dir.join("ns").join(namespaces::PID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_upstreams_lines() {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let dns = DnsConfig {
            servers: own(&["10.96.0.10"]),
            searches: own(&["default.svc.cluster.local", "svc.cluster.local"]),
            options: own(&["ndots:5"]),
        };
        let text = "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), text);
    }

    #[test]
    fn a_cgroup_parent_must_not_lead_elsewhere() {
        assert!(check_cgroup("kubepods/burstable/pod1").is_ok());
        for bad in ["", "/", "../x", "a/../../b"] {
            assert!(check_cgroup(bad).is_err(), "{bad}");
        }
    }
}
