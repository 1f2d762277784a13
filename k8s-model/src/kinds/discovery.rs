//! The group `discovery.k8s.io`: EndpointSlices.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            PROTOCOLS, dns_label, dns_subdomain, fill_absent, immutable, list, messages, one_of,
            ordinary_ip, qualified_name, repeats, same, slot, slot_mut, supported, text,
        },
        declared::Declared,
        ip_fields,
        typed::KindRules,
    },
    names,
};

/// The sorts of addresses.
const SORTS: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20000;
/// How many zones, and how many nodes, an endpoint may be meant for.
const MAX_HINTS: usize = 8;

/// Says who keeps a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The controllers that write addresses in their usual form.
const CONTROLLERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];
/// Named the node of an endpoint in its topology, before there was a field for it.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The rules of EndpointSlices.
pub(crate) struct EndpointSliceRules;

fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    let endpoints: Option<&Vec<Endpoint>> = slot(&slice.endpoints);
    endpoints.map_or(&[], Vec::as_slice)
}

/// The node that an endpoint's topology names.
fn topology_node(endpoint: &Endpoint) -> Option<&String> {
    let topology = endpoint.deprecated_topology.as_ref()?;
    topology.get(HOSTNAME).filter(|node| !node.is_empty())
}

/// Drops the topology of endpoints: it can be read in this version and not be written. Nodes that it named `before` are kept
/// in their own field.
fn drop_topology(slice: &mut EndpointSlice, before: &HashSet<String>) {
    let endpoints: Option<&mut Vec<Endpoint>> = slot_mut(&mut slice.endpoints);
    for endpoint in endpoints.into_iter().flatten() {
        let named = topology_node(endpoint)
            .filter(|node| before.contains(*node) && names::dns_subdomain(node, false).is_empty());
        if endpoint.node_name.is_none() {
            endpoint.node_name = named.cloned();
        }
        endpoint.deprecated_topology = None;
    }
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
    }

    fn prepare_for_create(&self, slice: &mut EndpointSlice) {
        drop_topology(slice, &HashSet::new());
    }

    fn prepare_for_update(&self, new: &mut EndpointSlice, old: &EndpointSlice) {
        let mut endpoints_now = endpoints(new).iter();
        let is_given = endpoints_now.any(|endpoint| endpoint.deprecated_topology.is_some());
        if is_given && !same(&new.endpoints, &old.endpoints) {
            // What is dropped has counted.
            let generation = old.metadata.generation.unwrap_or_default();
            new.metadata.generation = Some(generation + 1);
            let before = endpoints(old).iter().filter_map(topology_node).cloned();
            drop_topology(new, &before.collect());
        }
    }

    fn validate(&self, slice: &EndpointSlice) -> ErrorList {
        let mut errors = around_endpoints(slice);
        errors.extend(validate_endpoints(slice));
        errors
    }

    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice) -> ErrorList {
        let mut errors = around_endpoints(new);
        let found = validate_endpoints(new);
        // What was good once stays so. Slices are large: they are compared only where that matters.
        if !found.is_empty() && !same(&new.endpoints, &old.endpoints) {
            errors.extend(found);
        }
        errors.extend(immutable(
            &new.address_type,
            &old.address_type,
            Path::new("addressType"),
        ));
        errors
    }

    fn declared(&self, new: &EndpointSlice, old: Option<&EndpointSlice>) -> ErrorList {
        let before = old.map(|old| &old.address_type);
        let mut errors = Declared::of(&new.address_type, before, Path::new("addressType"))
            .required(String::is_empty)
            .immutable()
            .then(|sort, path| supported(sort, &SORTS, path));
        let before = old.map(|old| &old.endpoints);
        let all = Declared::of(&new.endpoints, before, Path::new("endpoints"));
        errors.extend(all.then(|_, path| {
            let all = endpoints(new).iter().enumerate();
            all.filter_map(|(index, endpoint)| {
                let path = path.index(index).child("addresses");
                match endpoint.addresses.len() {
                    0 => Some(field::required(path, "")),
                    1..=MAX_ADDRESSES => None,
                    count => Some(field::too_many(path, count, MAX_ADDRESSES)),
                }
            })
            .collect()
        }));
        errors
    }

    fn warnings(&self, slice: &EndpointSlice) -> Vec<String> {
        let mut out = Vec::new();
        if slice.address_type == "FQDN" {
            out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        out.extend(address_advice(slice));
        out
    }

    fn update_warnings(&self, new: &EndpointSlice, _old: &EndpointSlice) -> Vec<String> {
        address_advice(new)
    }
}

/// Advice on addresses in other forms than the usual one.
fn address_advice(slice: &EndpointSlice) -> Vec<String> {
    let labels = slice.metadata.labels.as_ref();
    let keeper = labels.and_then(|labels| labels.get(MANAGED_BY));
    if keeper.is_some_and(|keeper| CONTROLLERS.contains(&keeper.as_str())) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (index, endpoint) in endpoints(slice).iter().enumerate() {
        for (at, address) in endpoint.addresses.iter().enumerate() {
            let path = Path::new("endpoints").index(index).child("addresses");
            out.extend(ip_fields::ip_advice(address, &path.index(at)));
        }
    }
    out
}

/// What is wrong with a slice besides its endpoints.
fn around_endpoints(slice: &EndpointSlice) -> ErrorList {
    let sort = slice.address_type.as_str();
    let mut errors = one_of(sort, &SORTS, Path::new("addressType"));
    errors.extend(ports(list(&slice.ports), &Path::new("ports")));
    errors
}

fn validate_endpoints(slice: &EndpointSlice) -> ErrorList {
    let (path, endpoints) = (Path::new("endpoints"), endpoints(slice));
    if endpoints.len() > MAX_ENDPOINTS {
        return vec![field::too_many(path, endpoints.len(), MAX_ENDPOINTS)];
    }
    let sort = slice.address_type.as_str();
    let endpoints = endpoints.iter().enumerate();
    endpoints
        .flat_map(|(index, endpoint)| validate_endpoint(endpoint, sort, &path.index(index)))
        .collect()
}

fn validate_endpoint(endpoint: &Endpoint, sort: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (at, addresses) = (path.child("addresses"), &endpoint.addresses);
    if addresses.is_empty() {
        let text = "must contain at least 1 address";
        errors.push(field::required(at.clone(), text));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(field::too_many(at.clone(), addresses.len(), MAX_ADDRESSES));
    }
    for (index, address) in addresses.iter().enumerate() {
        errors.extend(match sort {
            "IPv4" | "IPv6" => of_family(address, sort, &at, index),
            "FQDN" => domain_name(address, at.index(index)),
            _ => ErrorList::new(),
        });
    }
    if let Some(node) = &endpoint.node_name {
        errors.extend(dns_subdomain(node, path.child("nodeName")));
    }
    if let Some(hostname) = &endpoint.hostname {
        errors.extend(dns_label(hostname, path.child("hostname")));
    }
    if let Some(hints) = &endpoint.hints {
        errors.extend(validate_hints(hints, &path.child("hints")));
    }
    errors
}

/// An address of a family. Those of IPv6 are in the one form that RFC 5952 gives them.
fn of_family(address: &str, family: &str, path: &Path, index: usize) -> ErrorList {
    let (at, is_six) = (path.index(index), family == "IPv6");
    let mut errors = if is_six {
        let wrong = ip_fields::canonical_ip(address);
        messages(&at, address, wrong.into_iter().collect())
    } else {
        ip_fields::legacy_ip(address, ip_fields::NONE, at)
    };
    if !errors.is_empty() {
        return errors;
    }
    if ip_fields::parse(address).is_none_or(|ip| ip_fields::is_four(ip) == is_six) {
        // Upstream says so of all addresses.
        let text = format!("must be an {family} address");
        errors.push(field::invalid(path.clone(), address, text));
    }
    errors.extend(ordinary_ip(address, path.index(index)));
    errors
}

/// A domain's name of at least two parts. What is wrong with it is one finding.
fn domain_name(name: &str, path: Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path, "")];
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let wrong = names::dns_subdomain(name, false);
    if !wrong.is_empty() {
        return vec![field::invalid(path, name, wrong.join(","))];
    }
    if !name.contains('.') {
        let text = "should be a domain with at least two segments separated by dots";
        return vec![field::invalid(path, name, text)];
    }
    let parts = name
        .split('.')
        .map(|part| (part, names::dns_label(part, false)));
    let wrong = parts.into_iter().find(|(_, wrong)| !wrong.is_empty());
    wrong.map_or_else(ErrorList::new, |(part, wrong)| {
        vec![field::invalid(path, part, wrong.join(","))]
    })
}

fn validate_hints(hints: &EndpointHints, path: &Path) -> ErrorList {
    let zones = list(&hints.for_zones).iter().map(|zone| zone.name.as_str());
    let mut errors = ErrorList::new();
    let fits = hinted(
        &zones.collect::<Vec<_>>(),
        names::label_value,
        &path.child("forZones"),
        &mut errors,
    );
    if !fits {
        return errors;
    }
    let nodes = list(&hints.for_nodes).iter().map(|node| node.name.as_str());
    hinted(
        &nodes.collect::<Vec<_>>(),
        |name| names::dns_subdomain(name, false),
        &path.child("forNodes"),
        &mut errors,
    );
    errors
}

/// Looks at names that an endpoint is meant for. Whether they are not too many to be looked at.
fn hinted(
    hints: &[&str],
    check: impl Fn(&str) -> Vec<String>,
    path: &Path,
    errors: &mut ErrorList,
) -> bool {
    if hints.len() > MAX_HINTS {
        errors.push(field::too_many(path.clone(), hints.len(), MAX_HINTS));
        return false;
    }
    let repeats = repeats(hints);
    for (index, name) in hints.iter().enumerate() {
        let at = path.index(index).child("name");
        if repeats[index] {
            errors.push(field::duplicate(at.clone(), *name));
        }
        errors.extend(messages(&at, *name, check(name)));
    }
    true
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(sort: &str, endpoint: Value) -> EndpointSlice {
        let mut slice = json!({"metadata": {"name": "s"}, "addressType": sort});
        slice["endpoints"] = json!([endpoint]);
        serde_json::from_value(slice).unwrap()
    }

    fn told(sort: &str, endpoint: Value) -> Vec<String> {
        let found = EndpointSliceRules.validate(&slice(sort, endpoint));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_of_the_slices_sort() {
        const AT: &str = "endpoints[0].addresses[0]: Invalid value:";
        for (sort, address, texts) in [
            ("IPv4", "10.0.0.1", vec![]),
            ("IPv6", "2001:db8::1", vec![]),
            (
                "IPv6",
                "2001:DB8::1",
                vec![format!(r#"{AT} "2001:DB8::1": must be in canonical form ("2001:db8::1")"#)],
            ),
            (
                "IPv6",
                "0:0::1",
                vec![format!(r#"{AT} "0:0::1": must be in canonical form ("::1")"#)],
            ),
            ("FQDN", "a.example.com.", vec![]),
            (
                "IPv4",
                "x",
                vec![format!(r#"{AT} "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#)],
            ),
            (
                "IPv4",
                "2001:db8::1",
                vec![r#"endpoints[0].addresses: Invalid value: "2001:db8::1": must be an IPv4 address"#.to_owned()],
            ),
            (
                "IPv6",
                "10.0.0.1",
                vec![r#"endpoints[0].addresses: Invalid value: "10.0.0.1": must be an IPv6 address"#.to_owned()],
            ),
            (
                "IPv6",
                "::ffff:10.0.0.1",
                vec![format!(r#"{AT} "::ffff:10.0.0.1": must not be an IPv4-mapped IPv6 address"#)],
            ),
            (
                "IPv4",
                "127.0.0.1",
                vec![format!(r#"{AT} "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#)],
            ),
            (
                "FQDN",
                "localhost",
                vec![format!(r#"{AT} "localhost": should be a domain with at least two segments separated by dots"#)],
            ),
            ("FQDN", "", vec!["endpoints[0].addresses[0]: Required value".to_owned()]),
        ] {
            assert_eq!(told(sort, json!({"addresses": [address]})), texts);
        }
        let long = format!("{}.com", "a".repeat(64));
        let found = told("FQDN", json!({"addresses": [long]}));
        assert!(
            found[0].ends_with("must be no more than 63 characters"),
            "{found:?}"
        );
    }

    #[test]
    fn hints_name_few_zones_and_nodes_each_once() {
        let hints = |hints: Value| told("IPv4", json!({"addresses": ["10.0.0.1"], "hints": hints}));
        let names = |count: usize| -> Vec<Value> {
            (0..count)
                .map(|i| json!({"name": format!("n{i}")}))
                .collect()
        };
        let good = json!({"forZones": names(8), "forNodes": names(8)});
        assert_eq!(hints(good), [""; 0]);
        assert_eq!(
            hints(json!({"forZones": names(10), "forNodes": names(10)})),
            ["endpoints[0].hints.forZones: Too many: 10: must have at most 8 items"]
        );
        assert_eq!(
            hints(json!({"forNodes": names(9)})),
            ["endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"]
        );
        let found = hints(json!({"forNodes": [{"name": "a"}, {"name": "a"}, {"name": "A"}]}));
        assert_eq!(
            found[0],
            r#"endpoints[0].hints.forNodes[1].name: Duplicate value: "a""#
        );
        assert!(
            found[1].starts_with(r#"endpoints[0].hints.forNodes[2].name: Invalid value: "A": "#)
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn endpoints_that_stay_are_good() {
        let old = slice("IPv6", json!({"addresses": ["::ffff:10.0.0.1"]}));
        let mut new = old.clone();
        new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(EndpointSliceRules.validate_update(&new, &old), []);
        let new = slice("IPv6", json!({"addresses": ["::ffff:10.0.0.2"]}));
        assert_eq!(EndpointSliceRules.validate_update(&new, &old).len(), 1);
    }

    #[test]
    fn topology_cannot_be_written() {
        let topology = |node: &str, address: &str| {
            let topology = json!({"kubernetes.io/hostname": node, "a b": ""});
            slice(
                "IPv4",
                json!({"addresses": [address], "deprecatedTopology": topology}),
            )
        };
        let node = |slice: &EndpointSlice| endpoints(slice)[0].node_name.clone();
        let is_dropped = |slice: &EndpointSlice| endpoints(slice)[0].deprecated_topology.is_none();
        let mut new = topology("n", "10.0.0.1");
        EndpointSliceRules.prepare_for_create(&mut new);
        assert!(is_dropped(&new) && node(&new).is_none());
        let old = topology("n", "10.0.0.1");
        let mut new = old.clone();
        EndpointSliceRules.prepare_for_update(&mut new, &old);
        assert_eq!(new, old);
        let mut new = topology("n", "10.0.0.2");
        EndpointSliceRules.prepare_for_update(&mut new, &old);
        assert!(is_dropped(&new));
        assert_eq!(node(&new).as_deref(), Some("n"));
        let mut new = topology("m", "10.0.0.2");
        EndpointSliceRules.prepare_for_update(&mut new, &old);
        assert!(is_dropped(&new) && node(&new).is_none());
    }

    #[test]
    fn names_and_odd_addresses_are_warned_of() {
        let rules = EndpointSliceRules;
        let names = slice("FQDN", json!({"addresses": ["a.b"]}));
        let deprecated = "spec.addressType: FQDN endpoints are deprecated";
        assert_eq!(rules.warnings(&names), [deprecated]);
        assert_eq!(rules.update_warnings(&names, &names), [""; 0]);
        let mut odd = slice("IPv6", json!({"addresses": ["FE80::1"]}));
        let text = r#"endpoints[0].addresses[0]: IPv6 address "FE80::1" should be in RFC 5952 canonical format ("fe80::1")"#;
        assert_eq!(rules.warnings(&odd), [text]);
        assert_eq!(rules.update_warnings(&odd, &odd), [text]);
        let keeper = (MANAGED_BY.to_owned(), CONTROLLERS[0].to_owned());
        odd.metadata.labels = Some([keeper].into());
        assert_eq!(rules.warnings(&odd), [""; 0]);
    }

    #[test]
    fn topology_that_is_dropped_is_a_new_generation() {
        let slice = |endpoint: Value| -> EndpointSlice {
            let mut slice = slice("IPv4", endpoint);
            slice.metadata.generation = Some(3);
            slice
        };
        let old = slice(json!({"addresses": ["10.0.0.1"]}));
        let given = json!({"addresses": ["10.0.0.1"], "deprecatedTopology": {"a": "b"}});
        let mut new = slice(given);
        EndpointSliceRules.prepare_for_update(&mut new, &old);
        assert_eq!(new.endpoints, old.endpoints);
        assert_eq!(new.metadata.generation, Some(4));
        let mut same = old.clone();
        EndpointSliceRules.prepare_for_update(&mut same, &old);
        assert_eq!(same.metadata.generation, Some(3));
    }

    #[test]
    fn owners_are_no_new_generation() {
        let old = slice("IPv4", json!({"addresses": ["10.0.0.1"]}));
        let mut new = old.clone();
        new.metadata.owner_references = Some(vec![Default::default()]);
        assert!(!EndpointSliceRules.spec_changed(&new, &old));
        new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert!(EndpointSliceRules.spec_changed(&new, &old));
    }
}
