//! Watch fan-out: four writers, and many who watch what they write, each on a connection of its own.

use tokio::{task::JoinSet, time::Instant};

use crate::{
    events::Events,
    figures::Figures,
    load::{NAMESPACE, Objects, Scale, config_map, prepare},
    server::{Server, cpu},
    tls::Ended,
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
    // From now on only: without the objects that are there already.
    let path =
        format!("/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&labelSelector=round%3Dwatch");
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let events = Events::open(server.address, server.tls.clone(), path.clone()).await?;
        watching.spawn(watch(events, i64::try_from(writes)?));
    }
    let (before, client) = (server.cpu()?, cpu(std::process::id())?);
    let started = Instant::now();
    let written = watched.create(server).await?;
    let (mut last, mut resumed) = (started, 0);
    while let Some(ended) = watching.join_next().await {
        let (ended, times) = ended??;
        last = last.max(ended);
        resumed += times;
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
    figures.less(
        format!("  {watchers} watchers: client CPU an event"),
        "us",
        (cpu(std::process::id())? - client) / events * 1e6,
    );
    figures.less(
        format!("  {watchers} watchers: ended by the server"),
        "watches",
        resumed as f64,
    );
    Ok(())
}

/// Reads a watch until that many events have come; says when the last did, and how often the server had ended the
/// watch before.
async fn watch(mut watch: Events, events: i64) -> anyhow::Result<(Instant, usize)> {
    let (mut seen, mut resumed) = (0, 0);
    while seen < events {
        seen += match watch.next().await {
            Ok(events) => events,
            Err(error) if error.is::<Ended>() => {
                resumed += 1;
                watch.resume().await?
            }
            Err(error) => return Err(error),
        };
    }
    Ok((Instant::now(), resumed))
}
