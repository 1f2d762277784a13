//! `cluster node`: a node of a cluster that runs elsewhere.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Instant,
};

use anyhow::{Context, bail};
use k8s_kubelet::TlsOptions;
use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_runtime::net::IpCidr;
use kube::{Api, runtime::wait::await_condition};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    arguments::{NodeOptions, RuntimeChoice},
    join::{self, Membership, PATIENCE, Purpose},
    layout::Layout,
    node::{self, Node, Place, Plan},
    rotation::Renewal,
    stop::Stop,
    up,
};

pub(super) async fn run(options: NodeOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let real = matches!(options.runtime, RuntimeChoice::Oci(_));
    if real && !nix::unistd::geteuid().is_root() {
        bail!("running containers needs root: run as root, or with --runtime sim");
    }
    let mut stop = Stop::new()?;
    let dir = &options.data_dir;
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    let layout = Layout::new(&fs::canonicalize(dir)?);
    let _claim = layout.claim()?;
    let mut started_node = None;
    let ended = tokio::select! {
        ready = start(&options, &layout, &mut started_node) => match ready {
            Ok(_renewal) => {
                announce(started, &name(&options)?);
                let failure = async {
                    match &mut started_node {
                        Some(node) => node.failure().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stop.signal() => Ok(()),
                    failure = failure => Err(failure),
                }
            }
            Err(error) => Err(error),
        },
        () = stop.signal() => Ok(()),
    };
    let stopped = match started_node {
        Some(node) => stop.unless_again(node.stop()).await,
        None => Ok(()),
    };
    ended.and(stopped)
}

/// The node's name: as told, or the machine's.
fn name(options: &NodeOptions) -> anyhow::Result<String> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => node::hostname().to_lowercase(),
    };
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() || !name.chars().all(fine) {
        bail!("{name:?} cannot be a node's name: give --name another");
    }
    Ok(name)
}

/// The address at which the cluster reaches this machine.
fn address(options: &NodeOptions) -> anyhow::Result<Ipv4Addr> {
    if let Some(ip) = options.node_ip {
        return Ok(ip);
    }
    let server: http::Uri = options.join.parse().context("--join is no URL")?;
    let host = server.host().context("--join names no host")?;
    let port = server.port_u16().unwrap_or(443);
    // Connecting a datagram socket sends nothing; the kernel only chooses a route.
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect((host, port))?;
        socket.local_addr()
    });
    match routed.map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) => Ok(ip),
        _ => bail!("there is no IPv4 route to {host}: give --node-ip"),
    }
}

/// Starts the node, and the task that renews its certificates.
async fn start(
    options: &NodeOptions,
    layout: &Layout,
    started: &mut Option<Node>,
) -> anyhow::Result<AbortOnDropHandle<()>> {
    let name = name(options)?;
    let ip = address(options)?;
    let Membership {
        newest,
        certificate,
        authority,
        networking,
    } = join::join(options, &name, layout).await?;
    let client = newest.client();
    let cidr: IpCidr = join::register(&client, &name, ip, PATIENCE)
        .await?
        .parse()
        .context("the range of the node's pods")?;
    let serving = join::certificate(&client, &name, &Purpose::Server(ip), PATIENCE)
        .await
        .context("cannot get a certificate for the node's own server")?;
    let (renewed, tls) = watch::channel(TlsOptions {
        certificate: serving.certificate,
        key: serving.key,
        client_ca: authority.clone(),
    });
    let place = if matches!(options.runtime, RuntimeChoice::Oci(_)) {
        let pods = networking.pod_subnet.parse();
        Place::Real {
            network: node::network(cidr, pods.context("the range of pods")?).await?,
            ip,
        }
    } else {
        Place::Simulated(ip)
    };
    let services: IpCidr = networking
        .service_subnet
        .parse()
        .context("the range of Services")?;
    let plan = Plan {
        name: name.clone(),
        folder: layout.joined_node(&name),
        images: layout.images(),
        client: client.clone(),
        proxy_client: client.clone(),
        tls,
        cidr,
        cluster_domain: networking.dns_domain,
        dns: node::dns_ip(services)?,
        runtime: &options.runtime,
        mirrors: &options.registry_mirror,
        place,
    };
    *started = Some(Node::start(plan).await?);
    let renewal = Renewal {
        name: name.clone(),
        ip,
        server: options.join.clone(),
        kubeconfig: layout.node_kubeconfig(),
        authority,
        newest,
        certificate,
        renewed,
    };
    let renewal = AbortOnDropHandle::new(tokio::spawn(renewal.run()));
    let api = Api::<ApiNode>::all(client);
    let ready = await_condition(api, &name, up::is_ready).await;
    ready.with_context(|| format!("{name} did not become Ready"))?;
    Ok(renewal)
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that the command promises"
)]
fn announce(started: Instant, name: &str) {
    use std::io::Write;
    println!("ready in {}ms  node {name}", started.elapsed().as_millis());
    // Whoever waits for the line may read from a pipe.
    if let Err(error) = std::io::stdout().flush() {
        tracing::debug!(%error, "nobody reads the output");
    }
}
