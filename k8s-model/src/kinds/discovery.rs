//! The group `discovery.k8s.io`: EndpointSlices.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            PROTOCOLS, dns_label, dns_subdomain, fill_absent, immutable, list, messages, one_of,
            ordinary_ip, parse_ip, qualified_name, same, slot, supported, text,
        },
        typed::KindRules,
    },
    names,
};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20000;
const MAX_ZONES: usize = 8;

/// The rules of EndpointSlices.
pub(crate) struct EndpointSliceRules;

fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    let endpoints: Option<&Vec<Endpoint>> = slot(&slice.endpoints);
    endpoints.map_or(&[], Vec::as_slice)
}

impl KindRules for EndpointSliceRules {
    type Kind = EndpointSlice;

    const METADATA: (usize, usize) = (1, 0);

    const GENERATION: bool = true;

    fn default(&self, slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            fill_absent(&mut port.protocol, "TCP");
        }
    }

    fn spec_changed(&self, new: &EndpointSlice, old: &EndpointSlice) -> bool {
        !same(&new.endpoints, &old.endpoints)
            || !same(&new.ports, &old.ports)
            || new.address_type != old.address_type
            || !same(&new.metadata.labels, &old.metadata.labels)
            || !same(
                &new.metadata.owner_references,
                &old.metadata.owner_references,
            )
    }

    fn validate(&self, slice: &EndpointSlice) -> ErrorList {
        let sort = slice.address_type.as_str();
        let mut errors = one_of(sort, &["FQDN", "IPv4", "IPv6"], Path::new("addressType"));
        let path = Path::new("endpoints");
        let endpoints = endpoints(slice);
        if endpoints.len() > MAX_ENDPOINTS {
            errors.push(field::too_many(path, endpoints.len(), MAX_ENDPOINTS));
        } else {
            for (index, endpoint) in endpoints.iter().enumerate() {
                errors.extend(validate_endpoint(endpoint, sort, &path.index(index)));
            }
        }
        errors.extend(ports(list(&slice.ports), &Path::new("ports")));
        errors
    }

    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(immutable(
            &new.address_type,
            &old.address_type,
            Path::new("addressType"),
        ));
        errors
    }
}

fn validate_endpoint(endpoint: &Endpoint, sort: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let at = path.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.push(field::required(
            at.clone(),
            "must contain at least 1 address",
        ));
    } else if endpoint.addresses.len() > MAX_ADDRESSES {
        errors.push(field::too_many(
            at.clone(),
            endpoint.addresses.len(),
            MAX_ADDRESSES,
        ));
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let at = at.index(index);
        let four = parse_ip(address).map(|ip| ip.is_ipv4());
        match (sort, four) {
            ("IPv4", Some(true)) | ("IPv6", Some(false)) => {
                errors.extend(ordinary_ip(address, at));
            }
            ("IPv4" | "IPv6", _) => {
                errors.push(field::invalid(
                    at.clone(),
                    address.as_str(),
                    format!("must be a valid {sort} address"),
                ));
                errors.extend(ordinary_ip(address, at));
            }
            ("FQDN", _) => errors.extend(dns_subdomain(address, at)),
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        errors.extend(dns_subdomain(node, path.child("nodeName")));
    }
    if let Some(hostname) = &endpoint.hostname {
        errors.extend(dns_label(hostname, path.child("hostname")));
    }
    let zones = endpoint
        .hints
        .iter()
        .flat_map(|hints| list(&hints.for_zones));
    let at = path.child("hints").child("forZones");
    let mut seen = BTreeSet::new();
    for (index, zone) in zones.enumerate() {
        if index == MAX_ZONES {
            errors.push(field::too_many(at.clone(), index + 1, MAX_ZONES));
            break;
        }
        let at = at.index(index).child("name");
        if !seen.insert(zone.name.as_str()) {
            errors.push(field::duplicate(at.clone(), zone.name.as_str()));
        }
        errors.extend(messages(
            &at,
            zone.name.as_str(),
            names::label_value(&zone.name),
        ));
    }
    errors
}

fn ports(ports: &[EndpointPort], path: &Path) -> ErrorList {
    if ports.len() > MAX_PORTS {
        return vec![field::too_many(path.clone(), ports.len(), MAX_PORTS)];
    }
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(&port.name);
        if !name.is_empty() {
            errors.extend(dns_label(name, path.child("name")));
        }
        if !seen.insert(name) {
            errors.push(field::duplicate(path.child("name"), name));
        }
        errors.extend(supported(
            text(&port.protocol),
            PROTOCOLS,
            path.child("protocol"),
        ));
        if let Some(protocol) = &port.app_protocol {
            errors.extend(qualified_name(protocol, path.child("appProtocol")));
        }
    }
    errors
}
