//! gRPC health checks (KEP-2727): `grpc.health.v1.Health/Check`.

use std::time::Duration;

use http::uri::PathAndQuery;
use k8s_model::duration::print_std;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint, Error},
};
use tonic_prost::ProstCodec;

use super::http::join;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// How much of an answer is read. A health answer has two bytes.
const ANSWER_LIMIT: usize = 4 << 10;

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
    // Upstream tries to connect for as long as there is time; what it says then is the same.
    let Ok(Ok(channel)) = timeout_at(deadline, connect(&address)).await else {
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

async fn connect(address: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    endpoint.user_agent("kube-probe/1.37")?.connect().await
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
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    /// A server whose services answer by their names.
    async fn serve() -> (u16, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            }
        });
        (port, AbortOnDropHandle::new(task))
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
}
