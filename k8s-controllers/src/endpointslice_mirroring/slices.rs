//! What slices Endpoints are to have.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{CONTROLLER, LEADER, SKIP};
use crate::{
    common::{compat, owner, service},
    endpointslice::{MANAGED_BY, SERVICE_NAME},
};

/// Addresses of one subset that are mirrored at most, and endpoints of a slice.
const MAX_ENDPOINTS: usize = 1000;
/// Marks of the objects that a mirror does not carry.
const NOT_COPIED: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Whether these Endpoints have slices of ours: somebody wrote them by hand, for this Service.
pub(super) fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let has = |map: &Option<BTreeMap<String, String>>, key, value: Option<&str>| {
        let found = map.as_ref().and_then(|map| map.get(key));
        found.is_some_and(|found| value.is_none_or(|value| found == value))
    };
    let meta = &endpoints.metadata;
    let written_by_hand = |service: &Service| {
        let spec = service.spec.as_ref();
        spec.is_none_or(|spec| spec.selector.as_ref().is_none_or(BTreeMap::is_empty))
    };
    !has(&meta.labels, SKIP, Some("true"))
        && !has(&meta.annotations, LEADER, None)
        && service.is_some_and(written_by_hand)
}

/// What makes endpoints fit into one slice: the family of the address, and the ports.
type Group = (&'static str, Vec<PortKey>);
type PortKey = (String, Option<i32>, String, Option<String>);

fn port_key(port: &EndpointPort) -> PortKey {
    (
        port.name.clone().unwrap_or_default(),
        port.port,
        port.protocol.clone().unwrap_or_default(),
        port.app_protocol.clone(),
    )
}

fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let family = ["IPv4", "IPv6"]
        .into_iter()
        .find(|family| *family == slice.address_type)?;
    let mut ports: Vec<PortKey> = slice.ports.iter().flatten().map(port_key).collect();
    ports.sort();
    Some((family, ports))
}

/// Compares what is with what is to be.
pub(super) fn reconcile(endpoints: &Endpoints, existing: Vec<Arc<EndpointSlice>>) -> Changes {
    let mut wanted = wanted(endpoints);
    let mut changes = Changes::default();
    for slice in existing {
        let group = group_of(&slice);
        match group.map(|group| wanted.entry(group)) {
            Some(Entry::Occupied(entry)) => {
                let mut new = entry.remove();
                new.metadata.name = slice.metadata.name.clone();
                if !is_same(&new, &slice) {
                    new.metadata.resource_version = slice.metadata.resource_version.clone();
                    changes.update.push(new);
                }
            }
            _ => changes.delete.push(slice),
        }
    }
    changes.create = wanted.into_values().collect();
    changes
}

fn endpoints_of(slice: &EndpointSlice) -> &[Endpoint] {
    compat::get(&slice.endpoints).map_or(&[], Vec::as_slice)
}

fn is_same(new: &EndpointSlice, old: &EndpointSlice) -> bool {
    let written = |meta: &ObjectMeta| {
        let labels = meta.labels.clone().unwrap_or_default();
        (labels, meta.annotations.clone().unwrap_or_default())
    };
    endpoints_of(new) == endpoints_of(old) && written(&new.metadata) == written(&old.metadata)
}

fn wanted(endpoints: &Endpoints) -> BTreeMap<Group, EndpointSlice> {
    let mut groups: BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten();
        let all = ready.chain(not_ready.map(|a| (a, false)));
        for (address, ready) in all.take(MAX_ENDPOINTS) {
            let family = if service::is_ipv6(&address.ip) {
                "IPv6"
            } else {
                "IPv4"
            };
            let mut key: Vec<PortKey> = ports.iter().map(port_key).collect();
            key.sort();
            let group = (family, key);
            let (_, held) = groups
                .entry(group)
                .or_insert_with(|| (ports.clone(), Vec::new()));
            let is_new = !held
                .iter()
                .any(|held: &Endpoint| held.addresses == [address.ip.clone()]);
            if is_new && held.len() < MAX_ENDPOINTS {
                held.push(endpoint(address, ready));
            }
        }
    }
    let slices = groups.into_iter().map(|(group, (ports, held))| {
        let name = name(endpoints, &group);
        let mut slice = empty(endpoints, group.0, name, ports);
        slice.endpoints = compat::set(held);
        (group, slice)
    });
    slices.collect()
}

/// A name that stays the same, so that a view of yesterday makes no second slice.
fn name(endpoints: &Endpoints, group: &Group) -> String {
    let mut hasher = DefaultHasher::new();
    owner::uid(&endpoints.metadata).hash(&mut hasher);
    group.hash(&mut hasher);
    let prefix: String = owner::name(&endpoints.metadata).chars().take(240).collect();
    format!("{prefix}-{:08x}", hasher.finish() as u32)
}

fn empty(
    endpoints: &Endpoints,
    family: &str,
    name: String,
    ports: Vec<EndpointPort>,
) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), owner::name(meta).to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    EndpointSlice {
        address_type: family.to_owned(),
        metadata: ObjectMeta {
            name: Some(name),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owner::controller_ref(endpoints)]),
            ..ObjectMeta::default()
        },
        ports: Some(ports),
        ..EndpointSlice::default()
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "1",
                "labels": {"tier": "data"}, "annotations": {"note": "x", NOT_COPIED[0]: "{}"}},
            "subsets": subsets,
        }))
        .unwrap()
    }

    #[test]
    fn addresses_are_grouped_by_family_and_ports() {
        let changes = reconcile(
            &endpoints(json!([
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                 "notReadyAddresses": [{"ip": "10.0.0.2", "hostname": "two"}],
                 "ports": [{"name": "sql", "port": 5432}]},
                {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "sql", "port": 5432}]},
            ])),
            Vec::new(),
        );
        assert!(changes.update.is_empty() && changes.delete.is_empty());
        let [four, six] = &changes.create[..] else {
            panic!("{changes:?}")
        };
        let held = endpoints_of(four);
        let ready: Vec<_> = held
            .iter()
            .map(|e| {
                (
                    e.addresses[0].as_str(),
                    e.conditions.as_ref().unwrap().ready,
                )
            })
            .collect();
        let wanted = [
            ("10.0.0.1", Some(true)),
            ("10.0.0.2", Some(false)),
            ("10.0.0.3", Some(true)),
        ];
        assert_eq!(ready, wanted);
        assert_eq!(six.address_type, "IPv6");
        let labels = four.metadata.labels.as_ref().unwrap();
        assert_eq!(labels["tier"], "data");
        assert_eq!(labels[SERVICE_NAME], "db");
        assert_eq!(labels[MANAGED_BY], CONTROLLER);
        let annotations = four.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["note"]);
    }

    #[test]
    fn only_differences_are_written() {
        let one = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]);
        let made: Vec<_> = reconcile(&endpoints(one.clone()), Vec::new()).create;
        let existing: Vec<_> = made.into_iter().map(Arc::new).collect();
        let changes = reconcile(&endpoints(one), existing.clone());
        assert!(
            changes.create.is_empty() && changes.update.is_empty() && changes.delete.is_empty()
        );
        let other = json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]}]);
        let changes = reconcile(&endpoints(other), existing.clone());
        assert_eq!(
            (
                changes.create.len(),
                changes.update.len(),
                changes.delete.len()
            ),
            (0, 1, 0)
        );
        let changes = reconcile(&endpoints(json!([])), existing);
        assert_eq!(
            (
                changes.create.len(),
                changes.update.len(),
                changes.delete.len()
            ),
            (0, 0, 1)
        );
    }

    #[test]
    fn what_has_a_selector_or_says_so_is_left_alone() {
        let service =
            |spec: Value| serde_json::from_value::<Service>(json!({"spec": spec})).unwrap();
        let by_hand = endpoints(json!([]));
        assert!(is_mirrored(&by_hand, Some(&service(json!({})))));
        assert!(!is_mirrored(&by_hand, None));
        assert!(!is_mirrored(
            &by_hand,
            Some(&service(json!({"selector": {"a": "b"}})))
        ));
        let mut skipped = by_hand.clone();
        skipped.metadata.labels = Some([(SKIP.to_owned(), "true".to_owned())].into());
        assert!(!is_mirrored(&skipped, Some(&service(json!({})))));
        let mut leader = by_hand;
        leader.metadata.annotations = Some([(LEADER.to_owned(), String::new())].into());
        assert!(!is_mirrored(&leader, Some(&service(json!({})))));
    }
}
