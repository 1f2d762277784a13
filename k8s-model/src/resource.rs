//! [`Resource`]: a row of the table of resources.

use std::{fmt, ops::Deref, sync::Arc};

use serde_json::Value;

use crate::{Object, Strategy, decode::DecodeError};

/// Whether a resource's objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster as a whole.
    Cluster,
}

/// A group, version and plural name: where a resource is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural name, as in URLs.
    pub resource: String,
}

/// The `apiVersion` of what is of a group, empty for the core group, and a version: `apps/v1`, or `v1` alone.
pub fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

/// A subresource of a resource, such as `status` or `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Its name, as in URLs.
    pub name: &'static str,
    /// The group of the kind that it takes and gives, where that is not its parent's.
    pub group: &'static str,
    /// The version of that kind.
    pub version: &'static str,
    /// The kind that it takes and gives.
    pub kind: &'static str,
    /// The verbs that it serves.
    pub verbs: &'static [&'static str],
}

/// What decoding gives.
pub type Decoded = Result<Box<dyn Object>, DecodeError>;

/// How a kind's bytes become an [`Object`].
#[derive(Clone)]
pub struct Codec {
    /// Decodes JSON. Calls the second argument with the path of each unknown field
    /// (`spec.containers[0].foo`), in document order.
    pub from_json: Arc<FromJson>,
    /// Decodes a value tree, in the same way.
    pub from_value: Arc<FromValue>,
}

/// Decodes JSON; see [`Codec`].
pub type FromJson = dyn Fn(&[u8], &mut dyn FnMut(String)) -> Decoded + Send + Sync;

/// Decodes a value tree; see [`Codec`].
pub type FromValue = dyn Fn(Value, &mut dyn FnMut(String)) -> Decoded + Send + Sync;

/// A [`Strategy`], built in or made for a resource that comes and goes.
#[derive(Clone)]
pub enum AnyStrategy {
    /// One that is always there.
    Static(&'static dyn Strategy),
    /// One that lasts as long as its rows.
    Shared(Arc<dyn Strategy>),
}

impl Deref for AnyStrategy {
    type Target = dyn Strategy;

    fn deref(&self) -> &Self::Target {
        match self {
            AnyStrategy::Static(strategy) => *strategy,
            AnyStrategy::Shared(strategy) => &**strategy,
        }
    }
}

impl fmt::Debug for AnyStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyStrategy")
    }
}

impl From<&'static dyn Strategy> for AnyStrategy {
    fn from(strategy: &'static dyn Strategy) -> Self {
        AnyStrategy::Static(strategy)
    }
}

impl From<Arc<dyn Strategy>> for AnyStrategy {
    fn from(strategy: Arc<dyn Strategy>) -> Self {
        AnyStrategy::Shared(strategy)
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

/// One served resource: a group, version and plural name, and all that the machinery must know
/// of it.
///
/// A kind that is served in several versions has a row for each; they share
/// `storage_group`, `storage_version` and `resource`, and therefore their objects.
///
/// Names are static: those of resources that come and go are [interned](crate::intern).
#[derive(Clone)]
pub struct Resource {
    /// The group; empty for the core group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The kind of a list of them.
    pub list_kind: &'static str,
    /// The plural name, as in URLs.
    pub resource: &'static str,
    /// The singular name, lower case.
    pub singular: &'static str,
    /// Names for the command line, such as `po`.
    pub short_names: &'static [&'static str],
    /// Named sets of resources that it is in, such as `all`.
    pub categories: &'static [&'static str],
    /// Where its objects live.
    pub scope: Scope,
    /// The verbs that it serves. A resource that can only be created (a review) stores nothing.
    pub verbs: &'static [&'static str],
    /// Its subresources.
    pub subresources: &'static [Subresource],
    /// The group under which its objects are stored.
    pub storage_group: &'static str,
    /// The version in which its objects are stored.
    pub storage_version: &'static str,
    /// Decoding.
    pub codec: Codec,
    /// The kind's own rules.
    pub strategy: AnyStrategy,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("group", &self.group)
            .field("version", &self.version)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

impl Resource {
    /// The `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// Its subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether a delete that succeeds answers with the object; others answer with a `Status`.
    pub fn delete_gives_object(&self) -> bool {
        match self.group {
            "" => matches!(
                self.resource,
                "namespaces"
                    | "persistentvolumeclaims"
                    | "persistentvolumes"
                    | "pods"
                    | "podtemplates"
                    | "resourcequotas"
                    | "serviceaccounts"
                    | "services"
            ),
            "storage.k8s.io" => self.resource != "csistoragecapacities",
            "resource.k8s.io" => true,
            _ => false,
        }
    }

    /// Whether it keeps objects.
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
    }
}
