//! Signing: approved requests to Kubernetes' own signers are granted.

use std::{sync::Arc, time::Duration};

use k8s_model::certificates::CertificateRequest;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
};
use kube::{Api, Client, api::PostParams};

use super::{CertificateSigner, certificate, has, queue_of, usages};
use crate::{
    Error,
    common::context::Context,
    runtime::{Controller, Informer, ObjectKey, Reconciler, Requeue},
};

/// How long certificates are good unless their requests say less; the default of upstream's
/// `--cluster-signing-duration`.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The least that a request may say.
const SHORTEST: Duration = Duration::from_secs(600);

pub(crate) struct Signing {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    signer: Arc<dyn CertificateSigner>,
    longest: Duration,
}

/// The controller, its handlers in place.
pub(crate) fn controller(
    context: &Context,
    signer: Arc<dyn CertificateSigner>,
    longest: Duration,
) -> Controller<Signing> {
    let requests = context.informers.informer();
    let queue = queue_of(&requests);
    let ready = requests.synced();
    let reconciler = Signing {
        client: context.client.clone(),
        requests,
        signer,
        longest,
    };
    Controller::new(
        "certificatesigningrequest-signing-controller",
        reconciler,
        queue,
    )
    .wait_for(ready)
}

/// What to do about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it is not approved, done with, or another signer's.
    Ignore,
    /// Nobody can read it; this is why.
    Unreadable(String),
    /// It can't be granted; this is why.
    Fail(String),
    /// It is granted, for so long.
    Sign(Box<CertificateRequest>, Duration),
}

/// Judges a request: the pure core. No certificate is good for longer than `longest`.
pub(super) fn judge(request: &CertificateSigningRequest, longest: Duration) -> Verdict {
    let open = has(request, "Approved")
        && !has(request, "Denied")
        && !has(request, "Failed")
        && certificate(request).is_empty();
    let name = request.spec.signer_name.as_str();
    let known = matches!(
        name.strip_prefix("kubernetes.io/"),
        Some(
            "kube-apiserver-client"
                | "kube-apiserver-client-kubelet"
                | "kubelet-serving"
                | "legacy-unknown"
        )
    );
    if !open || !known {
        return Verdict::Ignore;
    }
    let asked = match CertificateRequest::parse(&request.spec.request.0) {
        Ok(asked) => asked,
        Err(error) => return Verdict::Unreadable(error.to_string()),
    };
    let usages = usages(request);
    let checked = match name {
        "kubernetes.io/kube-apiserver-client" => check_client(usages),
        "kubernetes.io/kube-apiserver-client-kubelet" => {
            asked.check_kubelet_client(usages).map_err(str::to_owned)
        }
        "kubernetes.io/kubelet-serving" => {
            asked.check_kubelet_serving(usages).map_err(str::to_owned)
        }
        _ => Ok(()),
    };
    match checked {
        Err(why) => Verdict::Fail(why),
        Ok(()) => {
            let wanted = request.spec.expiration_seconds.map(|seconds| {
                let seconds = u64::try_from(seconds).unwrap_or(0);
                Duration::from_secs(seconds).max(SHORTEST).min(longest)
            });
            Verdict::Sign(Box::new(asked), wanted.unwrap_or(longest))
        }
    }
}

fn check_client(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if !matches!(
            usage.as_str(),
            "digital signature" | "key encipherment" | "client auth"
        ) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".to_owned())
    }
}

impl Reconciler for Signing {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(request) = self.requests.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let mut new = (*request).clone();
        let status = new.status.get_or_insert_default();
        match judge(&request, self.longest) {
            Verdict::Ignore => return Ok(Requeue::OnChange),
            Verdict::Unreadable(why) => {
                let text = format!("unable to parse csr {:?}: {why}", key.name());
                return Err(Error::NotYet(text));
            }
            Verdict::Fail(why) => {
                status.conditions.get_or_insert_default().push(
                    CertificateSigningRequestCondition {
                        type_: "Failed".to_owned(),
                        status: "True".to_owned(),
                        reason: Some("SignerValidationFailure".to_owned()),
                        message: Some(why),
                        ..Default::default()
                    },
                );
            }
            Verdict::Sign(asked, lifetime) => {
                let pem = self
                    .signer
                    .sign(&asked, usages(&request), lifetime)
                    .map_err(|error| Error::NotYet(format!("error auto signing csr: {error}")))?;
                status.certificate = Some(ByteString(pem.into_bytes()));
            }
        }
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        api.replace_status(key.name(), &PostParams::default(), &new)
            .await?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
