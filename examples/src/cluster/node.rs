//! A node: runtime, node agent, proxy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use k8s_apiserver::auth::Identity;
use k8s_kubelet::{Kubelet, TlsOptions};
use k8s_netproxy::{Dataplane, NftDataplane, Proxy};
use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_runtime::{
    ContainerRuntime, ContainerState, ImageService,
    images::{ImageStore, ImageStoreOptions, Mirror},
    net::{IpCidr, PodNetwork, PodNetworkOptions},
    oci::{OciOptions, OciRuntime},
    sim::{SimOptions, SimRuntime},
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::{RuntimeChoice, ServerOptions, UpOptions},
    control_plane::{ControlPlane, component},
    dns,
    layout::Layout,
    rotation, routes,
};

/// How long a container may take to end when the cluster stops.
const GRACE: Duration = Duration::from_secs(1);

/// The name of the node with that number, from 0.
pub(super) fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// The address at which pods and other machines reach this one: that of the default route, or the
/// gateway of the first node's pods where there is none.
pub(super) fn machine_ip(options: &ServerOptions) -> anyhow::Result<Ipv4Addr> {
    // Connecting a datagram socket sends nothing; the kernel only chooses a route.
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match routed.map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) if !ip.is_unspecified() && !ip.is_loopback() => Ok(ip),
        _ => match pod_cidr(options, 0)?.nth(1) {
            Some(IpAddr::V4(ip)) => Ok(ip),
            _ => bail!("--pod-cidr must be an IPv4 range"),
        },
    }
}

/// The part of the pods' range that a node has: a /24 each.
pub(super) fn pod_cidr(options: &ServerOptions, index: usize) -> anyhow::Result<IpCidr> {
    let range = options.pod_cidr;
    let prefix = range.prefix().max(24);
    let network = range
        .nth(index as u128 * 256)
        .filter(|ip| range.contains(*ip));
    let network = network
        .with_context(|| format!("--pod-cidr {range} has no room for node {}", index + 1))?;
    IpCidr::new(network, prefix).context("--pod-cidr")
}

/// The network of the pods of an OCI node, set up: the node's range, and the whole cluster's.
pub(super) async fn network(node: IpCidr, cluster: IpCidr) -> anyhow::Result<Arc<PodNetwork>> {
    let network = PodNetworkOptions::new(node).cluster_cidr(cluster);
    Ok(Arc::new(
        PodNetwork::set_up(network)
            .await
            .context("cannot set up the network of pods")?,
    ))
}

/// A running node.
pub(super) struct Node {
    /// `None` once it has ended.
    kubelet: Option<JoinHandle<Result<(), k8s_kubelet::Error>>>,
    stop: CancellationToken,
    real: Option<Real>,
}

/// What a node has that leaves traces on the machine.
struct Real {
    runtime: OciRuntime,
    network: Arc<PodNetwork>,
    folder: PathBuf,
    proxy: JoinHandle<NftDataplane>,
    routes: JoinHandle<()>,
    names: JoinHandle<()>,
}

/// What makes a node.
pub(super) struct Plan<'a> {
    pub(super) name: String,
    /// What it keeps.
    pub(super) folder: PathBuf,
    /// Where images are, which nodes may share.
    pub(super) images: PathBuf,
    /// Its agent's way to the cluster, and that of its proxy and its name server.
    pub(super) client: Client,
    pub(super) proxy_client: Client,
    pub(super) tls: watch::Receiver<TlsOptions>,
    /// The addresses of its pods.
    pub(super) cidr: IpCidr,
    pub(super) cluster_domain: String,
    pub(super) dns: Ipv4Addr,
    pub(super) runtime: &'a RuntimeChoice,
    pub(super) mirrors: &'a [Mirror],
    pub(super) place: Place,
}

impl<'a> Plan<'a> {
    /// A node in the control plane's own process.
    pub(super) async fn local(
        control_plane: &ControlPlane,
        options: &'a UpOptions,
        layout: &Layout,
        index: usize,
        place: Place,
    ) -> anyhow::Result<Self> {
        let name = name(index);
        let cidr = pod_cidr(&options.server, index)?;
        announce(control_plane, &name, cidr).await?;
        let (Place::Simulated(ip) | Place::Real { ip, .. }) = place;
        let pki = control_plane.pki.clone();
        let issued = pki.issue_kubelet_server(&name, &[ip.into()])?;
        let (renewed, tls) = watch::channel(TlsOptions {
            certificate: issued.certificate,
            key: issued.key,
            client_ca: pki.ca_pem().to_owned(),
        });
        tokio::spawn(rotation::of_own_node(pki, name.clone(), ip, renewed));
        let server = &control_plane.server;
        let identity = component(&format!("system:node:{name}")).group("system:nodes");
        Ok(Self {
            folder: layout.node(index),
            images: layout.images(),
            client: server.client(identity),
            proxy_client: server.client(component("system:kube-proxy")),
            tls,
            cidr,
            cluster_domain: options.server.cluster_domain.clone(),
            dns: dns_ip(options.server.service_cidr)?,
            runtime: &options.runtime,
            mirrors: &options.registry_mirror,
            place,
            name,
        })
    }
}

impl Node {
    /// Starts a node.
    pub(super) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let Plan { name, folder, .. } = plan;
        let (runtime, images, ip, parts): (Arc<dyn ContainerRuntime>, Arc<dyn ImageService>, _, _) =
            match plan.place {
                Place::Simulated(ip) => {
                    let runtime = SimRuntime::new(SimOptions::new(plan.cidr))?;
                    let images = runtime.images();
                    (Arc::new(runtime), images, ip, None)
                }
                Place::Real { network, ip } => {
                    let RuntimeChoice::Oci(program) = plan.runtime else {
                        bail!("no OCI runtime was chosen")
                    };
                    let mut images = ImageStoreOptions::new(plan.images);
                    for mirror in plan.mirrors {
                        images = images.mirror(mirror.clone());
                    }
                    let images = ImageStore::open(images).context("cannot open the image store")?;
                    let options = OciOptions::new(folder.join("runtime"))
                        .runtime(program)
                        .network(network.clone());
                    let runtime = OciRuntime::open(options, images.clone())
                        .await
                        .with_context(|| {
                            format!("cannot use the container runtime {}", program.display())
                        })?;
                    (
                        Arc::new(runtime.clone()),
                        Arc::new(images),
                        ip,
                        Some((runtime, network)),
                    )
                }
            };

        let mut kubelet = Kubelet::builder(plan.client.clone(), runtime, images)
            .node_name(&name)
            .node_ip(ip.into())
            .root_dir(folder.join("kubelet"))
            .cluster_domain(&plan.cluster_domain)
            .listen(served_at(ip, parts.is_some()))
            .renewed_tls(plan.tls);
        if parts.is_some() {
            kubelet = kubelet.cluster_dns(plan.dns.into()).system_logs("/var/log");
        }
        let kubelet = kubelet
            .build()
            .with_context(|| format!("cannot start {name}"))?;
        let real = match parts {
            None => None,
            Some((runtime, network)) => {
                let client = plan.proxy_client;
                let names = dns::serve(client.clone(), ip, &plan.cluster_domain).await?;
                names.tell(&plan.client, &name).await?;
                let routes =
                    routes::run(client.clone(), name.clone(), network.clone(), stop.clone());
                let proxy = Proxy::new(client, &name, NftDataplane::new());
                Some(Real {
                    runtime,
                    network,
                    folder,
                    proxy: tokio::spawn(proxy.run(stop.clone())),
                    routes: tokio::spawn(routes),
                    names: tokio::spawn(names.run(stop.clone())),
                })
            }
        };
        Ok(Self {
            kubelet: Some(tokio::spawn(kubelet.run(stop.clone()))),
            stop,
            real,
        })
    }

    /// Waits until the node ends by itself, and says why.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        let Some(kubelet) = &mut self.kubelet else {
            return std::future::pending().await;
        };
        let ended = kubelet.await;
        self.kubelet = None;
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("a node ended"),
            Ok(Err(error)) => anyhow::Error::new(error).context("a node failed"),
            Err(error) => anyhow::Error::new(error).context("a node failed"),
        }
    }

    /// Stops the node and removes everything that it made on the machine.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(kubelet) = self.kubelet {
            kubelet.await.context("the node agent failed")??;
        }
        if let Some(Real {
            runtime,
            network,
            folder,
            proxy,
            routes,
            names,
        }) = self.real
        {
            let mut dataplane = proxy.await.context("the proxy failed")?;
            routes.await.context("the routes failed")?;
            names.await.context("DNS failed")?;
            end_containers(&runtime).await?;
            runtime
                .shut_down()
                .await
                .context("cannot remove the containers")?;
            dataplane
                .clear()
                .await
                .context("cannot remove the rules for Services")?;
            unmount_below(&folder)?;
            network
                .remove()
                .await
                .context("cannot remove the network of pods")?;
        }
        Ok(())
    }
}

/// Where a node is.
pub(super) enum Place {
    /// Nowhere; its agent serves at this address of the machine.
    Simulated(Ipv4Addr),
    /// On this machine.
    Real {
        /// The pods' network.
        network: Arc<PodNetwork>,
        /// The machine's address.
        ip: Ipv4Addr,
    },
}

/// The address of the cluster's DNS: the tenth of the Services' range, as kubeadm has it.
pub(super) fn dns_ip(services: IpCidr) -> anyhow::Result<Ipv4Addr> {
    match services.nth(10) {
        Some(IpAddr::V4(ip)) => Ok(ip),
        _ => bail!("the range of Services {services} has no tenth IPv4 address for DNS"),
    }
}

/// Upstream's port of kubelets, which monitoring looks for.
const KUBELET_PORT: u16 = 10250;

/// Where a node's agent serves: a real node at upstream's port, unless something else has it there.
fn served_at(ip: Ipv4Addr, real: bool) -> SocketAddr {
    let usual = SocketAddr::new(ip.into(), KUBELET_PORT);
    if real && TcpListener::bind(usual).is_ok() {
        usual
    } else {
        SocketAddr::new(ip.into(), 0)
    }
}

/// The machine's name.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Makes the Node object with the pods' range that the node has here, before its agent registers it.
async fn announce(control_plane: &ControlPlane, name: &str, cidr: IpCidr) -> anyhow::Result<()> {
    let api = Api::<ApiNode>::all(control_plane.server.client(Identity::system_masters()));
    if api.get_opt(name).await?.is_some() {
        return Ok(());
    }
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"podCIDR": cidr.to_string(), "podCIDRs": [cidr.to_string()]},
    });
    let node = serde_json::from_value(node).context("a node")?;
    api.create(&PostParams::default(), &node)
        .await
        .with_context(|| format!("cannot make {name}"))?;
    Ok(())
}

/// Unmounts what volumes have mounted below a folder, the innermost first.
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<&Path> = points
        .map(Path::new)
        .filter(|point| point.starts_with(folder))
        .collect();
    below.sort();
    for point in below.into_iter().rev() {
        nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

/// Gives running containers a moment to end by themselves.
async fn end_containers(runtime: &OciRuntime) -> anyhow::Result<()> {
    let containers = runtime.containers().await?;
    let running = containers
        .iter()
        .filter(|c| c.state == ContainerState::Running);
    let ends = running.map(|container| runtime.stop_container(&container.id, GRACE));
    for end in futures::future::join_all(ends).await {
        end.context("cannot stop a container")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_left_to_its_owner() {
        let ip = Ipv4Addr::new(127, 93, 7, 1);
        assert_eq!(
            served_at(ip, false).port(),
            0,
            "simulated nodes share a machine"
        );
        assert_eq!(served_at(ip, true).port(), KUBELET_PORT);
        let _owner = TcpListener::bind((ip, KUBELET_PORT)).expect("it is free");
        assert_eq!(served_at(ip, true).port(), 0);
    }
}
