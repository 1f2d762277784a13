//! `/pods`, and finding the container that a request is about.

use k8s_openapi::{
    List,
    api::core::v1::{ContainerStatus, Pod},
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
