//! Messages: sent by several at the same time, and received by one.

use std::sync::atomic::Ordering;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream::BoxStream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{HalfClose, Protocol};
use crate::channel::{Closed, Input, Output};

/// Messages that wait to be sent.
const QUEUE: usize = 16;

/// Sends messages of several streams over one socket, from several tasks.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub(crate) sender: mpsc::Sender<Message>,
    protocol: Protocol,
}

impl Outgoing {
    /// Sends bytes as they are, in a message.
    ///
    /// # Errors
    /// If the other side is gone.
    pub async fn send_raw(&self, data: Bytes) -> Result<(), Closed> {
        self.sender
            .send(Message::Binary(data))
            .await
            .map_err(|_| Closed)
    }

    /// Says goodbye. What was sent before goes first.
    pub async fn close(&self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.sender.send(Message::Close(Some(frame))).await;
    }
}

impl Output for Outgoing {
    async fn send(&self, channel: u8, data: &[u8]) -> Result<(), Closed> {
        let message = if self.protocol.base64 {
            Message::text(format!(
                "{}{}",
                char::from(b'0' + channel),
                STANDARD.encode(data)
            ))
        } else {
            let mut framed = BytesMut::with_capacity(data.len() + 1);
            framed.put_u8(channel);
            framed.put_slice(data);
            Message::Binary(framed.freeze())
        };
        self.sender.send(message).await.map_err(|_| Closed)
    }

    /// A server has no need to: how the process ended is the end of all its streams.
    async fn finish(&self, _channel: u8) {}
}

/// Receives messages.
pub struct Incoming {
    stream: BoxStream<'static, Result<Message, tungstenite::Error>>,
    protocol: Protocol,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// The bytes of the next message as they are; `None` when the other side has gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next_raw(&mut self) -> Option<Bytes> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Binary(data)) => return Some(data),
                Ok(Message::Text(text)) => return Some(Bytes::from(text)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) | Err(_) => return None,
            }
        }
    }
}

impl Input for Incoming {
    async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let data = self.next_raw().await?;
            let Some(&first) = data.first() else { continue };
            if !self.protocol.base64 {
                return Some((first, data.slice(1..)));
            }
            match (first.checked_sub(b'0'), STANDARD.decode(&data[1..])) {
                (Some(channel), Ok(data)) => return Some((channel, Bytes::from(data))),
                _ => return None,
            }
        }
    }
}

/// Splits a socket. The writer ends when the last [`Outgoing`] is dropped or the handle is. After a goodbye it closes
/// its half of the connection: there are clients who read on only when the system says that there is something to
/// read, though they have it already, and the end of the connection is what makes it say so for good.
pub fn split<S>(
    socket: WebSocketStream<HalfClose<S>>,
    protocol: Protocol,
) -> (Outgoing, Incoming, AbortOnDropHandle<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let over = socket.get_ref().over.clone();
    let (mut sink, stream) = socket.split();
    let (sender, mut messages) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let last = matches!(message, Message::Close(_));
            if sink.send(message).await.is_err() {
                break;
            }
            if last {
                over.store(true, Ordering::Release);
                break;
            }
        }
        let _ = sink.flush().await;
    });
    (
        Outgoing { sender, protocol },
        Incoming {
            stream: stream.boxed(),
            protocol,
        },
        AbortOnDropHandle::new(writer),
    )
}
