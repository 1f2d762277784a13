//! [`ResourceTable`]: which resources there are.

use std::sync::{Arc, LazyLock};

use crate::{Codec, Resource, generated};

/// A set of served resources, with lookup.
///
/// ```
/// # use k8s_model::ResourceTable;
/// let table = ResourceTable::builtin();
/// let deployments = table.resource("apps", "v1", "deployments").unwrap();
/// assert_eq!(deployments.kind, "Deployment");
/// assert_eq!(deployments.short_names, ["deploy"]);
/// assert_eq!(deployments.subresource("scale").unwrap().kind, "Scale");
/// ```
#[derive(Debug)]
pub struct ResourceTable {
    rows: Vec<Arc<Resource>>,
    /// Positions in `rows`, sorted by plural name, group and version.
    by_resource: Vec<u16>,
    /// Positions in `rows`, sorted by kind, group and version.
    by_kind: Vec<u16>,
}

/// An API group and its versions, as discovery lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiGroup<'a> {
    /// The group's name; empty for the core group.
    pub name: &'a str,
    /// Its versions, the preferred one first.
    pub versions: Vec<&'a str>,
}

/// Every built-in resource of the Kubernetes version that `k8s_openapi` is built for, in the
/// versions that upstream serves by default.
pub fn resources() -> &'static [Arc<Resource>] {
    ResourceTable::builtin().rows()
}

/// Decoding for a kind that only subresources take and give: `Scale`, `TokenRequest`, `Eviction`.
pub fn subresource_codec(group: &str, version: &str, kind: &str) -> Option<Codec> {
    generated::resources::subresource_codec(group, version, kind)
}

/// The version in whose stead another is taken of a kind that only subresources take, although nothing else of that one
/// is served: its fields are the same. As upstream, which takes the evictions of kubectl before 1.22.
pub fn taken_for(api_version: &str, kind: &str) -> Option<&'static str> {
    match (api_version, kind) {
        ("policy/v1beta1", "Eviction") => Some("policy/v1"),
        _ => None,
    }
}

impl ResourceTable {
    /// The table of all built-in resources.
    pub fn builtin() -> &'static ResourceTable {
        static TABLE: LazyLock<ResourceTable> =
            LazyLock::new(|| ResourceTable::new(generated::resources::rows()));
        &TABLE
    }

    /// A table of these rows. Their order is the order in discovery: rows of a group together, the
    /// preferred version of a group first.
    ///
    /// # Panics
    ///
    /// With more than 65,536 rows.
    pub fn new(rows: Vec<Resource>) -> Self {
        ResourceTable::shared(rows.into_iter().map(Arc::new).collect())
    }

    /// The same, of rows that other tables have too.
    ///
    /// # Panics
    ///
    /// With more than 65,536 rows.
    pub fn shared(rows: Vec<Arc<Resource>>) -> Self {
        let count = u16::try_from(rows.len()).expect("there are not that many resources");
        let mut by_resource: Vec<u16> = (0..count).collect();
        let mut by_kind = by_resource.clone();
        by_resource.sort_by_key(|i| resource_key(&rows[usize::from(*i)]));
        by_kind.sort_by_key(|i| kind_key(&rows[usize::from(*i)]));
        ResourceTable {
            rows,
            by_resource,
            by_kind,
        }
    }

    /// All rows, in the order of discovery.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// The row of a group, version and plural name.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Resource>> {
        let row = |i: &u16| &self.rows[usize::from(*i)];
        let key = (resource, group, version);
        self.by_resource
            .binary_search_by(|i| resource_key(row(i)).cmp(&key))
            .ok()
            .map(|at| row(&self.by_resource[at]))
    }

    /// The row of a group, version and kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let row = |i: &u16| &self.rows[usize::from(*i)];
        let key = (kind, group, version);
        self.by_kind
            .binary_search_by(|i| kind_key(row(i)).cmp(&key))
            .ok()
            .map(|at| row(&self.by_kind[at]))
    }

    /// The rows of a group and version.
    pub fn of_version<'a>(
        &'a self,
        group: &str,
        version: &str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.rows
            .iter()
            .filter(move |row| row.group == group && row.version == version)
    }

    /// The rows that share the stored objects of a row, itself included.
    pub fn stored_with<'a>(&'a self, row: &Resource) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.rows.iter().filter(move |other| {
            (other.storage_group, other.storage_version, other.resource)
                == (row.storage_group, row.storage_version, row.resource)
        })
    }

    /// The row in whose version a row's objects are stored.
    pub fn storage_row(&self, row: &Resource) -> Option<&Arc<Resource>> {
        self.resource(row.storage_group, row.storage_version, row.resource)
    }

    /// The groups and their versions, in the order of discovery; the core group too.
    pub fn groups(&self) -> Vec<ApiGroup<'_>> {
        let mut out: Vec<ApiGroup<'_>> = Vec::new();
        for row in &self.rows {
            match out.iter_mut().find(|group| group.name == row.group) {
                Some(group) if group.versions.contains(&row.version) => {}
                Some(group) => group.versions.push(row.version),
                None => out.push(ApiGroup {
                    name: row.group,
                    versions: vec![row.version],
                }),
            }
        }
        out
    }
}

fn resource_key(row: &Resource) -> (&str, &str, &str) {
    (row.resource, row.group, row.version)
}

fn kind_key(row: &Resource) -> (&str, &str, &str) {
    (row.kind, row.group, row.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    #[test]
    fn every_row_is_found_by_resource_and_by_kind() {
        let table = ResourceTable::builtin();
        for row in table.rows() {
            let found = table
                .resource(row.group, row.version, row.resource)
                .unwrap();
            assert!(std::ptr::eq(found, row), "{row:?}");
            let found = table.kind(row.group, row.version, row.kind).unwrap();
            assert!(std::ptr::eq(found, row), "{row:?}");
            assert!(table.storage_row(row).is_some(), "{row:?}");
        }
        assert!(table.resource("", "v1", "nothings").is_none());
        assert!(table.resource("apps", "v1beta1", "deployments").is_none());
    }

    #[test]
    fn pods_have_upstreams_subresources() {
        let pods = ResourceTable::builtin().resource("", "v1", "pods").unwrap();
        let names: Vec<_> = pods.subresources.iter().map(|s| s.name).collect();
        assert_eq!(
            names,
            [
                "attach",
                "binding",
                "ephemeralcontainers",
                "eviction",
                "exec",
                "log",
                "portforward",
                "proxy",
                "resize",
                "status"
            ]
        );
        assert_eq!(pods.subresource("eviction").unwrap().group, "policy");
        assert_eq!(pods.scope, Scope::Namespaced);
        assert_eq!(pods.categories, ["all"]);
    }

    #[test]
    fn groups_come_in_the_order_of_discovery_with_the_preferred_version_first() {
        let groups = ResourceTable::builtin().groups();
        assert_eq!(
            groups[0],
            ApiGroup {
                name: "",
                versions: vec!["v1"]
            }
        );
        assert_eq!(groups[1].name, "apiregistration.k8s.io");
        assert_eq!(groups[2].name, "apps");
        let autoscaling = groups
            .iter()
            .find(|group| group.name == "autoscaling")
            .unwrap();
        assert_eq!(autoscaling.versions, ["v2", "v1"]);
    }

    #[test]
    fn events_are_stored_once_for_both_groups() {
        let table = ResourceTable::builtin();
        let events = table.resource("events.k8s.io", "v1", "events").unwrap();
        let shared: Vec<_> = table
            .stored_with(events)
            .map(|row| row.api_version())
            .collect();
        assert_eq!(shared, ["v1", "events.k8s.io/v1"]);
    }

    #[test]
    fn reviews_are_only_created() {
        let table = ResourceTable::builtin();
        for (group, resource) in [
            ("authentication.k8s.io", "tokenreviews"),
            ("authorization.k8s.io", "subjectaccessreviews"),
        ] {
            let row = table.resource(group, "v1", resource).unwrap();
            assert_eq!(row.verbs, ["create"]);
            assert!(!row.is_stored());
            assert!(row.subresources.is_empty());
        }
    }

    #[test]
    fn only_stable_versions_are_served() {
        assert!(
            resources()
                .iter()
                .all(|row| !row.version.contains("alpha") && !row.version.contains("beta"))
        );
        assert!(resources().len() >= 60);
        assert!(subresource_codec("autoscaling", "v1", "Scale").is_some());
        assert!(subresource_codec("", "v1", "Pod").is_none());
    }
}
