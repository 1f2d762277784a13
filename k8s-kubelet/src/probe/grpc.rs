//! gRPC health checks (KEP-2727): `grpc.health.v1.Health/Check`.
//!
//! One unary call with one small message either way: that is little enough to be written down
//! here, on hyper's HTTP/2, without a gRPC stack.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, StatusCode, body::Bytes, client::conn::http2, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_model::duration::print_std;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::http;

/// How much of an answer is read. A health answer has two bytes after its prefix of five.
const ANSWER_LIMIT: usize = 4 << 10;
/// Before each message: whether it is compressed, and its length in four bytes.
const PREFIX: usize = 5;

const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNKNOWN: usize = 2;
const DEADLINE_EXCEEDED: usize = 4;
const UNIMPLEMENTED: usize = 12;
const INTERNAL: usize = 13;
const UNAVAILABLE: usize = 14;

/// How a call failed: a gRPC status.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    code: usize,
    message: String,
}

impl Failed {
    fn new(code: usize, message: impl ToString) -> Self {
        let message = message.to_string();
        Self { code, message }
    }
}

/// Whether the service at this address says that it serves. The error is upstream's text.
pub(crate) async fn check(
    host: &str,
    port: u16,
    service: &str,
    limit: Duration,
) -> Result<(), String> {
    let address = http::join(host, port);
    let within = print_std(limit);
    let deadline = Instant::now() + limit;
    // Upstream tries to connect for as long as there is time; what it says then is the same.
    let Ok(Ok(connection)) = timeout_at(deadline, connect(host, port)).await else {
        return Err(format!(
            "timeout: failed to connect service {address:?} within {within}: context deadline exceeded"
        ));
    };
    let status = timeout_at(deadline, call(connection, &address, service)).await;
    let late = |_| Err(Failed::new(DEADLINE_EXCEEDED, "context deadline exceeded"));
    let status = status.unwrap_or_else(late);
    match status {
        Ok(1) => Ok(()),
        Ok(status) => {
            let name = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Err(format!("service unhealthy (responded with {name:?})"))
        }
        Err(failed) => Err(match failed.code {
            UNIMPLEMENTED => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                failed.message
            ),
            DEADLINE_EXCEEDED => format!("timeout: health rpc did not complete within {within}"),
            code => format!(
                "error: health rpc probe failed: rpc error: code = {} desc = {}",
                CODES
                    .get(code)
                    .map_or_else(|| format!("Code({code})"), |c| (*c).to_owned()),
                failed.message
            ),
        }),
    }
}

/// A connection, whose task ends with it.
struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    _task: AbortOnDropHandle<()>,
}

async fn connect(host: &str, port: u16) -> Result<Connection, String> {
    let stream = TokioIo::new(http::connect(host, port).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .map_err(|e| e.to_string())?;
    // What goes wrong with it is the answer's error.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection {
        sender,
        _task: AbortOnDropHandle::new(task),
    })
}

/// Calls, and returns the number that stands for the service's state.
async fn call(mut connection: Connection, address: &str, service: &str) -> Result<u64, Failed> {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(message(service)))
        .map_err(|e| Failed::new(INTERNAL, e))?;
    let answer = connection.sender.send_request(request).await;
    let (head, body) = answer
        .map_err(|e| Failed::new(UNAVAILABLE, e))?
        .into_parts();
    if head.status != StatusCode::OK {
        let code = match head.status {
            StatusCode::NOT_FOUND => UNIMPLEMENTED,
            _ => UNKNOWN,
        };
        return Err(Failed::new(
            code,
            format!(
                "unexpected HTTP status code received from server: {}",
                head.status
            ),
        ));
    }
    let body = Limited::new(body, ANSWER_LIMIT).collect().await;
    let body = body.map_err(|e| Failed::new(INTERNAL, e))?;
    status(body.trailers().unwrap_or(&head.headers))?;
    state(&body.to_bytes()).ok_or_else(|| Failed::new(INTERNAL, "malformed answer"))
}

/// A request about a service: `HealthCheckRequest`, whose field 1 is its name.
fn message(service: &str) -> Bytes {
    let mut request = Vec::new();
    if !service.is_empty() {
        request.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            request.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        request.push(length as u8);
        request.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(
        &u32::try_from(request.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend_from_slice(&request);
    out.into()
}

/// The status that ends a call, out of its trailers.
fn status(trailers: &HeaderMap) -> Result<(), Failed> {
    let text = |name: &str| trailers.get(name).and_then(|v| v.to_str().ok());
    match text("grpc-status").and_then(|s| s.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(Failed::new(
            code,
            unescape(text("grpc-message").unwrap_or_default()),
        )),
        None => Err(Failed::new(
            INTERNAL,
            "server closed the stream without sending trailers",
        )),
    }
}

/// Undoes the percent-encoding of messages.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = text.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        if let Some(byte) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            out.push(byte);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The state out of a `HealthCheckResponse`: a varint in field 1; absent, it is 0.
fn state(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let Some((tag, value)) = message.split_first() else {
        return Some(0);
    };
    if *tag != 0x08 || value.is_empty() || value.len() > 9 {
        return None;
    }
    Some(
        value
            .iter()
            .rev()
            .fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::{Response, body::Frame, server::conn::http2::Builder, service::service_fn};
    use tokio::net::TcpListener;

    use super::*;

    /// A server whose services answer by their names.
    async fn serve() -> (u16, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(|request: Request<hyper::body::Incoming>| async {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let asked = String::from_utf8_lossy(body.get(7..).unwrap_or_default());
                    Ok::<_, Infallible>(answer(&asked).await)
                });
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        (port, AbortOnDropHandle::new(task))
    }

    type Frames = futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

    async fn answer(asked: &str) -> Response<StreamBody<Frames>> {
        let (state, code, message) = match asked {
            "" => (1, "0", ""),
            "down" => (2, "0", ""),
            "other" => (0, "5", "unknown%20service"),
            "old" => (0, "12", "unknown method"),
            "slow" => return std::future::pending().await,
            _ => (0, "x", ""),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        trailers.insert("grpc-message", message.parse().unwrap());
        let body = Bytes::from(vec![0, 0, 0, 0, 2, 8, state]);
        let frames = vec![Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
        Response::new(StreamBody::new(futures::stream::iter(frames)))
    }

    #[tokio::test]
    async fn services_answer_for_themselves_and_faults_are_told_in_upstreams_words() {
        let (port, _server) = serve().await;
        let check =
            |service: &'static str| check("127.0.0.1", port, service, Duration::from_millis(500));
        assert_eq!(check("").await, Ok(()));
        for (service, text) in [
            ("down", "service unhealthy (responded with \"NOT_SERVING\")"),
            (
                "other",
                "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
            ),
            (
                "old",
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown method",
            ),
            ("slow", "timeout: health rpc did not complete within 500ms"),
            (
                "odd",
                "error: health rpc probe failed: rpc error: code = Internal desc = server closed the stream without sending trailers",
            ),
        ] {
            assert_eq!(check(service).await.unwrap_err(), text);
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(
            check("127.0.0.1", port, "", Duration::from_secs(1)).await,
            Err(format!(
                "timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded"
            ))
        );
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        for bytes in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 9, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 9, 1],
        ] {
            assert_eq!(state(bytes), None, "{bytes:?}");
        }
        assert_eq!(state(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(state(&[0, 0, 0, 0, 3, 8, 0x80, 1]), Some(128));
        assert_eq!(unescape("a%2Fb%zz%"), "a/b%zz%");
        let long = "x".repeat(200);
        assert_eq!(&message(&long)[..8], &[0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }
}
