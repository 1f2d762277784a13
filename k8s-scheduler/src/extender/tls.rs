//! [`ExtenderTls`]: whom to trust, and who the scheduler is.

use std::{io, path::PathBuf, sync::Arc};

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

/// Where systems keep the certificates that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why a connection to an extender can't be made safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or a key is malformed.
    #[error("{0}")]
    Malformed(String),
    /// A certificate without its key, or the other way round.
    #[error("a client certificate needs a key, and a key a certificate")]
    Half,
    /// A certificate or a key can't be used.
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
}

/// `tlsConfig` of an extender. Data are PEM.
#[derive(Clone, Debug, Default)]
pub struct ExtenderTls {
    /// Whether any certificate is accepted.
    pub insecure: bool,
    /// The name that the extender's certificate must have; the URL's host if there is none.
    pub server_name: Option<String>,
    /// Whom to trust; the system's authorities if there is none.
    pub ca: Option<Vec<u8>>,
    /// Who the scheduler is.
    pub certificate: Option<Vec<u8>>,
    /// The key of that certificate.
    pub key: Option<Vec<u8>>,
}

/// Reads PEM, as data or from a file; the data come first.
pub(crate) fn data_or_file(
    data: Option<Vec<u8>>,
    file: Option<String>,
) -> Result<Option<Vec<u8>>, TlsError> {
    match (data, file.filter(|f| !f.is_empty())) {
        (Some(data), _) if !data.is_empty() => Ok(Some(data)),
        (_, Some(file)) => {
            let path = PathBuf::from(file);
            let read = std::fs::read(&path);
            read.map(Some)
                .map_err(|source| TlsError::File { path, source })
        }
        _ => Ok(None),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::Malformed(e.to_string()))
}

impl ExtenderTls {
    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(pem) = &self.ca {
            for certificate in certificates(pem)? {
                roots.add(certificate)?;
            }
            return Ok(roots);
        }
        if let Some(pem) = SYSTEM_BUNDLES.iter().find_map(|f| std::fs::read(f).ok()) {
            // A bundle may have some that this library does not take.
            roots.add_parsable_certificates(certificates(&pem)?);
        }
        Ok(roots)
    }

    pub(super) fn connector(&self) -> Result<HttpsConnector<HttpConnector>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|e| TlsError::Malformed(e.to_string()))?;
                builder.with_client_auth_cert(certificates(certificate)?, key)?
            }
            _ => return Err(TlsError::Half),
        };
        let mut builder = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http();
        if let Some(name) = self.server_name.clone().filter(|n| !n.is_empty()) {
            let name = ServerName::try_from(name.clone())
                .map_err(|_| TlsError::Malformed(format!("{name:?} is no server's name")))?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        Ok(builder.enable_http1().build())
    }
}

/// Takes any certificate, where the configuration says so.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
