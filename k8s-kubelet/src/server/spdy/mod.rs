//! Port-forward over SPDY/3.1 frames inside of WebSocket messages: what `kubectl port-forward`
//! speaks (KEP-4006).
//!
//! For each connection the client opens two streams with the same request ID, one for data and
//! one for errors.

mod dictionary;
mod frame;
mod headers;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use k8s_runtime::SandboxId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};

use self::{
    frame::{Frame, Parser},
    headers::{Deflater, Inflater},
};
use super::websocket::{Incoming, Outgoing, Protocol, Socket, split};
use crate::context::Context;

/// Connections of one client at the same time.
const MAX_STREAMS: usize = 2000;

/// One half-made connection: its streams by purpose.
#[derive(Default)]
struct Pair {
    data: Option<(u32, mpsc::Receiver<Bytes>)>,
    error: Option<u32>,
    port: u16,
}

struct Session {
    cx: Arc<Context>,
    sandbox: SandboxId,
    out: Outgoing,
    inflater: Inflater,
    deflater: Deflater,
    pairs: HashMap<String, Pair>,
    /// Where a stream's data goes.
    uploads: HashMap<u32, mpsc::Sender<Bytes>>,
    connections: JoinSet<u32>,
}

/// Serves a tunnel until the client leaves.
pub(crate) async fn serve(
    cx: Arc<Context>,
    sandbox: SandboxId,
    socket: Socket,
    protocol: Protocol,
) {
    let (out, mut incoming, writer) = split(socket, protocol);
    let mut session = Session {
        cx,
        sandbox,
        out: out.clone(),
        inflater: Inflater::new(),
        deflater: Deflater::default(),
        pairs: HashMap::new(),
        uploads: HashMap::new(),
        connections: JoinSet::new(),
    };
    session.run(&mut incoming).await;
    drop(session);
    out.close().await;
    drop(out);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), writer).await;
}

impl Session {
    async fn run(&mut self, incoming: &mut Incoming) {
        let mut parser = Parser::default();
        loop {
            let bytes = tokio::select! {
                bytes = incoming.next_raw() => bytes,
                Some(ended) = self.connections.join_next(), if !self.connections.is_empty() => {
                    if let Ok(stream) = ended {
                        self.uploads.remove(&stream);
                    }
                    continue;
                }
            };
            let Some(bytes) = bytes else { return };
            parser.push(&bytes);
            loop {
                match parser.next() {
                    Ok(Some(frame)) => {
                        if self.take(frame).await.is_none() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return tracing::debug!(error, "broken SPDY frame"),
                }
            }
        }
    }

    /// Deals with a frame; `None` ends the session.
    async fn take(&mut self, frame: Frame) -> Option<()> {
        match frame {
            Frame::SynStream {
                stream, headers, ..
            } => {
                let headers = self.inflater.read(&headers)?;
                self.opened(stream, &headers).await?;
            }
            Frame::Data { stream, data, last } => {
                if let Some(upload) = self.uploads.get(&stream)
                    && !data.is_empty()
                    && upload.send(data).await.is_err()
                {
                    self.uploads.remove(&stream);
                }
                if last {
                    self.uploads.remove(&stream);
                }
            }
            Frame::Reset { stream } => {
                self.uploads.remove(&stream);
            }
            Frame::Ping { id } => self.out.send_raw(frame::ping(id)).await.ok()?,
            Frame::GoAway => return None,
            Frame::Other { headers } => {
                // Compression has a state: nothing compressed may be skipped.
                if let Some(headers) = headers {
                    self.inflater.read(&headers)?;
                }
            }
        }
        Some(())
    }

    async fn opened(&mut self, stream: u32, headers: &[(String, String)]) -> Option<()> {
        let get = |name: &str| {
            headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.as_str())
        };
        let port = get("port")
            .and_then(|p| p.parse::<u16>().ok())
            .filter(|p| *p > 0);
        let kind = get("streamtype").filter(|k| matches!(*k, "data" | "error"));
        let (Some(port), Some(kind)) = (port, kind) else {
            return self.out.send_raw(frame::reset(stream)).await.ok();
        };
        if self.uploads.len() + self.pairs.len() > MAX_STREAMS {
            return self.out.send_raw(frame::reset(stream)).await.ok();
        }
        // Clients without request IDs open the error stream just before the data stream.
        let fallback = || {
            if kind == "error" {
                stream
            } else {
                stream.saturating_sub(2)
            }
            .to_string()
        };
        let request = get("requestid").map_or_else(fallback, str::to_owned);
        let reply = frame::reply(stream, &self.deflater.empty());
        self.out.send_raw(reply).await.ok()?;
        let pair = self.pairs.entry(request.clone()).or_default();
        pair.port = port;
        if kind == "data" {
            let (sender, chunks) = mpsc::channel(16);
            self.uploads.insert(stream, sender);
            pair.data = Some((stream, chunks));
        } else {
            pair.error = Some(stream);
        }
        if pair.data.is_some()
            && pair.error.is_some()
            && let Some(Pair {
                data: Some((data, chunks)),
                error: Some(error),
                port,
            }) = self.pairs.remove(&request)
        {
            let (cx, sandbox, out) = (self.cx.clone(), self.sandbox.clone(), self.out.clone());
            self.connections.spawn(async move {
                connection(&cx, &sandbox, &out, (data, error), port, chunks).await;
                data
            });
        }
        Some(())
    }
}

async fn connection(
    cx: &Context,
    sandbox: &SandboxId,
    out: &Outgoing,
    (data, error): (u32, u32),
    port: u16,
    mut chunks: mpsc::Receiver<Bytes>,
) {
    let pipe = match cx.runtime.port_forward(sandbox, port).await {
        Ok(pipe) => pipe,
        Err(cause) => {
            let message = format!(
                "error forwarding port {port} to pod {}, uid : {cause}",
                sandbox.0
            );
            let _ = out
                .send_raw(frame::data(error, message.as_bytes(), true))
                .await;
            let _ = out.send_raw(frame::data(data, &[], true)).await;
            return;
        }
    };
    let (mut from, mut to) = tokio::io::split(pipe);
    let upload = async {
        while let Some(chunk) = chunks.recv().await {
            if to.write_all(&chunk).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        // The answer may still come.
        std::future::pending::<()>().await;
    };
    let download = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = from.read(&mut buffer).await {
            if n == 0
                || out
                    .send_raw(frame::data(data, &buffer[..n], false))
                    .await
                    .is_err()
            {
                break;
            }
        }
    };
    tokio::select! {
        () = upload => {}
        () = download => {}
    }
    let _ = out.send_raw(frame::data(data, &[], true)).await;
    let _ = out.send_raw(frame::data(error, &[], true)).await;
}
