//! TLS of the kubelet's server: who may speak to it.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::warn;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, TlsOptions};

/// The user that API servers speak to kubelets as.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// A ready TLS configuration, which follows its certificates when they are renewed.
pub(crate) struct ServerTls {
    acceptor: TlsAcceptor,
    options: watch::Receiver<TlsOptions>,
}

impl ServerTls {
    pub(crate) fn new(mut options: watch::Receiver<TlsOptions>) -> Result<Self, Error> {
        let acceptor = acceptor(&options.borrow_and_update())?;
        Ok(Self { acceptor, options })
    }

    /// What the next connection meets.
    pub(crate) fn acceptor(&mut self) -> &TlsAcceptor {
        if self.options.has_changed().unwrap_or(false) {
            let renewed = acceptor(&self.options.borrow_and_update());
            match renewed {
                Ok(renewed) => self.acceptor = renewed,
                Err(error) => warn!(%error, "the server's new certificate cannot be used"),
            }
        }
        &self.acceptor
    }
}

fn acceptor(options: &TlsOptions) -> Result<TlsAcceptor, Error> {
    let bad = |what: &str, e: &dyn std::fmt::Display| Error::Tls(format!("{what}: {e}"));
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(options.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| bad("certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(options.key.as_bytes()).map_err(|e| bad("key", &e))?;
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(options.client_ca.as_bytes()) {
        let ca = ca.map_err(|e| bad("client CA", &e))?;
        roots.add(ca).map_err(|e| bad("client CA", &e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        // Others may show a token.
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad("client CA", &e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("protocol", &e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| bad("certificate", &e))?;
    // Upgrades need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the owner of a verified certificate may use the kubelet's API.
pub(crate) fn is_allowed(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let subject = certificate.subject();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    // Of several names the last counts, as everywhere.
    let mut names = subject.iter_common_name().filter_map(|n| n.as_str().ok());
    groups.into_iter().any(|g| g == MASTERS) || names.by_ref().last() == Some(API_SERVER)
}

#[cfg(test)]
mod tests {
    use k8s_apiserver::pki::Pki;

    use super::*;

    #[test]
    fn a_renewed_certificate_is_shown_from_then_on_and_a_useless_one_never() {
        let pki = Pki::in_memory().unwrap();
        let issue = || {
            let issued = pki.issue_kubelet_server("a", &[[127, 0, 0, 1].into()]);
            let issued = issued.unwrap();
            TlsOptions {
                certificate: issued.certificate,
                key: issued.key,
                client_ca: pki.ca_pem().to_owned(),
            }
        };
        let (renew, options) = watch::channel(issue());
        let mut tls = ServerTls::new(options).unwrap();
        let mut shown = || Arc::as_ptr(tls.acceptor().config());
        let first = shown();
        assert_eq!(shown(), first);
        renew.send_replace(issue());
        let second = shown();
        assert_ne!(second, first);
        renew.send_modify(|options| options.key = "no key".to_owned());
        assert_eq!(shown(), second);
        drop(renew);
        assert_eq!(shown(), second);
    }
}
