//! A node renews its certificates before they run out, as kubelet does it: that of its own server and, where it has
//! joined the cluster, the client's.
//!
//! See <https://kubernetes.io/docs/tasks/tls/certificate-rotation/>.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::Context;
use futures::future::BoxFuture;
use http::{Request, Response};
use k8s_apiserver::pki::{Credential, Kubeconfig, Pki};
use k8s_kubelet::TlsOptions;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, client::Body};
use tokio::sync::watch;
use tower::Service;

use super::join::{self, Purpose};

/// How long a request may wait to be approved; upstream's.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long to wait after the first failure, and after many.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(128));
/// How often the clock is looked at: a machine that sleeps does not count the time.
const LOOK: Duration = Duration::from_secs(60);

/// The way to the cluster with the newest certificate. Requests that are on their way when it is exchanged go on
/// with the one before.
#[derive(Clone)]
pub(super) struct Newest(Arc<RwLock<Client>>);

impl Newest {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(RwLock::new(client)))
    }

    /// A client that always goes by the newest.
    pub(super) fn client(&self) -> Client {
        let namespace = self.get().default_namespace().to_owned();
        Client::new(self.clone(), namespace)
    }

    fn get(&self) -> Client {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn exchange(&self, client: Client) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

impl Service<Request<Body>> for Newest {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.get();
        Box::pin(async move { client.send(request).await })
    }
}

/// What is renewed, and where it goes.
pub(super) struct Renewal {
    pub(super) name: String,
    pub(super) ip: Ipv4Addr,
    /// Where the cluster is.
    pub(super) server: String,
    /// Where the node's credentials are kept.
    pub(super) kubeconfig: PathBuf,
    /// Who signs the certificate of the cluster's server, PEM.
    pub(super) authority: String,
    pub(super) newest: Newest,
    /// The client's certificate, PEM.
    pub(super) certificate: String,
    /// What the node's own server shows.
    pub(super) renewed: watch::Sender<TlsOptions>,
}

impl Renewal {
    /// Renews both certificates whenever it is time, for ever.
    pub(super) async fn run(self) {
        let client = self.newest.client();
        let serving = self.renewed.borrow().certificate.clone();
        tokio::join!(
            self.keep(&client, Purpose::Client, self.certificate.clone()),
            self.keep(&client, Purpose::Server(self.ip), serving),
        );
    }

    async fn keep(&self, client: &Client, purpose: Purpose, certificate: String) {
        keep(&purpose, certificate, || self.renew(client, &purpose)).await;
    }

    async fn renew(&self, client: &Client, purpose: &Purpose) -> anyhow::Result<String> {
        let credential = join::certificate(client, &self.name, purpose, PATIENCE).await?;
        let certificate = credential.certificate.clone();
        match purpose {
            Purpose::Client => self.take(&credential).await?,
            Purpose::Server(_) => show(&self.renewed, credential),
        }
        Ok(certificate)
    }

    /// Uses the client's new certificate from now on, and after the next start.
    async fn take(&self, credential: &Credential) -> anyhow::Result<()> {
        let kubeconfig = Kubeconfig::new(&self.server, &self.authority)
            .with_client_certificate(&join::user(&self.name), credential);
        let client = Client::try_from(join::load(&kubeconfig.to_string()).await?)?;
        kubeconfig
            .write(&self.kubeconfig)
            .with_context(|| format!("cannot write {}", self.kubeconfig.display()))?;
        self.newest.exchange(client);
        Ok(())
    }
}

/// Renews the certificate of a node's server in the control plane's own process, for as long as somebody shows it.
pub(super) async fn of_own_node(
    pki: Pki,
    name: String,
    ip: Ipv4Addr,
    renewed: watch::Sender<TlsOptions>,
) {
    let certificate = renewed.borrow().certificate.clone();
    let renew = || -> anyhow::Result<String> {
        let issued = pki.issue_kubelet_server(&name, &[ip.into()])?;
        let certificate = issued.certificate.clone();
        show(&renewed, issued);
        Ok(certificate)
    };
    let purpose = Purpose::Server(ip);
    tokio::select! {
        () = renewed.closed() => {}
        () = keep(&purpose, certificate, || std::future::ready(renew())) => {}
    }
}

/// Renews a certificate whenever it is time, for ever.
async fn keep<F>(purpose: &Purpose, mut certificate: String, renew: impl Fn() -> F)
where
    F: Future<Output = anyhow::Result<String>>,
{
    loop {
        until(due(&certificate, fastrand::f64())).await;
        let mut pause = PAUSES.0;
        certificate = loop {
            match renew().await {
                Ok(certificate) => break certificate,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(%error, ?purpose, "a certificate is not renewed yet");
                }
            }
            tokio::time::sleep(pause).await;
            pause = PAUSES.1.min(pause * 2);
        };
        tracing::info!(?purpose, "renewed a certificate");
        // However short its life is.
        tokio::time::sleep(PAUSES.0).await;
    }
}

/// What a node's own server shows from now on.
fn show(renewed: &watch::Sender<TlsOptions>, credential: Credential) {
    renewed.send_modify(|shown| {
        shown.certificate = credential.certificate;
        shown.key = credential.key;
    });
}

/// When a certificate is to be renewed: when 70 to 90 % of its time is over, as upstream has it, so that the
/// nodes that were made together do not all come at once. `chance` is from 0 to 1. At once if it cannot be read.
fn due(certificate: &str, chance: f64) -> Timestamp {
    let read = || {
        let der = super::joining::der(certificate.as_bytes()).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        let (from, until) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let part = (until - from) as f64 * (0.7 + 0.2 * chance);
        Timestamp::from_millisecond(from * 1000 + (part * 1000.0).round() as i64).ok()
    };
    read().unwrap_or(Timestamp::MIN)
}

async fn until(due: Timestamp) {
    while let Ok(left) = Duration::try_from(due.duration_since(Timestamp::now()))
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn certificates_are_renewed_when_most_of_their_time_is_over() {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 11);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let due = |chance| due(&certificate.pem(), chance).to_string();
        assert_eq!(due(0.0), "2026-03-12T00:00:00Z");
        assert_eq!(due(1.0), "2026-04-01T00:00:00Z");
        assert_eq!(super::due("nonsense", 0.5), Timestamp::MIN);
    }

    #[tokio::test]
    async fn requests_go_by_the_newest_client() {
        let answering = |text: &'static str| {
            let service = tower::service_fn(move |_: Request<Body>| async move {
                Ok::<_, kube::Error>(Response::new(Body::from(text.as_bytes().to_vec())))
            });
            Client::new(service, "default")
        };
        let newest = Newest::new(answering("old"));
        let client = newest.client();
        let ask = || client.request_text(Request::get("/version").body(Vec::new()).unwrap());
        assert_eq!(ask().await.unwrap(), "old");
        newest.exchange(answering("new"));
        assert_eq!(ask().await.unwrap(), "new");
    }
}
