//! Certificates: requests of nodes for their own certificates are approved, approved requests are
//! granted, and old requests are removed.
//!
//! Mirrors upstream's `pkg/controller/certificates`: csrapproving, csrsigning and csrcleaner.

pub(crate) mod approve;
pub(crate) mod clean;
pub(crate) mod sign;

use std::{error::Error, time::Duration};

use k8s_model::certificates::CertificateRequest;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};

use crate::runtime::{Change, Informer, ObjectKey, WorkQueue};

/// Holds the key of the cluster's certificate authority.
///
/// # Purpose
/// The controller that grants CertificateSigningRequests decides which are to be granted, and asks
/// this for the certificate. Write your own to keep the key elsewhere.
///
/// # Guarantees
/// The certificate has the request's subject, public key and alternative names, the usages and no others, is
/// no authority's, and is good from about now for the lifetime or less.
///
/// # Concurrency
/// Calls overlap, and should not block.
pub trait CertificateSigner: Send + Sync + 'static {
    /// The certificate, PEM. Usages are spelled as in the request: `client auth`, `digital signature`, …
    ///
    /// # Errors
    /// An error means that the request is tried again later.
    fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        lifetime: Duration,
    ) -> Result<String, Box<dyn Error + Send + Sync>>;
}

/// A queue that gets every request when it is made and when it changes.
fn queue_of(requests: &Informer<CertificateSigningRequest>) -> WorkQueue<ObjectKey> {
    let queue = WorkQueue::new();
    let adds = queue.clone();
    requests.add_handler(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    queue
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, sort: &str) -> bool {
    conditions(request).iter().any(|c| c.type_ == sort)
}

fn certificate(request: &CertificateSigningRequest) -> &[u8] {
    let status = request.status.as_ref();
    let issued = status.and_then(|status| status.certificate.as_ref());
    issued.map_or(&[], |issued| &issued.0)
}

fn usages(request: &CertificateSigningRequest) -> &[String] {
    request.spec.usages.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
