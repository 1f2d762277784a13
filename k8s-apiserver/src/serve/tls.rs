//! TLS settings of the server, and of clients that trust the cluster's authority.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::CryptoProvider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::pki::Credential;

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
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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
/// be good, and from that authority.
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
    let provider = provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca)?), provider.clone())
            .allow_unauthenticated()
            .build()?;
    let (chain, key) = pair(credential)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
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
    let builder = ClientConfig::builder_with_provider(provider())
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
