//! `cluster up`: from nothing to ready, and back.

use std::{fs, io::Write, net::Ipv4Addr, time::Instant};

use anyhow::{Context, bail};
use k8s_apiserver::auth::Identity;
use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::{Api, runtime::wait::await_condition};

use super::{
    arguments::{RuntimeChoice, ServerOptions, UpOptions},
    control_plane::ControlPlane,
    layout::Layout,
    node::{self, Node, Place, Plan},
    stop::Stop,
};

pub(super) async fn run(options: UpOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    check(&options)?;
    let mut stop = Stop::new()?;
    fs::create_dir_all(&options.server.data_dir).with_context(|| {
        format!(
            "cannot make the data directory {}",
            options.server.data_dir.display()
        )
    })?;
    let root = fs::canonicalize(&options.server.data_dir)?;
    let layout = Layout::new(&root);
    let _claim = layout.claim()?;

    let mut cluster = Cluster::default();
    let ended = tokio::select! {
        ready = cluster.start(&options, &layout) => match ready {
            Ok(()) => {
                announce(started, &options.server);
                tokio::select! {
                    () = stop.signal() => Ok(()),
                    failure = cluster.failure() => Err(failure),
                }
            }
            Err(error) => Err(error),
        },
        () = stop.signal() => Ok(()),
    };
    let stopped = stop.unless_again(cluster.stop()).await;
    ended.and(stopped)
}

/// What can be known to fail before anything is made.
fn check(options: &UpOptions) -> anyhow::Result<()> {
    if options.nodes == 0 {
        bail!("--nodes 0 makes no cluster: give 1 or more");
    }
    if matches!(options.runtime, RuntimeChoice::Oci(_)) {
        if options.nodes > 1 {
            bail!(
                "--nodes {} needs --runtime sim: one machine is one node",
                options.nodes
            );
        }
        if !nix::unistd::geteuid().is_root() {
            bail!("running containers needs root: run as root, or with --runtime sim");
        }
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that the command promises"
)]
pub(super) fn announce(started: Instant, options: &ServerOptions) {
    let kubeconfig = Layout::new(&options.data_dir).kubeconfig();
    println!(
        "ready in {}ms  KUBECONFIG={}",
        started.elapsed().as_millis(),
        kubeconfig.display()
    );
    // Whoever waits for the line may read from a pipe.
    if let Err(error) = std::io::stdout().flush() {
        tracing::debug!(%error, "nobody reads the output");
    }
}

/// The parts, as far as they were started.
#[derive(Default)]
struct Cluster {
    control_plane: Option<ControlPlane>,
    nodes: Vec<Node>,
}

impl Cluster {
    async fn start(&mut self, options: &UpOptions, layout: &Layout) -> anyhow::Result<()> {
        let real = matches!(options.runtime, RuntimeChoice::Oci(_));
        let machine = node::machine_ip(&options.server)?;
        // The gateway of the pods may be the address that the control plane is to listen on.
        let network = if real {
            let node = node::pod_cidr(&options.server, 0)?;
            Some(node::network(node, options.server.pod_cidr).await?)
        } else {
            None
        };
        let control_plane = ControlPlane::start(&options.server, layout, machine, real).await?;
        tracing::info!(address = %control_plane.address(), "serving the API");
        let control_plane = self.control_plane.insert(control_plane);
        for index in 0..options.nodes {
            let place = match &network {
                Some(network) => Place::Real {
                    network: network.clone(),
                    ip: machine,
                },
                None => Place::Simulated(Ipv4Addr::LOCALHOST),
            };
            let plan = Plan::local(control_plane, options, layout, index, place).await?;
            self.nodes.push(Node::start(plan).await?);
        }
        let server = &control_plane.server;
        let admin = server.client(Identity::system_masters());
        let api = Api::<ApiNode>::all(admin);
        for index in 0..options.nodes {
            let name = node::name(index);
            let ready = await_condition(api.clone(), &name, is_ready).await;
            ready.with_context(|| format!("{name} did not become Ready"))?;
        }
        Ok(())
    }

    /// Waits until a node ends by itself, and says why.
    async fn failure(&mut self) -> anyhow::Error {
        let failures = self.nodes.iter_mut().map(|node| Box::pin(node.failure()));
        futures::future::select_all(failures).await.0
    }

    /// Stops what was started, in reverse order, and gives the first thing that went wrong.
    async fn stop(self) -> anyhow::Result<()> {
        let mut result = Ok(());
        if let Some(control_plane) = &self.control_plane {
            control_plane.server.announce_shutdown();
        }
        for stopped in futures::future::join_all(self.nodes.into_iter().map(Node::stop)).await {
            result = result.and(stopped);
        }
        if let Some(control_plane) = self.control_plane {
            result = result.and(control_plane.stop().await);
        }
        result
    }
}

/// Whether a Node is Ready.
pub(super) fn is_ready(node: Option<&ApiNode>) -> bool {
    node.and_then(|n| n.status.as_ref())
        .into_iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
