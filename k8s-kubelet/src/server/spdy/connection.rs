//! [`Connection`]: what happens to streams.

use bytes::Bytes;

use super::{
    frame::{self, Frame, Parser},
    headers::{Deflater, Inflater},
    wire::{In, Out},
};

/// What the client did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It wants a stream: to be [accepted](Connection::accept) or [refused](Connection::refuse).
    Opened { stream: u32, headers: Headers },
    /// It sent data; with `last`, it will send no more.
    Data {
        stream: u32,
        data: Bytes,
        last: bool,
    },
    /// It wants no more of the stream.
    Reset { stream: u32 },
}

/// The headers of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The server's end of a connection. There is no flow control beyond the transport's: upstream's clients
/// know none.
pub(super) struct Connection {
    incoming: In,
    out: Out,
    parser: Parser,
    inflater: Inflater,
    deflater: Deflater,
    pong: Option<u32>,
}

impl Connection {
    pub(super) fn new(incoming: In, out: Out) -> Self {
        Connection {
            incoming,
            out,
            parser: Parser::default(),
            inflater: Inflater::new(),
            deflater: Deflater::default(),
            pong: None,
        }
    }

    /// What happened next; `None` when the client has gone, or speaks no SPDY.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(id) = self.pong {
                self.out.send(frame::ping(id)).await.ok()?;
                self.pong = None;
            }
            let frame = match self.parser.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    let bytes = self.incoming.next().await?;
                    self.parser.push(&bytes);
                    continue;
                }
                Err(error) => {
                    tracing::debug!(error, "broken SPDY frame");
                    return None;
                }
            };
            match frame {
                Frame::SynStream {
                    stream, headers, ..
                } => {
                    let headers = Headers(self.inflater.read(&headers)?);
                    return Some(Event::Opened { stream, headers });
                }
                Frame::Data { stream, data, last } => {
                    return Some(Event::Data { stream, data, last });
                }
                Frame::Reset { stream } => return Some(Event::Reset { stream }),
                Frame::Ping { id } => self.pong = Some(id),
                Frame::GoAway => return None,
                // Compression has a state: nothing compressed may be skipped.
                Frame::Other { headers } => {
                    if let Some(headers) = headers {
                        self.inflater.read(&headers)?;
                    }
                }
            }
        }
    }

    /// Accepts a stream; `None` if the client has gone.
    pub(super) async fn accept(&mut self, stream: u32) -> Option<()> {
        let reply = frame::reply(stream, &self.deflater.empty());
        self.out.send(reply).await.ok()
    }

    /// Refuses a stream; `None` if the client has gone.
    pub(super) async fn refuse(&mut self, stream: u32) -> Option<()> {
        self.out.send(frame::reset(stream)).await.ok()
    }
}
