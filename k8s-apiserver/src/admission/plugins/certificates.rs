//! [`CertificateApproval`], [`CertificateSigning`] and [`CertificateSubjectRestriction`]: who has a
//! say about requests for certificates.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::certificates::CertificateRequest;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::{
    admission::{AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step},
    auth::Identity,
    authz::{Attributes, Authorizer},
};

const GROUP: &str = "certificates.k8s.io";

fn is_request(request: &AdmissionRequest<'_>, subresource: &str) -> bool {
    request.resource.group == GROUP
        && request.resource.resource == "certificatesigningrequests"
        && request.subresource == subresource
}

/// Whether the user may do that for the signer, or for all signers of its domain.
async fn may(authorizer: &dyn Authorizer, user: &Identity, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let attributes = Attributes {
            user,
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            path: "",
            resource_request: true,
            selectors: None,
        };
        if authorizer.authorize(&attributes).await.is_allowed() {
            return true;
        }
    }
    false
}

/// Lets only those approve or deny a request who have the verb `approve` for its signer.
#[derive(Debug)]
pub struct CertificateApproval(Arc<dyn Authorizer>);

impl CertificateApproval {
    /// Asks the authorizer.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        CertificateApproval(authorizer)
    }
}

#[async_trait]
impl AdmissionPlugin for CertificateApproval {
    fn name(&self) -> &str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!(
            (group, resource),
            ("certificates.k8s.io", "certificatesigningrequests")
        )
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !is_request(request, "approval") {
            return Ok(());
        }
        let Some(old) = request.old_as::<CertificateSigningRequest>() else {
            return Ok(());
        };
        let signer = &old.spec.signer_name;
        if may(&*self.0, request.user, "approve", signer).await {
            return Ok(());
        }
        Err(AdmissionError::forbidden(format!(
            "user not permitted to approve requests with signerName {signer:?}"
        )))
    }
}

/// Lets only those issue certificates who have the verb `sign` for the request's signer.
#[derive(Debug)]
pub struct CertificateSigning(Arc<dyn Authorizer>);

impl CertificateSigning {
    /// Asks the authorizer.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        CertificateSigning(authorizer)
    }
}

#[async_trait]
impl AdmissionPlugin for CertificateSigning {
    fn name(&self) -> &str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!(
            (group, resource),
            ("certificates.k8s.io", "certificatesigningrequests")
        )
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !is_request(request, "status") {
            return Ok(());
        }
        let (Some(new), Some(old)) = (
            request.object_as::<CertificateSigningRequest>(),
            request.old_as::<CertificateSigningRequest>(),
        ) else {
            return Ok(());
        };
        let said = |of: &CertificateSigningRequest| {
            let status = of.status.clone().unwrap_or_default();
            let issued = status.certificate.map(|c| c.0).unwrap_or_default();
            (issued, status.conditions.unwrap_or_default())
        };
        if said(new) == said(old) {
            return Ok(());
        }
        let signer = &old.spec.signer_name;
        if may(&*self.0, request.user, "sign", signer).await {
            return Ok(());
        }
        Err(AdmissionError::forbidden(format!(
            "user not permitted to sign requests with signerName {signer:?}"
        )))
    }
}

/// Refuses to ask for client certificates of the group that may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateSubjectRestriction;

#[async_trait]
impl AdmissionPlugin for CertificateSubjectRestriction {
    fn name(&self) -> &str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!(
            (group, resource),
            ("certificates.k8s.io", "certificatesigningrequests")
        )
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
        let Some(asked) = request.object_as::<CertificateSigningRequest>() else {
            return Ok(());
        };
        if !is_request(request, "") || asked.spec.signer_name != SIGNER {
            return Ok(());
        }
        let parsed = CertificateRequest::parse(&asked.spec.request.0)
            .map_err(|error| AdmissionError::forbidden(format!("failed to parse CSR: {error}")))?;
        if parsed.organizations.iter().any(|o| o == "system:masters") {
            return Err(AdmissionError::forbidden(format!(
                "use of {SIGNER} signer with system:masters group is not allowed"
            )));
        }
        Ok(())
    }
}
