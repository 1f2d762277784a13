//! etcd processes, one or several to a cluster, on ports of their own.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Where Debian's `etcd-server` puts it.
const ETCD: &str = "/usr/bin/etcd";

/// A cluster of etcd members. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Etcd {
    dir: TempDir,
    members: Vec<Member>,
    extra: Vec<String>,
}

#[derive(Debug)]
struct Member {
    client: String,
    peer: String,
    process: Option<Child>,
}

impl Etcd {
    /// Starts a cluster of so many members. It may take a moment to answer.
    pub(crate) fn start(members: usize) -> Self {
        Self::start_with(members, "http", &[])
    }

    /// The same, with client URLs of a scheme and more arguments. `DIR` in
    /// those stands for the cluster's directory.
    pub(crate) fn start_with(members: usize, scheme: &str, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::start_in(dir, members, scheme, extra)
    }

    /// The same, in a directory that holds something already.
    pub(crate) fn start_in(dir: TempDir, members: usize, scheme: &str, extra: &[&str]) -> Self {
        // Held until all are known, so that no two are the same.
        let held: Vec<_> = (0..2 * members)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let port = |n: usize| held[n].local_addr().expect("it is bound").port();
        let members = (0..members).map(|n| Member {
            client: format!("{scheme}://127.0.0.1:{}", port(2 * n)),
            peer: format!("http://127.0.0.1:{}", port(2 * n + 1)),
            process: None,
        });
        let extra = extra
            .iter()
            .map(|argument| argument.replace("DIR", &dir.path().display().to_string()));
        let mut etcd = Self {
            members: members.collect(),
            extra: extra.collect(),
            dir,
        };
        drop(held);
        for n in 0..etcd.members.len() {
            etcd.revive(n);
        }
        etcd
    }

    /// The members' client URLs.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client.clone())
            .collect()
    }

    /// The directory that goes with the cluster.
    #[allow(dead_code, reason = "each test uses its part")]
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn data(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("m{member}"))
    }

    /// Starts a member, again if it was killed.
    pub(crate) fn revive(&mut self, member: usize) {
        let name = |n: usize| format!("m{n}");
        let cluster = self.members.iter().enumerate();
        let cluster: Vec<_> = cluster
            .map(|(n, member)| format!("{}={}", name(n), member.peer))
            .collect();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .expect("a log file");
        let at = &self.members[member];
        let process = Command::new(ETCD)
            .arg("--data-dir")
            .arg(self.data(member))
            .args(["--name", &name(member)])
            .args(["--listen-client-urls", &at.client])
            .args(["--advertise-client-urls", &at.client])
            .args(["--listen-peer-urls", &at.peer])
            .args(["--initial-advertise-peer-urls", &at.peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.extra)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("etcd is installed (Debian's etcd-server)");
        self.members[member].process = Some(process);
    }

    /// Ends a member as a power cut would.
    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it is ours");
        }
    }

    /// Stops a member's clock, so to speak.
    #[allow(dead_code, reason = "each test uses its part")]
    pub(crate) fn pause(&self, member: usize) {
        self.signal(member, Signal::SIGSTOP);
    }

    /// Ends a pause.
    #[allow(dead_code, reason = "each test uses its part")]
    pub(crate) fn resume(&self, member: usize) {
        self.signal(member, Signal::SIGCONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        if let Some(process) = &self.members[member].process {
            let pid = i32::try_from(process.id()).expect("a process id");
            kill(Pid::from_raw(pid), signal).expect("it is ours");
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
    }
}
