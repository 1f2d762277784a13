//! [`Events`]: a watch over HTTP/1.1 on a connection of its own, resumed where a server ended it.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, ensure};
use memchr::memmem;
use rustls::ClientConfig;

use crate::{
    answer::Answer,
    client::{HOST, READ},
    tls::Tls,
};

/// How much of what came last is kept: more than an event and the frame around it.
const TAIL: usize = 4 * 1024;

/// A watch over HTTP/1.1 on a connection of its own.
pub(crate) struct Events {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    path: String,
    tls: Tls,
    tail: Vec<u8>,
}

impl Events {
    /// Opens a watch and reads the head of its answer, which comes alone: there are no events yet.
    pub(crate) async fn open(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        path: String,
    ) -> anyhow::Result<Self> {
        let (tls, _) = begin(address, config.clone(), &path).await?;
        Ok(Self {
            address,
            config,
            path,
            tls,
            tail: Vec::with_capacity(2 * TAIL),
        })
    }

    /// Waits for more events; how many came. An event is a line, and the lines that frame chunks end in a
    /// carriage return too.
    pub(crate) async fn next(&mut self) -> anyhow::Result<i64> {
        let mut events = 0;
        let tail = &mut self.tail;
        let counted = self.tls.read(|bytes| {
            // A frame's line may be cut between the two: then one is missing until the next call.
            events += lines(bytes);
            let last = &bytes[bytes.len().saturating_sub(TAIL)..];
            let kept = TAIL.saturating_sub(last.len()).min(tail.len());
            tail.drain(..tail.len() - kept);
            tail.extend_from_slice(last);
        });
        counted.await?;
        Ok(events)
    }

    /// Watches on after a server ended the watch, as one does to a watcher that it takes for too slow: from the
    /// last event that came whole. How many events came with the head of the answer.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<i64> {
        let revision = last_revision(&self.tail).context("a watch ended before its first event")?;
        let path = format!("{}&resourceVersion={revision}", self.path);
        let (tls, events) = begin(self.address, self.config.clone(), &path).await?;
        self.tls = tls;
        Ok(events)
    }
}

/// Sends the request and reads the head of its answer; how many events came with it.
async fn begin(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    path: &str,
) -> anyhow::Result<(Tls, i64)> {
    let mut tls = Tls::open(address, config, READ).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n\r\n");
    tls.send(request.as_bytes()).await?;
    let mut answer = Answer::default();
    let mut events = 0;
    while !answer.has_head() {
        let mut taken = Ok(());
        tls.read(|bytes| {
            events += lines(bytes);
            taken = answer.take(bytes);
        })
        .await?;
        taken?;
    }
    ensure!(answer.code == 200, "a watch was answered {}", answer.code);
    Ok((tls, events))
}

/// How many lines end in these bytes with nothing but a line feed.
fn lines(bytes: &[u8]) -> i64 {
    let count = |byte: u8| memchr::memchr_iter(byte, bytes).count() as i64;
    count(b'\n') - count(b'\r')
}

/// The revision of the last event that is whole.
fn last_revision(tail: &[u8]) -> Option<&str> {
    const FIELD: &[u8] = br#""resourceVersion":""#;
    let whole = &tail[..memmem::rfind(tail, b"}\n")?];
    let value = &whole[memmem::rfind(whole, FIELD)? + FIELD.len()..];
    std::str::from_utf8(&value[..memchr::memchr(b'"', value)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_goes_on_after_the_last_event_that_is_whole() {
        let event = |revision: u32| {
            format!(
                r#"{{"type":"ADDED","object":{{"metadata":{{"resourceVersion":"{revision}"}}}}}}"#
            ) + "\n"
        };
        let tail = format!(
            "{}\r\n40\r\n{}\r\n40\r\n{}",
            event(7),
            event(8),
            &event(9)[..60]
        );
        assert_eq!(last_revision(tail.as_bytes()), Some("8"));
        assert_eq!(last_revision(event(7).trim_end().as_bytes()), None);
        assert_eq!(lines(tail.as_bytes()), 2);
    }
}
