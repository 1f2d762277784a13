//! What a write costs beside more and more objects, and beside watchers whom it does not concern.

use crate::{
    figures::Figures,
    idle::Streams,
    load::{NAMESPACE, Objects, Scale, config_map, prepare, rate},
    server::Server,
};

/// Writes whose cost is measured.
const WRITES: usize = 10_000;
/// Watchers whom they do not concern.
const WATCHERS: [usize; 3] = [100, 1_000, 10_000];

pub(crate) async fn run(
    server: &Server,
    scale: Scale,
    levels: &[usize],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    prepare(server).await?;
    let mut next = 0;
    let mut create = |count: usize| {
        let from = next;
        next += count;
        Objects {
            resource: "configmaps",
            body: config_map,
            round: "first",
            connections: scale.connections,
            from,
            to: next,
        }
    };
    let mut there = 0;
    for level in levels {
        create(level.saturating_sub(there)).create(server).await?;
        let written = rate(server, create(WRITES).create(server)).await?;
        figures.rate(&format!("create beside {level} objects"), written);
        there = level + WRITES;
    }
    let mut streams = Streams::default();
    let mut watching = 0;
    for watchers in WATCHERS {
        let more = Streams::open_each(server, watchers - watching, elsewhere).await?;
        streams.add(more);
        watching = watchers;
        let written = rate(server, create(WRITES).create(server)).await?;
        figures.rate(&format!("create beside {watchers} watchers"), written);
    }
    drop(streams);
    Ok(())
}

/// What watchers watch whom the writes do not concern: the same resource in another namespace, one
/// object of the same namespace, another resource.
fn elsewhere(n: usize) -> String {
    match n % 3 {
        0 => "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=0".to_owned(),
        1 => format!(
            "/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dother-{n}"
        ),
        _ => format!(
            "/api/v1/pods?watch=true&resourceVersion=0&fieldSelector=spec.nodeName%3Dnode-{n}"
        ),
    }
}
