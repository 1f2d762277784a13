//! Approving: a node that may ask for a certificate for itself gets it.

use k8s_model::certificates::CertificateRequest;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
};
use kube::{Api, Client, api::PostParams};

use super::{certificate, has, queue_of, usages};
use crate::{
    Error,
    common::context::Context,
    runtime::{Controller, Informer, ObjectKey, Reconciler, Requeue},
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

pub(crate) struct Approver {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Approver> {
    let requests = context.informers.informer();
    let queue = queue_of(&requests);
    let ready = requests.synced();
    let reconciler = Approver {
        client: context.client.clone(),
        requests,
    };
    Controller::new(
        "certificatesigningrequest-approving-controller",
        reconciler,
        queue,
    )
    .wait_for(ready)
}

/// What the asker must be allowed to create for the request to be approved, and what is said then: the
/// pure core.
pub(super) fn grounds(request: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    let open = certificate(request).is_empty()
        && !has(request, "Approved")
        && !has(request, "Denied")
        && request.spec.signer_name == SIGNER;
    let Ok(asked) = CertificateRequest::parse(&request.spec.request.0) else {
        return Vec::new();
    };
    if !open || asked.check_kubelet_client(usages(request)).is_err() {
        return Vec::new();
    }
    let mut out = Vec::new();
    if request.spec.username.as_deref() == Some(asked.common_name.as_str()) {
        out.push((
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ));
    }
    out.push((
        "nodeclient",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    ));
    out
}

impl Approver {
    async fn may(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
    ) -> Result<bool, kube::Error> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some("create".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

impl Reconciler for Approver {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(request) = self.requests.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let grounds = grounds(&request);
        for (subresource, message) in &grounds {
            if !self.may(&request, subresource).await? {
                continue;
            }
            let mut approved = (*request).clone();
            let status = approved.status.get_or_insert_default();
            status
                .conditions
                .get_or_insert_default()
                .push(CertificateSigningRequestCondition {
                    type_: "Approved".to_owned(),
                    status: "True".to_owned(),
                    reason: Some("AutoApproved".to_owned()),
                    message: Some((*message).to_owned()),
                    ..Default::default()
                });
            let api = Api::<CertificateSigningRequest>::all(self.client.clone());
            let params = PostParams::default();
            let _: CertificateSigningRequest = api
                .replace_subresource("approval", key.name(), &params, &approved)
                .await?;
            return Ok(Requeue::OnChange);
        }
        if grounds.is_empty() {
            return Ok(Requeue::OnChange);
        }
        // Permission may come later.
        let tried: Vec<&str> = grounds.iter().map(|(name, _)| *name).collect();
        Err(Error::NotYet(format!(
            "recognized csr {:?} as [{}] but subject access review was not approved",
            key.name(),
            tried.join(" ")
        )))
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
