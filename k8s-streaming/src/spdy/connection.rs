//! [`Connection`]: what happens to streams.

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;

use super::{
    frame::{self, Frame, Parser},
    headers::{Deflater, Inflater},
    wire::{In, Out},
};

/// What the other side did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It wants a stream: to be [accepted](Connection::accept) or [refused](Connection::refuse).
    Opened {
        /// The stream's number.
        stream: u32,
        /// What it is for.
        headers: Headers,
    },
    /// It has accepted a stream.
    Accepted {
        /// The stream's number.
        stream: u32,
    },
    /// It sent data.
    Data {
        /// The stream's number.
        stream: u32,
        /// The data, which may be none.
        data: Bytes,
        /// Whether it will send no more.
        last: bool,
    },
    /// It wants no more of the stream.
    Reset {
        /// The stream's number.
        stream: u32,
    },
}

/// The headers of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of the header of that name, in whichever case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// One end of a connection. There is no flow control beyond the transport's: upstream knows none.
#[derive(Debug)]
pub struct Connection {
    incoming: In,
    out: Out,
    parser: Parser,
    inflater: Inflater,
    deflater: Deflater,
    /// The answer that is owed to the last ping.
    pong: Option<u32>,
    /// The number of the next stream to be opened, which is odd for a client.
    next_stream: u32,
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
            next_stream: 1,
        }
    }

    /// What happened next; `None` when the other side has gone, or speaks no SPDY.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(id) = self.pong {
                // Who does not read is not waited for: its own data must still be read. The answer goes later then.
                match self.out.try_send(frame::ping(id)) {
                    Ok(()) => self.pong = None,
                    Err(TrySendError::Full(())) => {}
                    Err(TrySendError::Closed(())) => return None,
                }
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
                // Compression has a state: nothing compressed may be skipped.
                Frame::SynReply { stream, headers } => {
                    self.inflater.read(&headers)?;
                    return Some(Event::Accepted { stream });
                }
                Frame::Data { stream, data, last } => {
                    return Some(Event::Data { stream, data, last });
                }
                Frame::Reset { stream } => return Some(Event::Reset { stream }),
                Frame::Ping { id } => self.pong = Some(id),
                Frame::GoAway => return None,
                Frame::Other { headers } => {
                    if let Some(headers) = headers {
                        self.inflater.read(&headers)?;
                    }
                }
            }
        }
    }

    pub(super) async fn drain(self) {
        let Connection {
            mut incoming, out, ..
        } = self;
        // No more is said: without it the other side might wait for more.
        drop(out);
        while incoming.next().await.is_some() {}
    }

    /// Opens a stream, whose number is returned; `None` if the other side has gone. No data may be sent before the
    /// stream is [accepted](Event::Accepted).
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Option<u32> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let opened = frame::open(stream, &self.deflater.block(headers));
        self.out.send(opened).await.ok()?;
        Some(stream)
    }

    /// Accepts a stream; `None` if the other side has gone.
    pub async fn accept(&mut self, stream: u32) -> Option<()> {
        let reply = frame::reply(stream, &self.deflater.block(&[]));
        self.out.send(reply).await.ok()
    }

    /// Refuses a stream; `None` if the other side has gone.
    pub async fn refuse(&mut self, stream: u32) -> Option<()> {
        self.out.send(frame::reset(stream)).await.ok()
    }
}
