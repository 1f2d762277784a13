//! [`Served`]: the resources that are served at one time.

use std::sync::{Arc, OnceLock};

use foldhash::{HashMap, HashMapExt};
use k8s_model::{Resource, ResourceTable};

use super::Row;
use crate::{discovery::Discovery, webhook::Clients};

/// The resources that are served at one time, and what is said of them.
///
/// It never changes: resources that come or go make a new one, which takes over the rows that stay.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) table: ResourceTable,
    /// By plural name: few names are in more than one group or version.
    by_name: HashMap<&'static str, Vec<Arc<Row>>>,
    /// By plural name, and then by group: the row in whose version a resource is stored, or any row of it.
    stored: HashMap<&'static str, Vec<(&'static str, Arc<Row>)>>,
    /// Where the server says that it is.
    address: String,
    clients: Arc<Clients>,
    discovery: OnceLock<Discovery>,
}

impl Served {
    pub(crate) fn new(rows: Vec<Arc<Resource>>, address: String, clients: Arc<Clients>) -> Self {
        Served::after(None, rows, address, clients)
    }

    /// The same server with other resources.
    pub(crate) fn with(&self, rows: Vec<Arc<Resource>>) -> Self {
        Served::after(Some(self), rows, self.address.clone(), self.clients.clone())
    }

    fn after(
        before: Option<&Served>,
        rows: Vec<Arc<Resource>>,
        address: String,
        clients: Arc<Clients>,
    ) -> Self {
        let table = ResourceTable::shared(rows);
        let mut by_name: HashMap<&'static str, Vec<Arc<Row>>> = HashMap::new();
        for resource in table.rows() {
            let known = before
                .and_then(|b| b.row(resource.group, resource.version, resource.resource))
                .filter(|row| Arc::ptr_eq(&row.resource, resource))
                .filter(|row| {
                    table
                        .storage_row(resource)
                        .is_none_or(|storage| Arc::ptr_eq(storage, &row.storage))
                });
            let row = known
                .cloned()
                .unwrap_or_else(|| Arc::new(Row::new(resource, &table, &clients)));
            by_name.entry(resource.resource).or_default().push(row);
        }
        let stored = by_name.iter().map(|(name, rows)| (*name, stored(rows)));
        Served {
            table,
            stored: stored.collect(),
            by_name,
            address,
            clients,
            discovery: OnceLock::new(),
        }
    }

    /// All rows, in no order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.by_name.values().flatten()
    }

    /// The row of a group, version and plural name.
    pub(crate) fn row(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Row>> {
        let mut rows = self.by_name.get(resource)?.iter();
        rows.find(|row| row.resource.group == group && row.resource.version == version)
    }

    /// The row in whose version a resource is stored, or any row of it.
    pub(crate) fn stored(&self, group: &str, resource: &str) -> Option<&Arc<Row>> {
        let mut groups = self.stored.get(resource)?.iter();
        groups.find(|(of, _)| *of == group).map(|(_, row)| row)
    }

    /// The documents of discovery, written when they are first asked for.
    pub(crate) fn discovery(&self) -> &Discovery {
        self.discovery
            .get_or_init(|| Discovery::new(&self.table, &self.address))
    }
}

/// Of each group, the row in whose version its resource is stored, or the first if that is not served.
fn stored(rows: &[Arc<Row>]) -> Vec<(&'static str, Arc<Row>)> {
    let mut groups: Vec<(&'static str, Arc<Row>)> = Vec::new();
    for row in rows {
        let group = row.resource.group;
        if groups.iter().any(|(known, _)| *known == group) {
            continue;
        }
        let storage = (row.storage.group, row.storage.version);
        let exact =
            (rows.iter()).find(|other| (other.resource.group, other.resource.version) == storage);
        groups.push((group, exact.unwrap_or(row).clone()));
    }
    groups
}
