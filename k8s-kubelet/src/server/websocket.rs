//! WebSockets with Kubernetes' channel protocols: the first byte of a message says which stream
//! it belongs to (KEP-4006).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    answer::{Refusal, full},
    service::Body,
};

/// Which protocol was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: &'static str,
    /// 1 without any, 4 with a Status at the end, 5 with half-close.
    pub(crate) version: u8,
    pub(crate) base64: bool,
}

const fn protocol(name: &'static str, version: u8, base64: bool) -> Protocol {
    Protocol {
        name,
        version,
        base64,
    }
}

/// For exec and attach, best first.
pub(crate) const REMOTE_COMMAND: [Protocol; 5] = [
    protocol("v5.channel.k8s.io", 5, false),
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
    protocol("channel.k8s.io", 1, false),
    protocol("base64.channel.k8s.io", 1, true),
];

/// For port-forward.
pub(crate) const PORT_FORWARD: [Protocol; 3] = [
    // SPDY frames, tunnelled: what kubectl speaks since v1.31 (KEP-4006). Version 0 stands for it.
    protocol("SPDY/3.1+portforward.k8s.io", 0, false),
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
];

pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// An agreed upgrade: what to answer, and the socket once the answer has been sent.
pub(crate) struct Upgrade {
    pub(crate) response: Response<Body>,
    pub(crate) protocol: Protocol,
    on_upgrade: hyper::upgrade::OnUpgrade,
}

impl Upgrade {
    /// Takes a request's WebSocket handshake.
    pub(crate) fn accept<B>(
        mut request: Request<B>,
        supported: &[Protocol],
    ) -> Result<Self, Refusal> {
        let headers = request.headers();
        let has = |name: header::HeaderName, token: &str| {
            tokens(headers, &name).any(|t| t.eq_ignore_ascii_case(token))
        };
        if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
            return Err(Refusal::bad_request(
                "unable to upgrade: missing upgrade headers in request",
            ));
        }
        let key = headers
            .get(header::SEC_WEBSOCKET_KEY)
            .ok_or_else(|| Refusal::bad_request("Sec-WebSocket-Key is missing"))?;
        let accept = derive_accept_key(key.as_bytes());
        let offered: Vec<String> = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .map(str::to_owned)
            .collect();
        let chosen = offered
            .iter()
            .find_map(|o| supported.iter().find(|p| p.name == o).copied());
        let protocol = match chosen {
            Some(protocol) => protocol,
            // Without any protocol the first, binary one is meant.
            None if offered.is_empty() => protocol("", 1, false),
            None => {
                let message = format!(
                    "unable to upgrade: unable to negotiate protocol: client supports {offered:?}"
                );
                return Err(Refusal::new(StatusCode::FORBIDDEN, message));
            }
        };
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let out = response.headers_mut();
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(value) = HeaderValue::from_str(&accept) {
            out.insert(header::SEC_WEBSOCKET_ACCEPT, value);
        }
        if chosen.is_some() {
            out.insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(protocol.name),
            );
        }
        Ok(Self {
            response,
            protocol,
            on_upgrade: hyper::upgrade::on(&mut request),
        })
    }

    /// Splits off the future that yields the socket.
    pub(crate) fn into_parts(
        self,
    ) -> (
        Response<Body>,
        Protocol,
        impl Future<Output = Option<Socket>> + Send + use<>,
    ) {
        let socket = async move {
            match self.on_upgrade.await {
                Ok(upgraded) => Some(
                    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None)
                        .await,
                ),
                Err(error) => {
                    tracing::debug!(%error, "upgrade failed");
                    None
                }
            }
        };
        (self.response, self.protocol, socket)
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// Sends messages of several streams over one socket, from several tasks.
#[derive(Clone)]
pub(crate) struct Outgoing {
    sender: mpsc::Sender<Message>,
    protocol: Protocol,
}

impl Outgoing {
    /// Sends a chunk of one stream. An error means that the other side is gone.
    pub(crate) async fn send(&self, channel: u8, data: &[u8]) -> Result<(), Closed> {
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

    pub(crate) async fn send_raw(&self, data: Bytes) -> Result<(), Closed> {
        self.sender
            .send(Message::Binary(data))
            .await
            .map_err(|_| Closed)
    }

    /// Says goodbye.
    pub(crate) async fn close(&self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.sender.send(Message::Close(Some(frame))).await;
    }
}

/// The other side is gone.
#[derive(Debug)]
pub(crate) struct Closed;

/// Receives messages.
pub(crate) struct Incoming {
    stream: BoxStream<'static, Result<Message, tokio_tungstenite::tungstenite::Error>>,
    protocol: Protocol,
}

impl Incoming {
    /// The next chunk and its stream; `None` when the other side has gone.
    pub(crate) async fn next(&mut self) -> Option<(u8, Bytes)> {
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

    pub(crate) async fn next_raw(&mut self) -> Option<Bytes> {
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

/// Splits a socket. The writer ends when the last [`Outgoing`] is dropped or the handle is.
pub(crate) fn split<S>(
    socket: WebSocketStream<S>,
    protocol: Protocol,
) -> (Outgoing, Incoming, AbortOnDropHandle<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, stream) = socket.split();
    let (sender, mut messages) = mpsc::channel(16);
    let writer = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let last = matches!(message, Message::Close(_));
            if sink.send(message).await.is_err() || last {
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

/// Reads what a client sends after its handshake, in each of the protocols, until the connection ends.
#[cfg(feature = "__fuzz")]
pub async fn fuzz_websocket(bytes: &[u8]) {
    use tokio::io::AsyncWriteExt;
    for protocol in REMOTE_COMMAND.into_iter().chain(PORT_FORWARD) {
        let (mut near, far) = tokio::io::duplex(1 << 17);
        // What the server answers is read by nobody; it fits.
        if near.write_all(bytes).await.is_err() || near.shutdown().await.is_err() {
            return;
        }
        let socket = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (outgoing, mut incoming, _writer) = split(socket, protocol);
        let mut read = 0;
        while let Some((_, data)) = incoming.next().await {
            read += data.len();
            assert!(read <= bytes.len(), "more is read than was sent");
        }
        drop(outgoing);
    }
}
