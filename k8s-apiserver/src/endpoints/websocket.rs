//! Watches and logs over WebSocket, for clients that cannot read an answer while it is being written: browsers.
//!
//! The answer is made as for everybody; its body then goes out in messages. An event of a watch is one message, text
//! if it is JSON. A log is bytes, or base64 in text, as `Sec-WebSocket-Protocol` asks: `binary.k8s.io` (the same as
//! none) or `base64.binary.k8s.io`. What the client sends is not looked at. A
//! watch without a header `Origin` is refused with 403, as upstream does: browsers send one. As upstream's `wsstream` package.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_streaming::{tokens, websocket};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    Error,
    http::{Body, RequestInfo},
    server::Inner,
};

/// The longest message that a client may send, though nobody reads it.
const LONGEST: usize = 4096;
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// How a body becomes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A message of text per line, which ends it.
    Lines,
    /// A message of bytes per frame; its length goes before a frame, and not into the message.
    Frames,
    /// Bytes as they come.
    Bytes,
    /// The same in base64.
    Base64,
}

/// A token of a client that can send no header but the protocols it speaks: a browser's.
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// Puts a token among a WebSocket's protocols where tokens belong. There must be another protocol, since one has to
/// be agreed on.
pub(super) fn take_token(headers: &mut HeaderMap) {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
        || headers.contains_key(header::AUTHORIZATION)
    {
        return;
    }
    let (mut given, mut others) = (Vec::new(), Vec::new());
    for name in tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
        match name.strip_prefix(TOKEN) {
            Some(token) => given.push(token),
            None => others.push(name),
        }
    }
    let ([token], false) = (&given[..], others.is_empty()) else {
        return;
    };
    let token = URL_SAFE_NO_PAD.decode(token).ok();
    let token = token.and_then(|token| String::from_utf8(token).ok());
    let bearer = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let others = HeaderValue::try_from(others.join(", "));
    if let (Some(mut bearer), Ok(others)) = (bearer, others) {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
}

/// A handshake that waits for the answer to its request.
#[derive(Debug)]
pub(super) struct Asked {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    /// How a log is to be written; nothing for a watch.
    log: Option<Form>,
    /// Whether the client may have what it asks for.
    allowed: bool,
}

/// Whether upstream's library takes a header `Origin` for one: what begins with a scheme or a slash.
fn is_origin(text: &str) -> bool {
    text.starts_with('/')
        || text.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        })
}

impl Asked {
    /// Takes the handshake out of a request that has one: of a watch or a log. What remains is a request for the same
    /// over plain HTTP.
    ///
    /// # Errors
    /// If the client wants a log in a form that there is not.
    pub(super) fn take(parts: &mut Parts, info: &RequestInfo) -> Result<Option<Self>, Error> {
        let is_log = info.subresource == "log";
        if parts.method != Method::GET || !(info.verb == "watch" || is_log) {
            return Ok(None);
        }
        if !websocket::is_asked_for(&parts.headers) {
            return Ok(None);
        }
        let origin = parts.headers.get(header::ORIGIN);
        let origin = origin
            .and_then(|origin| origin.to_str().ok())
            .is_some_and(is_origin);
        let accept = websocket::accept_key(&parts.headers)
            .map_err(|refused| Error::bad_request(refused.message))?;
        let asked: Vec<&str> = tokens(&parts.headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
        let (protocol, log) = if is_log {
            let known = |name: &&str| matches!(*name, BINARY | BASE64);
            match asked.iter().copied().find(known) {
                Some(BASE64) => (Some(BASE64), Some(Form::Base64)),
                None if !asked.is_empty() => {
                    return Err(Error::forbidden(
                        "",
                        "",
                        "",
                        &format!(
                            "requested protocol(s) are not supported: [{}]; supports [{BINARY} {BASE64}]",
                            asked.join(" ")
                        ),
                    ));
                }
                found => (found, Some(Form::Bytes)),
            }
        } else {
            (asked.first().copied(), None)
        };
        let protocol = protocol.and_then(|name| HeaderValue::from_str(name).ok());
        let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            return Ok(None);
        };
        for name in [
            header::UPGRADE,
            header::CONNECTION,
            header::ACCEPT_ENCODING,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
            header::SEC_WEBSOCKET_PROTOCOL,
        ] {
            parts.headers.remove(name);
        }
        Ok(Some(Asked {
            on_upgrade,
            accept,
            protocol,
            log,
            allowed: is_log || origin,
        }))
    }

    /// Sends the body of a good answer in messages; any other answer stays as it is.
    pub(super) fn serve(self, server: &Arc<Inner>, answer: Response<Body>) -> Response<Body> {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        if !self.allowed {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::FORBIDDEN;
            return refused;
        }
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let framed = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/vnd."));
        let form = match self.log {
            Some(form) => form,
            None if framed => Form::Frames,
            None => Form::Lines,
        };
        let (mut parts, body) = answer.into_parts();
        let sending = send(self.on_upgrade, body, form);
        let stop = server.stop.clone();
        server.tasks.spawn(stop.run_until_cancelled_owned(sending));
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.extensions.clear();
        parts.headers.remove(header::CONTENT_LENGTH);
        websocket::switching(&mut parts.headers, self.accept, self.protocol);
        Response::from_parts(parts, Body::empty())
    }
}

/// Sends a body until it ends or the client goes.
async fn send(on_upgrade: OnUpgrade, body: Body, form: Form) {
    let Ok(upgraded) = on_upgrade.await else {
        return;
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut to, mut from) = socket.split();
    let gone = async { while let Some(Ok(_)) = from.next().await {} };
    let sent = async {
        let mut body = std::pin::pin!(body);
        let mut cutter = Cutter::new(form);
        // That the log has been found is told before there is anything of it.
        if let Some(first) = cutter.greeting() {
            to.send(first).await?;
        }
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else {
                continue;
            };
            cutter.push(data);
            while let Some(message) = cutter.next() {
                to.feed(message).await?;
            }
            to.flush().await?;
        }
        to.close().await
    };
    tokio::select! {
        () = gone => {}
        ended = sent => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a client left its WebSocket");
            }
        }
    }
}

/// Makes messages of what comes in pieces.
struct Cutter {
    form: Form,
    held: BytesMut,
}

impl Cutter {
    fn new(form: Form) -> Self {
        let held = BytesMut::new();
        Cutter { form, held }
    }

    fn greeting(&self) -> Option<Message> {
        match self.form {
            Form::Bytes => Some(Message::binary(Bytes::new())),
            Form::Base64 => Some(Message::text("")),
            Form::Lines | Form::Frames => None,
        }
    }

    fn push(&mut self, data: Bytes) {
        self.held.extend_from_slice(&data);
    }

    /// The next message that is whole.
    fn next(&mut self) -> Option<Message> {
        match self.form {
            Form::Lines => {
                let end = memchr::memchr(b'\n', &self.held)? + 1;
                let line = self.held.split_to(end);
                Some(Message::text(String::from_utf8_lossy(&line).into_owned()))
            }
            Form::Frames => {
                let (length, _) = self.held.split_first_chunk::<4>()?;
                let length = u32::from_be_bytes(*length) as usize;
                if self.held.len() - 4 < length {
                    return None;
                }
                self.held.advance(4);
                Some(Message::binary(self.held.split_to(length).freeze()))
            }
            _ if self.held.is_empty() => None,
            Form::Bytes => Some(Message::binary(self.held.split().freeze())),
            Form::Base64 => Some(Message::text(STANDARD.encode(self.held.split()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(form: Form, pieces: &[&[u8]]) -> Vec<Message> {
        let mut cutter = Cutter::new(form);
        let mut out = Vec::new();
        for piece in pieces {
            cutter.push(Bytes::copy_from_slice(piece));
            out.extend(std::iter::from_fn(|| cutter.next()));
        }
        out
    }

    #[test]
    fn an_event_is_a_message_however_its_bytes_come() {
        assert_eq!(
            messages(Form::Lines, &[b"{\"a\"", b":1}\n{}\n{", b"}\n"]),
            ["{\"a\":1}\n", "{}\n", "{}\n"].map(Message::text)
        );
        assert_eq!(
            messages(
                Form::Frames,
                &[&[0, 0], &[0, 2, b'a'], b"b\0\0\0\x01", b"c"]
            ),
            [&b"ab"[..], b"c"].map(Message::binary)
        );
    }

    #[test]
    fn a_token_is_taken_from_the_protocols_if_another_remains() {
        let of = |protocols: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(protocols).unwrap();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
            take_token(&mut headers);
            [header::AUTHORIZATION, header::SEC_WEBSOCKET_PROTOCOL]
                .map(|name| headers.get(name).map(|v| v.to_str().unwrap().to_owned()))
        };
        let token = format!("{TOKEN}YS5iLmM");
        assert_eq!(
            of(&format!("{token}, binary.k8s.io")),
            [Some("Bearer a.b.c".into()), Some("binary.k8s.io".into())]
        );
        for unusable in [
            token.clone(),
            format!("{token}, {token}, x"),
            format!("{TOKEN}!, x"),
        ] {
            assert_eq!(of(&unusable), [None, Some(unusable)]);
        }
    }

    #[test]
    fn a_log_is_bytes_or_base64() {
        assert_eq!(
            messages(Form::Bytes, &[b"ab", b""]),
            [Message::binary(&b"ab"[..])]
        );
        assert_eq!(messages(Form::Base64, &[b"ab"]), [Message::text("YWI=")]);
    }
}
