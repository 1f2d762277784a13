//! The cluster's name servers: every node with real containers has one, for its own pods.
//!
//! 1. A node answers for the cluster's names, and says at which port by an annotation of its Node.
//! 2. The control plane makes the Service `kube-dns`, and an EndpointSlice for each such node.
//!
//! The Service leads each pod to its own node (`internalTrafficPolicy: Local`). So names are found wherever the
//! control plane runs, and while it or another node is away; NodeLocal DNSCache does the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use anyhow::Context;
use futures::StreamExt;
use k8s_netproxy::dns::{ClusterDns, DnsConfig};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
/// The annotation of a Node that says at which port it answers for names.
const PORT: &str = "dns.k8s-netproxy/port";
const RETRY: Duration = Duration::from_secs(1);

/// A node's name server.
pub(super) struct Names {
    dns: ClusterDns,
    address: SocketAddr,
}

/// Listens at a node's address, for its pods.
pub(super) async fn serve(client: Client, node: Ipv4Addr, domain: &str) -> anyhow::Result<Names> {
    let config = DnsConfig {
        domain: domain.to_owned(),
        upstream: upstream(),
    };
    let mut dns = ClusterDns::try_new(client, config).context("cannot start the cluster's DNS")?;
    let address = dns
        .listen((node, 0).into())
        .await
        .context("cannot start the cluster's DNS")?;
    Ok(Names { dns, address })
}

impl Names {
    /// Says, as the node, that it is there.
    pub(super) async fn tell(&self, client: &Client, node: &str) -> anyhow::Result<()> {
        let port = self.address.port().to_string();
        let patch = json!({"metadata": {"annotations": {PORT: port}}});
        Api::<Node>::all(client.clone())
            .patch(node, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("cannot tell where the node's DNS is")?;
        Ok(())
    }

    /// Answers until it is stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        self.dns.run(stop).await;
    }
}

/// Where a node's name server is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The node's identity, for what goes with it.
    uid: String,
    ip: IpAddr,
    port: u16,
}

impl Place {
    /// `None` for a node without one.
    fn of(node: &Node) -> Option<Self> {
        let port = node.annotations().get(PORT)?.parse().ok()?;
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        let ip = addresses.iter().find(|a| a.type_ == "InternalIP")?;
        Some(Self {
            uid: node.uid()?,
            ip: ip.address.parse().ok()?,
            port,
        })
    }

    fn slice(&self, node: &str) -> Value {
        let (family, port) = (if self.ip.is_ipv4() { "IPv4" } else { "IPv6" }, self.port);
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": slice_name(node), "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": NAME},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": self.uid}],
            },
            "addressType": family,
            "endpoints": [{
                "addresses": [self.ip.to_string()],
                "conditions": {"ready": true},
                "nodeName": node,
            }],
            "ports": [
                {"name": "dns", "port": port, "protocol": "UDP"},
                {"name": "dns-tcp", "port": port, "protocol": "TCP"},
            ],
        })
    }
}

fn slice_name(node: &str) -> String {
    format!("{NAME}-{node}")
}

/// Has the Service lead to the nodes' name servers, from the first one on, until it is stopped. Several servers of one
/// cluster may do this at once.
pub(super) async fn publish(admin: Client, service_ip: Ipv4Addr, stop: CancellationToken) {
    let api = Api::<Node>::all(admin.clone());
    let mut events = pin!(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .take_until(stop.cancelled())
    );
    let mut known: BTreeMap<String, Place> = BTreeMap::new();
    let mut waiting = BTreeSet::new();
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Ok(Event::Apply(node) | Event::InitApply(node))) => {
                    let (name, place) = (node.name_any(), Place::of(&node));
                    if let Some(place) = place.filter(|place| known.get(&name) != Some(place)) {
                        known.insert(name.clone(), place);
                        waiting.insert(name);
                    }
                }
                Some(Ok(Event::Delete(node))) => {
                    // Its slice goes with it.
                    known.remove(&node.name_any());
                }
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(error)) => tracing::debug!(%error, "the nodes cannot be followed for now"),
            },
            () = tokio::time::sleep(RETRY), if !waiting.is_empty() => {}
        }
        for node in std::mem::take(&mut waiting) {
            let Some(place) = known.get(&node) else {
                continue;
            };
            if let Err(error) = lead_to(&admin, service_ip, &node, place).await {
                tracing::warn!(%error, node, "the node's pods find no names yet");
                waiting.insert(node);
            }
        }
    }
}

/// Makes the Service, and the slice for one node, or puts them right.
async fn lead_to(
    admin: &Client,
    service_ip: Ipv4Addr,
    node: &str,
    place: &Place,
) -> Result<(), kube::Error> {
    let labels = json!({"k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "clusterIP": service_ip.to_string(),
            "internalTrafficPolicy": "Local",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    });
    let api = Api::<Service>::namespaced(admin.clone(), NAMESPACE);
    upsert(&api, NAME, service).await?;
    let api = Api::<EndpointSlice>::namespaced(admin.clone(), NAMESPACE);
    upsert(&api, &slice_name(node), place.slice(node)).await
}

/// Makes an object, or puts it right.
pub(super) async fn upsert<K>(api: &Api<K>, name: &str, object: Value) -> Result<(), kube::Error>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    if api.get_opt(name).await?.is_some() {
        api.patch(name, &PatchParams::default(), &Patch::Merge(object))
            .await?;
    } else {
        let typed = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        api.create(&PostParams::default(), &typed).await?;
    }
    Ok(())
}

/// The machine's own name servers.
fn upstream() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers
        .filter_map(|server| server.trim().parse().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_at_its_own_address_if_it_says_that_it_answers() {
        let node = |annotations: Value| -> Node {
            let node = json!({
                "metadata": {"name": "a", "uid": "u", "annotations": annotations},
                "status": {"addresses": [
                    {"type": "Hostname", "address": "a"},
                    {"type": "InternalIP", "address": "192.0.2.7"},
                ]},
            });
            serde_json::from_value(node).unwrap()
        };
        let place = Place::of(&node(json!({PORT: "4053"}))).unwrap();
        let slice: EndpointSlice = serde_json::from_value(place.slice("a")).unwrap();
        assert_eq!(slice.name_any(), "kube-dns-a");
        assert_eq!(slice.owner_references()[0].uid, "u");
        let endpoint = &slice.endpoints.iter().flatten().next().unwrap();
        assert_eq!(endpoint.addresses, ["192.0.2.7"]);
        assert_eq!(endpoint.node_name.as_deref(), Some("a"));
        assert!(slice.ports.iter().flatten().all(|p| p.port == Some(4053)));
        for said in [json!({}), json!({PORT: "many"}), json!({PORT: "70000"})] {
            assert_eq!(Place::of(&node(said)), None);
        }
    }
}
