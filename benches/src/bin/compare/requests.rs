//! Single requests: creates, reads and lists, and the memory that the objects take.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    figures::Figures,
    load::{NAMESPACE, Objects, Scale, Work, config_map, each, expect, pod, prepare, rate},
    server::Server,
};

pub(crate) async fn run(
    server: &Server,
    scale: Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    figures.less(
        "start to /readyz",
        "ms",
        server.ready_after.as_secs_f64() * 1e3,
    );
    prepare(server).await?;
    figures.less("idle memory", "MB", server.memory()? as f64 / 1e6);

    let config_maps = Objects {
        resource: "configmaps",
        body: config_map,
        round: "first",
        connections: scale.connections,
        from: 0,
        to: scale.objects,
    };
    let pods = Objects {
        resource: "pods",
        body: pod,
        ..config_maps
    };
    let made = rate(server, config_maps.create(server)).await?;
    figures.rate("create ConfigMaps", made);
    figures.rate("create Pods", rate(server, pods.create(server)).await?);
    figures.rate("GET a Pod", rate(server, get(server, scale)).await?);
    let listed = rate(server, list(server, scale)).await?;
    figures.more("LIST Pods", "MB/s", listed.per_second / 1e6);
    figures.less("  LIST Pods: server CPU a MB", "us", listed.cpu * 1e12);
    figures.less(
        "memory with all objects",
        "MB",
        server.memory()? as f64 / 1e6,
    );
    Ok(())
}

/// Reads single Pods.
async fn get(server: &Server, scale: Scale) -> anyhow::Result<Work> {
    let objects = scale.objects;
    each(
        server,
        scale.connections,
        objects * 5,
        move |mut connection, next| async move {
            while let Some(n) = next() {
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/object-{}", n % objects);
                expect(200, connection.get(&path).await?)?;
            }
            Ok(())
        },
    )
    .await
}

/// Lists all Pods, on four connections.
async fn list(server: &Server, scale: Scale) -> anyhow::Result<Work> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let bytes = Arc::new(AtomicUsize::new(0));
    let counted = bytes.clone();
    let lists = 40;
    let connections = scale.connections.min(4);
    let work = each(server, connections, lists, move |mut connection, next| {
        let (path, counted) = (path.clone(), counted.clone());
        async move {
            while next().is_some() {
                let (code, length) = connection.get(&path).await?;
                expect(200, (code, length))?;
                counted.fetch_add(length, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    Ok(Work {
        amount: bytes.load(Ordering::Relaxed) as f64,
        ..work
    })
}
