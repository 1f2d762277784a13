//! Keys in the store: `/registry/RESOURCE/NAMESPACE/NAME`, the paths that upstream uses.

use bytes::Bytes;
use k8s_model::{Resource, Scope};

/// The prefix of all objects of a resource, ending in a slash.
///
/// Upstream's `SpecialDefaultResourcePrefixes`, and the groups that its aggregated servers store
/// under their own name; a group that upstream does not have is stored under its name too.
pub(crate) fn prefix(resource: &Resource) -> String {
    let path = match (resource.storage_group, resource.resource) {
        ("", "replicationcontrollers") => "controllers",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("", "services") => "services/specs",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", name) => {
            return format!("/registry/{}/{name}/", resource.storage_group);
        }
        (group, name) if group.ends_with(".k8s.io") || !group.contains('.') => name,
        (group, name) => return format!("/registry/{group}/{name}/"),
    };
    format!("/registry/{path}/")
}

/// The same for a custom resource, which never shares a prefix with a built-in one.
pub(crate) fn custom_prefix(resource: &Resource) -> String {
    format!(
        "/registry/{}/{}/",
        resource.storage_group, resource.resource
    )
}

/// The prefix of the objects in a namespace, or in all.
pub(crate) fn namespace_prefix(prefix: &str, resource: &Resource, namespace: &str) -> Bytes {
    if resource.scope == Scope::Cluster || namespace.is_empty() {
        Bytes::copy_from_slice(prefix.as_bytes())
    } else {
        Bytes::from([prefix, namespace, "/"].concat())
    }
}

/// The key of one object.
pub(crate) fn object_key(prefix: &str, resource: &Resource, namespace: &str, name: &str) -> Bytes {
    match resource.scope {
        Scope::Cluster => Bytes::from([prefix, name].concat()),
        Scope::Namespaced => Bytes::from([prefix, namespace, "/", name].concat()),
    }
}

/// The namespace (empty in the cluster scope) and the name in a key below a prefix.
pub(crate) fn split<'k>(prefix: &str, key: &'k [u8]) -> (&'k str, &'k str) {
    let rest = key
        .get(prefix.len()..)
        .and_then(|rest| std::str::from_utf8(rest).ok())
        .unwrap_or_default();
    rest.split_once('/').unwrap_or(("", rest))
}
