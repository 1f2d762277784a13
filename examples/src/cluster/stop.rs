//! The signals that stop a command: the first one politely, the second one at once.

use std::{future::Future, time::Duration};

use anyhow::bail;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

/// How long after the first signal others mean the same: one Ctrl-C comes from the terminal, and again from a program
/// that started this one and passes it on.
const ECHO: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT, from when this is made on.
#[derive(Debug)]
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Lets the stopping finish, unless another signal comes later: as upstream, that ends the program with code 1.
    pub(super) async fn unless_again(
        mut self,
        stopping: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            stopped = stopping => stopped,
            () = self.again() => bail!("stopped at once, as a second signal wants"),
        }
    }

    /// Waits for a signal that is no echo of one just before.
    async fn again(&mut self) {
        let first = Instant::now();
        loop {
            self.signal().await;
            if first.elapsed() >= ECHO {
                return;
            }
        }
    }
}
