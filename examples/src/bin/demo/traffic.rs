//! Requests to the web application, as its users make them.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// One request; the body of the answer.
pub(crate) async fn get(address: SocketAddr) -> anyhow::Result<String> {
    timeout(Duration::from_secs(5), request(address))
        .await
        .with_context(|| format!("{address} did not answer"))?
}

async fn request(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream
        .write_all(b"GET /index.html HTTP/1.0\r\nHost: web\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("no HTTP answer from {address}")
    };
    if head.split(' ').nth(1).is_none_or(|code| code != "200") {
        bail!(
            "{address} answered {}",
            head.lines().next().unwrap_or_default()
        );
    }
    Ok(body.trim().to_owned())
}

/// Requests one after another until told to stop.
pub(crate) struct Load {
    stop: CancellationToken,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut answered, mut failed) = (0, Vec::new());
            while !stopped.is_cancelled() {
                match get(address).await {
                    Ok(_) => answered += 1,
                    Err(error) => failed.push(format!("{error:#}")),
                }
            }
            (answered, failed)
        });
        Self { stop, task }
    }

    /// How many were answered, and what went wrong with the others.
    pub(crate) async fn finish(self) -> anyhow::Result<(usize, Vec<String>)> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}
