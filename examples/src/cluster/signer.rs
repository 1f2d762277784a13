//! The cluster's authority as the controller that grants certificate requests sees it.

use std::{error::Error, sync::Arc, time::Duration};

use k8s_apiserver::{
    auth::{ObjectClaim, ServiceAccountTokens},
    pki::Pki,
};
use k8s_controllers::{CertificateSigner, ServiceAccountTokenSigner};
use k8s_model::certificates::CertificateRequest;
use k8s_openapi::{api::core::v1::ServiceAccount, jiff::SignedDuration};

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

/// Signs tokens of service accounts with the API server's key.
pub(super) struct TokenSigner(pub(super) Arc<ServiceAccountTokens>);

impl ServiceAccountTokenSigner for TokenSigner {
    fn sign(
        &self,
        account: &ServiceAccount,
        secret: &str,
    ) -> Result<String, Box<dyn Error + Send + Sync>> {
        let meta = &account.metadata;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let claim = ObjectClaim {
            name: text(&meta.name),
            uid: text(&meta.uid),
        };
        Ok(self
            .0
            .issue_for_secret(&text(&meta.namespace), claim, secret)?)
    }
}
