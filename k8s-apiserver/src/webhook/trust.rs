//! [`Trust`]: whom a client believes, and what it shows.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{CallError, credentials::Credentials, trusting};
use crate::{crypto, proxy::any_certificate};

/// Whom a client believes, and what it shows.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// The authorities that may vouch for the server, PEM. None: those that this machine trusts.
    pub(crate) ca_bundle: Vec<u8>,
    /// The name that the certificate must be for, if it is not that in the address.
    pub(crate) server_name: Option<String>,
    /// Whether any certificate will do.
    pub(crate) insecure: bool,
    /// A certificate, with those that vouch for it, and its key: both PEM.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    /// What is sent as `Authorization`.
    pub(crate) credentials: Option<Credentials>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("server_name", &self.server_name)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// In the authorities of a bundle, and nothing else.
    pub(crate) fn bundle(pem: &[u8]) -> Self {
        Trust {
            ca_bundle: pem.to_vec(),
            ..Trust::default()
        }
    }

    /// The TLS settings. HTTP/1.1 alone: with HTTP/2 all requests would go to the one server behind a
    /// Service that was reached first.
    pub(crate) fn tls(&self) -> Result<ClientConfig, CallError> {
        let bad = |what: &str, e: &dyn fmt::Display| CallError::Config(format!("{what}: {e}"));
        let provider = Arc::new(crypto::provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("TLS", &e))?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(any_certificate(provider))
        } else if self.ca_bundle.is_empty() {
            builder.with_root_certificates(system_roots())
        } else {
            let verifier = trusting(&self.ca_bundle, provider)
                .map_err(|e| bad("unable to load root certificates", &e))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        };
        let mut config = match &self.identity {
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| bad("client certificate", &e))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad("client key", &e))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| bad("client certificate", &e))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The authorities that this machine trusts; read once.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    roots.clone()
}
