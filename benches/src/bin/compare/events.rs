//! [`Events`]: a watch over HTTP/1.1 on a connection of its own.

use std::{net::SocketAddr, sync::Arc};

use anyhow::ensure;
use rustls::ClientConfig;

use crate::{
    answer::Answer,
    client::{HOST, READ},
    tls::Tls,
};

/// A watch over HTTP/1.1 on a connection of its own.
pub(crate) struct Events(Tls);

impl Events {
    /// Opens a watch and reads the head of its answer, which comes alone: there are no events yet.
    pub(crate) async fn open(
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        path: &str,
    ) -> anyhow::Result<Self> {
        let mut tls = Tls::open(address, tls, READ).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n\r\n");
        tls.send(request.as_bytes()).await?;
        let mut answer = Answer::default();
        while !answer.has_head() {
            let mut taken = Ok(());
            tls.read(|bytes| taken = answer.take(bytes)).await?;
            taken?;
        }
        ensure!(answer.code == 200, "a watch was answered {}", answer.code);
        Ok(Events(tls))
    }

    /// Waits for more events; how many came. An event is a line, and the lines that frame chunks end in a
    /// carriage return too.
    pub(crate) async fn next(&mut self) -> anyhow::Result<i64> {
        let mut events = 0;
        let counted = self.0.read(|bytes| {
            let count = |byte: u8| memchr::memchr_iter(byte, bytes).count() as i64;
            // A frame's line may be cut between the two: then one is missing until the next call.
            events += count(b'\n') - count(b'\r');
        });
        counted.await?;
        Ok(events)
    }
}
