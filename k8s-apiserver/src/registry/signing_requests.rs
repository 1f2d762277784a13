//! What the server itself says in a request for a certificate: who asks. And what it says of an answer that its clock
//! judges.

use k8s_model::{
    Object,
    field::{self, Path},
};
use k8s_openapi::{
    api::certificates::v1::CertificateSigningRequest,
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
    /// When the certificate begins that was issued for a pod.
    fn issued_from(object: &dyn Object) -> Option<Timestamp> {
        let request =
            object.downcast_ref::<k8s_openapi::api::certificates::v1::PodCertificateRequest>()?;
        Some(request.status.as_ref()?.not_before.as_ref()?.0)
    }
}

k8s_openapi::k8s_if_le_1_36! {
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
