//! [`CertificateApproval`], [`CertificateSigning`], [`ClusterTrustBundleAttest`], [`PodCertificateSigning`] and
//! [`CertificateSubjectRestriction`]: who has a say about certificates.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::{
    certificates::CertificateRequest,
    field::{self, Path},
    status::{self, GroupResource},
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::{
    admission::{AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step},
    auth::Identity,
    authz::{Attributes, Authorizer, rbac::is_for_collection},
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
        matches!((group, resource), (GROUP, "certificatesigningrequests"))
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
        matches!((group, resource), (GROUP, "certificatesigningrequests"))
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

/// Lets only those say whom a signer's certificates are to be checked against who have the verb `attest` for the
/// signer.
#[derive(Debug)]
pub struct ClusterTrustBundleAttest(Arc<dyn Authorizer>);

impl ClusterTrustBundleAttest {
    /// Asks the authorizer.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        ClusterTrustBundleAttest(authorizer)
    }
}

#[async_trait]
impl AdmissionPlugin for ClusterTrustBundleAttest {
    fn name(&self) -> &str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), (GROUP, "clustertrustbundles"))
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let Some(new) = request.object.as_deref().map(|object| object.to_value()) else {
            return Ok(());
        };
        // It never changes, so the new object tells that of the old one too.
        let signer = new["spec"]["signerName"].as_str().unwrap_or_default();
        if request.resource.resource != "clustertrustbundles" || signer.is_empty() {
            return Ok(());
        }
        let old = request.old.map(|old| old.to_value());
        if old.is_some_and(|old| is_for_collection(&new, &old))
            || may(&*self.0, request.user, "attest", signer).await
        {
            return Ok(());
        }
        Err(AdmissionError::forbidden(format!(
            "user not permitted to attest for signerName {signer:?}"
        )))
    }
}

/// Lets only those answer a pod's request for a certificate who have the verb `sign` for its signer. Upstream has this
/// among the rules of the kind.
#[derive(Debug)]
pub struct PodCertificateSigning(Arc<dyn Authorizer>);

impl PodCertificateSigning {
    /// Asks the authorizer.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        PodCertificateSigning(authorizer)
    }
}

#[async_trait]
impl AdmissionPlugin for PodCertificateSigning {
    fn name(&self) -> &str {
        "PodCertificateSigning"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), (GROUP, "podcertificaterequests"))
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let (Some(new), Some(old)) = (&request.object, request.old) else {
            return Ok(());
        };
        if request.resource.resource != "podcertificaterequests" || request.subresource != "status"
        {
            return Ok(());
        }
        let (new, old) = (new.to_value(), old.to_value());
        let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
        if new["status"] == old["status"] || may(&*self.0, request.user, "sign", signer).await {
            return Ok(());
        }
        let user = &request.user.name;
        let text = format!("User {user:?} is not permitted to \"sign\" for signer {signer:?}");
        let finding = field::forbidden(Path::new("spec").child("signerName"), text);
        let kind = GroupResource::new(GROUP, "PodCertificateRequest");
        let status = status::invalid(kind, request.name, &vec![finding]);
        Err(AdmissionError::Status(Box::new(status)))
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
        matches!((group, resource), (GROUP, "certificatesigningrequests"))
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
