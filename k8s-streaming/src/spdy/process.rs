//! exec and attach: one SPDY stream for each of a process' streams, one for its end, and one for the sizes of
//! its terminal.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::{Connection, Event, Out};
use crate::channel::{CLOSE, Closed, ERROR, Input, Output, RESIZE, STDERR, STDOUT};

/// No terminal's size is longer than that.
const MAX_RESIZE: usize = 1 << 10;
/// What may be sent before all the streams are there.
const MAX_EARLY: usize = 1 << 20;
const MAX_EARLY_EVENTS: usize = 64;

/// What the streams are called, by channel.
const NAMES: [&str; 5] = ["stdin", "stdout", "stderr", "error", "resize"];

/// The streams by channel.
type Opened = [Option<u32>; NAMES.len()];

/// Opens the streams of these channels, and waits until the other side has accepted all of them; `None` if it
/// refuses one, or has gone.
pub async fn open(
    mut connection: Connection,
    out: Out,
    channels: &[u8],
) -> Option<(Sending, Receiving)> {
    let mut opened = Opened::default();
    for &channel in channels {
        let (name, place) = NAMES.iter().zip(&mut opened).nth(usize::from(channel))?;
        *place = Some(connection.open(&[("streamtype", name)]).await?);
    }
    let mut missing: Vec<u32> = opened.iter().flatten().copied().collect();
    let mut early = Early::default();
    while !missing.is_empty() {
        match connection.next().await? {
            Event::Accepted { stream } => missing.retain(|s| *s != stream),
            Event::Reset { stream } if missing.contains(&stream) => return None,
            event => early.keep(event)?,
        }
    }
    Some(begun(connection, out, opened, early))
}

/// Accepts that many streams; `None` if the other side goes before it has opened them.
pub async fn accept(
    mut connection: Connection,
    out: Out,
    expected: usize,
) -> Option<(Sending, Receiving)> {
    let mut opened = Opened::default();
    let mut early = Early::default();
    while opened.iter().flatten().count() < expected {
        match connection.next().await? {
            Event::Opened { stream, headers } => {
                let name = headers.get("streamtype");
                let place = NAMES.iter().zip(&mut opened).find(|(n, _)| name == Some(n));
                match place {
                    Some((_, place @ None)) => {
                        *place = Some(stream);
                        connection.accept(stream).await?;
                    }
                    _ => connection.refuse(stream).await?,
                }
            }
            event => early.keep(event)?,
        }
    }
    Some(begun(connection, out, opened, early))
}

/// What came before all the streams were there: little, or else the other side is up to no good.
#[derive(Default)]
struct Early {
    events: Vec<Event>,
    bytes: usize,
}

impl Early {
    fn keep(&mut self, event: Event) -> Option<()> {
        if let Event::Data { data, .. } = &event {
            self.bytes += data.len();
        }
        self.events.push(event);
        (self.bytes <= MAX_EARLY && self.events.len() <= MAX_EARLY_EVENTS).then_some(())
    }
}

fn begun(connection: Connection, out: Out, opened: Opened, early: Early) -> (Sending, Receiving) {
    let mut receiving = Receiving {
        connection,
        channels: (0..)
            .zip(opened)
            .filter_map(|(channel, stream)| Some((stream?, channel)))
            .collect(),
        sizes: Vec::new(),
        ready: VecDeque::new(),
    };
    (early.events.into_iter()).for_each(|event| receiving.take(event));
    (Sending { out, opened }, receiving)
}

/// Sends on the streams. A channel without a stream takes everything and does nothing.
#[derive(Debug)]
pub struct Sending {
    out: Out,
    opened: Opened,
}

impl Sending {
    fn stream(&self, channel: u8) -> Option<u32> {
        self.opened.get(usize::from(channel)).copied().flatten()
    }

    /// Whether the channel has a stream.
    pub fn has(&self, channel: u8) -> bool {
        self.stream(channel).is_some()
    }

    /// A server's end of everything.
    pub async fn end(&self) {
        for channel in [STDOUT, STDERR, ERROR] {
            self.finish(channel).await;
        }
        let last = self.opened.iter().flatten().max();
        let _ = self.out.go_away(last.copied().unwrap_or_default()).await;
    }
}

impl Output for Sending {
    async fn send(&self, channel: u8, data: &[u8]) -> Result<(), Closed> {
        match self.stream(channel) {
            Some(stream) if !data.is_empty() => self.out.data(stream, data, false).await,
            _ => Ok(()),
        }
    }

    async fn finish(&self, channel: u8) {
        if let Some(stream) = self.stream(channel) {
            let _ = self.out.data(stream, &[], true).await;
        }
    }
}

/// Receives from the streams. That one has ended comes on [`CLOSE`], as in version 5 of the protocol over WebSocket.
#[derive(Debug)]
pub struct Receiving {
    connection: Connection,
    channels: HashMap<u32, u8>,
    /// The beginning of a terminal's size.
    sizes: Vec<u8>,
    ready: VecDeque<(u8, Bytes)>,
}

impl Receiving {
    /// Reads and drops all that still comes: a connection that is closed with something unread loses what it has
    /// still to send.
    pub async fn drain(self) {
        self.connection.drain().await;
    }

    fn take(&mut self, event: Event) {
        let (stream, data, last) = match event {
            Event::Data { stream, data, last } => (stream, data, last),
            Event::Reset { stream } => (stream, Bytes::new(), true),
            Event::Opened { .. } | Event::Accepted { .. } => return,
        };
        match self.channels.get(&stream) {
            Some(&RESIZE) => self.resize(&data),
            Some(&channel) => {
                if !data.is_empty() {
                    self.ready.push_back((channel, data));
                }
                if last {
                    let which = Bytes::copy_from_slice(&[channel]);
                    self.ready.push_back((CLOSE, which));
                }
            }
            None => {}
        }
    }

    /// Sizes are JSON objects one after the other, however they are cut.
    fn resize(&mut self, data: &[u8]) {
        if data.len() > MAX_RESIZE {
            // Millions of sizes would fit into a frame.
            self.sizes.clear();
            return;
        }
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
mod tests {
    use super::*;
    use crate::{channel::STDIN, spdy::Wire};

    fn pair() -> [(Connection, Out, tokio_util::task::AbortOnDropHandle<()>); 2] {
        let (near, far) = tokio::io::duplex(1 << 16);
        [Wire::raw(near).into_parts(), Wire::raw(far).into_parts()]
    }

    #[tokio::test]
    async fn streams_carry_data_both_ways_and_end_one_by_one() {
        let [(client, out, _w), (server, answers, _v)] = pair();
        let (client, server) = tokio::join!(
            open(client, out, &[ERROR, STDIN, STDOUT, RESIZE]),
            accept(server, answers, 4)
        );
        let ((to, mut from), (reply, mut asked)) = (client.unwrap(), server.unwrap());
        to.send(STDIN, b"in").await.unwrap();
        to.send(RESIZE, b"{\"Width\":80,\"Hei").await.unwrap();
        to.send(RESIZE, b"ght\":24}\n").await.unwrap();
        to.finish(STDIN).await;
        let mut got = Vec::new();
        while got.len() < 3 {
            got.push(asked.next().await.unwrap());
        }
        got.sort();
        let size = "{\"Height\":24,\"Width\":80}";
        let wanted = [
            (STDIN, "in".into()),
            (RESIZE, size.into()),
            (CLOSE, "\0".into()),
        ];
        assert_eq!(got, wanted);
        // Much goes in several frames, and comes whole.
        let long = vec![b'x'; 200 << 10];
        let sending = async {
            reply.send(STDOUT, &long).await.unwrap();
            reply.send(STDERR, b"nobody asked for that").await.unwrap();
            reply.end().await;
        };
        let receiving = async {
            let (mut data, mut ended) = (Vec::new(), Vec::new());
            while let Some((channel, chunk)) = from.next().await {
                match channel {
                    STDOUT => data.extend_from_slice(&chunk),
                    CLOSE => ended.push(chunk[0]),
                    other => panic!("{other}"),
                }
            }
            (data, ended)
        };
        let ((), (data, ended)) = tokio::join!(sending, receiving);
        assert!(data == long);
        assert_eq!(ended, [STDOUT, ERROR]);
    }

    #[tokio::test]
    async fn a_flood_of_sizes_is_passed_over() {
        let [(client, out, _w), (server, answers, _v)] = pair();
        let (client, server) = tokio::join!(
            open(client, out, &[ERROR, RESIZE]),
            accept(server, answers, 2)
        );
        let ((to, _from), (_reply, mut asked)) = (client.unwrap(), server.unwrap());
        let flood = "{}".repeat(MAX_RESIZE);
        let size = "{\"Height\":24,\"Width\":80}";
        to.send(RESIZE, flood.as_bytes()).await.unwrap();
        to.send(RESIZE, size.as_bytes()).await.unwrap();
        assert_eq!(asked.next().await.unwrap(), (RESIZE, size.into()));
    }

    #[tokio::test]
    async fn a_refused_stream_ends_the_attempt() {
        let [(client, out, _w), (mut server, _answers, _v)] = pair();
        let refusing = async {
            while let Some(Event::Opened { stream, .. }) = server.next().await {
                server.refuse(stream).await;
            }
        };
        tokio::select! {
            () = refusing => panic!("the client left first"),
            opened = open(client, out, &[ERROR]) => assert!(opened.is_none()),
        }
    }

    #[tokio::test]
    async fn who_sends_much_before_all_streams_are_there_is_left() {
        let [(mut client, out, _w), (server, answers, _v)] = pair();
        let serving = accept(server, answers, 2);
        let flooding = async {
            let stream = client.open(&[("streamtype", "stdin")]).await.unwrap();
            while out.data(stream, &[0; 32 << 10], false).await.is_ok() {}
        };
        tokio::select! {
            () = flooding => panic!("nobody took it"),
            accepted = serving => assert!(accepted.is_none()),
        }
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_still_heard() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let (mut client, out, _w) = Wire::raw(near).into_parts();
        let (mut from, mut to) = tokio::io::split(far);
        let stream = client.open(&[("streamtype", "stdin")]).await.unwrap();
        // Until nothing more fits.
        let filling = async { while out.data(stream, &[0; 1 << 10], false).await.is_ok() {} };
        let hearing = async {
            use tokio::io::AsyncWriteExt;
            for id in [2u32, 4, 6] {
                to.write_all(&super::super::frame::ping(id)).await.unwrap();
            }
            let data = super::super::frame::data(stream, b"heard", false);
            to.write_all(&data).await.unwrap();
            client.next().await
        };
        let heard = tokio::select! {
            biased;
            () = filling => panic!("nobody reads it"),
            heard = hearing => heard,
        };
        let data = Bytes::from_static(b"heard");
        assert_eq!(
            heard,
            Some(Event::Data {
                stream,
                data,
                last: false
            })
        );
        tokio::io::AsyncReadExt::read_u8(&mut from).await.unwrap();
    }
}
