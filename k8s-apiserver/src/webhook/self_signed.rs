//! [`SelfSigned`]: certificates that vouch for themselves.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Judges certificates as rustls does, but for one thing: what is trusted as an authority may be the server's own
/// certificate, too. `openssl req -x509` makes such, Go takes them, and many a webhook shows one.
#[derive(Debug)]
struct SelfSigned {
    usual: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

/// A verifier that trusts the authorities of a PEM bundle.
///
/// # Errors
/// Says what is wrong with the bundle.
pub(crate) fn trusting(
    bundle: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let mut trusted = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        trusted.push(certificate.clone());
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("unable to parse bytes as PEM block".to_owned());
    }
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let usual = usual.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(SelfSigned { usual, trusted }))
}

/// What is wrong with a trusted certificate as that of a server, but for its name.
fn fault(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<CertificateError> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Some(CertificateError::BadEncoding);
    };
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > validity.not_after.timestamp() {
        return Some(CertificateError::Expired);
    }
    if now < validity.not_before.timestamp() {
        return Some(CertificateError::NotValidYet);
    }
    match certificate.extended_key_usage() {
        Ok(None) => None,
        Ok(Some(usage)) if usage.value.any || usage.value.server_auth => None,
        Ok(Some(_)) => Some(CertificateError::InvalidPurpose),
        Err(_) => Some(CertificateError::BadEncoding),
    }
}

impl ServerCertVerifier for SelfSigned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = (self.usual).verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        // Rustls has no word of its own for an authority that is a server.
        let is_authority = matches!(
            judged,
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
        );
        if !is_authority || !self.trusted.contains(end_entity) {
            return judged;
        }
        match fault(end_entity, now) {
            Some(fault) => Err(fault.into()),
            None => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    /// An authority that names a host, as `openssl req -x509` makes one.
    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::new(vec!["hook.example.com".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    fn judge(trusted: &str, shown: &str, name: &'static str) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = trusting(trusted.as_bytes(), provider).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let shown = CertificateDer::from_pem_slice(shown.as_bytes()).unwrap();
        // In 2025.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_740_000_000));
        let judged = verifier.verify_server_cert(&shown, &[], &name, &[], now);
        judged.map(drop)
    }

    #[test]
    fn a_trusted_certificate_may_be_the_server_s_own() {
        let own = certificate(|_| {});
        judge(&own, &own, "hook.example.com").unwrap();
        let error = judge(&own, &own, "other.example.com").unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{error}");
        judge(&own, &certificate(|_| {}), "hook.example.com").unwrap_err();
    }

    #[test]
    fn one_that_is_good_for_something_else_or_no_more_is_refused() {
        let client = certificate(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let error = judge(&client, &client, "hook.example.com").unwrap_err();
        assert_eq!(error, CertificateError::InvalidPurpose.into());
        let server = certificate(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        judge(&server, &server, "hook.example.com").unwrap();
        let old = certificate(|params| params.not_after = date_time_ymd(2024, 1, 1));
        let error = judge(&old, &old, "hook.example.com").unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
        let young = certificate(|params| params.not_before = date_time_ymd(2029, 1, 1));
        let error = judge(&young, &young, "hook.example.com").unwrap_err();
        assert!(error.to_string().contains("not valid yet"), "{error}");
    }

    #[test]
    fn dates_are_judged_whatever_else_is() {
        let now = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let own = certificate(|_| {});
        let own = CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
        assert_eq!(fault(&own, now(1_740_000_000)), None);
        assert_eq!(fault(&own, now(1_000)), Some(CertificateError::NotValidYet));
        assert_eq!(
            fault(&own, now(2_000_000_000)),
            Some(CertificateError::Expired)
        );
    }
}
