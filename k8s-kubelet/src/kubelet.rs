//! [`Kubelet`]: the running node agent.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_runtime::{ContainerRuntime, ImageService};
use kube::{
    Api, Client,
    runtime::{
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    Error, KubeletBuilder, KubeletService,
    context::Context,
    driver::Manager,
    eviction, logs,
    node::{self, NodeConfig},
    server::{self, tls::ServerTls},
};

/// Tasks and channels that wait for [`Kubelet::run`].
pub(crate) struct Background {
    pub(crate) events: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(crate) changes: mpsc::UnboundedReceiver<String>,
    pub(crate) services_writer: Writer<Service>,
}

/// A node agent: it takes the pods that were bound to its node and makes them run.
///
/// Made by [`Kubelet::builder`], run by [`Kubelet::run`].
pub struct Kubelet {
    context: Arc<Context>,
    node: NodeConfig,
    background: Background,
    listener: Option<(std::net::TcpListener, ServerTls)>,
    local_addr: Option<SocketAddr>,
    stop_pods: bool,
    stop_timeout: Duration,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubelet")
            .field("node", &self.context.settings.node_name)
            .finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Begins a kubelet that speaks to the API as `client` does (the user `system:node:<name>` of
    /// the group `system:nodes`) and to these backends.
    pub fn builder(
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
        images: Arc<dyn ImageService>,
    ) -> KubeletBuilder {
        KubeletBuilder::new(client, runtime, images)
    }

    pub(crate) fn assemble(
        context: Arc<Context>,
        node: NodeConfig,
        background: Background,
        listener: Option<(std::net::TcpListener, ServerTls)>,
        local_addr: Option<SocketAddr>,
        stop_pods: bool,
        stop_timeout: Duration,
    ) -> Self {
        Self {
            context,
            node,
            background,
            listener,
            local_addr,
            stop_pods,
            stop_timeout,
        }
    }

    /// The node's name.
    pub fn node_name(&self) -> &str {
        &self.context.settings.node_name
    }

    /// Where the server listens, if it does.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// The server without its listener: for an API server in the same process. Whoever holds it
    /// may do everything; requests are not authenticated.
    pub fn service(&self) -> KubeletService {
        KubeletService::new(self.context.clone())
    }

    /// Runs until `stop` is cancelled: registers the node, keeps its status and its lease, and
    /// makes the node's pods run.
    ///
    /// The stop has two stages. First no new pod is taken and no listener accepts any more; with
    /// [`stop_pods`](KubeletBuilder::stop_pods) every pod is ended in its grace period. After the
    /// [`stop_timeout`](KubeletBuilder::stop_timeout) what still goes on is broken off. Without
    /// `stop_pods` containers are left running, for the next kubelet to take over.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] if the container runtime does not answer at the start. Whatever fails
    /// later is tried again.
    ///
    /// # Panics
    ///
    /// If a part of it does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is the second stage at once.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self {
            context: cx,
            node,
            background,
            listener,
            stop_pods,
            stop_timeout,
            ..
        } = self;
        // Dropped, and with it aborted, when this function ends.
        let mut tasks = JoinSet::new();
        tasks.spawn(background.events);
        tasks.spawn(watch_services(
            cx.client.clone(),
            background.services_writer,
        ));
        if let Some((listener, tls)) = listener {
            tasks.spawn(server::listen(cx.clone(), listener, tls, stop.clone()));
        }
        tokio::select! {
            () = node::register(&cx, &node) => {}
            () = stop.cancelled() => return Ok(()),
        }
        tasks.spawn(node::heartbeat(cx.clone()));
        tasks.spawn(node::keep_status(cx.clone(), node));
        tasks.spawn(watch_node(cx.clone()));
        tasks.spawn(logs::rotation::run(cx.clone()));
        let abort = CancellationToken::new();
        let (evictions_tx, evictions) = mpsc::channel(16);
        tasks.spawn(eviction::run(cx.clone(), evictions_tx));
        let manager = Manager::new(cx, background.changes, evictions).run(
            stop.clone(),
            abort.clone(),
            stop_pods,
        );
        let mut manager = std::pin::pin!(manager);
        loop {
            tokio::select! {
                result = &mut manager => return Ok(result?),
                () = stop.cancelled() => break,
                // A node without heartbeat, say, is none: whoever runs it should hear of it.
                Some(ended) = tasks.join_next() => match ended {
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    _ => {}
                },
            }
        }
        match tokio::time::timeout(stop_timeout, &mut manager).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                abort.cancel();
                Ok(())
            }
        }
    }
}

/// Keeps the list of Services that containers' environments are made from.
async fn watch_services(client: Client, mut writer: Writer<Service>) {
    let api: Api<Service> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    let mut delay = Duration::from_millis(50);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                delay = Duration::from_millis(50);
                writer.apply_watcher_event(&event);
            }
            Err(error) => {
                debug!(%error, "watch of services broke");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Keeps the node as the API has it: its labels and taints decide on new pods.
async fn watch_node(cx: Arc<Context>) {
    let api: Api<Node> = Api::all(cx.client.clone());
    let config =
        watcher::Config::default().fields(&format!("metadata.name={}", cx.settings.node_name));
    let mut events = std::pin::pin!(watcher(api, config));
    let mut delay = Duration::from_millis(50);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => {
                delay = Duration::from_millis(50);
                cx.set_node(node);
            }
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "watch of the node broke");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
        }
    }
}
