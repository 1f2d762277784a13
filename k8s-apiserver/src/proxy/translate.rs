//! exec and attach over WebSocket, for kubelets that speak SPDY.
//!
//! The server takes a WebSocket of `v5.channel.k8s.io` itself and asks the kubelet for SPDY/3.1, as upstream's does
//! (KEP-4006): every kubelet understands that, and only the newest understand version 5, which they declare in
//! `status.declaredFeatures` of their nodes. What goes wrong from then on is told on the error channel. Older protocols
//! over WebSocket are for the kubelet.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use k8s_streaming::{
    channel::{CLOSE, Closed, ERROR, Input, Output, RESIZE, STDERR, STDIN, STDOUT, Size},
    spdy::{Wire, process, upgrade},
    websocket::{self, Incoming, Outgoing, Socket, V5},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    NodeDialer, NodeEndpoint,
    forward::{Forwarder, exchange, refused, text},
    metrics::Streams as Counted,
    options::Streams,
    target::authority,
};
use crate::{Error, http::Body};

const PROTOCOL: &str = "v4.channel.k8s.io";
/// How long a kubelet may take to accept the streams; as upstream.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
/// More than any `Status` that a kubelet sends of a process.
const MAX_STATUS: usize = 64 << 10;

/// What is asked of which kubelet.
pub(super) struct Backend {
    pub(super) dialer: Arc<dyn NodeDialer>,
    pub(super) endpoint: NodeEndpoint,
    pub(super) path_and_query: String,
    pub(super) streams: Streams,
}

impl Forwarder {
    /// Has an exec or attach over WebSocket done by a kubelet over SPDY.
    pub(super) fn translate(
        &self,
        mut request: Request<Body>,
        backend: Backend,
    ) -> Result<Response<Body>, Error> {
        let streams = self.streams.clone();
        let upgrade = websocket::Upgrade::accept(&mut request, &[V5]).map_err(|error| {
            streams.translated(StatusCode::BAD_REQUEST.as_u16());
            refused(error)
        })?;
        let (response, _, socket) = upgrade.into_parts();
        let cut = self.cut();
        self.spawn(async move {
            match socket.await {
                Some(socket) => serve(socket, backend, cut, &streams).await,
                None => streams.translated(StatusCode::BAD_REQUEST.as_u16()),
            }
        });
        Ok(response.map(|()| Body::empty()))
    }
}

/// Serves a client until either side ends it.
async fn serve(socket: Socket, backend: Backend, cut: CancellationToken, counted: &Counted) {
    let (out, mut incoming, writer) = websocket::split(socket, V5);
    let streams = backend.streams;
    let greeting = websocket::process::greet(&out, streams.stdout, streams.stderr);
    if greeting.await.is_err() {
        counted.translated(StatusCode::BAD_REQUEST.as_u16());
        return;
    }
    let outcome = match backend.open(cut).await {
        Ok((to, from, _writer)) => relay(&out, &mut incoming, &to, from).await,
        Err(error) => Ok(written(error.into_status())),
    };
    match outcome {
        Ok(verdict) => {
            counted.translated(code(&verdict));
            websocket::process::finish(out, incoming, writer, verdict.as_bytes()).await;
        }
        Err(Closed) => counted.translated(StatusCode::INTERNAL_SERVER_ERROR.as_u16()),
    }
}

/// The code that a verdict counts as: a process that fails is no failure of the connection.
fn code(verdict: &str) -> i32 {
    let ok = i32::from(StatusCode::OK.as_u16());
    match serde_json::from_str::<Status>(verdict) {
        Ok(status) if status.status.as_deref() == Some("Success") => ok,
        Ok(status) if status.reason.as_deref() == Some("NonZeroExitCode") => ok,
        status => {
            let failed = i32::from(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
            status.ok().and_then(|s| s.code).unwrap_or(failed)
        }
    }
}

impl Backend {
    /// Opens the streams at the kubelet.
    async fn open(
        &self,
        cut: CancellationToken,
    ) -> Result<(process::Sending, process::Receiving, AbortOnDropHandle<()>), Error> {
        let host = authority(&self.endpoint.host, self.endpoint.port);
        let failed = |error: &dyn std::fmt::Display| {
            let path = &self.path_and_query;
            Error::internal(format!(
                "error sending request: Post \"https://{host}{path}\": {error}"
            ))
        };
        let stream = self.dialer.dial(&self.endpoint).await;
        let stream = stream.map_err(|error| failed(&error))?;
        let mut request = Request::post(&self.path_and_query)
            .header(header::HOST, &host)
            .body(Body::empty())
            .map_err(Error::internal)?;
        upgrade::ask(request.headers_mut(), PROTOCOL);
        let answer = exchange(stream, request, cut).await;
        let mut answer = answer.map_err(|error| failed(&error))?;
        if !upgrade::is_agreed(&answer) {
            let text = text(answer.into_body()).await;
            return Err(match serde_json::from_str::<Status>(&text) {
                Ok(status) => status.into(),
                Err(_) => Error::internal(format!("unable to upgrade connection: {}", text.trim())),
            });
        }
        let io = hyper::upgrade::on(&mut answer).await;
        let io = io.map_err(|error| failed(&error))?;
        let (connection, out, writer) = Wire::raw(TokioIo::new(io)).into_parts();
        let channels = self.streams.channels();
        let opening = process::open(connection, out, &channels);
        match tokio::time::timeout(CREATION_TIMEOUT, opening).await {
            Ok(Some((to, from))) => Ok((to, from, writer)),
            Ok(None) => Err(Error::internal("the backend has not accepted the streams")),
            Err(_) => Err(Error::internal("Timed out waiting for stream")),
        }
    }
}

/// Moves data until the process has ended: what is then to be said of it. An error is that the client has gone.
async fn relay(
    out: &Outgoing,
    incoming: &mut Incoming,
    to: &process::Sending,
    mut from: process::Receiving,
) -> Result<String, Closed> {
    let upwards = async {
        let mut open = true;
        while let Some((channel, data)) = incoming.next().await {
            match channel {
                // A kubelet that takes no more may still have something to say.
                STDIN if open => open = to.send(STDIN, &data).await.is_ok(),
                CLOSE if open && data.first() == Some(&STDIN) => {
                    to.finish(STDIN).await;
                    open = false;
                }
                RESIZE => {
                    let size = serde_json::from_slice::<Size>(&data);
                    if let Some(Ok(json)) = size.ok().map(|size| serde_json::to_vec(&size)) {
                        let _ = to.send(RESIZE, &json).await;
                    }
                }
                _ => {}
            }
        }
    };
    let downwards = async {
        let mut open: Vec<u8> = ([STDOUT, STDERR, ERROR].into_iter())
            .filter(|channel| to.has(*channel))
            .collect();
        let mut status = Vec::new();
        while !open.is_empty() {
            match from.next().await {
                Some((ERROR, data)) if status.len() + data.len() <= MAX_STATUS => {
                    status.extend_from_slice(&data);
                }
                Some((ERROR, _)) => return Ok(broken("error stream protocol error: too much")),
                Some((channel @ (STDOUT | STDERR), data)) => out.send(channel, &data).await?,
                Some((CLOSE, data)) => open.retain(|channel| data.first() != Some(channel)),
                Some(_) => {}
                None if open.contains(&ERROR) => {
                    return Ok(broken("error reading from error stream: unexpected EOF"));
                }
                None => break,
            }
        }
        Ok(verdict(&status))
    };
    tokio::select! {
        biased;
        verdict = downwards => verdict,
        () = upwards => Err(Closed),
    }
}

fn broken(message: impl std::fmt::Display) -> String {
    written(Error::internal(message).into_status())
}

/// A `Status` as it is written on an error stream: without its type.
fn written(status: Status) -> String {
    let mut value = serde_json::json!(status);
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "kind" | "apiVersion"));
    }
    value.to_string()
}

/// What to say of a process of which the kubelet has said this: what upstream's client makes of it, and its server
/// then of that.
fn verdict(said: &[u8]) -> String {
    let success = || {
        written(Status {
            status: Some("Success".to_owned()),
            ..Status::default()
        })
    };
    if said.is_empty() {
        return success();
    }
    let status = match serde_json::from_slice::<Status>(said) {
        Ok(status) => status,
        Err(error) => {
            let said = String::from_utf8_lossy(said);
            return broken(format!("error stream protocol error: {error} in {said:?}"));
        }
    };
    match status.status.as_deref() {
        Some("Success") => success(),
        Some("Failure") if status.reason.as_deref() == Some("NonZeroExitCode") => exited(status),
        Some("Failure") => broken(status.message.unwrap_or_default()),
        _ => broken("error stream protocol error: unknown error"),
    }
}

fn exited(mut status: Status) -> String {
    let Some(details) = status.details.take() else {
        return broken("error stream protocol error: details must be set");
    };
    let is_code = |reason: &Option<String>| reason.as_deref() == Some("ExitCode");
    let mut causes = details.causes.into_iter().flatten();
    let Some(mut cause) = causes.find(|cause| is_code(&cause.reason)) else {
        return broken("error stream protocol error: no ExitCode cause given");
    };
    let text = cause.message.take().unwrap_or_default();
    let Ok(code) = text.parse::<u8>() else {
        return broken(format!(
            "error stream protocol error: invalid exit code value {text:?}"
        ));
    };
    let message = format!(
        "command terminated with non-zero exit code: command terminated with exit code {code}"
    );
    let code = code.to_string();
    serde_json::json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code}]},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(of: &Value) -> Value {
        serde_json::from_str(&verdict(of.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn what_a_kubelet_says_of_a_process_is_told_as_upstreams_server_does() {
        let success = json!({"metadata": {}, "status": "Success"});
        assert_eq!(said(&success), success);
        assert_eq!(verdict(b""), success.to_string());
        let exit = |causes: Value| {
            json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "exit status 3",
                "details": {"causes": causes}})
        };
        let three = json!([{"reason": "ExitCode", "message": "3"}]);
        assert_eq!(
            said(&exit(three.clone())),
            json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": "command terminated with non-zero exit code: command terminated with exit code 3",
                "details": {"causes": three}})
        );
        let failed =
            json!({"status": "Failure", "reason": "InternalError", "message": "no such file"});
        assert_eq!(
            said(&failed),
            json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": "Internal error occurred: no such file",
                "details": {"causes": [{"message": "no such file"}]}})
        );
        for (wrong, text) in [
            (exit(json!([])), "no ExitCode cause given"),
            (
                exit(json!([{"reason": "ExitCode", "message": "256"}])),
                "invalid exit code value \"256\"",
            ),
            (json!({"status": "Dunno"}), "unknown error"),
        ] {
            let message = format!("Internal error occurred: error stream protocol error: {text}");
            assert_eq!(said(&wrong)["message"], message);
        }
        assert!(verdict(b"exit 3").contains("error stream protocol error"));
    }
}
