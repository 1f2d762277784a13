//! `/pods`, `/runningpods/`, and finding the container that a request is about.

use std::collections::BTreeMap;

use k8s_openapi::{
    List,
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use k8s_runtime::{
    ContainerState, ContainerStatus as Running, SandboxId, SandboxState, SandboxStatus,
};

use crate::context::Context;

/// All pods of the node with their present status.
pub(crate) fn list(cx: &Context) -> List<Pod> {
    let items = cx.all_known().into_iter().map(|known| Pod {
        status: Some(known.status),
        ..known.view.to_object()
    });
    List {
        items: items.collect(),
        ..Default::default()
    }
}

/// The pods that run on the node, as the runtime has them: of their containers those that run, by the images that
/// they run, and nothing else.
pub(crate) async fn running(cx: &Context) -> Result<List<Pod>, k8s_runtime::Error> {
    let sandboxes = cx.runtime.sandboxes().await?;
    let containers = cx.runtime.containers().await?;
    Ok(List {
        items: running_pods(sandboxes, containers),
        ..Default::default()
    })
}

fn running_pods(mut sandboxes: Vec<SandboxStatus>, containers: Vec<Running>) -> Vec<Pod> {
    let mut inside: BTreeMap<SandboxId, Vec<Container>> = BTreeMap::new();
    for container in containers {
        if container.state == ContainerState::Running {
            let containers = inside.entry(container.sandbox).or_default();
            containers.push(Container {
                name: container.config.name,
                image: Some(container.config.image),
                ..Default::default()
            });
        }
    }
    // A pod whose sandbox is gone runs for as long as a container of it does.
    sandboxes.retain(|s| s.state == SandboxState::Ready || inside.contains_key(&s.id));
    let mut pods: BTreeMap<(String, String, String), PodSpec> = BTreeMap::new();
    for SandboxStatus { id, config, .. } in sandboxes {
        let spec = pods.entry((config.namespace, config.name, config.uid));
        let containers = inside.remove(&id).unwrap_or_default();
        spec.or_default().containers.extend(containers);
    }
    let pods = pods.into_iter();
    pods.map(|((namespace, name, uid), spec)| Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            ..Default::default()
        },
        spec: Some(spec),
        ..Default::default()
    })
    .collect()
}

/// The status of a container in any of the lists.
pub(crate) fn container_status<'a>(
    status: &'a k8s_openapi::api::core::v1::PodStatus,
    name: &str,
) -> Option<&'a ContainerStatus> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|s| s.name == name)
}
