//! Port-forward: for each connection the client opens two streams with the same request ID, one for data and
//! one for errors.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use k8s_runtime::SandboxId;
use k8s_streaming::spdy::{Connection, Event, Headers, Out, Wire};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{context::Context, server::port_forward};

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
    out: Out,
    connection: Connection,
    pairs: HashMap<String, Pair>,
    /// Where a stream's data goes.
    uploads: HashMap<u32, mpsc::Sender<Bytes>>,
    forwards: JoinSet<u32>,
}

/// Serves a client until it leaves.
pub(in crate::server) async fn serve(cx: Arc<Context>, sandbox: SandboxId, wire: Wire) {
    let (connection, out, writer) = wire.into_parts();
    let mut session = Session {
        cx,
        sandbox,
        out: out.clone(),
        connection,
        pairs: HashMap::new(),
        uploads: HashMap::new(),
        forwards: JoinSet::new(),
    };
    session.run().await;
    drop(session);
    out.close().await;
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), writer).await;
}

impl Session {
    async fn run(&mut self) {
        loop {
            let event = tokio::select! {
                event = self.connection.next() => event,
                Some(ended) = self.forwards.join_next(), if !self.forwards.is_empty() => {
                    if let Ok(stream) = ended {
                        self.uploads.remove(&stream);
                    }
                    continue;
                }
            };
            let Some(event) = event else { return };
            if self.take(event).await.is_none() {
                return;
            }
        }
    }

    /// Deals with what happened; `None` ends the session.
    async fn take(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Opened { stream, headers } => self.opened(stream, &headers).await?,
            Event::Data { stream, data, last } => {
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
            Event::Reset { stream } => {
                self.uploads.remove(&stream);
            }
            // Nothing is opened from here.
            Event::Accepted { .. } => {}
        }
        Some(())
    }

    async fn opened(&mut self, stream: u32, headers: &Headers) -> Option<()> {
        let port = headers
            .get("port")
            .and_then(|p| p.parse::<u16>().ok())
            .filter(|p| *p > 0);
        let kind = headers
            .get("streamtype")
            .filter(|k| matches!(*k, "data" | "error"));
        let (Some(port), Some(kind)) = (port, kind) else {
            return self.connection.refuse(stream).await;
        };
        if self.uploads.len() + self.pairs.len() > MAX_STREAMS {
            return self.connection.refuse(stream).await;
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
        let request = headers
            .get("requestid")
            .map_or_else(fallback, str::to_owned);
        self.connection.accept(stream).await?;
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
            self.forwards.spawn(async move {
                forward(&cx, &sandbox, &out, (data, error), port, chunks).await;
                data
            });
        }
        Some(())
    }
}

async fn forward(
    cx: &Context,
    sandbox: &SandboxId,
    out: &Out,
    (data, error): (u32, u32),
    port: u16,
    chunks: mpsc::Receiver<Bytes>,
) {
    let failed = match port_forward::open(cx, sandbox, port).await {
        Ok(pipe) => {
            port_forward::pump(pipe, chunks, |bytes: Bytes| async move {
                out.data(data, &bytes, false).await.is_ok()
            })
            .await;
            String::new()
        }
        Err(message) => message,
    };
    let _ = out.data(error, failed.as_bytes(), true).await;
    let _ = out.data(data, &[], true).await;
}
