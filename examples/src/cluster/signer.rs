//! The cluster's authority as the controller that grants certificate requests sees it.

use std::{error::Error, time::Duration};

use k8s_apiserver::pki::Pki;
use k8s_controllers::CertificateSigner;
use k8s_model::certificates::CertificateRequest;
use k8s_openapi::jiff::SignedDuration;

/// Signs with the cluster's authority.
pub(super) struct Signer(pub(super) Pki);

impl CertificateSigner for Signer {
    fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        lifetime: Duration,
    ) -> Result<String, Box<dyn Error + Send + Sync>> {
        let lifetime = SignedDuration::try_from(lifetime)?;
        Ok(self.0.sign_request(request, usages, lifetime)?)
    }
}
