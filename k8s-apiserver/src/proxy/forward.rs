//! [`Forwarder`]: a request goes out on another connection, and its answer comes back.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::ByteStream;
use crate::{Error, http::Body};

/// Bytes that a tunnel holds in each direction.
const BUFFER: usize = 32 * 1024;

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
    _guard: Arc<DropGuard>,
}

impl Default for Forwarder {
    fn default() -> Self {
        let cut = CancellationToken::new();
        Forwarder {
            _guard: Arc::new(cut.clone().drop_guard()),
            cut,
        }
    }
}

pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

fn dialing(error: impl std::fmt::Display) -> Error {
    Error::internal(format_args!("error dialing backend: {error}"))
}

/// The headers of a message without those of its connection; with those of an upgrade, if it is one.
fn passed_on(headers: &mut HeaderMap, upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
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

impl Forwarder {
    /// Sends the request to whatever is at the other end of the stream, with another path and host. The
    /// user's credentials stay here.
    pub(crate) async fn forward(
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
        parts.headers.remove(header::AUTHORIZATION);
        parts.headers.insert(
            header::HOST,
            HeaderValue::from_str(host).map_err(Error::internal)?,
        );
        let mut outgoing = Request::builder()
            .method(parts.method)
            .uri(path_and_query)
            .body(body)
            .map_err(Error::internal)?;
        *outgoing.headers_mut() = parts.headers;

        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(dialing)?;
        let cut = self.cut.clone().cancelled_owned();
        let connection = connection.with_upgrades();
        tokio::spawn(async move {
            tokio::select! {
                () = cut => {}
                outcome = connection => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "connection to backend failed");
                    }
                }
            }
        });
        let mut response = sender.send_request(outgoing).await.map_err(dialing)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (mut parts, body) = response.into_parts();
            passed_on(&mut parts.headers, false);
            let mut answer = Response::new(Body::wrap(body));
            *answer.status_mut() = parts.status;
            *answer.headers_mut() = parts.headers;
            return Ok(answer);
        }
        let Some(client) = client else {
            return Err(Error::internal(
                "backend switched protocols without being asked to",
            ));
        };
        let backend = hyper::upgrade::on(&mut response);
        let cut = self.cut.clone();
        tokio::spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled_owned(tunnel(client, backend)).await {
                tracing::debug!(%error, "tunnel to backend ended early");
            }
        });
        passed_on(response.headers_mut(), true);
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

/// Copies bytes both ways until both sides are done.
async fn tunnel(
    client: OnUpgrade,
    backend: OnUpgrade,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, backend) = futures::try_join!(client, backend)?;
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER).await?;
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
