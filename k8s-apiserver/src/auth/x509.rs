//! Client certificates.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_model::certificates::{CREDENTIAL_ID, ClientCertificate};
use rustls_pki_types::CertificateDer;

use super::{AuthenticationError, Authenticator, Identity};

/// The certificates that the peer of a TLS connection showed, its own first, and whether one of the listener's
/// authorities vouches for them. The listener puts this into the request's extensions.
#[derive(Clone, Debug)]
pub struct PeerCertificates(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    /// Whether the authority of clients vouches for it, or else why not, and whether that of front proxies does.
    client: Result<(), String>,
    front_proxy: bool,
    own: OnceLock<Own>,
}

/// What the peer's own certificate says.
#[derive(Debug)]
struct Own {
    /// `None` without a name.
    identity: Result<Option<Identity>, String>,
    /// When it runs out.
    until: Timestamp,
}

impl PeerCertificates {
    /// The certificates, the peer's own first, for which the authority of clients vouches.
    pub fn new(chain: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        Self::judged(chain, Ok(()), false)
    }

    /// The certificates, the peer's own first; whether the authority of clients vouches for them, and whether that of
    /// front proxies does.
    pub fn vouched_for(
        chain: impl IntoIterator<Item = CertificateDer<'static>>,
        client: bool,
        front_proxy: bool,
    ) -> Self {
        let unknown = || "x509: certificate signed by unknown authority".to_owned();
        Self::judged(chain, client.then_some(()).ok_or_else(unknown), front_proxy)
    }

    /// The same, with the reason why the authority of clients does not vouch for them.
    pub(crate) fn judged(
        chain: impl IntoIterator<Item = CertificateDer<'static>>,
        client: Result<(), String>,
        front_proxy: bool,
    ) -> Self {
        PeerCertificates(Arc::new(Peer {
            chain: chain.into_iter().collect(),
            client,
            front_proxy,
            own: OnceLock::new(),
        }))
    }

    /// Whether the authority of clients vouches for the peer. It may have said so a while ago: a certificate that has
    /// run out since is refused by [`ClientCertificates`].
    pub fn is_client(&self) -> bool {
        self.0.client.is_ok()
    }

    /// Whether the authority of front proxies vouches for the peer.
    pub fn is_front_proxy(&self) -> bool {
        self.0.front_proxy
    }

    /// The common name of the peer's own certificate.
    pub(super) fn common_name(&self) -> Result<&str, AuthenticationError> {
        let identity = self.identity()?;
        Ok(identity.map_or("", |identity| identity.name.as_str()))
    }

    /// The certificates, the peer's own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// Who the peer is: the common name is the user, each organisation a group, the certificate's digest what tells
    /// the credential. Nobody without a name. Worked out once per connection.
    fn identity(&self) -> Result<Option<&Identity>, AuthenticationError> {
        self.check()?;
        let identity = self.own().identity.as_ref();
        identity
            .map(Option::as_ref)
            .map_err(|reason| AuthenticationError::Invalid(reason.clone()))
    }

    /// Whether the peer's own certificate is still good: a connection, and a session that is resumed, may
    /// outlive it.
    pub(super) fn check(&self) -> Result<(), AuthenticationError> {
        let (now, until) = (Timestamp::now(), self.own().until);
        if now <= until {
            return Ok(());
        }
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Err(AuthenticationError::Invalid(format!(
            "x509: certificate has expired or is not yet valid: current time {now} is after {until}"
        )))
    }

    fn own(&self) -> &Own {
        self.0.own.get_or_init(|| {
            let own = self.chain().first().map(AsRef::as_ref).unwrap_or_default();
            match ClientCertificate::read(own) {
                Ok(certificate) => Own {
                    until: certificate.not_after,
                    identity: Ok(identity_of(certificate)),
                },
                Err(error) => Own {
                    until: Timestamp::MAX,
                    identity: Err(error.to_string()),
                },
            }
        })
    }
}

fn identity_of(certificate: ClientCertificate) -> Option<Identity> {
    let extra = (CREDENTIAL_ID.to_owned(), vec![certificate.credential_id]);
    (!certificate.name.is_empty()).then(|| Identity {
        name: certificate.name,
        uid: certificate.uid,
        groups: certificate.groups,
        extra: [extra].into(),
    })
}

/// Knows clients by the certificates of their connections. A certificate that nobody vouches for is a credential
/// that is not good.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificates;

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        let Some(peer) = parts.extensions.get::<PeerCertificates>() else {
            return Ok(None);
        };
        let refused = |reason: &String| AuthenticationError::Invalid(reason.clone());
        peer.0.client.as_ref().map_err(refused)?;
        Ok(peer.identity()?.cloned())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn parts(until: Timestamp) -> http::request::Parts {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "dev");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs(until.as_second() as u64);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut request = http::Request::new(());
        let peer = PeerCertificates::new([certificate.der().clone()]);
        request.extensions_mut().insert(peer);
        request.into_parts().0
    }

    #[tokio::test]
    async fn a_certificate_that_runs_out_while_its_connection_goes_on_is_good_no_more() {
        let now = Timestamp::now();
        let good = parts(now + jiff::SignedDuration::from_hours(1));
        let known = ClientCertificates.authenticate(&good).await.unwrap();
        let known = known.unwrap();
        assert_eq!(known.groups, ["dev"]);
        assert_eq!(known.name, "jane");
        assert!(known.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        let expired = parts(now - jiff::SignedDuration::from_secs(2));
        let refused = ClientCertificates.authenticate(&expired).await;
        let Err(AuthenticationError::Invalid(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(
            reason.starts_with("x509: certificate has expired"),
            "{reason}"
        );
    }
    async fn of_subject(subject: &[(DnType, &str)]) -> Result<Option<Identity>, String> {
        // `rcgen` keeps one value of each: a second has to be of another spelling.
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer = PeerCertificates::new([certificate.der().clone()]);
        let identity = peer.identity().map(Option::<&Identity>::cloned);
        identity.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn odd_subjects_are_nobody_or_who_they_say_last() {
        let uid = || DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
        let name = || DnType::CustomDnType(vec![2, 5, 4, 3]);
        let jane = of_subject(&[(DnType::CommonName, "jane"), (uid(), "u-1")]).await;
        assert_eq!(jane.unwrap().unwrap().uid, "u-1");
        let nobody = of_subject(&[(DnType::OrganizationName, "system:masters")]).await;
        assert_eq!(nobody, Ok(None));
        let twice = of_subject(&[
            (DnType::CommonName, "system:node:a"),
            (DnType::OrganizationName, "system:nodes"),
            (name(), "system:node:b"),
        ])
        .await;
        assert_eq!(twice.unwrap().unwrap().name, "system:node:b");
        let empty = of_subject(&[(DnType::CommonName, "jane"), (uid(), "")]).await;
        assert!(empty.unwrap_err().contains("UID cannot be an empty string"));
    }
}
