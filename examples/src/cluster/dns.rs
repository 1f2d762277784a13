//! The cluster's name server, as a Service that pods ask.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use k8s_netproxy::dns::{ClusterDns, DnsConfig};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// Starts the server on a node's address, and has the Service lead to it.
///
/// `admin` makes the Service; `client` is the server's own identity.
pub(super) async fn start(
    admin: &Client,
    client: Client,
    node_ip: Ipv4Addr,
    service_ip: Ipv4Addr,
    domain: &str,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let config = DnsConfig {
        domain: domain.to_owned(),
        upstream: upstream(),
    };
    let mut dns = ClusterDns::try_new(client, config).context("cannot start the cluster's DNS")?;
    let address = dns
        .listen((node_ip, 0).into())
        .await
        .context("cannot start the cluster's DNS")?;
    publish(admin, address, service_ip)
        .await
        .context("cannot make the Service of the cluster's DNS")?;
    Ok(tokio::spawn(dns.run(stop)))
}

/// Makes the Service, or puts it right, and its one endpoint.
async fn publish(
    admin: &Client,
    address: SocketAddr,
    service_ip: Ipv4Addr,
) -> Result<(), kube::Error> {
    let labels = json!({"k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "clusterIP": service_ip.to_string(),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": address.port()},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": address.port()},
            ],
        },
    });
    upsert(
        &Api::<Service>::namespaced(admin.clone(), NAMESPACE),
        NAME,
        service,
    )
    .await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [
            {"name": "dns", "port": address.port(), "protocol": "UDP"},
            {"name": "dns-tcp", "port": address.port(), "protocol": "TCP"},
        ],
    });
    upsert(
        &Api::<EndpointSlice>::namespaced(admin.clone(), NAMESPACE),
        NAME,
        slice,
    )
    .await
}

/// Makes an object, or puts it right.
pub(super) async fn upsert<K>(
    api: &Api<K>,
    name: &str,
    object: serde_json::Value,
) -> Result<(), kube::Error>
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
