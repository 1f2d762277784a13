//! Store, API server, controllers and scheduler.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use k8s_apiserver::{
    Advertised, ApiServer, Cidr,
    admission::plugins::default_plugins,
    auth::{ANONYMOUS_PATHS, Authenticator, BootstrapTokens, Identity, ServiceAccountTokens},
    authz::{
        node::NodeAuthorizer,
        rbac::{EscalationCheck, Rbac, bootstrap},
    },
    components,
    encryption::Encrypted,
    pki::{Pki, ServerNames},
    proxy::{self, NodeDialer, TlsDialer},
    reviews,
    serve::{Limits, Server, ServerTls, bind, serve},
};
use k8s_controllers::{
    ControllerManager, Selection,
    runtime::{Clock, LeaderElection, LeaderElectionConfig},
};
use k8s_scheduler::{Driver, DriverConfig, Profile};
use k8s_store::layer::MetricsLayer;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::Layer;

use super::{
    arguments::{ServerOptions, StoreChoice},
    audit::audit,
    dns,
    encryption::encrypt,
    joining,
    layout::Layout,
    node,
    renewal::{Issued, Renewal},
    scheduler::{self, Current, serve_metrics},
    signer::{Signer, TokenSigner},
    store::Opened,
};

/// The users that controllers and scheduler are.
const CONTROLLERS: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// How long running requests may take to finish when the server stops: as long as a request may take at all.
const GRACE: Duration = Duration::from_secs(60);
/// How long answers may take to be sent then, before what is open is cut: tunnels and logs that are followed.
const TUNNELS: Duration = Duration::from_millis(500);

/// Everything that makes decisions, running.
pub(super) struct ControlPlane {
    pub(super) server: ApiServer,
    pub(super) pki: Pki,
    listener: Server,
    /// How long to serve on when told to stop.
    delay: Duration,
    /// Where the scheduler's metrics are.
    scheduler: Option<Server>,
    address: SocketAddr,
    store: Opened,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl ControlPlane {
    /// Starts it. `machine` is the machine's address; it is listened on too where `exposed`, for pods.
    pub(super) async fn start(
        options: &ServerOptions,
        layout: &Layout,
        machine: Ipv4Addr,
        exposed: bool,
    ) -> anyhow::Result<Self> {
        let listeners = listen(options.listen, exposed.then_some(machine)).await?;
        let address = listeners[0].local_addr()?;
        let keys = options.pki.clone().unwrap_or_else(|| layout.pki());
        let pki = Pki::open_or_create(keys.clone()).context("cannot open the cluster's keys")?;
        let store = Opened::open(options, layout).await?;
        let encrypted = match (&options.store, &options.encryption_provider_config) {
            // What is in memory is not at rest.
            (StoreChoice::Memory, None) => None,
            (_, given) => {
                let path = given.clone().unwrap_or(keys.join("encryption.yaml"));
                Some(encrypt(store.store(), &path, given.is_none()).await?)
            }
        };

        let service_cidr: Cidr = options
            .service_cidr
            .to_string()
            .parse()
            .context("--service-cidr")?;
        let dns = node::dns_ip(options.service_cidr).context("--service-cidr")?;
        let names =
            ServerNames::for_apiserver(&options.cluster_domain, Some(service_cidr.first_host()))
                .with(&address.ip().to_string())
                .with(&machine.to_string());
        let names = options
            .tls_san
            .iter()
            .fold(names, |names, name| names.with(name));
        let measured = MetricsLayer::default();
        let kept = encrypted.as_ref();
        let kept = kept.map_or_else(|| store.store(), Encrypted::store);
        let issued = Issued::newest(&pki, &names)
            .context("cannot issue the control plane's certificates")?;
        let parts: [components::Task; 2] = Default::default();
        let [controllers, scheduler] = parts.clone();
        let mut builder = ApiServer::builder()
            .component("scheduler", Arc::new(scheduler))
            .component("controller-manager", Arc::new(controllers))
            .store(Arc::new(measured.clone().layer(kept)))
            .metrics(move || measured.text())
            .compaction_interval(options.etcd_compaction_interval)
            .identity(node::hostname())
            .service_cidr(service_cidr)
            .advertise(Advertised {
                addresses: vec![machine.into()],
                port: address.port(),
            });
        let reader = builder.reader();
        let issuer = format!("https://kubernetes.default.svc.{}", options.cluster_domain);
        let tokens = ServiceAccountTokens::new(pki.service_account_key(), issuer, reader.clone());
        let tokens = Arc::new(tokens.context("cannot use the key for tokens")?);
        let rbac = Arc::new(Rbac::start(&*reader));
        let nodes = Arc::new(NodeAuthorizer::start(&*reader));
        let access = &options.access;
        let (authorizer, reloads) = access.authorizer(nodes, rbac.clone(), &reader)?;
        if let Some(reloads) = reloads {
            builder = builder.metrics(reloads);
        }
        let mut plugins = default_plugins(&reader, &authorizer);
        plugins.push(Arc::new(EscalationCheck::new(
            rbac.clone(),
            authorizer.clone(),
        )));
        let anonymous = [ANONYMOUS_PATHS, &[joining::INFO_PATH]].concat();
        let configured = access.configured(&tokens)?;
        if let Some(configured) = &configured {
            builder = builder.metrics(configured.metrics());
        }
        let oidc = access.oidc()?;
        if let Some(oidc) = &oidc {
            builder = builder.metrics(oidc.metrics());
        }
        let known = access.authenticator(
            &tokens,
            configured.as_ref(),
            oidc.as_ref(),
            &anonymous,
            &reader,
        )?;
        let known = known.with(Arc::new(BootstrapTokens::new(reader.clone())));
        let authenticator: Arc<dyn Authenticator> = Arc::new(known);
        let reviews = reviews::all(&authorizer, &authenticator, &tokens, &reader);
        for served in reviews {
            builder =
                builder.create_only(served.group, served.resource, served.subresource, served.by);
        }
        let dialer = TlsDialer::new(pki.ca_der(), &issued.kubelet_client)
            .context("cannot use the certificate for kubelets")?;
        let shared: Arc<dyn NodeDialer> = Arc::new(dialer.clone());
        for (resource, connecter) in proxy::connecters(&reader, &shared) {
            builder = builder.connecter("", resource, connecter);
        }
        let server = audit(builder, &options.audit)?
            .tokens(tokens.clone())
            .front_proxy(issued.front_proxy.clone())
            .authenticator(authenticator)
            .max_in_flight(access.max_in_flight())
            .authorizer(authorizer)
            .admission(plugins)
            .build()
            .await
            .context("cannot start the API server")?;
        let admin = server.client(Identity::system_masters());
        bootstrap::reconcile(&admin)
            .await
            .context("cannot make the cluster's roles")?;
        rbac.synced().await;

        let front_proxy = CertificateDer::from_pem_slice(issued.front_proxy.ca.as_bytes())
            .context("cannot use the front proxy's authority")?;
        let tls = ServerTls::with_front_proxy(&issued.serving, pki.ca_der(), &front_proxy)
            .context("cannot use the server's certificate")?;
        let listener = serve(server.clone(), listeners, tls.clone(), Limits::default())?;
        let metrics = scheduler::Current::default();
        let scheduler = if options.disable_scheduler {
            None
        } else {
            serve_metrics(
                options.scheduler_listen,
                &server,
                tls.clone(),
                metrics.clone(),
            )
            .await
            .context("cannot serve the scheduler's metrics")?
        };
        let kubeconfig = pki.kubeconfig(
            &format!("https://{}", shown(address)),
            "admin",
            &["system:masters"],
        )?;
        match kubeconfig.write(layout.kubeconfig()) {
            // That on a full disk nothing is written is no reason not to serve.
            Err(error) if layout.kubeconfig().exists() => {
                let error = anyhow::Error::new(error);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the administrator's kubeconfig is as it was before"
                );
            }
            written => written.context("cannot write the administrator's kubeconfig")?,
        }

        let stop = CancellationToken::new();
        let mut tasks = deciders(&server, (&pki, &tokens), options, metrics, &stop)?;
        for (part, task) in parts.iter().zip(&tasks) {
            part.set(task.abort_handle());
        }
        let renewal = Renewal {
            pki: pki.clone(),
            names,
            issued,
            tls,
            dialer,
            server: server.clone(),
        };
        tasks.push(tokio::spawn(renewal.run(stop.clone())));
        tasks.extend(encrypted.map(|encrypted| tokio::spawn(reseal(encrypted, stop.clone()))));
        // Where a machine finds the server that is to join.
        let url = if address.ip().is_unspecified() {
            SocketAddr::new(machine.into(), address.port())
        } else {
            address
        };
        let names = dns::publish(admin.clone(), dns, stop.clone());
        tasks.push(tokio::spawn(names));
        tasks.push(tokio::spawn(joining::run(
            admin,
            format!("https://{url}"),
            pki.ca_pem().to_owned(),
            options.clone(),
            stop.clone(),
        )));
        Ok(Self {
            delay: Duration::from_secs(options.shutdown_delay),
            server,
            pki,
            listener,
            scheduler,
            address,
            store,
            stop,
            tasks,
        })
    }

    /// Where the API is served.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops everything, the store last: readiness ends first, then controllers and scheduler, then requests.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.server.announce_shutdown();
        tokio::time::sleep(self.delay).await;
        self.stop.cancel();
        // Whatever has failed, the store is closed in the end.
        let mut result = Ok(());
        for task in self.tasks {
            result = result.and(task.await.context("a controller failed"));
        }
        self.listener.drain();
        if !self.server.drain(GRACE).await {
            tracing::warn!("requests that take too long are given up");
        }
        self.listener.shutdown(TUNNELS).await;
        drop(self.scheduler);
        self.server.shutdown().await;
        let closed = self.store.close().await;
        result.and(closed)
    }
}

/// Seals again what is not sealed with the newest key.
async fn reseal(encrypted: Encrypted, stop: CancellationToken) {
    match stop.run_until_cancelled(encrypted.reseal()).await {
        None | Some(Ok(0)) => {}
        Some(Ok(objects)) => {
            tracing::info!(objects, "encrypted with the newest key what was not");
        }
        Some(Err(error)) => {
            tracing::error!(%error, "some objects are still encrypted with an old key, or not at all");
        }
    }
}

/// Listens where the user asked, and at the address that pods use if that is another.
async fn listen(
    address: SocketAddr,
    reachable: Option<Ipv4Addr>,
) -> anyhow::Result<Vec<TcpListener>> {
    let first = bind(address).await?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    if let Some(ip) = reachable.map(IpAddr::V4)
        && !address.ip().is_unspecified()
        && address.ip() != ip
    {
        listeners.push(bind(SocketAddr::new(ip, port)).await?);
    }
    Ok(listeners)
}

/// An address as a client on this machine writes it.
fn shown(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    }
}

/// Controllers and scheduler, each with its own identity. Where other servers may share the store,
/// they work only while they hold a lease.
fn deciders(
    server: &ApiServer,
    (pki, tokens): (&Pki, &Arc<ServiceAccountTokens>),
    options: &ServerOptions,
    metrics: Current,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let range = options.pod_cidr.to_string().parse().context("--pod-cidr")?;
    let cidr = k8s_controllers::ClusterCidr {
        range,
        node_mask: 24,
    };
    let ca = pki.ca_pem().to_owned();
    let signer = Arc::new(Signer(pki.clone()));
    let longest = options.cluster_signing_duration;
    let selection = options.controllers.clone();
    let any = Selection::names().any(|name| selection.runs(name));
    let token_signer = Arc::new(TokenSigner(tokens.clone()));
    let clients = server.clone();
    let controllers = move |leading: CancellationToken| {
        let clients = clients.clone();
        let manager = ControllerManager::builder(move |name| {
            clients.client(match name {
                ControllerManager::SHARED => component(CONTROLLERS),
                name => {
                    Identity::service_account("kube-system", name, "").group("system:authenticated")
                }
            })
        });
        let manager = manager
            .controllers(selection.clone())
            .root_ca(ca.clone())
            .signer(signer.clone())
            .signing_duration(longest)
            .token_signer(token_signer.clone())
            .cluster_cidr(cidr)
            .build();
        async move {
            manager.run(leading).await;
        }
    };
    let clients = server.clone();
    let scheduler = move |leading: CancellationToken| {
        let client = clients.client(component(SCHEDULER));
        let driver = Driver::new(client, Profile::default(), DriverConfig::default());
        metrics.set(driver.metrics());
        driver.run(leading)
    };
    let stop = stop.clone();
    if !matches!(options.store, StoreChoice::Etcd(_)) {
        let mut tasks = Vec::new();
        if any {
            tasks.push(tokio::spawn(controllers(stop.clone())));
        }
        if !options.disable_scheduler {
            tasks.push(tokio::spawn(scheduler(stop)));
        }
        return Ok(tasks);
    }
    let identity = format!("{}_{}", node::hostname(), std::process::id());
    let elected = |name: &str| {
        (
            server.client(component(name)),
            name.to_owned(),
            identity.clone(),
        )
    };
    let mut tasks = Vec::new();
    // Upstream's manager wants the same lease.
    if any {
        let (client, name, who) = elected(CONTROLLERS);
        let manager = while_leading(client, name, who, stop.clone(), controllers);
        tasks.push(tokio::spawn(manager));
    }
    if !options.disable_scheduler {
        let (client, name, who) = elected(SCHEDULER);
        let scheduler = while_leading(client, name, who, stop, scheduler);
        tasks.push(tokio::spawn(scheduler));
    }
    Ok(tasks)
}

/// Runs the work whenever this process holds the lease of that name, until it is stopped.
async fn while_leading<F>(
    client: kube::Client,
    name: String,
    identity: String,
    stop: CancellationToken,
    work: impl Fn(CancellationToken) -> F,
) where
    F: Future<Output = ()>,
{
    // A lease's name is its holder's without the prefix, as upstream has it.
    let lease = name.trim_start_matches("system:");
    while !stop.is_cancelled() {
        let config = LeaderElectionConfig {
            // Another server takes over within 15 s of a leader's sudden end.
            lease_duration: Duration::from_secs(9),
            renew_deadline: Duration::from_secs(6),
            retry_period: Duration::from_secs(1),
            ..LeaderElectionConfig::new(lease, &identity)
        };
        let election = LeaderElection::new(client.clone(), config, Clock::system());
        if election.run(stop.clone(), &work).await {
            tracing::warn!(lease, "another server leads now, or none can");
        }
    }
}

/// The identity of a part of the cluster.
pub(super) fn component(name: &str) -> Identity {
    Identity::user(name).group("system:authenticated")
}
