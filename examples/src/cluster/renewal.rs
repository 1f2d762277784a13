//! The control plane renews its own certificates when they have less than thirty days left: what it shows to its clients,
//! to kubelets, and to the API servers behind it.

use std::time::Duration;

use anyhow::Context;
use k8s_apiserver::{
    ApiServer,
    pki::{Credential, FrontProxy, Pki, PkiError, ServerNames},
    proxy::TlsDialer,
    serve::ServerTls,
};
use tokio_util::sync::CancellationToken;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// What the control plane shows.
pub(super) struct Issued {
    pub(super) serving: Credential,
    pub(super) kubelet_client: Credential,
    pub(super) front_proxy: FrontProxy,
}

impl Issued {
    /// What is kept, or made anew where that has not long to go.
    pub(super) fn newest(pki: &Pki, names: &ServerNames) -> Result<Self, PkiError> {
        Ok(Self {
            serving: pki.apiserver(names)?,
            kubelet_client: pki.kubelet_client()?,
            front_proxy: pki.front_proxy()?,
        })
    }

    fn are_due(&self) -> bool {
        [
            &self.serving,
            &self.kubelet_client,
            &self.front_proxy.client,
        ]
        .into_iter()
        .any(Credential::is_due)
    }
}

/// What is renewed, and where it is shown.
pub(super) struct Renewal {
    pub(super) pki: Pki,
    pub(super) names: ServerNames,
    pub(super) issued: Issued,
    pub(super) tls: ServerTls,
    pub(super) dialer: TlsDialer,
    pub(super) server: ApiServer,
}

impl Renewal {
    /// Renews them whenever it is time, until stopped.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            if let Err(error) = self.look().await {
                let error = format!("{error:#}");
                tracing::warn!(%error, "the control plane's certificates are not renewed yet");
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        if !self.issued.are_due() {
            return Ok(());
        }
        let (pki, names) = (self.pki.clone(), self.names.clone());
        let newest = tokio::task::spawn_blocking(move || Issued::newest(&pki, &names)).await?;
        self.take(newest.context("cannot issue them")?)
    }

    /// Shows those that are others than before.
    fn take(&mut self, newest: Issued) -> anyhow::Result<()> {
        let Issued {
            serving,
            kubelet_client,
            front_proxy,
        } = newest;
        if serving != self.issued.serving {
            self.tls.show(&serving).context("the server's own")?;
            self.issued.serving = serving;
            tracing::info!("renewed the certificate that the API server shows");
        }
        if kubelet_client != self.issued.kubelet_client {
            let shown = self.dialer.show(&kubelet_client);
            shown.context("that for kubelets")?;
            self.issued.kubelet_client = kubelet_client;
            tracing::info!("renewed the certificate that kubelets are shown");
        }
        if front_proxy != self.issued.front_proxy {
            self.server.set_front_proxy(front_proxy.clone());
            self.issued.front_proxy = front_proxy;
            tracing::info!("renewed the certificate that API servers behind are shown");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use k8s_apiserver::serve::{Limits, bind, client_config, serve};
    use rustls::pki_types::{CertificateDer, ServerName};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn what_was_issued_anew_is_shown_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(folder.path()).unwrap();
        let names = ServerNames::for_apiserver("cluster.local", None);
        let issued = Issued::newest(&pki, &names).unwrap();
        let server = ApiServer::builder().build().await.unwrap();
        let tls = ServerTls::new(&issued.serving, pki.ca_der()).unwrap();
        let dialer = TlsDialer::new(pki.ca_der(), &issued.kubelet_client).unwrap();
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let listener = serve(server.clone(), vec![socket], tls.clone(), Limits::default());
        let listener = listener.unwrap();
        let shown = async || -> CertificateDer<'static> {
            let config = client_config(pki.ca_der(), None, &[b"http/1.1"]).unwrap();
            let stream = TcpStream::connect(listener.addresses()[0]).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect(name, stream).await.unwrap();
            let chain = stream.get_ref().1.peer_certificates().unwrap();
            chain[0].clone().into_owned()
        };
        let mut renewal = Renewal {
            pki: pki.clone(),
            names,
            issued,
            tls,
            dialer,
            server,
        };
        let path = folder.path().join("apiserver.crt");
        let kept = || std::fs::read_to_string(&path).unwrap();
        let first = shown().await;
        std::fs::remove_file(&path).unwrap();
        renewal.look().await.unwrap();
        assert!(!path.exists(), "it is still good");

        renewal.issued.serving = old();
        renewal.look().await.unwrap();
        let second = shown().await;
        assert_ne!(second, first);
        assert_eq!(renewal.issued.serving.certificate, kept());
        renewal.issued.kubelet_client = old();
        renewal.issued.front_proxy.client = old();
        renewal.look().await.unwrap();
        assert!(!renewal.issued.are_due());
        assert_eq!(shown().await, second);

        // What cannot be issued leaves things as they are.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        renewal.issued.serving = old();
        let error = format!("{:#}", renewal.look().await.unwrap_err());
        assert!(error.contains("apiserver.crt"), "{error}");
        assert_eq!(shown().await, second);
    }

    /// One that has run out.
    fn old() -> Credential {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        Credential {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
