//! [`Forwarder`]: a request goes out on another connection, and its answer comes back.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Buf;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use k8s_streaming::{Refused, is_upgrade, tokens};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{copy::both_ways, dial::ByteStream, metrics::Streams};
use crate::{Error, http::Body, serve::PeerAddress};

/// Bytes that a tunnel holds in each direction.
pub(super) const BUFFER: usize = 32 * 1024;

/// How much of a backend's refusal is read, and for how long.
const REFUSAL_BYTES: usize = 1 << 20;
const REFUSAL_TIME: Duration = Duration::from_secs(30);

/// Headers that are about one connection alone, not about the request.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sends requests on, and owns the tasks of their connections: they end with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    cut: CancellationToken,
    pub(super) streams: Arc<Streams>,
    _guard: Arc<DropGuard>,
}

impl Default for Forwarder {
    fn default() -> Self {
        let cut = CancellationToken::new();
        Forwarder {
            _guard: Arc::new(cut.clone().drop_guard()),
            streams: Arc::default(),
            cut,
        }
    }
}

pub(super) fn dialing(error: impl std::fmt::Display) -> Error {
    Error::unknown(format!("error dialing backend: {error}"))
}

/// The headers of a message without those of its connection; with those of an upgrade, if it is one.
pub(super) fn passed_on(headers: &mut HeaderMap, upgrade: bool) {
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter_map(|token| token.parse().ok())
        .filter(|name| *name != header::UPGRADE)
        .collect();
    let protocol = headers.get(header::UPGRADE).cloned();
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    for name in named {
        headers.remove(name);
    }
    if let Some(protocol) = protocol.filter(|_| upgrade) {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

/// Says whom the request comes from, after those who said so before.
fn forwarded_for(parts: &mut Parts) {
    const NAME: HeaderName = HeaderName::from_static("x-forwarded-for");
    let Some(PeerAddress(peer)) = parts.extensions.get::<PeerAddress>() else {
        return;
    };
    let before = parts.headers.get_all(NAME).iter();
    let before = before.filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = before.collect();
    let own = peer.ip().to_string();
    let all = [&all[..], &[own.as_str()]].concat().join(", ");
    if let Ok(value) = HeaderValue::from_str(&all) {
        parts.headers.insert(NAME, value);
    }
}

/// Drops what a client has sent for its own connection alone, and what it says is such. Whoever adds headers of their own
/// does this before, or a client could take them away by naming them.
pub(crate) fn drop_connection_headers(headers: &mut HeaderMap) {
    let upgrade = is_upgrade(headers);
    passed_on(headers, upgrade);
}

impl Forwarder {
    /// Sends the request to whatever is at the other end of the stream, with another path and host. The
    /// user's credentials stay here.
    pub(crate) async fn forward(
        &self,
        stream: Box<dyn ByteStream>,
        host: &str,
        path_and_query: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        request.headers_mut().remove(header::AUTHORIZATION);
        self.send(stream, host, path_and_query, request).await
    }

    /// As [`forward`](Self::forward), with the credentials: those in the request are meant for the other end.
    pub(crate) async fn send(
        &self,
        stream: Box<dyn ByteStream>,
        host: &str,
        path_and_query: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let (mut parts, body) = request.into_parts();
        let upgrade = is_upgrade(&parts.headers);
        let client = parts.extensions.remove::<OnUpgrade>().filter(|_| upgrade);
        passed_on(&mut parts.headers, upgrade);
        let outgoing = outgoing(parts, host, path_and_query, body)?;
        let answer = exchange(stream, outgoing, self.cut()).await;
        let mut response = answer.map_err(dialing)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answered(response));
        }
        let Some(client) = client else {
            return Err(Error::internal(
                "backend switched protocols without being asked to",
            ));
        };
        let backend = hyper::upgrade::on(&mut response);
        self.spawn(async move {
            if let Err(error) = tunnel(client, backend).await {
                tracing::debug!(%error, "tunnel to backend ended early");
            }
        });
        passed_on(response.headers_mut(), true);
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }

    /// What ends connections.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Runs a task that ends with the last clone, which the task therefore must not be.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.cut.clone().run_until_cancelled_owned(task));
    }
}

/// The refusal of a handshake.
pub(super) fn refused(refused: Refused) -> Error {
    match refused.status {
        StatusCode::FORBIDDEN => Error::forbidden("", "", "", &refused.message),
        _ => Error::bad_request(refused.message),
    }
}

/// The request as it goes out: whose connection it is for has been seen to.
pub(super) fn outgoing(
    mut parts: Parts,
    host: &str,
    path_and_query: &str,
    body: Body,
) -> Result<Request<Body>, Error> {
    forwarded_for(&mut parts);
    let host = HeaderValue::from_str(host).map_err(Error::internal)?;
    parts.headers.insert(header::HOST, host);
    let mut outgoing = Request::builder()
        .method(parts.method)
        .uri(path_and_query)
        .body(body)
        .map_err(Error::internal)?;
    *outgoing.headers_mut() = parts.headers;
    Ok(outgoing)
}

/// Asks whatever is at the other end of the stream. The connection ends when the token is cancelled, or with the
/// answer.
pub(super) async fn exchange(
    stream: Box<dyn ByteStream>,
    request: Request<Body>,
    cut: CancellationToken,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = connection.with_upgrades();
    tokio::spawn(async move {
        tokio::select! {
            () = cut.cancelled() => {}
            outcome = connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection to backend failed");
                }
            }
        }
    });
    sender.send_request(request).await
}

/// An answer that comes back.
pub(super) fn answered(response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    passed_on(&mut parts.headers, false);
    let mut answer = Response::new(Body::wrap(body));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    answer
}

/// A refusal's text: what there is of it until it ends, is too much, or takes too long.
pub(super) async fn text<B: http_body::Body>(body: B) -> String {
    let mut body = pin!(body);
    let mut said = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(mut data) = frame.into_data() {
                let room = REFUSAL_BYTES - said.len();
                said.extend_from_slice(&data.copy_to_bytes(room.min(data.remaining())));
            }
            if said.len() == REFUSAL_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(REFUSAL_TIME, reading).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// Carries what comes after both sides have switched protocols.
async fn tunnel(
    client: OnUpgrade,
    backend: OnUpgrade,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, backend) = futures::try_join!(client, backend)?;
    both_ways(TokioIo::new(client), TokioIo::new(backend)).await?;
    Ok(())
}

/// An error as a client sees it.
pub(super) fn refusal(error: &Error) -> Response<Body> {
    let json = serde_json::to_vec(error.status()).unwrap_or_default();
    let mut response = Response::new(Body::from(json));
    *response.status_mut() =
        StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_does_not_end_is_read_for_a_while() {
        let data = |data: Vec<u8>| Ok::<_, Infallible>(Frame::data(Bytes::from(data)));
        let begun = stream::iter([data(b"not here".to_vec())]);
        let body = StreamBody::new(begun.chain(stream::pending()));
        let started = tokio::time::Instant::now();
        assert_eq!(text(body).await, "not here");
        assert_eq!(started.elapsed(), REFUSAL_TIME);
        let endless = stream::repeat_with(|| data(vec![b'x'; 3 << 10]));
        assert_eq!(text(StreamBody::new(endless)).await.len(), REFUSAL_BYTES);
    }

    #[test]
    fn who_asks_comes_after_those_who_passed_it_on() {
        let request = Request::get("/")
            .header("x-forwarded-for", "10.0.0.1, 10.0.0.2")
            .header("x-forwarded-for", "10.0.0.3")
            .extension(PeerAddress("192.0.2.7:1".parse().unwrap()));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        forwarded_for(&mut parts);
        assert_eq!(
            parts.headers["x-forwarded-for"],
            "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7"
        );
    }

    #[test]
    fn a_client_cannot_take_headers_away_that_come_later() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-remote-group, upgrade, keep-alive"),
            ("upgrade", "websocket"),
            ("keep-alive", "5"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        drop_connection_headers(&mut headers);
        headers.insert("x-remote-group", HeaderValue::from_static("dev"));
        drop_connection_headers(&mut headers);
        assert_eq!(headers["x-remote-group"], "dev");
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert!(!headers.contains_key("keep-alive") && headers.contains_key("accept"));
    }
}
