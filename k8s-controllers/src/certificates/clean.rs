//! Cleaning: requests that are done with, or that nobody answered, go after a while.

use std::time::Duration;

use k8s_model::certificates::expiry;
use k8s_openapi::{
    api::certificates::v1::CertificateSigningRequest, apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};

use super::{certificate, conditions, queue_of};
use crate::{
    Error,
    common::context::Context,
    error::unless_outdated,
    runtime::{Clock, Controller, Informer, ObjectKey, Reconciler, Requeue},
};

const HOUR: Duration = Duration::from_secs(3600);
/// How long an unanswered request is kept.
const PENDING: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Cleaner {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Cleaner> {
    let requests = context.informers.informer();
    let queue = queue_of(&requests);
    let ready = requests.synced();
    let reconciler = Cleaner {
        client: context.client.clone(),
        requests,
        clock: context.clock,
    };
    Controller::new(
        "certificatesigningrequest-cleaner-controller",
        reconciler,
        queue,
    )
    .with_workers(1)
    .wait_for(ready)
}

/// When the request is to go: the pure core.
pub(super) fn deadline(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |time: Option<&Time>, kept: Duration| time.and_then(|t| t.0.checked_add(kept).ok());
    let conditions = conditions(request);
    if conditions.is_empty() {
        return after(request.metadata.creation_timestamp.as_ref(), PENDING);
    }
    let issued = certificate(request);
    let done = conditions
        .iter()
        .filter(|condition| match condition.type_.as_str() {
            "Denied" | "Failed" => true,
            "Approved" => !issued.is_empty(),
            _ => false,
        })
        .filter_map(|condition| after(condition.last_update_time.as_ref(), HOUR));
    let approved = conditions.iter().any(|c| c.type_ == "Approved");
    let expired = if approved { expiry(issued) } else { None };
    done.chain(expired).min()
}

impl Reconciler for Cleaner {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(request) = self.requests.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let Some(deadline) = deadline(&request) else {
            return Ok(Requeue::OnChange);
        };
        let left = deadline.duration_since(self.clock.now());
        if left.is_positive() {
            // No sooner than the whole second after.
            let left = left.unsigned_abs() + Duration::from_secs(1);
            return Ok(Requeue::After(left));
        }
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: request.metadata.uid.clone(),
            resource_version: request.metadata.resource_version.clone(),
        });
        unless_outdated(api.delete(key.name(), &params).await)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
