//! `/portForward`: over SPDY, or over WebSocket channels, two per port, data and errors.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response, StatusCode};
use k8s_runtime::SandboxId;
use k8s_streaming::{
    channel::{Input, Output},
    spdy::{self, Wire},
    websocket::{Outgoing, PORT_FORWARD, Protocol, Socket, Upgrade, split},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{
    answer::{self, Refusal},
    query::Query,
    service::Body,
    spdy as over_spdy,
};
use crate::context::Context;

fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let mut out = Vec::new();
    for text in query
        .all("port")
        .chain(query.all("ports"))
        .flat_map(|t| t.split(','))
    {
        let port = text.parse::<u16>().map_err(|e| {
            Refusal::bad_request(format!("unable to parse {text:?} as a port: {e}"))
        })?;
        if port == 0 {
            return Err(Refusal::bad_request(format!("port {text:?} must be > 0")));
        }
        out.push(port);
    }
    Ok(out)
}

/// Answers with an upgrade; connections run in a task of their own.
pub(crate) fn answer<B>(
    cx: &Arc<Context>,
    namespace: &str,
    pod: &str,
    mut request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let ports = ports(&Query::of(request.uri()))?;
    let known = cx
        .known(namespace, pod)
        .ok_or_else(|| Refusal::not_found("pod does not exist"))?;
    let sandbox = known.sandbox.ok_or_else(|| {
        let message = format!("not found ({:?})", known.view.describe());
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    if spdy::upgrade::is_asked_for(request.headers()) {
        let upgrade =
            match spdy::upgrade::Upgrade::accept(&mut request, &spdy::upgrade::PORT_FORWARD) {
                Ok(upgrade) => upgrade,
                Err(refused) => return Ok(answer::refused(refused)),
            };
        let (response, _, io) = upgrade.into_parts();
        let cx = cx.clone();
        tokio::spawn(async move {
            if let Some(io) = io.await {
                over_spdy::port_forward::serve(cx, sandbox, Wire::raw(io)).await;
            }
        });
        return Ok(answer::switching(response));
    }
    let upgrade = match Upgrade::accept(&mut request, &PORT_FORWARD) {
        Ok(upgrade) => upgrade,
        Err(refused) => return Ok(answer::refused(refused)),
    };
    if upgrade.protocol.version != 0 && ports.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    let (response, protocol, socket) = upgrade.into_parts();
    let cx = cx.clone();
    tokio::spawn(async move {
        let Some(socket) = socket.await else { return };
        if protocol.version == 0 {
            over_spdy::port_forward::serve(cx, sandbox, Wire::tunnel(socket, protocol)).await;
        } else {
            serve(cx, sandbox, socket, protocol, ports).await;
        }
    });
    Ok(answer::switching(response))
}

async fn serve(
    cx: Arc<Context>,
    sandbox: SandboxId,
    socket: Socket,
    protocol: Protocol,
    ports: Vec<u16>,
) {
    let (out, mut incoming, writer) = split(socket, protocol);
    let mut senders = Vec::new();
    let mut connections = FuturesUnordered::new();
    for (index, port) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else {
            break;
        };
        let (sender, chunks) = mpsc::channel(16);
        senders.push(sender);
        connections.push(connection(
            &cx,
            &sandbox,
            out.clone(),
            channel,
            port,
            chunks,
        ));
    }
    let receive = async {
        while let Some((channel, data)) = incoming.next().await {
            if let Some(sender) = senders
                .get(usize::from(channel / 2))
                .filter(|_| channel % 2 == 0)
            {
                // A connection that has ended takes no more.
                let _ = sender.send(data).await;
            }
        }
    };
    let all = async { while connections.next().await.is_some() {} };
    tokio::select! {
        () = receive => {}
        () = all => {}
    }
    drop(connections);
    out.close().await;
    drop(out);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), writer).await;
}

async fn connection(
    cx: &Context,
    sandbox: &SandboxId,
    out: Outgoing,
    channel: u8,
    port: u16,
    chunks: mpsc::Receiver<Bytes>,
) {
    // Both streams begin with the port that they belong to.
    for stream in [channel, channel + 1] {
        if out.send(stream, &port.to_le_bytes()).await.is_err() {
            return;
        }
    }
    match open(cx, sandbox, port).await {
        Ok(pipe) => {
            let out = &out;
            pump(pipe, chunks, |data: Bytes| async move {
                out.send(channel, &data).await.is_ok()
            })
            .await;
        }
        Err(message) => {
            let _ = out.send(channel + 1, message.as_bytes()).await;
        }
    }
}

/// A connection to a port in a pod. The error is what the client is told.
pub(super) async fn open(
    cx: &Context,
    sandbox: &SandboxId,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + use<>, String> {
    cx.runtime
        .port_forward(sandbox, port)
        .await
        .map_err(|error| {
            format!(
                "error forwarding port {port} to pod {}, uid : {error}",
                sandbox.0
            )
        })
}

/// Carries bytes both ways, until the pod has no more to say or nobody takes it, as `send` tells by
/// `false`. What the client has sent is let in even when it has ended: the answer may still come.
pub(super) async fn pump<F: Future<Output = bool>>(
    pipe: impl AsyncRead + AsyncWrite,
    mut chunks: mpsc::Receiver<Bytes>,
    mut send: impl FnMut(Bytes) -> F,
) {
    let (mut from, mut to) = tokio::io::split(pipe);
    let upload = async {
        while let Some(chunk) = chunks.recv().await {
            if to.write_all(&chunk).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    let download = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(32 << 10);
            match from.read_buf(&mut buffer).await {
                Ok(n) if n > 0 && send(buffer.split().freeze()).await => {}
                _ => break,
            }
        }
    };
    tokio::select! {
        () = upload => {}
        () = download => {}
    }
}
