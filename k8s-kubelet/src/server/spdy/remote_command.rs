//! exec and attach: one SPDY stream for each of a process' streams, one for its end, and one for the sizes of
//! its terminal.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use k8s_runtime::{Error, ExecSession, Streams};

use super::{
    connection::{Connection, Event},
    frame,
    wire::{Out, Wire},
};
use crate::server::{
    exec::{self, CLOSE, ERROR, Input, Output, RESIZE, STDERR, STDIN, STDOUT},
    websocket::Closed,
};

/// How long a client may take to open its streams; as upstream.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to read what is left at the end.
const GRACE: Duration = Duration::from_secs(10);
/// No terminal's size is longer than that.
const MAX_RESIZE: usize = 1 << 10;
const CHANNELS: usize = 5;

/// The streams by channel.
type Opened = [Option<u32>; CHANNELS];

fn channel(stream_type: &str) -> Option<u8> {
    Some(match stream_type {
        "stdin" => STDIN,
        "stdout" => STDOUT,
        "stderr" => STDERR,
        "error" => ERROR,
        "resize" => RESIZE,
        _ => return None,
    })
}

/// Serves a session, which begins when the client has opened all its streams, until either side ends it.
pub(crate) async fn serve(
    wire: Wire,
    version: u8,
    streams: Streams,
    session: impl Future<Output = Result<ExecSession, Error>>,
) {
    let Wire {
        out,
        incoming,
        writer,
    } = wire;
    let mut connection = Connection::new(incoming, out.clone());
    let expected = 1
        + usize::from(streams.stdin)
        + usize::from(streams.stdout)
        + usize::from(streams.stderr)
        + usize::from(streams.tty && version >= 3);
    let (opened, early) =
        match tokio::time::timeout(CREATION_TIMEOUT, open(&mut connection, expected)).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            Err(_) => return tracing::debug!("timed out waiting for client to create streams"),
        };
    let sending = Sending { out, opened };
    let mut receiving = Receiving {
        connection,
        channels: (0..)
            .zip(opened)
            .filter_map(|(channel, stream)| Some((stream?, channel)))
            .collect(),
        sizes: Vec::new(),
        ready: VecDeque::new(),
    };
    early.into_iter().for_each(|event| receiving.take(event));
    let end = match session.await {
        Ok(session) => exec::talk(session, &sending, &mut receiving).await,
        Err(error) => Some(Err(error)),
    };
    if let Some(end) = end {
        let _ = sending
            .send(ERROR, exec::verdict(&end, version).as_bytes())
            .await;
    }
    for channel in [STDOUT, STDERR, ERROR] {
        sending.finish(channel).await;
    }
    let last = opened.iter().flatten().copied().max().unwrap_or_default();
    let _ = sending.out.send(frame::go_away(last)).await;
    drop((sending, receiving));
    // What is still queued should arrive; a reader that does not read is not waited for.
    let _ = tokio::time::timeout(GRACE, writer).await;
}

/// Accepts that many streams; with what the client sent on them in the meantime.
async fn open(connection: &mut Connection, expected: usize) -> Option<(Opened, Vec<Event>)> {
    let mut opened = Opened::default();
    let mut early = Vec::new();
    while opened.iter().flatten().count() < expected {
        match connection.next().await? {
            Event::Opened { stream, headers } => {
                let channel = headers.get("streamtype").and_then(channel);
                match channel.map(|channel| &mut opened[usize::from(channel)]) {
                    Some(place @ None) => {
                        *place = Some(stream);
                        connection.accept(stream).await?;
                    }
                    _ => connection.refuse(stream).await?,
                }
            }
            // A client that sends before all its streams are there sends little.
            event if early.len() < 64 => early.push(event),
            _ => return None,
        }
    }
    Some((opened, early))
}

struct Sending {
    out: Out,
    opened: Opened,
}

impl Sending {
    fn stream(&self, channel: u8) -> Option<u32> {
        self.opened.get(usize::from(channel)).copied().flatten()
    }
}

impl Output for Sending {
    async fn send(&self, channel: u8, data: &[u8]) -> Result<(), Closed> {
        match self.stream(channel) {
            Some(stream) if !data.is_empty() => {
                self.out.send(frame::data(stream, data, false)).await
            }
            _ => Ok(()),
        }
    }

    async fn finish(&self, channel: u8) {
        if let Some(stream) = self.stream(channel) {
            let _ = self.out.send(frame::data(stream, &[], true)).await;
        }
    }
}

struct Receiving {
    connection: Connection,
    channels: HashMap<u32, u8>,
    /// The beginning of a terminal's size.
    sizes: Vec<u8>,
    ready: VecDeque<(u8, Bytes)>,
}

impl Receiving {
    fn take(&mut self, event: Event) {
        let (stream, data, last) = match event {
            Event::Data { stream, data, last } => (stream, data, last),
            Event::Reset { stream } => (stream, Bytes::new(), true),
            Event::Opened { .. } => return,
        };
        match self.channels.get(&stream) {
            Some(&STDIN) => {
                if !data.is_empty() {
                    self.ready.push_back((STDIN, data));
                }
                if last {
                    self.ready.push_back((CLOSE, Bytes::from_static(&[STDIN])));
                }
            }
            Some(&RESIZE) => self.resize(&data),
            _ => {}
        }
    }

    /// Sizes are JSON objects one after the other, however they are cut.
    fn resize(&mut self, data: &[u8]) {
        self.sizes.extend_from_slice(data);
        let mut values =
            serde_json::Deserializer::from_slice(&self.sizes).into_iter::<serde_json::Value>();
        let mut used = 0;
        while let Some(Ok(value)) = values.next() {
            used = values.byte_offset();
            self.ready
                .push_back((RESIZE, Bytes::from(value.to_string())));
        }
        self.sizes.drain(..used);
        if self.sizes.len() > MAX_RESIZE {
            self.sizes.clear();
        }
    }
}

impl Input for Receiving {
    async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            match self.connection.next().await? {
                Event::Opened { stream, .. } => self.connection.refuse(stream).await?,
                event => self.take(event),
            }
        }
    }
}

#[cfg(test)]
#[path = "remote_command_tests.rs"]
mod tests;
