//! A `cluster` process under test, and `kubectl` pointed at it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses its part, and a failed set-up fails it"
)]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A running `cluster up`. Dropping it ends the process as Ctrl-C would.
pub(crate) struct Cluster {
    process: Child,
    data_dir: PathBuf,
    pub(crate) ready_line: String,
}

impl Cluster {
    /// Boots a cluster on a data directory and waits for its first line.
    pub(crate) fn up(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start("up", data_dir, arguments)
    }

    /// Boots a control plane alone.
    pub(crate) fn server(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start("server", data_dir, arguments)
    }

    /// Boots a node that joins a cluster.
    pub(crate) fn node(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start("node", data_dir, arguments)
    }

    /// The same in a network namespace.
    pub(crate) fn node_inside(namespace: &str, data_dir: &Path, arguments: &[&str]) -> Self {
        // `ip netns exec` would hide the cgroups.
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg(command().get_program());
        Self::start_by(inside, "node", data_dir, arguments)
    }

    /// The arguments of `cluster node` for a machine to join by this server.
    pub(crate) fn join_arguments(&self) -> Vec<String> {
        let output = command()
            .args(["token", "--data-dir"])
            .arg(&self.data_dir)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(
            words.get(..2),
            Some(&["cluster", "node"][..]),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        words[2..].iter().map(|word| (*word).to_owned()).collect()
    }

    fn start(subcommand: &str, data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_by(command(), subcommand, data_dir, arguments)
    }

    fn start_by(
        mut command: Command,
        subcommand: &str,
        data_dir: &Path,
        arguments: &[&str],
    ) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data_dir.with_extension("log"))
            .unwrap();
        command.arg(subcommand);
        if subcommand != "node" && !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut process = command
            .arg("--data-dir")
            .arg(data_dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready_line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut ready_line).unwrap();
        if !ready_line.starts_with("ready in ") {
            process.kill().unwrap();
            process.wait().unwrap();
            let log = std::fs::read_to_string(data_dir.with_extension("log")).unwrap_or_default();
            panic!("the cluster did not start:\n{log}");
        }
        Self {
            process,
            data_dir: data_dir.to_owned(),
            ready_line,
        }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }

    /// Runs kubectl; its standard output. Fails the test if kubectl does.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl with a text as its standard input.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs kubectl on a manifest given as its standard input.
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Runs kubectl where it must fail; what it said.
    pub(crate) fn kubectl_fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let input_file = self.data_dir.join("kubectl-input");
        std::fs::write(&input_file, input).unwrap();
        Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .env("HOME", &self.data_dir)
            .stdin(std::fs::File::open(&input_file).unwrap())
            .output()
            .expect("kubectl is installed")
    }

    /// Ends the cluster as `kill` would, and waits until it has cleaned up.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Ends the cluster as a power cut would.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.process.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::SIGTERM);
            self.process.wait().unwrap();
        }
    }
}

/// The `cluster` binary.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cluster"))
}

/// A Docker archive of busybox under a name, for `cluster image import`.
pub(crate) fn busybox_image(folder: &Path, name: &str) -> PathBuf {
    image(folder, name, serde_json::json!({"Cmd": ["sh"]}))
}

/// The same with an image configuration of the test's own.
pub(crate) fn image(folder: &Path, name: &str, mut config: serde_json::Value) -> PathBuf {
    use sha2::{Digest, Sha256};
    let hex = |bytes: &[u8]| {
        Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let mut layer = tar::Builder::new(Vec::new());
    append(
        &mut layer,
        "bin/busybox",
        0o755,
        &std::fs::read("/bin/busybox").expect("busybox-static is installed"),
    );
    for command in [
        "cat", "chmod", "echo", "env", "false", "grep", "hostname", "httpd", "id", "ip", "ls",
        "mv", "nslookup", "od", "sh", "sleep", "stat", "test", "true", "wget",
    ] {
        let mut header = header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        layer
            .append_link(&mut header, format!("bin/{command}"), "busybox")
            .unwrap();
    }
    let layer = layer.into_inner().unwrap();
    config["Env"] = serde_json::json!(["PATH=/bin"]);
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    }))
    .unwrap();
    let config_name = format!("{}.json", hex(&config));
    let manifest = serde_json::to_vec(&serde_json::json!([
        {"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}
    ]))
    .unwrap();
    let path = folder.join(format!("{}.tar", &hex(name.as_bytes())[..12]));
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    append(&mut archive, "layer.tar", 0o644, &layer);
    append(&mut archive, &config_name, 0o644, &config);
    append(&mut archive, "manifest.json", 0o644, &manifest);
    archive.into_inner().unwrap();
    path
}

fn append<W: std::io::Write>(archive: &mut tar::Builder<W>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = header();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes).unwrap();
}

/// A header of a file that is root's.
fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Whether all of a value is in another one; null stands for what is not there.
pub(crate) fn part(wanted: &serde_json::Value, found: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(_)) => {
            wanted.iter().all(|(key, value)| match value {
                Value::Null => found[key].is_null(),
                value => part(value, &found[key]),
            })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() <= found.len() && wanted.iter().zip(found).all(|(w, f)| part(w, f))
        }
        (Value::Null, _) => true,
        _ => wanted == found,
    }
}
