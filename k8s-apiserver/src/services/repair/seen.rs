//! What was seen of Services and addresses on watches: enough to tell what needs a closer look.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use k8s_openapi::api::{core::v1::ServiceSpec, networking::v1::IPAddress};
use serde::Deserialize;

use super::decide::{Owner, has_labels};
use crate::{
    admission::reader::RawEvent,
    services::{
        addresses::{self, is_managed, is_of},
        has_cluster_ip,
        ranges::Ranges,
    },
};

/// What was seen of Services and addresses.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The addresses of each Service that has any.
    services: HashMap<Owner, Vec<IpAddr>>,
    /// The Services of each address that any has.
    owners: HashMap<IpAddr, BTreeSet<Owner>>,
    objects: HashMap<IpAddr, IPAddress>,
    pub(super) ranges: Ranges,
    /// Those that need a look.
    pub(super) due: BTreeSet<IpAddr>,
}

#[derive(Deserialize)]
struct Head {
    metadata: Meta,
    spec: Option<ServiceSpec>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    namespace: String,
}

/// The addresses of a Service.
pub(super) fn addresses_of(spec: &ServiceSpec) -> Vec<IpAddr> {
    if !has_cluster_ip(spec) {
        return Vec::new();
    }
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let all: BTreeSet<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
    all.into_iter().collect()
}

impl Seen {
    pub(super) fn service(&mut self, event: &RawEvent) {
        match event {
            RawEvent::Snapshot(all) => {
                for owner in self.services.keys().cloned().collect::<Vec<_>>() {
                    self.has(owner, Vec::new());
                }
                all.iter().for_each(|json| self.one_service(json, true));
            }
            RawEvent::Applied(json) => self.one_service(json, true),
            RawEvent::Deleted(json) => self.one_service(json, false),
        }
    }

    fn one_service(&mut self, json: &[u8], is_there: bool) {
        match serde_json::from_slice::<Head>(json) {
            Ok(Head { metadata, spec }) => {
                let spec = spec.filter(|_| is_there);
                let owner = Owner {
                    namespace: metadata.namespace,
                    name: metadata.name,
                };
                self.has(owner, spec.as_ref().map(addresses_of).unwrap_or_default());
            }
            Err(error) => tracing::warn!(%error, "a stored Service cannot be decoded"),
        }
    }

    /// These are the addresses of that Service.
    fn has(&mut self, owner: Owner, addresses: Vec<IpAddr>) {
        for before in self.services.remove(&owner).into_iter().flatten() {
            if let Some(owners) = self.owners.get_mut(&before) {
                owners.remove(&owner);
                if owners.is_empty() {
                    self.owners.remove(&before);
                }
            }
            self.due.insert(before);
        }
        for address in &addresses {
            self.owners
                .entry(*address)
                .or_default()
                .insert(owner.clone());
            self.due.insert(*address);
        }
        if !addresses.is_empty() {
            self.services.insert(owner, addresses);
        }
    }

    pub(super) fn address(&mut self, event: &RawEvent) {
        match event {
            RawEvent::Snapshot(all) => {
                self.due.extend(self.objects.drain().map(|(ip, _)| ip));
                all.iter().for_each(|json| self.one_address(json, true));
            }
            RawEvent::Applied(json) => self.one_address(json, true),
            RawEvent::Deleted(json) => self.one_address(json, false),
        }
    }

    fn one_address(&mut self, json: &[u8], is_there: bool) {
        let object: IPAddress = match serde_json::from_slice(json) {
            Ok(object) => object,
            Err(error) => return tracing::warn!(%error, "a stored IPAddress cannot be decoded"),
        };
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let Ok(ip) = name.parse::<IpAddr>() else {
            return;
        };
        self.due.insert(ip);
        if is_there {
            self.objects.insert(ip, object);
        } else {
            self.objects.remove(&ip);
        }
    }

    /// All addresses of Services may be in other ranges now.
    pub(super) fn in_ranges(&mut self, ranges: Ranges) {
        self.ranges = ranges;
        self.due.extend(self.owners.keys());
    }

    /// The Services that have the address.
    pub(super) fn owners(&self, ip: IpAddr) -> impl Iterator<Item = &Owner> {
        self.owners.get(&ip).into_iter().flatten()
    }

    /// Whether the address looks as it should.
    pub(super) fn is_fine(&self, ip: IpAddr) -> bool {
        let object = self.objects.get(&ip);
        let mut owners = self.owners(ip);
        match (owners.next(), owners.next(), object) {
            (None, None, None) => true,
            (None, None, Some(object)) => !is_managed(&object.metadata),
            (Some(Owner { namespace, name }), None, Some(object)) => {
                let parent = addresses::parent(object);
                parent.is_some_and(|parent| is_of(parent, namespace, name))
                    && has_labels(object, ip)
                    && self.ranges.contain(ip)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn bytes(value: Value) -> Bytes {
        Bytes::from(value.to_string())
    }

    fn service(name: &str, ip: &str) -> Bytes {
        bytes(json!({"metadata": {"name": name, "namespace": "n"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip]}}))
    }

    fn address(ip: &str, of: &str) -> Bytes {
        bytes(json!({
            "metadata": {"name": ip, "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
            "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": of}},
        }))
    }

    #[test]
    fn what_is_not_as_it_should_be_is_due() {
        let ip: IpAddr = "10.96.0.5".parse().unwrap();
        let mut seen = Seen::default();
        seen.in_ranges(Ranges::of(crate::services::Cidr::default()));
        let due = |seen: &mut Seen| {
            let due = std::mem::take(&mut seen.due);
            assert!(due.iter().all(|due| *due == ip), "{due:?}");
            !due.is_empty()
        };
        seen.service(&RawEvent::Snapshot(vec![
            service("a", "10.96.0.5"),
            service("h", "None"),
        ]));
        assert!(due(&mut seen) && !seen.is_fine(ip));
        seen.address(&RawEvent::Snapshot(vec![address("10.96.0.5", "a")]));
        assert!(due(&mut seen) && seen.is_fine(ip));
        // Another has it too.
        seen.service(&RawEvent::Applied(service("b", "10.96.0.5")));
        assert!(due(&mut seen) && !seen.is_fine(ip));
        assert_eq!(seen.owners(ip).count(), 2);
        seen.service(&RawEvent::Deleted(service("b", "10.96.0.5")));
        assert!(due(&mut seen) && seen.is_fine(ip));
        // It is gone, or somebody else's.
        seen.address(&RawEvent::Applied(address("10.96.0.5", "c")));
        assert!(due(&mut seen) && !seen.is_fine(ip));
        seen.address(&RawEvent::Deleted(address("10.96.0.5", "c")));
        assert!(due(&mut seen) && !seen.is_fine(ip));
        // Nobody wants it any more: after a gap in what was seen, too.
        seen.address(&RawEvent::Applied(address("10.96.0.5", "a")));
        seen.service(&RawEvent::Snapshot(Vec::new()));
        assert!(due(&mut seen) && !seen.is_fine(ip));
        seen.address(&RawEvent::Snapshot(Vec::new()));
        assert!(due(&mut seen) && seen.is_fine(ip));
    }

    #[test]
    fn what_is_in_no_range_is_due() {
        let ip: IpAddr = "10.96.0.5".parse().unwrap();
        let mut seen = Seen::default();
        seen.service(&RawEvent::Snapshot(vec![service("a", "10.96.0.5")]));
        seen.address(&RawEvent::Snapshot(vec![address("10.96.0.5", "a")]));
        assert!(!seen.is_fine(ip));
        seen.due.clear();
        seen.in_ranges(Ranges::of(crate::services::Cidr::default()));
        assert!(seen.due.contains(&ip) && seen.is_fine(ip));
    }
}
