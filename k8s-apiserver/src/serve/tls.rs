//! TLS settings of the server, and of clients that trust the cluster's authority.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::clients::{Anybody, Authority};
use crate::{auth::PeerCertificates, crypto, pki::Credential};

/// HTTP/2's name in ALPN.
pub(super) const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// A certificate or key that TLS cannot use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text holds nothing of the kind.
    #[error("certificate or key is not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The TLS library refused it.
    #[error("certificate or key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority is of no use for checking clients.
    #[error("client authority cannot be used: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The settings were made with another library, which chooses what is shown.
    #[error("settings that were made elsewhere choose their certificate themselves")]
    Foreign,
}

/// Prefers AES-128 as upstream's library does: it is half as fast again as AES-256, and most of what a server
/// under load does is to encrypt.
fn server_provider() -> Arc<CryptoProvider> {
    let mut provider = crypto::provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
}

fn roots(ca: &CertificateDer<'_>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    Ok(roots)
}

fn pair(
    credential: &Credential,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    Ok((vec![credential.certificate_der()?], credential.key_der()?))
}

/// Settings of a server that shows that certificate. Clients may show one of their own: it must then
/// be good, and from that authority, or else they are not let in. An API server lets them in and answers:
/// [`ServerTls::new`].
///
/// TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1 by ALPN; sessions are resumed by tickets, so that the server
/// remembers nothing.
///
/// # Errors
/// If the certificate, its key or the authority cannot be used.
pub fn server_config(
    credential: &Credential,
    client_ca: &CertificateDer<'_>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = server_provider();
    let verifier = Authority::new(client_ca, &provider)?.strictly();
    let shown = Shown::new(certified(credential, &provider)?);
    settings(Arc::new(shown), provider, verifier)
}

/// A certificate with its key, which belong together.
fn certified(
    credential: &Credential,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = pair(credential)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
}

/// The certificate that a server shows now.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl Shown {
    fn new(certified: Arc<CertifiedKey>) -> Self {
        Shown(ArcSwap::new(certified))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What a listener shows, and whose clients it knows.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    own: Option<Arc<Own>>,
}

/// What is this crate's own in the settings.
#[derive(Debug)]
struct Own {
    shown: Arc<Shown>,
    /// Who vouches for those that the settings let in.
    client: Authority,
    front_proxy: Option<Authority>,
}

impl From<Arc<ServerConfig>> for ServerTls {
    /// Everybody whom the settings let in is a client.
    fn from(config: Arc<ServerConfig>) -> Self {
        ServerTls { config, own: None }
    }
}

impl ServerTls {
    /// That of an API server, which shows that certificate. Clients may show one of their own. Whether it is good, and
    /// from that authority, is found out for [`PeerCertificates`]: who shows another is let in, as by upstream,
    /// may be known by a token, and is told 401 if not.
    ///
    /// Otherwise as [`server_config`].
    ///
    /// # Errors
    /// If the certificate, its key or the authority cannot be used.
    pub fn new(credential: &Credential, client_ca: &CertificateDer<'_>) -> Result<Self, TlsError> {
        Self::knowing(credential, client_ca, None)
    }

    /// As [`new`](Self::new), but clients may also show a certificate from the authority of front proxies: they are no
    /// clients then, but [may say](crate::auth::RequestHeaders) whom they speak for.
    ///
    /// # Errors
    /// If the certificate, its key or an authority cannot be used.
    pub fn with_front_proxy(
        credential: &Credential,
        client_ca: &CertificateDer<'_>,
        front_proxy_ca: &CertificateDer<'_>,
    ) -> Result<Self, TlsError> {
        Self::knowing(credential, client_ca, Some(front_proxy_ca))
    }

    fn knowing(
        credential: &Credential,
        client_ca: &CertificateDer<'_>,
        front_proxy_ca: Option<&CertificateDer<'_>>,
    ) -> Result<Self, TlsError> {
        let provider = server_provider();
        let authority = |ca| Authority::new(ca, &provider);
        let own = Own {
            shown: Arc::new(Shown::new(certified(credential, &provider)?)),
            client: authority(client_ca)?,
            front_proxy: front_proxy_ca.map(authority).transpose()?,
        };
        let hints = std::iter::once(&own.client)
            .chain(&own.front_proxy)
            .flat_map(Authority::hints);
        let anybody = Arc::new(Anybody::new(hints.cloned().collect(), &provider));
        Ok(ServerTls {
            config: settings(own.shown.clone(), provider, anybody)?,
            own: Some(Arc::new(own)),
        })
    }

    /// Shows another certificate from the next handshake on, wherever these settings are used: one that was renewed.
    /// Connections that there are go on.
    ///
    /// # Errors
    /// If the certificate or its key cannot be used, and [`TlsError::Foreign`] of settings that were made
    /// [from another library's](Self::from). What was shown before is shown on.
    pub fn show(&self, credential: &Credential) -> Result<(), TlsError> {
        let own = self.own.as_ref().ok_or(TlsError::Foreign)?;
        let certified = certified(credential, self.config.crypto_provider())?;
        own.shown.0.store(certified);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.clone().into()
    }

    /// What is known of a peer that the handshake let in.
    pub(super) fn peer(&self, chain: &[CertificateDer<'_>]) -> PeerCertificates {
        let owned = chain.iter().map(|c| c.clone().into_owned());
        let (Some(own), Some((leaf, rest))) = (&self.own, chain.split_first()) else {
            return PeerCertificates::new(owned);
        };
        let vouches = |authority: &Authority| authority.vouches(leaf, rest, UnixTime::now());
        let front_proxy = own.front_proxy.as_ref();
        PeerCertificates::judged(
            owned,
            vouches(&own.client),
            front_proxy.is_some_and(|authority| vouches(authority).is_ok()),
        )
    }
}

fn settings(
    shown: Arc<Shown>,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// Settings of a client that trusts that authority alone and shows that certificate, if any. It
/// offers the protocols in ALPN that are given, in that order.
///
/// # Errors
/// If the certificate, its key or the authority cannot be used.
pub fn client_config(
    ca: &CertificateDer<'_>,
    credential: Option<&Credential>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    let mut config = match credential {
        Some(credential) => {
            let (chain, key) = pair(credential)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}
