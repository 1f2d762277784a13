//! The handshake of a server.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{HalfClose, MAX_MESSAGE, Protocol, Socket, protocol};
use crate::handshake::{Refused, has, switch, tokens};

/// Whether the request wants a WebSocket.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    has(headers, &header::CONNECTION, "upgrade") && has(headers, &header::UPGRADE, "websocket")
}

/// What `Sec-WebSocket-Accept` must be in the answer.
///
/// # Errors
/// 400 if the client sent no key.
pub fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Refused> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    accept
        .and_then(|accept| HeaderValue::try_from(accept).ok())
        .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing"))
}

/// Sets the headers of an answer that agrees.
pub fn switching(headers: &mut HeaderMap, accept: HeaderValue, protocol: Option<HeaderValue>) {
    switch(headers, "websocket");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
}

/// An agreed upgrade: what to answer, and the socket once the answer has been sent.
#[derive(Debug)]
pub struct Upgrade {
    /// The answer, still without a body.
    pub response: Response<()>,
    /// What was agreed on.
    pub protocol: Protocol,
    on_upgrade: OnUpgrade,
}

impl Upgrade {
    /// Takes a request's handshake. The client's order decides among the protocols that are supported.
    ///
    /// # Errors
    /// 400 if it is none, 403 if the client offers only protocols that are not supported.
    pub fn accept<B>(request: &mut Request<B>, supported: &[Protocol]) -> Result<Self, Refused> {
        let headers = request.headers();
        if !is_asked_for(headers) {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "unable to upgrade: missing upgrade headers in request",
            ));
        }
        let accept = accept_key(headers)?;
        let offered: Vec<&str> = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
        let chosen = offered
            .iter()
            .find_map(|o| supported.iter().find(|p| p.name == *o).copied());
        if chosen.is_none() && !offered.is_empty() {
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                format!(
                    "unable to upgrade: unable to negotiate protocol: client supports {offered:?}"
                ),
            ));
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let named = chosen.map(|protocol| HeaderValue::from_static(protocol.name));
        switching(response.headers_mut(), accept, named);
        Ok(Upgrade {
            response,
            // Without any protocol the first, binary one is meant.
            protocol: chosen.unwrap_or(protocol("", 1, false)),
            on_upgrade: hyper::upgrade::on(request),
        })
    }

    /// Splits off the future that yields the socket.
    pub fn into_parts(
        self,
    ) -> (
        Response<()>,
        Protocol,
        impl Future<Output = Option<Socket>> + Send + use<>,
    ) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = async move {
            match self.on_upgrade.await {
                Ok(upgraded) => {
                    let io = HalfClose::new(TokioIo::new(upgraded));
                    Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
                }
                Err(error) => {
                    tracing::debug!(%error, "upgrade failed");
                    None
                }
            }
        };
        (self.response, self.protocol, socket)
    }
}
