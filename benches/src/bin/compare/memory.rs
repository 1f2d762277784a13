//! What a server takes of memory that has as many objects as a cluster of some hundred nodes.

use crate::{
    figures::Figures,
    load::{NAMESPACE, Objects, Scale, config_map, each, expect, pod, prepare},
    server::Server,
};

const PODS: usize = 11_800;
const CONFIG_MAPS: usize = 18_500;

pub(crate) async fn run(
    server: &Server,
    scale: Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    prepare(server).await?;
    let config_maps = Objects {
        resource: "configmaps",
        body: config_map,
        round: "first",
        connections: scale.connections,
        from: 0,
        to: CONFIG_MAPS,
    };
    let pods = Objects {
        resource: "pods",
        body: pod,
        to: PODS,
        ..config_maps
    };
    config_maps.create(server).await?;
    pods.create(server).await?;
    figures.less(
        format!("memory, {PODS} Pods and {CONFIG_MAPS} ConfigMaps"),
        "MB",
        server.memory()? as f64 / 1e6,
    );
    // Whoever watches or selects makes a server keep more of them.
    for resource in ["configmaps", "pods"] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{resource}?labelSelector=app%3Dcompare");
        each(server, 1, 1, move |mut connection, next| {
            let path = path.clone();
            async move {
                while next().is_some() {
                    expect(200, connection.get(&path).await?)?;
                }
                Ok(())
            }
        })
        .await?;
    }
    figures.less(
        "  the same after lists with selectors",
        "MB",
        server.memory()? as f64 / 1e6,
    );
    Ok(())
}
