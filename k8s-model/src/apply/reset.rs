//! Which fields a resource resets, so that nobody comes to own them by writing them.

/// The fields that a resource, or a subresource of it, resets on every write: upstream's
/// `GetResetFields`. `has_status` is whether the resource has a `status` subresource.
///
/// The rule is the status on the resource itself and the spec on its `status`; the exceptions are
/// those of upstream's strategies.
pub fn reset_fields(
    group: &str,
    resource: &str,
    subresource: &str,
    has_status: bool,
) -> &'static [&'static [&'static str]] {
    match (group, resource, subresource) {
        ("certificates.k8s.io", "certificatesigningrequests", "") => &[&["spec"], &["status"]],
        ("certificates.k8s.io", "certificatesigningrequests", "status") => {
            &[&["spec"], &["status", "conditions"]]
        }
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            &[&["spec"], &["status", "certificate"]]
        }
        ("", "namespaces", "finalize") => &[&["status"]],
        ("apps", "deployments", "status") => &[&["metadata", "labels"], &["spec"]],
        ("", "pods", "status") => &[
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
            &["spec"],
        ],
        (
            "flowcontrol.apiserver.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "internal.apiserver.k8s.io",
            _,
            "status",
        )
        | ("storage.k8s.io", "volumeattachments", "status") => &[&["metadata"], &["spec"]],
        (_, _, "status") => &[&["spec"]],
        (_, _, "") if has_status => &[&["status"]],
        _ => &[],
    }
}
