//! TLS of the kubelet's server, and who its clients are by their certificates.

use std::{io, sync::Arc};

use k8s_model::certificates::ClientCertificate;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::warn;

use crate::{Error, TlsOptions};

/// A ready TLS configuration, which follows its certificates when they are renewed.
pub(crate) struct ServerTls {
    acceptor: Acceptor,
    options: watch::Receiver<TlsOptions>,
}

impl ServerTls {
    pub(crate) fn new(mut options: watch::Receiver<TlsOptions>) -> Result<Self, Error> {
        let acceptor = Acceptor::new(&options.borrow_and_update())?;
        Ok(Self { acceptor, options })
    }

    /// What the next connection meets.
    pub(crate) fn acceptor(&mut self) -> &Acceptor {
        if self.options.has_changed().unwrap_or(false) {
            let renewed = Acceptor::new(&self.options.borrow_and_update());
            match renewed {
                Ok(renewed) => self.acceptor = renewed,
                Err(error) => warn!(%error, "the server's new certificate cannot be used"),
            }
        }
        &self.acceptor
    }
}

/// What a connection meets.
#[derive(Clone)]
pub(crate) struct Acceptor {
    inner: TlsAcceptor,
    authority: Arc<dyn ClientCertVerifier>,
}

impl Acceptor {
    fn new(options: &TlsOptions) -> Result<Self, Error> {
        let bad = |what: &str, e: &dyn std::fmt::Display| Error::Tls(format!("{what}: {e}"));
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(options.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| bad("certificate", &e))?;
        let key =
            PrivateKeyDer::from_pem_slice(options.key.as_bytes()).map_err(|e| bad("key", &e))?;
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(options.client_ca.as_bytes()) {
            let ca = ca.map_err(|e| bad("client CA", &e))?;
            roots.add(ca).map_err(|e| bad("client CA", &e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|e| bad("client CA", &e))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("protocol", &e))?
            .with_client_cert_verifier(Arc::new(Anybody(authority.clone())))
            .with_single_cert(chain, key)
            .map_err(|e| bad("certificate", &e))?;
        // Upgrades need HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let inner = TlsAcceptor::from(Arc::new(config));
        Ok(Self { inner, authority })
    }

    /// Shakes hands.
    pub(crate) async fn accept(
        self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        let stream = self.inner.accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Peer {
            chain: chain.iter().map(|c| c.clone().into_owned()).collect(),
            authority: self.authority,
        };
        Ok((stream, peer))
    }
}

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The certificates that it showed, its own first.
    chain: Vec<CertificateDer<'static>>,
    authority: Arc<dyn ClientCertVerifier>,
}

impl Peer {
    /// The certificate that says who it is, if it showed a good one. It may be good no more on the
    /// connection's next request.
    pub(crate) fn certificate(&self) -> Option<ClientCertificate> {
        let (own, rest) = self.chain.split_first()?;
        let verified = self
            .authority
            .verify_client_cert(own, rest, UnixTime::now());
        verified.ok()?;
        let certificate = ClientCertificate::read(own).ok()?;
        (!certificate.name.is_empty()).then_some(certificate)
    }
}

/// Lets everybody in who has the key to what they show, if anything: the certificate is looked at
/// with each request, and who shows a useless one may have a token.
#[derive(Debug)]
struct Anybody(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, own, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, own, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
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
        let mut shown = || Arc::as_ptr(tls.acceptor().inner.config());
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
