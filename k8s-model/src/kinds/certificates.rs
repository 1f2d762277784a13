//! The group `certificates.k8s.io`: CertificateSigningRequests.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{checks::list, typed::KindRules},
    names,
};

/// The rules of CertificateSigningRequests.
///
/// Who asks is the API server's to fill in, before validation.
pub(crate) struct CertificateSigningRequestRules;

impl KindRules for CertificateSigningRequestRules {
    type Kind = CertificateSigningRequest;

    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];

    fn prepare_for_create(&self, request: &mut CertificateSigningRequest) {
        request.status = Some(Default::default());
    }

    fn validate(&self, request: &CertificateSigningRequest) -> ErrorList {
        const PEM: &str = "-----BEGIN CERTIFICATE REQUEST-----";
        let path = Path::new("spec");
        let spec = &request.spec;
        let mut errors = ErrorList::new();
        let body = String::from_utf8_lossy(&spec.request.0);
        if !body.trim_start().starts_with(PEM) {
            errors.push(field::invalid(
                path.child("request"),
                body.as_ref(),
                "PEM block type must be CERTIFICATE REQUEST",
            ));
        }
        let usages = list(&spec.usages);
        if usages.is_empty() {
            errors.push(field::required(path.child("usages"), ""));
        }
        for (index, usage) in usages.iter().enumerate() {
            if usages[..index].contains(usage) {
                errors.push(field::duplicate(
                    path.child("usages").index(index),
                    usage.as_str(),
                ));
            }
        }
        errors.extend(signer(&spec.signer_name, &path.child("signerName")));
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            errors.push(field::invalid(
                path.child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            ));
        }
        errors
    }

    fn prepare_for_update(
        &self,
        new: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        new.spec = old.spec.clone();
        new.status.clone_from(&old.status);
    }

    fn validate_update(
        &self,
        _new: &CertificateSigningRequest,
        _old: &CertificateSigningRequest,
    ) -> ErrorList {
        ErrorList::new()
    }

    fn prepare_for_status_update(
        &self,
        new: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        new.spec = old.spec.clone();
    }

    fn validate_status_update(
        &self,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) -> ErrorList {
        let path = Path::new("status");
        let certificate = |request: &CertificateSigningRequest| {
            let status = request.status.as_ref();
            status
                .and_then(|status| status.certificate.clone())
                .filter(|c| !c.0.is_empty())
        };
        let mut errors = ErrorList::new();
        if let Some(issued) = certificate(old)
            && certificate(new).as_ref() != Some(&issued)
        {
            errors.push(field::forbidden(
                path.child("certificate"),
                "updates may not modify existing certificate content",
            ));
        }
        let conditions = new.status.as_ref().map(|status| list(&status.conditions));
        let conditions = conditions.unwrap_or_default();
        for (index, condition) in conditions.iter().enumerate() {
            let at = path.child("conditions").index(index);
            let sort = condition.type_.as_str();
            if sort.is_empty() {
                errors.push(field::required(at.child("type"), ""));
            }
            if matches!(sort, "Approved" | "Denied" | "Failed") && condition.status != "True" {
                errors.push(field::not_supported(
                    at.child("status"),
                    condition.status.as_str(),
                    &["True"],
                ));
            }
            if conditions[..index].iter().any(|other| other.type_ == sort) {
                errors.push(field::duplicate(at.child("type"), sort));
            }
        }
        let has = |sort: &str| conditions.iter().any(|condition| condition.type_ == sort);
        if has("Approved") && has("Denied") {
            errors.push(field::invalid(
                path.child("conditions"),
                "Denied",
                "Approved and Denied conditions are mutually exclusive",
            ));
        }
        errors
    }

    fn selectable(&self, request: &CertificateSigningRequest) -> Vec<String> {
        vec![request.spec.signer_name.clone()]
    }
}

fn signer(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let invalid = |detail: String| vec![field::invalid(path.clone(), name, detail)];
    match name.split('/').collect::<Vec<_>>()[..] {
        [domain, rest] => {
            if name.len() > 571 {
                return vec![field::too_long(path.clone(), 571)];
            }
            if domain.split('.').count() < 2 {
                return invalid(
                    "should be a domain with at least two segments separated by dots".to_owned(),
                );
            }
            let mut wrong = names::dns_subdomain(domain, false);
            wrong.extend(names::dns_subdomain(rest, false));
            if wrong.is_empty() {
                ErrorList::new()
            } else {
                invalid(wrong.join(", "))
            }
        }
        _ => invalid(
            "must be a fully qualified domain and path of the form 'example.com/signer-name'"
                .to_owned(),
        ),
    }
}
