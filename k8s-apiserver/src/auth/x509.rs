//! Client certificates.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;

use super::{AuthenticationError, Authenticator, Identity};

/// The certificates that the peer of a TLS connection showed, its own first; they were verified
/// against the listener's authorities. The listener puts this into the request's extensions.
#[derive(Clone, Debug)]
pub struct PeerCertificates(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    /// Whether the authority of clients vouches for it, and whether that of front proxies does.
    client: bool,
    front_proxy: bool,
    identity: OnceLock<Result<Identity, String>>,
}

impl PeerCertificates {
    /// The certificates, the peer's own first, for which the authority of clients vouches.
    pub fn new(chain: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        Self::vouched_for(chain, true, false)
    }

    /// The certificates, the peer's own first; whether the authority of clients vouches for them, and whether that of
    /// front proxies does.
    pub fn vouched_for(
        chain: impl IntoIterator<Item = CertificateDer<'static>>,
        client: bool,
        front_proxy: bool,
    ) -> Self {
        PeerCertificates(Arc::new(Peer {
            chain: chain.into_iter().collect(),
            client,
            front_proxy,
            identity: OnceLock::new(),
        }))
    }

    /// Whether the authority of front proxies vouches for the peer.
    pub fn is_front_proxy(&self) -> bool {
        self.0.front_proxy
    }

    /// The common name of the peer's own certificate.
    pub(super) fn common_name(&self) -> Result<&str, AuthenticationError> {
        self.identity().map(|identity| identity.name.as_str())
    }

    /// The certificates, the peer's own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// Who the peer is: the common name is the user, each organisation a group. Worked out once per
    /// connection.
    fn identity(&self) -> Result<&Identity, AuthenticationError> {
        self.0
            .identity
            .get_or_init(|| identity_of(self.chain()))
            .as_ref()
            .map_err(|reason| AuthenticationError::Invalid(reason.clone()))
    }
}

fn identity_of(chain: &[CertificateDer<'static>]) -> Result<Identity, String> {
    let leaf = chain.first().ok_or("no certificate")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|e| e.to_string())?;
    let subject = certificate.subject();
    let name = subject
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or("the certificate has no common name")?;
    let mut identity = Identity::user(name);
    for group in subject.iter_organization() {
        identity = identity.group(group.as_str().map_err(|e| e.to_string())?);
    }
    Ok(identity)
}

/// Knows clients by the certificates of their connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificates;

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        match parts.extensions.get::<PeerCertificates>() {
            None => Ok(None),
            Some(peer) if !peer.0.client => Ok(None),
            Some(peer) => peer.identity().cloned().map(Some),
        }
    }
}
