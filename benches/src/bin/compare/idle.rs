//! What a watch takes that has nothing to tell: of memory, in the server.

use anyhow::bail;
use hyper::body::Incoming;

use crate::{
    client::Multiplexed,
    events::Events,
    figures::Figures,
    load::{NAMESPACE, prepare},
    server::Server,
};

const WATCHES: usize = 2_000;
/// Watches of one HTTP/2 connection; as many streams as every server allows.
const STREAMS: usize = 100;

pub(crate) async fn run(server: &Server, figures: &mut Figures) -> anyhow::Result<()> {
    prepare(server).await?;
    let per_watch =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / 1024.0 / WATCHES as f64;
    // The first of each sort brings up what all share.
    let mut connections = own_connections(server, 50).await?;
    let mut streams = Streams::open(server, 50).await?;

    let before = server.memory()?;
    connections.append(&mut own_connections(server, WATCHES).await?);
    let after = server.memory()?;
    figures.less(
        "idle watch, own connection",
        "KiB",
        per_watch(before, after),
    );

    let before = after;
    streams.add(Streams::open(server, WATCHES).await?);
    let after = server.memory()?;
    figures.less(
        format!("idle watch, {STREAMS} a connection"),
        "KiB",
        per_watch(before, after),
    );
    Ok(())
}

/// A watch of a namespace's ConfigMaps in which nothing happens.
pub(crate) fn path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&resourceVersion=0")
}

fn check(answer: &http::Response<Incoming>) -> anyhow::Result<()> {
    if answer.status() != 200 {
        bail!("a watch was answered {}", answer.status());
    }
    Ok(())
}

async fn own_connections(server: &Server, count: usize) -> anyhow::Result<Vec<Events>> {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(Events::open(server.address, server.tls.clone(), path()).await?);
    }
    Ok(open)
}

/// Watches that share connections.
#[derive(Default)]
pub(crate) struct Streams {
    connections: Vec<Multiplexed>,
    bodies: Vec<Incoming>,
}

impl Streams {
    async fn open(server: &Server, count: usize) -> anyhow::Result<Self> {
        Streams::open_each(server, count, |_| path()).await
    }

    /// Opens that many watches, each of its own path.
    pub(crate) async fn open_each(
        server: &Server,
        count: usize,
        path: impl Fn(usize) -> String,
    ) -> anyhow::Result<Self> {
        let mut streams = Streams::default();
        for n in 0..count {
            if n % STREAMS == 0 {
                let connection = Multiplexed::open(server.address, server.tls_h2.clone());
                streams.connections.push(connection.await?);
            }
            if let Some(connection) = streams.connections.last_mut() {
                let answer = connection.get(&path(n)).await?;
                check(&answer)?;
                streams.bodies.push(answer.into_body());
            }
        }
        Ok(streams)
    }

    pub(crate) fn add(&mut self, mut other: Streams) {
        self.connections.append(&mut other.connections);
        self.bodies.append(&mut other.bodies);
    }
}
