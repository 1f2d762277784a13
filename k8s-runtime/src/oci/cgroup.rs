//! Control groups, both versions: parents, limits' leftovers, measurements.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::{ContainerId, ContainerStats, Error, error::IoContext};

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    /// Version 1: where each controller is mounted.
    controllers: Vec<(String, PathBuf)>,
    /// Version 2's mount, by itself or beside version 1.
    unified: Option<PathBuf>,
}

impl Cgroups {
    pub(super) fn detect() -> Result<Self, Error> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo".to_owned())?;
        let found = Self::parse(&mounts);
        if found.controllers.is_empty() && found.unified.is_none() {
            return Err(Error::Unsupported(
                "no cgroup file system is mounted".to_owned(),
            ));
        }
        Ok(found)
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self {
            controllers: Vec::new(),
            unified: None,
        };
        for line in mountinfo.lines() {
            let Some((mount, fs)) = line.split_once(" - ") else {
                continue;
            };
            let Some(at) = mount.split(' ').nth(4) else {
                continue;
            };
            // Another runtime's containers may have bind mounts of them elsewhere.
            if !at.starts_with("/sys/fs/cgroup") {
                continue;
            }
            let mut fs = fs.split(' ');
            match (fs.next(), fs.nth(1)) {
                (Some("cgroup2"), _) => found.unified = Some(PathBuf::from(at)),
                (Some("cgroup"), Some(options)) => {
                    for option in options.split(',').filter(|o| !matches!(*o, "rw" | "ro")) {
                        found
                            .controllers
                            .push((option.to_owned(), PathBuf::from(at)));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Whether version 2 is alone and so has the controllers.
    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    fn mounts(&self) -> BTreeSet<&Path> {
        self.controllers
            .iter()
            .map(|(_, m)| m.as_path())
            .chain(self.unified.as_deref())
            .collect()
    }

    fn of(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let mount = match self.is_v2() {
            true => self.unified.as_deref(),
            false => self
                .controllers
                .iter()
                .find(|(c, _)| c == controller)
                .map(|(_, m)| m.as_path()),
        };
        Some(mount?.join(path.trim_start_matches('/')))
    }

    /// A file that lists a group's processes.
    pub(super) fn procs(&self, path: &str) -> Option<PathBuf> {
        ["pids", "memory", "freezer", "cpu"]
            .iter()
            .find_map(|c| self.of(c, path))
            .map(|p| p.join("cgroup.procs"))
    }

    /// Makes a group in every hierarchy.
    pub(super) fn create(&self, path: &str) -> Result<(), Error> {
        for mount in self.mounts() {
            let dir = mount.join(path.trim_start_matches('/'));
            // Somebody else may remove an empty group above at the same moment.
            let made = (0..3).map(|_| fs::create_dir_all(&dir)).find(Result::is_ok);
            made.unwrap_or_else(|| fs::create_dir_all(&dir))
                .context(|| format!("make cgroup {dir:?}"))?;
            // A new cpuset is empty, and nothing can run in it.
            if mount.ends_with("cpuset") {
                let mut at = mount.to_owned();
                for part in Path::new(path.trim_start_matches('/')) {
                    let above = at.clone();
                    at.push(part);
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        if fs::read_to_string(at.join(file)).is_ok_and(|v| v.trim().is_empty()) {
                            let value = fs::read_to_string(above.join(file)).unwrap_or_default();
                            let _ = fs::write(at.join(file), value.trim());
                        }
                    }
                }
            }
        }
        if let (true, Some(mount)) = (self.is_v2(), &self.unified) {
            let mut at = mount.clone();
            let parts: Vec<_> = Path::new(path.trim_start_matches('/')).iter().collect();
            for part in parts {
                for controller in ["cpu", "cpuset", "memory", "pids", "io"] {
                    let _ = fs::write(at.join("cgroup.subtree_control"), format!("+{controller}"));
                }
                at.push(part);
            }
        }
        Ok(())
    }

    /// Removes a group with all below it, as far as no process is in it.
    pub(super) fn remove(&self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return;
        }
        for mount in self.mounts() {
            remove_tree(&mount.join(path));
        }
    }

    /// Removes a group and those above it, as far as they are empty.
    pub(super) fn remove_empty(&self, path: &str) {
        let mut path = Some(Path::new(path.trim_matches('/')));
        while let Some(at) = path.filter(|p| !p.as_os_str().is_empty()) {
            for mount in self.mounts() {
                let _ = fs::remove_dir(mount.join(at));
            }
            path = at.parent();
        }
    }

    /// How often the out-of-memory killer struck in a group.
    pub(super) fn oom_kills(&self, path: &str) -> u64 {
        let file = if self.is_v2() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self
            .of("memory", path)
            .and_then(|d| fs::read_to_string(d.join(file)).ok());
        text.as_deref()
            .and_then(|t| value(t, "oom_kill"))
            .unwrap_or(0)
    }

    /// What a group uses now.
    pub(super) fn stats(&self, id: &ContainerId, path: &str) -> Result<ContainerStats, Error> {
        let read = |controller: &str, file: &str| -> Result<String, Error> {
            let dir = self.of(controller, path).ok_or_else(|| {
                Error::Unsupported(format!(
                    "there is no cgroup controller {controller} on this node"
                ))
            })?;
            match fs::read_to_string(dir.join(file)) {
                Ok(text) => Ok(text),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(Error::not_found("cgroup", path))
                }
                Err(e) => Err(Error::io(format!("read {file} of {path}"), e)),
            }
        };
        let number = |text: String| text.trim().parse::<u64>().unwrap_or(0);
        let (cpu_usage_nanos, memory, inactive) = if self.is_v2() {
            let cpu = value(&read("cpu", "cpu.stat")?, "usage_usec").unwrap_or(0) * 1000;
            let inactive = value(&read("memory", "memory.stat")?, "inactive_file").unwrap_or(0);
            (cpu, number(read("memory", "memory.current")?), inactive)
        } else {
            let cpu = number(read("cpuacct", "cpuacct.usage")?);
            let inactive =
                value(&read("memory", "memory.stat")?, "total_inactive_file").unwrap_or(0);
            (
                cpu,
                number(read("memory", "memory.usage_in_bytes")?),
                inactive,
            )
        };
        Ok(ContainerStats {
            id: id.clone(),
            at: Timestamp::now(),
            cpu_usage_nanos,
            memory_working_set_bytes: memory.saturating_sub(inactive),
            pids: number(read("pids", "pids.current")?),
        })
    }
}

fn value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(?dir, %error, "a cgroup stays")
        }
        _ => {}
    }
}

/// The smallest score adjustment that this process may give to others.
pub(super) fn oom_score_floor() -> i32 {
    if super::capabilities::has(super::capabilities::SYS_RESOURCE) {
        return -1000;
    }
    fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 29 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 30 0:28 / /var/lib/x/memory rw,relatime - cgroup cgroup rw,memory";

    #[test]
    fn hierarchies_are_found() {
        let v1 = Cgroups::parse(V1);
        assert!(!v1.is_v2());
        assert_eq!(
            v1.of("cpuacct", "/a").unwrap(),
            Path::new("/sys/fs/cgroup/cpu,cpuacct/a")
        );
        assert_eq!(
            v1.of("memory", "a/b").unwrap(),
            Path::new("/sys/fs/cgroup/memory/a/b")
        );
        assert_eq!(v1.of("pids", "a"), None);
        assert_eq!(v1.mounts().len(), 3);
        let v2 = Cgroups::parse("30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
        assert!(v2.is_v2());
        assert_eq!(v2.of("pids", "a").unwrap(), Path::new("/sys/fs/cgroup/a"));
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(value(text, "oom_kill"), Some(3));
        assert_eq!(value(text, "kill"), None);
    }
}
