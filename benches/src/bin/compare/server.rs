//! [`Server`]: an API server under test, as processes of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::ClientConfig;
use tokio::{process::Child, time::Instant};

use crate::client::Connection;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
    /// The same for HTTP/2.
    pub(crate) tls_h2: Arc<ClientConfig>,
    /// From the start of the process to the first `/readyz` that said yes.
    pub(crate) ready_after: Duration,
    /// The processes, the API server first.
    pub(crate) processes: Vec<Child>,
}

impl Server {
    /// Waits until a server that was just started is ready.
    pub(crate) async fn wait(
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        mut processes: Vec<Child>,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let mut tls_h2 = (*tls).clone();
        tls_h2.alpn_protocols = vec![b"h2".to_vec()];
        let tls_h2 = Arc::new(tls_h2);
        while !is_ready(address, &tls).await {
            if started.elapsed() > PATIENCE {
                bail!("{address} was not ready after {PATIENCE:?}");
            }
            if let Some(first) = processes.first_mut()
                && let Some(status) = first.try_wait()?
            {
                bail!("the server ended at once: {status}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self {
            address,
            tls_h2,
            tls,
            ready_after: started.elapsed(),
            processes,
        })
    }

    /// The memory that the processes have to themselves, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.processes
            .iter()
            .filter_map(Child::id)
            .map(resident)
            .sum()
    }

    /// The CPU time that the processes have taken, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        self.processes.iter().filter_map(Child::id).map(cpu).sum()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for mut process in self.processes {
            if let Some(pid) = process.id().and_then(|id| i32::try_from(id).ok()) {
                kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot stop a server")?;
            }
            process.wait().await?;
        }
        Ok(())
    }
}

async fn is_ready(address: SocketAddr, tls: &Arc<ClientConfig>) -> bool {
    let Ok(mut connection) = Connection::open(address, tls.clone()).await else {
        return false;
    };
    connection
        .get("/readyz")
        .await
        .is_ok_and(|(code, _)| code == 200)
}

/// The CPU time that a process has taken, in seconds.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name, in parentheses, may have spaces; user and system time are the 12th and 13th after it.
    let (_, fields) = text.rsplit_once(')').context("no name")?;
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // `USER_HZ` is 100 everywhere.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// The memory that a process has, in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
