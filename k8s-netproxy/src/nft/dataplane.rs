//! [`NftDataplane`]: rule sets into the kernel, a transaction at a time.

use std::{path::PathBuf, process::Stdio};

use async_trait::async_trait;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    layout::{TABLE, skeleton},
    script::Contents,
};
use crate::{Dataplane, Error, RuleSet};

/// Programs the kernel's nftables through the `nft` program, as upstream does. Needs the right to change
/// the network namespace that it runs in.
#[derive(Debug, Default)]
pub struct NftDataplane {
    /// What the kernel has; `None` when that is not known.
    applied: Option<Contents>,
    netns: Option<PathBuf>,
}

impl NftDataplane {
    /// A dataplane for the network namespace of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// A dataplane for the network namespace at this path, such as `/run/netns/node-2`.
    pub fn in_netns(netns: impl Into<PathBuf>) -> Self {
        Self {
            applied: None,
            netns: Some(netns.into()),
        }
    }

    async fn run(&self, script: &str) -> Result<(), Error> {
        let mut command = match &self.netns {
            None => Command::new("nft"),
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", path.display())).arg("nft");
                command
            }
        };
        let program = if self.netns.is_some() {
            "nsenter"
        } else {
            "nft"
        };
        let mut child = command
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Program { program, source })?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(script.as_bytes())
                .await
                .map_err(|source| Error::Program { program, source })?;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|source| Error::Program { program, source })?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(Error::Dataplane(
            text.lines().take(3).collect::<Vec<_>>().join("; "),
        ))
    }
}

#[async_trait]
impl Dataplane for NftDataplane {
    async fn apply(&mut self, rules: &RuleSet) -> Result<(), Error> {
        let wanted = Contents::of(rules);
        // Whatever happens to this future, the next call must not trust a state that may be stale.
        let applied = self.applied.take();
        let script = match &applied {
            Some(old) => wanted.since(old),
            None => skeleton() + &wanted.since(&Contents::default()),
        };
        if !script.is_empty() {
            tracing::debug!(bytes = script.len(), "applying rules");
            self.run(&script).await?;
        }
        self.applied = Some(wanted);
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), Error> {
        self.applied = None;
        self.run(&format!("add table ip {TABLE}\ndelete table ip {TABLE}\n"))
            .await
    }
}
