//! gRPC health checks (KEP-2727): `grpc.health.v1.Health/Check`.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use k8s_model::duration::print_std;
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::http::join;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// How much of an answer is read. A health answer has two bytes.
const ANSWER_LIMIT: usize = 4 << 10;
/// How long to wait after the first attempt to connect, and at most; each time twice as long. A container that has
/// just begun to listen is found sooner than by gRPC's own pauses, which begin with a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is asked: how that service is; without a name, how the server is.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    /// 1 is healthy.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Whether the service at this address says that it serves. The error is upstream's text.
pub(crate) async fn check(
    host: &str,
    port: u16,
    service: &str,
    limit: Duration,
) -> Result<(), String> {
    let address = join(host, port);
    let within = print_std(limit);
    let deadline = Instant::now() + limit;
    let Ok(channel) = timeout_at(deadline, connect(&address)).await else {
        return Err(format!(
            "timeout: failed to connect service {address:?} within {within}: context deadline exceeded"
        ));
    };
    let mut request = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    request.set_timeout(limit);
    let answer = timeout_at(deadline, call(channel, request)).await;
    // tonic minds the same deadline, and says `Cancelled` if it is the first to notice.
    let answer = answer
        .ok()
        .filter(|answer| answer.is_ok() || Instant::now() < deadline)
        .unwrap_or_else(|| Err(Status::deadline_exceeded("")));
    let status = answer.map_err(|failed| match failed.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            failed.message()
        ),
        Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {within}"),
        code => {
            let name = match code {
                Code::Cancelled => "Canceled".to_owned(),
                code => format!("{code:?}"),
            };
            let message = failed.message();
            format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}")
        }
    })?;
    let name = match status {
        1 => return Ok(()),
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    };
    Err(format!("service unhealthy (responded with {name:?})"))
}

/// Tries to connect, as upstream does, until there is somebody who speaks HTTP/2.
async fn connect(address: &str) -> Channel {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt(address).await {
            Ok(channel) => return channel,
            Err(error) => tracing::trace!(address, %error, "no connection yet"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(address: &str) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let (tell, heard) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let target = address.to_owned();
    let connector = service_fn(move |_: Uri| {
        let (target, tell) = (target.clone(), tell.clone());
        async move {
            let tell = tell.lock().ok().and_then(|mut tell| tell.take());
            let stream = TcpStream::connect(target).await?;
            let start = Vec::with_capacity(FRAME_START);
            io::Result::Ok(TokioIo::new(Listening {
                stream,
                start,
                tell,
            }))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let endpoint = endpoint.user_agent("kube-probe/1.37")?;
    let channel = endpoint.connect_with_connector(connector).await?;
    heard.await?;
    Ok(channel)
}

/// A frame's length and type.
const FRAME_START: usize = 4;
/// The type of the frame that a server's side of HTTP/2 begins with (RFC 9113, section 3.4).
const SETTINGS: u8 = 4;

/// A connection that tells once its other end has begun to speak HTTP/2: before that, gRPC counts it
/// as none.
struct Listening {
    stream: TcpStream,
    /// The first bytes that came.
    start: Vec<u8>,
    tell: Option<oneshot::Sender<()>>,
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.tell.is_some() {
            let missing = FRAME_START - self.start.len();
            let new = buffer.filled()[before..].iter().take(missing);
            self.start.extend(new);
            if let Some(kind) = self.start.get(FRAME_START - 1) {
                let speaks = *kind == SETTINGS;
                if let Some(tell) = self.tell.take().filter(|_| speaks) {
                    // Nobody waits for it after the time is over.
                    let _ = tell.send(());
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Calls, and returns the number that stands for the service's state.
async fn call(channel: Channel, request: Request<HealthCheckRequest>) -> Result<i32, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_LIMIT);
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(CHECK);
    let answer = grpc.unary(request, path, ProstCodec::default()).await?;
    let HealthCheckResponse { status } = answer.into_inner();
    Ok(status)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use bytes::Bytes;
    use http::{HeaderMap, Response, StatusCode, header};
    use http_body_util::{BodyExt, StreamBody};
    use hyper::{
        body::{Frame, Incoming},
        server::conn::http2::Builder,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{io::AsyncWriteExt, net::TcpListener};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    /// A server whose services answer by their names.
    async fn serve() -> (u16, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (port, serve_on(listener))
    }

    fn serve_on(listener: TcpListener) -> AbortOnDropHandle<()> {
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            }
        });
        AbortOnDropHandle::new(task)
    }

    type Frames = futures::stream::Iter<
        std::collections::vec_deque::IntoIter<Result<Frame<Bytes>, Infallible>>,
    >;

    async fn answer(
        request: http::Request<Incoming>,
    ) -> Result<Response<StreamBody<Frames>>, Infallible> {
        assert_eq!(request.uri().path(), CHECK);
        let agent = request.headers()[header::USER_AGENT].to_str().unwrap();
        assert!(agent.starts_with("kube-probe/1.37"), "{agent}");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let asked = HealthCheckRequest::decode(&body[5..]).unwrap();
        let (state, code, message) = match asked.service.as_str() {
            "" => (1, "0", ""),
            "down" => (2, "0", ""),
            "new" => (7, "0", ""),
            "other" => (0, "5", "unknown%20service"),
            "gone" => (0, "1", "a%2Fb"),
            "old" => (0, "12", "unknown method"),
            "late" => (0, "4", ""),
            "slow" => return std::future::pending().await,
            _ => {
                let mut response =
                    Response::new(StreamBody::new(futures::stream::iter(VecDeque::new())));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return Ok(response);
            }
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        trailers.insert("grpc-message", message.parse().unwrap());
        let mut frames = VecDeque::from([Ok(Frame::trailers(trailers))]);
        if code == "0" {
            let body = Bytes::from(vec![0, 0, 0, 0, 2, 8, state]);
            frames.push_front(Ok(Frame::data(body)));
        }
        Ok(Response::new(StreamBody::new(futures::stream::iter(
            frames,
        ))))
    }

    #[tokio::test]
    async fn services_answer_for_themselves_and_faults_are_told_in_upstreams_words() {
        let (port, _server) = serve().await;
        let check = |service, limit| check("127.0.0.1", port, service, limit);
        let long = Duration::from_secs(60);
        assert_eq!(check("", long).await, Ok(()));
        let failed = "error: health rpc probe failed: rpc error: code";
        let old = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)";
        for (service, text) in [
            (
                "down",
                "service unhealthy (responded with \"NOT_SERVING\")".to_owned(),
            ),
            ("new", "service unhealthy (responded with \"7\")".to_owned()),
            (
                "other",
                format!("{failed} = NotFound desc = unknown service"),
            ),
            ("gone", format!("{failed} = Canceled desc = a/b")),
            ("old", format!("{old}: unknown method")),
            (
                "late",
                "timeout: health rpc did not complete within 1m0s".to_owned(),
            ),
        ] {
            assert_eq!(check(service, long).await.unwrap_err(), text);
        }
        let unserved = check("unserved", long).await.unwrap_err();
        assert!(unserved.starts_with(old), "{unserved}");
        let slow = check("slow", Duration::from_millis(500)).await;
        let text = "timeout: health rpc did not complete within 500ms";
        assert_eq!(slow.unwrap_err(), text);
    }

    fn no_connection(port: u16, within: &str) -> Result<(), String> {
        Err(format!(
            "timeout: failed to connect service \"127.0.0.1:{port}\" within {within}: context deadline exceeded"
        ))
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure_when_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let begun = Instant::now();
        let limit = Duration::from_millis(300);
        let found = check("127.0.0.1", port, "", limit).await;
        assert_eq!(found, no_connection(port, "300ms"));
        assert!(begun.elapsed() >= limit);
    }

    #[tokio::test]
    async fn a_server_that_comes_while_there_is_time_is_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let checked =
            tokio::spawn(
                async move { check("127.0.0.1", port, "", Duration::from_secs(60)).await },
            );
        // The first connection ends before a word was said on it: no more than a closed port.
        drop(listener.accept().await.unwrap());
        let _server = serve_on(listener);
        assert_eq!(checked.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn who_is_silent_or_speaks_another_protocol_is_no_service() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_millis(300);
        let silent = check("127.0.0.1", port, "", limit).await;
        assert_eq!(silent, no_connection(port, "300ms"));

        let _server = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let refusal = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                let _ = stream.write_all(refusal).await;
            }
        }));
        let other = check("127.0.0.1", port, "", limit).await;
        assert_eq!(other, no_connection(port, "300ms"));
    }
}
