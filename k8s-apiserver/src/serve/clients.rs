//! Whose certificates are good: whoever has the key to one may show it, and its requests are told whether an authority
//! vouches for it.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate, x509::X509Version};

use super::tls::TlsError;

/// Who vouches for certificates of clients.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    verifier: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Authority {
    pub(super) fn new(
        certificate: &CertificateDer<'_>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone().into_owned())?;
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        Ok(Authority {
            certificate: certificate.clone().into_owned(),
            verifier: builder.allow_unauthenticated().build()?,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Lets in at the handshake for whom this authority vouches, and who shows nothing.
    pub(super) fn strictly(self) -> Arc<dyn ClientCertVerifier> {
        self.verifier
    }

    /// Its name, from which clients see which certificate to show.
    pub(super) fn hints(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    /// Whether it vouches for a certificate, with those that lead to it.
    ///
    /// # Errors
    /// Why it does not, in the words of upstream's library where there are some.
    pub(super) fn vouches(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), String> {
        let error = match self.verifier.verify_client_cert(own, rest, now) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if let Some(answer) = self.vouches_for_simple(own, now) {
            return answer;
        }
        Err(match error {
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => unknown(),
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => expired(),
            error => format!("x509: {error}"),
        })
    }

    /// As `vouches`, for certificates of X.509's first version, which have no extensions and of which the library that
    /// judges the others wants to know nothing: `openssl x509 -req` makes them unless it is told of extensions. `None`
    /// for all others. This authority itself must have signed them.
    fn vouches_for_simple(
        &self,
        own: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Option<Result<(), String>> {
        let own = read(own).filter(|own| own.version() == X509Version::V1)?;
        let authority = read(&self.certificate)?;
        if own.issuer().as_raw() != authority.subject().as_raw() || !self.signed(&authority, &own) {
            return Some(Err(unknown()));
        }
        let validity = own.validity();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let good = validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp();
        Some(if good { Ok(()) } else { Err(expired()) })
    }

    fn signed(&self, authority: &X509Certificate<'_>, own: &X509Certificate<'_>) -> bool {
        let key = key_of(authority);
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else {
            return false;
        };
        let (message, signature) = (own.tbs_certificate.as_ref(), &own.signature_value.data);
        let mut algorithms = self.algorithms.all.iter();
        algorithms.any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }
}

fn unknown() -> String {
    "x509: certificate signed by unknown authority".to_owned()
}

fn expired() -> String {
    "x509: certificate has expired or is not yet valid".to_owned()
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

fn key_of<'a>(certificate: &'a X509Certificate<'_>) -> SubjectPublicKeyInfoDer<'a> {
    certificate.public_key().raw.into()
}

/// Lets everybody in who has the key to the certificate that they show, if any. Who shows one that is expired, or that
/// nobody vouches for, may have a token besides, and hears why not with the answer to a request, as from upstream.
#[derive(Debug)]
pub(super) struct Anybody {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Anybody {
    pub(super) fn new(hints: Vec<DistinguishedName>, provider: &CryptoProvider) -> Self {
        Anybody {
            hints,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        read(own).ok_or(CertificateError::BadEncoding)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let own = read(own).ok_or(CertificateError::BadEncoding)?;
        let key = key_of(&own);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let mut schemes = self.algorithms.mapping.iter();
        let algorithms = schemes.find(|(scheme, _)| *scheme == signature.scheme);
        let mut algorithms = algorithms.map_or(&[][..], |(_, found)| found).iter();
        if algorithms.any(|algorithm| {
            key.verify_signature(*algorithm, message, signature.signature())
                .is_ok()
        }) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let own = read(own).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &key_of(&own), signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
