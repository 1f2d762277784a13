//! What carries the frames: a connection that was upgraded, or the messages of a WebSocket.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;

use super::super::websocket::{Closed, Incoming, Outgoing, Protocol, Socket, split};

/// Frames that wait to be written.
const QUEUE: usize = 16;
const READ: usize = 32 << 10;

/// Sends frames, from several tasks.
#[derive(Clone)]
pub(super) enum Out {
    Raw(mpsc::Sender<Bytes>),
    Tunnel(Outgoing),
}

impl Out {
    pub(super) async fn send(&self, frame: Bytes) -> Result<(), Closed> {
        match self {
            Out::Raw(sender) => sender.send(frame).await.map_err(|_| Closed),
            Out::Tunnel(out) => out.send_raw(frame).await,
        }
    }

    /// Says goodbye. What is queued is still sent.
    pub(super) async fn close(self) {
        if let Out::Tunnel(out) = self {
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

/// Both directions, and the task that writes: it ends when the last [`Out`] is dropped.
pub(crate) struct Wire {
    pub(super) out: Out,
    pub(super) incoming: In,
    pub(super) writer: AbortOnDropHandle<()>,
}

impl Wire {
    /// Frames as they are.
    pub(crate) fn raw(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
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
            out: Out::Raw(sender),
            incoming: In::Raw {
                from: Box::new(Box::pin(from)),
                buffer: BytesMut::new(),
            },
            writer: AbortOnDropHandle::new(writer),
        }
    }

    /// Frames inside of messages.
    pub(crate) fn tunnel(socket: Socket, protocol: Protocol) -> Self {
        let (out, incoming, writer) = split(socket, protocol);
        Wire {
            out: Out::Tunnel(out),
            incoming: In::Tunnel(incoming),
            writer,
        }
    }
}
