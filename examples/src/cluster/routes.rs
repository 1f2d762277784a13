//! Routes to the pods of a cluster's other nodes, as cloud providers and simple network plugins make
//! them: each node's range of pods lies behind the node's address.

use std::{collections::BTreeMap, net::IpAddr, pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_runtime::net::{IpCidr, PodNetwork};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio_util::sync::CancellationToken;

/// Follows the nodes until it is stopped.
pub(super) async fn run(
    client: Client,
    own: String,
    network: Arc<PodNetwork>,
    stop: CancellationToken,
) {
    let mut nodes = BTreeMap::new();
    let api = Api::<Node>::all(client);
    let mut events = pin!(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .take_until(stop.cancelled())
    );
    let mut refused = false;
    while let Some(event) = events.next().await {
        let settled = !matches!(event, Ok(Event::Init | Event::InitApply(_)));
        match event {
            Ok(Event::Init) => nodes.clear(),
            Ok(Event::InitApply(node)) => note(&mut nodes, &node),
            Ok(Event::Apply(node)) => note(&mut nodes, &node),
            Ok(Event::Delete(node)) => {
                nodes.remove(&node.name_any());
            }
            Ok(Event::InitDone) => {}
            Err(error) => {
                tracing::debug!(%error, "the nodes cannot be followed for now");
                continue;
            }
        }
        if !settled {
            continue;
        }
        let others = nodes.iter().filter(|(name, _)| **name != own);
        let routes: Vec<_> = others.filter_map(|(_, route)| *route).collect();
        match network.set_routes(routes).await {
            Ok(()) => refused = false,
            Err(error) if !refused => {
                tracing::warn!(%error, "not all pods of other nodes can be reached");
                refused = true;
            }
            Err(_) => {}
        }
    }
}

fn note(nodes: &mut BTreeMap<String, Option<(IpCidr, IpAddr)>>, node: &Node) {
    nodes.insert(node.name_any(), route(node));
}

/// The range of a node's pods, and where it is. Simulated nodes are nowhere.
fn route(node: &Node) -> Option<(IpCidr, IpAddr)> {
    let pods = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let ip = addresses.iter().find(|a| a.type_ == "InternalIP")?;
    let ip: IpAddr = ip.address.parse().ok()?;
    (!ip.is_loopback()).then_some((pods, ip))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_lie_behind_their_node_unless_it_is_simulated() {
        let node = |ip: &str, cidr: Option<&str>| -> Node {
            let node = json!({
                "spec": {"podCIDR": cidr},
                "status": {"addresses": [
                    {"type": "Hostname", "address": "a"},
                    {"type": "InternalIP", "address": ip},
                ]},
            });
            serde_json::from_value(node).unwrap()
        };
        let found = route(&node("192.0.2.7", Some("10.244.3.0/24"))).unwrap();
        assert_eq!(found.0, "10.244.3.0/24".parse().unwrap());
        assert_eq!(found.1, "192.0.2.7".parse::<IpAddr>().unwrap());
        assert!(route(&node("127.0.0.1", Some("10.244.3.0/24"))).is_none());
        assert!(route(&node("192.0.2.7", None)).is_none());
    }
}
