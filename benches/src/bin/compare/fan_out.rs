//! Watch fan-out: four writers, and many who watch what they write, each on a connection of its own.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::{sync::Barrier, task::JoinSet, time::Instant};

use crate::{
    client::Connection,
    figures::Figures,
    load::{NAMESPACE, Objects, Scale, config_map, prepare},
    server::Server,
};

const WRITERS: usize = 4;

pub(crate) async fn run(
    server: &Server,
    scale: Scale,
    watchers: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    prepare(server).await?;
    let there = Objects {
        resource: "configmaps",
        body: config_map,
        round: "first",
        connections: scale.connections,
        from: 0,
        to: 1_000,
    };
    there.create(server).await?;
    // Some seconds' work for either server.
    let writes = (3_000_000 / watchers).clamp(200, 20_000);
    let watched = Objects {
        round: "watch",
        connections: WRITERS,
        from: there.to,
        to: there.to + writes,
        ..there
    };
    let ready = Arc::new(Barrier::new(watchers + 1));
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let connection = Connection::open(server.address, server.tls.clone()).await?;
        watching.spawn(watch(connection, writes, ready.clone()));
    }
    ready.wait().await;
    let before = server.cpu()?;
    let started = Instant::now();
    let written = watched.create(server).await?;
    let mut last = started;
    while let Some(ended) = watching.join_next().await {
        last = last.max(ended??);
    }
    let events = (writes * watchers) as f64;
    figures.more(
        format!("events delivered, {watchers} watchers"),
        "/s",
        events / (last - started).as_secs_f64(),
    );
    figures.more(
        format!("  {watchers} watchers: writes"),
        "/s",
        written.amount / written.seconds,
    );
    figures.less(
        format!("  {watchers} watchers: server CPU an event"),
        "us",
        (server.cpu()? - before) / events * 1e6,
    );
    Ok(())
}

/// Watches all ConfigMaps of a round until that many events have come; says when the last did.
async fn watch(
    mut connection: Connection,
    events: usize,
    ready: Arc<Barrier>,
) -> anyhow::Result<Instant> {
    // From now on only: without the objects that are there already.
    let path =
        format!("/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&labelSelector=round%3Dwatch");
    let response = connection.send(Method::GET, &path, Bytes::new()).await?;
    if response.status() != 200 {
        bail!("a watch was answered {}", response.status());
    }
    ready.wait().await;
    let (mut body, mut seen) = (response.into_body(), 0);
    while seen < events {
        let frame = body.frame().await.context("a watch ended early")??;
        seen += frame
            .data_ref()
            .map_or(0, |d| memchr::memchr_iter(b'\n', d).count());
    }
    Ok(Instant::now())
}
