//! What the server itself says in a request for a certificate: who asks, and when conditions changed. And what it says of
//! an answer that its clock judges.

use k8s_model::{
    Object,
    field::{self, Path},
    metadata,
};
use k8s_openapi::{
    api::certificates::v1::CertificateSigningRequest,
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
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
    say_when_of_pod(new, old, now);
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

/// How far the beginning of a pod's new certificate may be from now.
const NEAR: SignedDuration = SignedDuration::from_mins(5);

/// A certificate that is issued for a pod begins about now.
pub(crate) fn begins_now(new: &dyn Object, old: &dyn Object, now: Timestamp) -> field::ErrorList {
    match issued_from(new) {
        Some(time) if Some(time) != issued_from(old) && time.duration_since(now).abs() >= NEAR => {
            let path = Path::new("status").child("notBefore");
            let text = "must be set to within 5 minutes of kube-apiserver's current time";
            vec![field::invalid(path, time.to_string(), text)]
        }
        _ => Vec::new(),
    }
}

k8s_openapi::k8s_if_ge_1_37! {
    /// The same of a request for a pod, whose conditions only say when they last changed.
    fn say_when_of_pod(new: &mut dyn Object, old: &dyn Object, now: Timestamp) {
        use k8s_openapi::{
            api::certificates::v1::PodCertificateRequest, apimachinery::pkg::apis::meta::v1::Condition,
        };
        let (Some(new), Some(old)) = (
            new.downcast_mut::<PodCertificateRequest>(),
            old.downcast_ref::<PodCertificateRequest>(),
        ) else {
            return;
        };
        let before = old.status.as_ref().and_then(|s| s.conditions.as_deref());
        let before = before.unwrap_or_default();
        let is_said = |condition: &Condition| condition.last_transition_time.0 != metadata::UNSET_TIME;
        let status = new.status.as_mut();
        let conditions = status.and_then(|status| status.conditions.as_mut());
        for condition in conditions.into_iter().flatten() {
            if is_said(condition) {
                continue;
            }
            let same = before.iter().find(|old| {
                old.type_ == condition.type_ && old.status == condition.status && is_said(old)
            });
            let since = same.map(|old| old.last_transition_time.clone());
            condition.last_transition_time = since.unwrap_or_else(|| metadata::to_second(now));
        }
    }

    /// When the certificate begins that was issued for a pod.
    fn issued_from(object: &dyn Object) -> Option<Timestamp> {
        let request =
            object.downcast_ref::<k8s_openapi::api::certificates::v1::PodCertificateRequest>()?;
        Some(request.status.as_ref()?.not_before.as_ref()?.0)
    }
}

k8s_openapi::k8s_if_le_1_36! {
    /// There are no such requests in their stable version.
    fn say_when_of_pod(_new: &mut dyn Object, _old: &dyn Object, _now: Timestamp) {}

    /// There are no such requests in their stable version.
    fn issued_from(_object: &dyn Object) -> Option<Timestamp> {
        None
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::PodCertificateRequest;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_answer_to_a_pod_says_when_it_was_given() {
        let request = |conditions: Value| -> PodCertificateRequest {
            let spec = json!({ "signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
                "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "" });
            let status = json!({ "conditions": conditions });
            let request = json!({ "metadata": {}, "spec": spec, "status": status });
            serde_json::from_value(request).unwrap()
        };
        const NEVER: &str = "0001-01-01T00:00:00Z";
        const BEFORE: &str = "2026-01-01T00:00:00Z";
        const NOW: &str = "2026-01-02T00:00:00Z";
        let now: Timestamp = NOW.parse().unwrap();
        let denied = |time: &str| {
            let condition = json!({ "type": "Denied", "status": "True", "reason": "R", "message": "",
                "lastTransitionTime": time });
            request(json!([condition]))
        };
        for (old, said, kept) in [
            (request(json!([])), NEVER, NOW),
            (request(json!([])), BEFORE, BEFORE),
            (denied(BEFORE), NEVER, BEFORE),
            (denied(NEVER), NEVER, NOW),
        ] {
            let mut new = denied(said);
            say_when(&mut new, &old, now);
            assert_eq!(new, denied(kept));
        }
    }

    #[test]
    fn what_is_issued_for_a_pod_begins_about_now() {
        let request = |begins: Value| -> PodCertificateRequest {
            let spec = json!({ "signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
                "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "" });
            let status = json!({ "notBefore": begins });
            serde_json::from_value(json!({ "metadata": {}, "spec": spec, "status": status }))
                .unwrap()
        };
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        let old = request(Value::Null);
        for (time, good) in [
            ("2026-05-01T11:55:01Z", true),
            ("2026-05-01T12:04:59Z", true),
            ("2026-05-01T11:55:00Z", false),
            ("2026-05-01T12:05:00Z", false),
        ] {
            let new = request(json!(time));
            assert_eq!(begins_now(&new, &old, now).is_empty(), good, "{time}");
            // It was judged when it was said.
            assert!(begins_now(&new, &new, now).is_empty(), "{time}");
        }
    }
}
