//! `/exec` and `/attach`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use k8s_runtime::{ContainerId, Error, ExecSession, Streams, TerminalSize};
use k8s_streaming::{
    channel::{CLOSE, Input, Output, RESIZE, STDERR, STDIN, STDOUT, Size},
    spdy::{self, Wire},
    websocket::{self, Incoming, Outgoing, REMOTE_COMMAND, Upgrade, split},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    answer::{self, Refusal},
    pods::container_status,
    query::Query,
    service::Body,
    spdy as over_spdy,
};
use crate::context::Context;

/// What is wanted: a command of its own, or the container's streams.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Exec(Vec<String>),
    Attach,
}

/// The streams a query asks for; both spellings, the kubelet's and the API's, are known.
fn streams(query: &Query) -> Result<Streams, Refusal> {
    let any = |a: &str, b: &str| query.flag(a) || query.flag(b);
    let tty = query.flag("tty");
    let streams = Streams {
        stdin: any("input", "stdin"),
        stdout: any("output", "stdout"),
        // A terminal mixes both.
        stderr: any("error", "stderr") && !tty,
        tty,
    };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(Refusal::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(streams)
}

/// Answers with an upgrade; the session runs in a task of its own until either side ends it.
pub(crate) async fn answer<B>(
    cx: &Arc<Context>,
    (namespace, pod, container): (&str, &str, &str),
    wanted: Wanted,
    mut request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::of(request.uri());
    let streams = streams(&query)?;
    let wanted = match wanted {
        Wanted::Exec(_) => Wanted::Exec(query.all("command").map(str::to_owned).collect()),
        Wanted::Attach => Wanted::Attach,
    };
    if matches!(&wanted, Wanted::Exec(command) if command.is_empty()) {
        return Err(Refusal::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let known = cx
        .known(namespace, pod)
        .ok_or_else(|| Refusal::not_found("pod does not exist"))?;
    let status = container_status(&known.status, container);
    let running = status.filter(|s| s.state.as_ref().is_some_and(|s| s.running.is_some()));
    let id = running
        .and_then(|s| s.container_id.as_deref())
        .and_then(|id| id.split_once("://"))
        .map(|(_, id)| ContainerId(id.to_owned()))
        .ok_or_else(|| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("container not found ({container:?})"),
            )
        })?;
    let cx = cx.clone();
    let session = async move {
        match &wanted {
            Wanted::Exec(command) => cx.runtime.exec(&id, command, streams).await,
            Wanted::Attach => cx.runtime.attach(&id, streams).await,
        }
    };
    if spdy::upgrade::is_asked_for(request.headers()) {
        let upgrade =
            match spdy::upgrade::Upgrade::accept(&mut request, &spdy::upgrade::REMOTE_COMMAND) {
                Ok(upgrade) => upgrade,
                Err(refused) => return Ok(answer::refused(refused)),
            };
        let (response, version, io) = upgrade.into_parts();
        tokio::spawn(async move {
            if let Some(io) = io.await {
                over_spdy::remote_command::serve(Wire::raw(io), version, streams, session).await;
            }
        });
        return Ok(answer::switching(response));
    }
    let upgrade = match Upgrade::accept(&mut request, &REMOTE_COMMAND) {
        Ok(upgrade) => upgrade,
        Err(refused) => return Ok(answer::refused(refused)),
    };
    let (response, protocol, socket) = upgrade.into_parts();
    tokio::spawn(async move {
        if let Some(socket) = socket.await {
            let socket = split(socket, protocol);
            run(socket, protocol.version, streams, session).await;
        }
    });
    Ok(answer::switching(response))
}

async fn run(
    (out, mut incoming, writer): (Outgoing, Incoming, AbortOnDropHandle<()>),
    version: u8,
    streams: Streams,
    session: impl Future<Output = Result<ExecSession, Error>>,
) {
    // Before there is a session: clients that take one message each time that there is something to read lose what
    // comes in one piece with another.
    let greeting = websocket::process::greet(&out, streams.stdout, streams.stderr);
    if greeting.await.is_err() {
        return;
    }
    let end = match session.await {
        Ok(session) => talk(session, &out, &mut incoming).await,
        Err(error) => Some(Err(error)),
    };
    if let Some(end) = end {
        let verdict = verdict(&end, version);
        websocket::process::finish(out, incoming, writer, verdict.as_bytes()).await;
    }
}

/// Moves data until the process ends; `None` if the client went away before.
pub(super) async fn talk(
    session: ExecSession,
    out: &impl Output,
    incoming: &mut impl Input,
) -> Option<Result<i32, Error>> {
    let ExecSession {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let output = async {
        tokio::join!(copy(stdout, out, STDOUT), copy(stderr, out, STDERR));
    };
    let (chunks, stdin_rx) = mpsc::channel::<Bytes>(16);
    let input = feed(stdin, stdin_rx);
    let mut chunks = Some(chunks);
    let receive = async {
        while let Some((channel, data)) = incoming.next().await {
            match channel {
                STDIN if data.is_empty() => {}
                STDIN => {
                    if let Some(sender) = &chunks
                        && sender.send(data).await.is_err()
                    {
                        chunks = None;
                    }
                }
                RESIZE => {
                    if let (Some(resize), Ok(size)) =
                        (&resize, serde_json::from_slice::<Size>(&data))
                    {
                        let _ = resize.try_send(TerminalSize {
                            width: size.width,
                            height: size.height,
                        });
                    }
                }
                CLOSE if data.first() == Some(&STDIN) => chunks = None,
                _ => {}
            }
        }
        // Who has gone sends nothing any more.
        chunks = None;
    };
    // Process and output end together; input lasts as long as the client wants.
    let finish = async {
        let (code, ()) = tokio::join!(exit, output);
        code
    };
    let io = async {
        tokio::join!(input, receive);
    };
    tokio::select! {
        biased;
        code = finish => Some(code),
        () = io => None,
    }
}

async fn copy(from: Option<Box<dyn AsyncRead + Send + Unpin>>, out: &impl Output, channel: u8) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 << 10];
    loop {
        match from.read(&mut buffer).await {
            // A terminal ends with an error when its last process does.
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if out.send(channel, &buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn feed(to: Option<Box<dyn AsyncWrite + Send + Unpin>>, mut chunks: mpsc::Receiver<Bytes>) {
    let Some(mut to) = to else { return };
    while let Some(chunk) = chunks.recv().await {
        if to.write_all(&chunk).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// How it ended, for the error stream: a Status since v4, text before.
pub(super) fn verdict(end: &Result<i32, Error>, version: u8) -> String {
    let status = match end {
        Ok(0) if version < 4 => return String::new(),
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => {
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            if version < 4 {
                return message;
            }
            json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            })
        }
        Err(error) => {
            let message =
                format!("Internal error occurred: error executing command in container: {error}");
            if version < 4 {
                return message;
            }
            json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500,
                "details": {"causes": [{"message": format!("error executing command in container: {error}")}]},
            })
        }
    };
    status.to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use futures::{SinkExt, StreamExt};
    use k8s_streaming::{
        channel::ERROR,
        websocket::{HalfClose, V5},
    };
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use super::*;

    /// A session whose process echoes a line with its terminal's width, and ends with 3.
    pub(in crate::server) fn echo() -> (ExecSession, mpsc::Receiver<TerminalSize>) {
        let (stdin, process_in) = tokio::io::duplex(64);
        let (mut process_out, stdout) = tokio::io::duplex(64);
        let (resize, sizes) = mpsc::channel(1);
        let exit = async move {
            let mut line = String::new();
            tokio::io::BufReader::new(process_in)
                .read_to_string(&mut line)
                .await
                .unwrap();
            process_out
                .write_all(line.to_uppercase().as_bytes())
                .await
                .unwrap();
            drop(process_out);
            Ok(3)
        };
        let session = ExecSession {
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: None,
            resize: Some(resize),
            exit: Box::pin(exit),
        };
        (session, sizes)
    }

    #[tokio::test]
    async fn a_session_passes_streams_sizes_and_the_exit_code() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let server = HalfClose::new(server);
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (session, mut sizes) = echo();
        let streams = Streams {
            stdin: true,
            stdout: true,
            ..Streams::default()
        };
        let (begin, begun) = tokio::sync::oneshot::channel();
        let session_of_runtime = async { begun.await.expect("it begins") };
        let serving = tokio::spawn(run(split(server, V5), 5, streams, session_of_runtime));
        // The client is greeted before the runtime has done anything.
        let greeting = client.next().await.unwrap().unwrap();
        assert_eq!(greeting.into_data()[..], [STDOUT]);
        assert!(begin.send(Ok(session)).is_ok());
        let mut send =
            async |data: &[u8]| client.send(Message::binary(data.to_vec())).await.unwrap();
        send(b"\x04{\"Width\":80,\"Height\":24}").await;
        send(b"\0hel").await;
        send(b"\0lo").await;
        send(b"\xff\0").await;
        assert_eq!(sizes.recv().await.unwrap().width, 80);
        let mut out = Vec::new();
        let mut status = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            match message {
                Message::Binary(data) if data[0] == STDOUT => out.extend_from_slice(&data[1..]),
                Message::Binary(data) if data[0] == ERROR => status.extend_from_slice(&data[1..]),
                Message::Close(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(out, b"HELLO");
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        // The connection's half is closed, and the other one waited for.
        let mut client = client.into_inner();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!serving.is_finished());
        drop(client);
        serving.await.unwrap();
    }

    #[test]
    fn exit_codes_are_told_as_a_status() {
        assert_eq!(verdict(&Ok(0), 5), r#"{"metadata":{},"status":"Success"}"#);
        let status: serde_json::Value = serde_json::from_str(&verdict(&Ok(3), 5)).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(
            status["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "3"})
        );
        assert_eq!(verdict(&Ok(0), 1), "");
    }
}
