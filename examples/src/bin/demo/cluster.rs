//! The cluster under demonstration: a process of its own, driven like a user would.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long the cluster may take to be ready, or to stop. It takes a fraction of a second; the machine may
/// be busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    binary: PathBuf,
    folder: tempfile::TempDir,
    process: Child,
    ready_line: String,
}

impl Cluster {
    pub(crate) async fn boot(binary: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("cluster-demo-").tempdir()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut process = Command::new(binary)
            .args(["up", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C reaches it through this program alone, once.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let output = process.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let first = timeout(PATIENCE, lines.next_line()).await;
        let Ok(Ok(Some(ready_line))) = first else {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            bail!(
                "the cluster did not start: {}",
                log.lines().last().unwrap_or("no word from it")
            );
        };
        Ok(Self {
            binary: binary.to_owned(),
            folder,
            process,
            ready_line,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn ready_line(&self) -> &str {
        &self.ready_line
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    pub(crate) async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let output = Command::new(&self.binary)
            .args(["image", "import", "--data-dir"])
            .arg(self.data_dir())
            .arg(archive)
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "image import failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// The last lines of what the cluster said.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends the cluster as Ctrl-C would, and waits for it to have cleaned up.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended by itself.
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        let status = timeout(PATIENCE, self.process.wait())
            .await
            .context("the cluster did not stop")??;
        if !status.success() {
            bail!("the cluster stopped with {status}\n{}", self.log_tail());
        }
        Ok(())
    }
}

impl Drop for Cluster {
    /// Whatever went wrong, the cluster is told to clean up.
    fn drop(&mut self) {
        if let Some(pid) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
    }
}
