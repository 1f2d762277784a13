//! What the server itself says in a request for a certificate: who asks, and when conditions changed.

use k8s_model::{Object, metadata};
use k8s_openapi::{
    api::certificates::v1::CertificateSigningRequest, apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use crate::auth::Identity;

/// Fills in who asks, whatever was given.
pub(crate) fn say_who(object: &mut dyn Object, user: &Identity) {
    let Some(request) = object.downcast_mut::<CertificateSigningRequest>() else {
        return;
    };
    let spec = &mut request.spec;
    spec.username = Some(user.name.clone());
    spec.uid = Some(user.uid.clone()).filter(|uid| !uid.is_empty());
    spec.groups = Some(user.groups.clone()).filter(|groups| !groups.is_empty());
    spec.extra = Some(user.extra.clone()).filter(|extra| !extra.is_empty());
}

/// Fills in when conditions were updated and last changed.
pub(crate) fn say_when(new: &mut dyn Object, old: &dyn Object, now: Timestamp) {
    let (Some(new), Some(old)) = (
        new.downcast_mut::<CertificateSigningRequest>(),
        old.downcast_ref::<CertificateSigningRequest>(),
    ) else {
        return;
    };
    let now: Time = metadata::to_second(now);
    let before = old.status.as_ref().and_then(|s| s.conditions.as_deref());
    let before = before.unwrap_or_default();
    let status = new.status.as_mut();
    let conditions = status.and_then(|status| status.conditions.as_mut());
    for condition in conditions.into_iter().flatten() {
        condition
            .last_update_time
            .get_or_insert_with(|| now.clone());
        if condition.last_transition_time.is_none() {
            let same = before
                .iter()
                .find(|old| old.type_ == condition.type_ && old.status == condition.status);
            let since = same.and_then(|old| old.last_transition_time.clone());
            condition.last_transition_time = Some(since.unwrap_or_else(|| now.clone()));
        }
    }
}
