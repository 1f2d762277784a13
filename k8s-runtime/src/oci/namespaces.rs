//! A sandbox's namespaces, pinned by bind mounts. No process has to keep them alive.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use rtnetlink::Handle;

use crate::{
    Error, NamespaceMode, SandboxConfig,
    error::IoContext,
    net::{netns, pod},
};

pub(super) const NET: &str = "net";
pub(super) const IPC: &str = "ipc";
pub(super) const UTS: &str = "uts";
pub(super) const PID: &str = "pid";

/// The network namespace of a new sandbox.
pub(super) struct NewNet {
    pub(super) fd: OwnedFd,
    pub(super) handle: Handle,
}

/// Makes the namespaces that a sandbox wants and pins them as files in `dir`.
pub(super) async fn pin(dir: PathBuf, config: &SandboxConfig) -> Result<Option<NewNet>, Error> {
    let own_net = config.network != NamespaceMode::Node;
    let own_ipc = config.ipc != NamespaceMode::Node;
    let hostname = config.hostname.clone();
    let sysctls = config.sysctls.clone();
    let new = netns::on_thread("sandbox", move || {
        let mut flags = CloneFlags::empty();
        let mut names = Vec::new();
        for (wanted, flag, name) in [
            (own_net, CloneFlags::CLONE_NEWNET, NET),
            (own_net, CloneFlags::CLONE_NEWUTS, UTS),
            (own_ipc, CloneFlags::CLONE_NEWIPC, IPC),
        ] {
            if wanted {
                flags |= flag;
                names.push(name);
            }
        }
        unshare(flags).context(|| "make namespaces".to_owned())?;
        for name in names {
            let at = dir.join(name);
            File::create(&at).context(|| format!("make {at:?}"))?;
            bind(Path::new("/proc/thread-self/ns").join(name).as_path(), &at)?;
        }
        if own_net && !hostname.is_empty() {
            pod::write_sysctl("kernel/hostname", &hostname)
                .context(|| "set the host name".to_owned())?;
        }
        let mut new = None;
        if own_net {
            // As Docker and containerd do: ports below 1024 are nothing special in here.
            let _ = pod::write_sysctl("net/ipv4/ip_unprivileged_port_start", "0");
            let fd = File::open("/proc/thread-self/ns/net")
                .context(|| "open the network namespace".to_owned())?;
            new = Some(NewNet {
                fd: fd.into(),
                handle: netns::netlink()?,
            });
        }
        for (key, value) in &sysctls {
            set_sysctl(key, value, own_net, own_ipc)?;
        }
        Ok(new)
    })
    .await?;
    if let Some(new) = &new {
        pod::loopback_up(&new.handle).await?;
    }
    Ok(new)
}

/// Sets a kernel parameter, if it is one of a namespace that the sandbox has of its own.
fn set_sysctl(key: &str, value: &str, own_net: bool, own_ipc: bool) -> Result<(), Error> {
    let name = key.replace('.', "/");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
    let of_net = name.starts_with("net/");
    let of_ipc = name.starts_with("kernel/shm")
        || name.starts_with("kernel/msg")
        || name == "kernel/sem"
        || name.starts_with("fs/mqueue/");
    if !name.bytes().all(plain) || !(of_net && own_net || of_ipc && own_ipc) {
        return Err(Error::InvalidConfig(format!(
            "sysctl {key:?} is not one of the pod's own namespaces"
        )));
    }
    pod::write_sysctl(&name, value).context(|| format!("set sysctl {key}"))
}

/// Pins a namespace of a process.
pub(super) fn bind(from: &Path, to: &Path) -> Result<(), Error> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context(|| format!("pin {from:?}"))
}

/// Whether a namespace is pinned here.
pub(super) fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == NSFS_MAGIC)
}

/// Lets go of all namespaces in a directory.
pub(super) fn unpin(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        unmount(&entry.path());
        let _ = fs::remove_file(entry.path());
    }
}

/// Unmounts everything that is mounted at a path.
pub(super) fn unmount(path: &Path) {
    while umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
}
