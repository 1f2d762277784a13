//! From a container's configuration to the OCI runtime's.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use oci_spec::{
    OciSpecError,
    runtime::{
        Capability, Linux, LinuxCapabilities, LinuxCpu, LinuxDevice, LinuxDeviceBuilder,
        LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemory, LinuxNamespace,
        LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPids, LinuxResources, LinuxSeccomp,
        Mount as OciMount, MountBuilder, Process, Root, Spec, User as OciUser,
    },
};

use super::{capabilities, seccomp, user::User};
use crate::{
    ContainerConfig, Error, Mount, Propagation, Resources, SandboxConfig, SecurityProfile,
    images::RunConfig,
};

/// What a program finds in its environment when nobody says otherwise.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A namespace of a container.
#[derive(Clone, Debug)]
pub(super) enum Namespace {
    /// The node's: none is entered.
    Node,
    /// A new one.
    New,
    /// The one that is pinned here.
    At(PathBuf),
}

/// All that a container's specification is made from.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) sandbox: &'a SandboxConfig,
    pub(super) container: &'a ContainerConfig,
    pub(super) image: &'a RunConfig,
    pub(super) user: User,
    pub(super) net: Namespace,
    pub(super) ipc: Namespace,
    pub(super) uts: Namespace,
    pub(super) pid: Namespace,
    /// Files of the sandbox that appear in each of its containers.
    pub(super) files: Vec<Mount>,
    pub(super) shm: PathBuf,
    pub(super) cgroup: String,
    pub(super) oom_score_floor: i32,
}

/// The command line: the container's own, completed by the image's.
pub(super) fn command_line(
    container: &ContainerConfig,
    image: &RunConfig,
) -> Result<Vec<String>, Error> {
    let mut line = container.command.clone();
    let mut args = container.args.clone();
    if line.is_empty() {
        if args.is_empty() {
            args = image.cmd.clone().unwrap_or_default();
        }
        line = image.entrypoint.clone().unwrap_or_default();
    }
    line.append(&mut args);
    if line.is_empty() {
        return Err(Error::InvalidConfig("no command specified".to_owned()));
    }
    Ok(line)
}

fn environment(input: &Input<'_>) -> Result<Vec<String>, Error> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| match out.iter_mut().find(|(k, _)| k == key) {
        Some((_, v)) => value.clone_into(v),
        None => out.push((key.to_owned(), value.to_owned())),
    };
    if let Some((key, value)) = PATH.split_once('=') {
        set(key, value);
    }
    if !input.sandbox.hostname.is_empty() {
        set("HOSTNAME", &input.sandbox.hostname);
    }
    if input.container.tty {
        set("TERM", "xterm");
    }
    for entry in input.image.env.iter().flatten() {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(key, value);
    }
    for (key, value) in &input.container.env {
        set(key, value);
    }
    if out
        .iter()
        .any(|(k, v)| k.contains('\0') || v.contains('\0'))
    {
        return Err(Error::InvalidConfig(
            "an environment variable contains a NUL byte".to_owned(),
        ));
    }
    Ok(out.into_iter().map(|(k, v)| format!("{k}={v}")).collect())
}

/// Makes the specification.
pub(super) fn build(input: &Input<'_>) -> Result<Spec, Error> {
    let security = &input.container.security;
    let capabilities = capabilities::of(security)?;
    let seccomp = seccomp(security.privileged, &security.seccomp, &capabilities)?;
    let invalid = |e: OciSpecError| Error::InvalidConfig(e.to_string());

    let mut user = OciUser::default();
    user.set_uid(input.user.uid)
        .set_gid(input.user.gid)
        .set_additional_gids(Some(input.user.groups.clone()));
    let set: HashSet<Capability> = capabilities.into_iter().collect();
    let mut caps = LinuxCapabilities::default();
    caps.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set));
    caps.set_inheritable(None).set_ambient(None);
    let cwd = match (
        input.container.working_dir.as_str(),
        input.image.working_dir.as_deref(),
    ) {
        ("", None | Some("")) => "/",
        ("", Some(dir)) => dir,
        (dir, _) => dir,
    };
    let mut process = Process::default();
    process
        .set_terminal(Some(input.container.tty))
        .set_user(user)
        .set_args(Some(command_line(input.container, input.image)?))
        .set_env(Some(environment(input)?))
        .set_cwd(PathBuf::from(cwd))
        .set_capabilities(Some(caps))
        .set_rlimits(None)
        .set_no_new_privileges(Some(security.no_new_privs))
        .set_oom_score_adj(
            input
                .container
                .resources
                .oom_score_adj
                .map(|s| s.max(input.oom_score_floor)),
        );

    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"))
        .set_readonly(Some(security.readonly_rootfs));

    let mut linux = Linux::default();
    let (masked, readonly) = match security.privileged {
        true => (Vec::new(), Vec::new()),
        false => (MASKED.to_vec(), READONLY.to_vec()),
    };
    let owned = |list: Vec<&str>| Some(list.into_iter().map(str::to_owned).collect::<Vec<_>>());
    linux
        .set_namespaces(Some(namespaces(input).map_err(invalid)?))
        .set_cgroups_path(Some(PathBuf::from(format!(
            "/{}",
            input.cgroup.trim_start_matches('/')
        ))))
        .set_resources(Some(
            resources(&input.container.resources, security.privileged).map_err(invalid)?,
        ))
        .set_devices(
            security
                .privileged
                .then(host_devices)
                .transpose()
                .map_err(invalid)?,
        )
        .set_seccomp(seccomp)
        .set_masked_paths(owned(masked))
        .set_readonly_paths(owned(readonly))
        .set_rootfs_propagation(Some(rootfs_propagation(&input.container.mounts).to_owned()));

    let mut spec = Spec::default();
    spec.set_version("1.0.2".to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(None)
        .set_mounts(Some(mounts(input)?))
        .set_linux(Some(linux))
        .set_annotations(None);
    Ok(spec)
}

fn seccomp(
    privileged: bool,
    profile: &SecurityProfile,
    capabilities: &[Capability],
) -> Result<Option<LinuxSeccomp>, Error> {
    match profile {
        _ if privileged => Ok(None),
        SecurityProfile::Unconfined => Ok(None),
        SecurityProfile::RuntimeDefault => seccomp::default_profile(capabilities).map(Some),
        SecurityProfile::Localhost(path) => {
            let bad = |e: String| Error::InvalidConfig(format!("seccomp profile {path:?}: {e}"));
            let json = fs::read(path).map_err(|e| bad(e.to_string()))?;
            serde_json::from_slice(&json)
                .map(Some)
                .map_err(|e| bad(e.to_string()))
        }
    }
}

fn namespaces(input: &Input<'_>) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let mut out = vec![
        LinuxNamespaceBuilder::default()
            .typ(LinuxNamespaceType::Mount)
            .build()?,
    ];
    let all = [
        (LinuxNamespaceType::Network, &input.net),
        (LinuxNamespaceType::Ipc, &input.ipc),
        (LinuxNamespaceType::Uts, &input.uts),
        (LinuxNamespaceType::Pid, &input.pid),
    ];
    for (typ, namespace) in all {
        let builder = LinuxNamespaceBuilder::default().typ(typ);
        match namespace {
            Namespace::Node => {}
            Namespace::New => out.push(builder.build()?),
            Namespace::At(path) => out.push(builder.path(path.clone()).build()?),
        }
    }
    Ok(out)
}

fn resources(wanted: &Resources, privileged: bool) -> Result<LinuxResources, OciSpecError> {
    let mut out = LinuxResources::default();
    out.set_devices(Some(vec![device_rule(privileged)?]));
    if let Some(limit) = wanted.memory_limit_bytes.filter(|l| *l > 0) {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limit));
        out.set_memory(Some(memory));
    }
    if wanted.cpu_shares.or(wanted.cpu_period).is_some()
        || wanted.cpu_quota.is_some()
        || wanted.cpuset_cpus.is_some()
    {
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(wanted.cpu_shares.map(|s| s.clamp(2, 262_144)))
            .set_period(wanted.cpu_period)
            .set_quota(wanted.cpu_quota)
            .set_cpus(wanted.cpuset_cpus.clone());
        out.set_cpu(Some(cpu));
    }
    if let Some(limit) = wanted.pids_limit.filter(|l| *l > 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        out.set_pids(Some(pids));
    }
    Ok(out)
}

fn device_rule(allow: bool) -> Result<LinuxDeviceCgroup, OciSpecError> {
    LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .access("rwm")
        .build()
}

/// The node's devices, for privileged containers.
fn host_devices() -> Result<Vec<LinuxDevice>, OciSpecError> {
    let mut out = Vec::new();
    collect_devices(Path::new("/dev"), &mut out)?;
    Ok(out)
}

fn collect_devices(dir: &Path, out: &mut Vec<LinuxDevice>) -> Result<(), OciSpecError> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let kind = meta.file_type();
        let name = entry.file_name();
        if kind.is_dir() {
            // These are file systems of the container's own.
            if !["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"]
                .iter()
                .any(|n| name == *n)
            {
                collect_devices(&entry.path(), out)?;
            }
            continue;
        }
        let typ = match () {
            () if name == "console" => continue,
            () if kind.is_char_device() => LinuxDeviceType::C,
            () if kind.is_block_device() => LinuxDeviceType::B,
            () => continue,
        };
        let number = |n: u64| i64::try_from(n).unwrap_or(0);
        out.push(
            LinuxDeviceBuilder::default()
                .path(entry.path())
                .typ(typ)
                .major(number(nix::sys::stat::major(meta.rdev())))
                .minor(number(nix::sys::stat::minor(meta.rdev())))
                .file_mode(meta.mode() & 0o7777)
                .uid(meta.uid())
                .gid(meta.gid())
                .build()?,
        );
    }
    Ok(())
}

fn rootfs_propagation(mounts: &[Mount]) -> &'static str {
    let any = |p: Propagation| mounts.iter().any(|m| m.propagation == p);
    if any(Propagation::Bidirectional) {
        "rshared"
    } else if any(Propagation::HostToContainer) {
        "rslave"
    } else {
        "rprivate"
    }
}

fn mounts(input: &Input<'_>) -> Result<Vec<OciMount>, Error> {
    let invalid = |e: OciSpecError| Error::InvalidConfig(e.to_string());
    let privileged = input.container.security.privileged;
    let sys = if privileged { "rw" } else { "ro" };
    let system: [(&str, &str, &str, Vec<&str>); 6] = [
        ("/proc", "proc", "proc", vec!["nosuid", "noexec", "nodev"]),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            vec!["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            vec![
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        (
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            vec!["nosuid", "noexec", "nodev"],
        ),
        (
            "/sys",
            "sysfs",
            "sysfs",
            vec!["nosuid", "noexec", "nodev", sys],
        ),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            vec!["nosuid", "noexec", "nodev", "relatime", sys],
        ),
    ];
    let mut out = Vec::new();
    for (destination, typ, source, options) in system {
        let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        let builder = MountBuilder::default()
            .destination(destination)
            .typ(typ)
            .source(source)
            .options(options);
        out.push(builder.build().map_err(invalid)?);
    }
    let shm = Mount {
        container_path: PathBuf::from("/dev/shm"),
        host_path: input.shm.clone(),
        read_only: false,
        propagation: Propagation::Private,
    };
    let mut binds: Vec<&Mount> = Vec::new();
    for own in input.files.iter().chain([&shm]) {
        if !input
            .container
            .mounts
            .iter()
            .any(|m| clean(&m.container_path) == own.container_path)
        {
            binds.push(own);
        }
    }
    let mut wanted: Vec<&Mount> = input.container.mounts.iter().collect();
    // Outer mounts first: one would hide what is already mounted below it.
    wanted.sort_by_key(|m| clean(&m.container_path).components().count());
    binds.extend(wanted);
    for mount in binds {
        let destination = clean(&mount.container_path);
        out.retain(|m: &OciMount| *m.destination() != destination);
        out.push(bind(mount, destination).map_err(invalid)?);
    }
    Ok(out)
}

/// A path in a container, absolute and without dots.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(p) => out.push(p),
            std::path::Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

fn bind(mount: &Mount, destination: PathBuf) -> Result<OciMount, OciSpecError> {
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = if mount.read_only { "ro" } else { "rw" };
    let options: Vec<String> = ["rbind", propagation, access].map(str::to_owned).into();
    // The runtime does not follow links on the host's side in all versions.
    let source = mount
        .host_path
        .canonicalize()
        .unwrap_or_else(|_| mount.host_path.clone());
    MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(options)
        .build()
}

/// The extra hosts' paths that a container wants but that are not there become directories.
pub(super) fn make_sources(container: &ContainerConfig) -> Result<(), Error> {
    for mount in &container.mounts {
        if fs::symlink_metadata(&mount.host_path).is_err() {
            fs::create_dir_all(&mount.host_path).map_err(|e| {
                Error::io(format!("make the mount's source {:?}", mount.host_path), e)
            })?;
        }
    }
    Ok(())
}

/// A seccomp-free summary for logs and tests: where each mount comes from.
#[cfg(test)]
fn destinations(spec: &Spec) -> std::collections::HashMap<PathBuf, Option<PathBuf>> {
    spec.mounts()
        .iter()
        .flatten()
        .map(|m| (m.destination().clone(), m.source().clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> RunConfig {
        let own = |l: &[&str]| Some(l.iter().map(|s| (*s).to_owned()).collect());
        RunConfig {
            entrypoint: own(entrypoint),
            cmd: own(cmd),
            ..Default::default()
        }
    }

    #[test]
    fn command_and_args_complete_each_other_as_upstream() {
        let line = |command: &[&str], args: &[&str]| {
            let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
            let c = ContainerConfig {
                command: own(command),
                args: own(args),
                ..Default::default()
            };
            command_line(&c, &image(&["entry"], &["cmd"]))
                .unwrap()
                .join(" ")
        };
        assert_eq!(line(&[], &[]), "entry cmd");
        assert_eq!(line(&[], &["a"]), "entry a");
        assert_eq!(line(&["c"], &[]), "c");
        assert_eq!(line(&["c"], &["a"]), "c a");
        assert!(command_line(&ContainerConfig::default(), &RunConfig::default()).is_err());
    }

    fn built(container: &ContainerConfig) -> Spec {
        let sandbox = SandboxConfig {
            hostname: "web-0".to_owned(),
            ..Default::default()
        };
        let image = RunConfig {
            env: Some(vec!["A=1".to_owned(), "PATH=/bin".to_owned()]),
            ..image(&["/bin/x"], &[])
        };
        build(&Input {
            sandbox: &sandbox,
            container,
            image: &image,
            user: User::default(),
            net: Namespace::At(PathBuf::from("/ns/net")),
            ipc: Namespace::Node,
            uts: Namespace::Node,
            pid: Namespace::New,
            files: vec![Mount {
                container_path: "/etc/resolv.conf".into(),
                host_path: "/sandbox/resolv.conf".into(),
                ..Default::default()
            }],
            shm: PathBuf::from("/sandbox/shm"),
            cgroup: "kubepods/podx/c".to_owned(),
            oom_score_floor: -5,
        })
        .unwrap()
    }

    #[test]
    fn a_container_may_replace_what_the_sandbox_provides() {
        let mount = |at: &str, from: &str| Mount {
            container_path: at.into(),
            host_path: from.into(),
            ..Default::default()
        };
        let spec = built(&ContainerConfig {
            mounts: vec![
                mount("/etc/resolv.conf", "/mine"),
                mount("/dev/shm/", "/big"),
            ],
            ..Default::default()
        });
        let from = destinations(&spec);
        assert_eq!(from[Path::new("/etc/resolv.conf")], Some("/mine".into()));
        assert_eq!(from[Path::new("/dev/shm")], Some("/big".into()));
        let plain = destinations(&built(&ContainerConfig::default()));
        assert_eq!(plain[Path::new("/dev/shm")], Some("/sandbox/shm".into()));
    }

    #[test]
    fn the_environment_is_layered_and_the_oom_score_clamped() {
        let mut config = ContainerConfig {
            env: vec![("A".to_owned(), "2".to_owned())],
            ..Default::default()
        };
        config.resources.oom_score_adj = Some(-998);
        let spec = built(&config);
        let process = spec.process().as_ref().unwrap();
        assert_eq!(
            process.env().as_ref().unwrap().join(" "),
            "PATH=/bin HOSTNAME=web-0 A=2"
        );
        assert_eq!(process.oom_score_adj(), Some(-5));
    }

    #[test]
    fn a_privileged_container_is_not_fenced() {
        let mut config = ContainerConfig::default();
        assert!(built(&config).linux().as_ref().unwrap().seccomp().is_some());
        config.security.privileged = true;
        let spec = built(&config);
        let linux = spec.linux().as_ref().unwrap();
        assert!(
            linux.seccomp().is_none() && linux.masked_paths().as_ref().is_none_or(Vec::is_empty)
        );
    }
}
