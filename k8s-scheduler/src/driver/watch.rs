//! What the driver follows.

use std::fmt::Debug;

use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;

/// A change of one of the resources.
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart at once, never stored"
)]
#[derive(Debug)]
pub(super) enum Input {
    Pod(watcher::Event<Pod>),
    Node(watcher::Event<Node>),
}

/// Follows pods and nodes for ever.
pub(super) fn inputs(client: &Client) -> BoxStream<'static, Input> {
    // Pods that have ended take nothing and wait for nothing.
    let live = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = follow(Api::<Pod>::all(client.clone()), live).map(Input::Pod);
    let nodes =
        follow(Api::<Node>::all(client.clone()), watcher::Config::default()).map(Input::Node);
    futures::stream::select(nodes, pods).boxed()
}

fn follow<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>>
where
    K: kube::Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    watcher(api, config)
        .default_backoff()
        .filter_map(|event| async {
            event
                .inspect_err(|error| tracing::warn!(%error, "watch failed, trying again"))
                .ok()
        })
}
