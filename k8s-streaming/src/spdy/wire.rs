//! What carries the frames: a connection that was upgraded, or the messages of a WebSocket.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc::{self, error::TrySendError},
};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use super::{Connection, frame};
use crate::{
    channel::Closed,
    websocket::{Incoming, Outgoing, Protocol, Socket, split},
};

/// Frames that wait to be written.
const QUEUE: usize = 16;
const READ: usize = 32 << 10;
/// The most data in a frame: more than anybody needs, and less than anybody refuses.
const CHUNK: usize = 64 << 10;

#[derive(Clone, Debug)]
enum To {
    Raw(mpsc::Sender<Bytes>),
    Tunnel(Outgoing),
}

/// Sends frames, from several tasks.
#[derive(Clone, Debug)]
pub struct Out(To);

impl Out {
    /// Sends data on a stream. With `last` there will be no more.
    ///
    /// # Errors
    /// If the other side is gone.
    pub async fn data(&self, stream: u32, data: &[u8], last: bool) -> Result<(), Closed> {
        // An empty end has no chunk.
        let mut chunks = data.chunks(CHUNK).peekable();
        if chunks.peek().is_none() {
            return self.send(frame::data(stream, &[], last)).await;
        }
        while let Some(chunk) = chunks.next() {
            let last = last && chunks.peek().is_none();
            self.send(frame::data(stream, chunk, last)).await?;
        }
        Ok(())
    }

    /// Says that no streams are taken after that one.
    ///
    /// # Errors
    /// If the other side is gone.
    pub async fn go_away(&self, last: u32) -> Result<(), Closed> {
        self.send(frame::go_away(last)).await
    }

    pub(super) async fn send(&self, frame: Bytes) -> Result<(), Closed> {
        match &self.0 {
            To::Raw(sender) => sender.send(frame).await.map_err(|_| Closed),
            To::Tunnel(out) => out.send_raw(frame).await,
        }
    }

    pub(super) fn try_send(&self, frame: Bytes) -> Result<(), TrySendError<()>> {
        fn bare<T>(error: TrySendError<T>) -> TrySendError<()> {
            match error {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Closed(_) => TrySendError::Closed(()),
            }
        }
        match &self.0 {
            To::Raw(sender) => sender.try_send(frame).map_err(bare),
            To::Tunnel(out) => (out.sender.try_send(Message::Binary(frame))).map_err(bare),
        }
    }

    /// Says goodbye, where what carries the frames has a way to. What is queued is still sent.
    pub async fn close(self) {
        if let To::Tunnel(out) = self.0 {
            out.close().await;
        }
    }
}

/// Receives bytes of frames.
pub(super) enum In {
    Raw {
        from: Box<dyn AsyncRead + Send + Unpin>,
        buffer: BytesMut,
    },
    Tunnel(Incoming),
}

impl In {
    /// The next bytes; `None` when the other side has gone.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        match self {
            In::Raw { from, buffer } => {
                buffer.reserve(READ);
                match from.read_buf(buffer).await {
                    Ok(0) | Err(_) => None,
                    Ok(_) => Some(buffer.split().freeze()),
                }
            }
            In::Tunnel(incoming) => incoming.next_raw().await,
        }
    }
}

impl std::fmt::Debug for In {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("In")
    }
}

/// What carries frames, in both directions.
#[derive(Debug)]
pub struct Wire {
    out: Out,
    incoming: In,
    writer: AbortOnDropHandle<()>,
}

impl Wire {
    /// Frames as they are.
    pub fn raw(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (from, mut to) = tokio::io::split(io);
        let (sender, mut frames) = mpsc::channel::<Bytes>(QUEUE);
        let writer = tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                if to.write_all(&frame).await.is_err()
                    || (frames.is_empty() && to.flush().await.is_err())
                {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        Wire {
            out: Out(To::Raw(sender)),
            incoming: In::Raw {
                from: Box::new(Box::pin(from)),
                buffer: BytesMut::new(),
            },
            writer: AbortOnDropHandle::new(writer),
        }
    }

    /// Frames inside of messages.
    pub fn tunnel(socket: Socket, protocol: Protocol) -> Self {
        let (out, incoming, writer) = split(socket, protocol);
        Wire {
            out: Out(To::Tunnel(out)),
            incoming: In::Tunnel(incoming),
            writer,
        }
    }

    /// A connection, and the task that writes: it ends when connection and all [`Out`]s are dropped.
    pub fn into_parts(self) -> (Connection, Out, AbortOnDropHandle<()>) {
        let connection = Connection::new(self.incoming, self.out.clone());
        (connection, self.out, self.writer)
    }
}
