//! The rules of Endpoints.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            PROTOCOLS, blank, dns_label, dns_subdomain, fill, list, one_of, ordinary_ip,
            port_number, qualified_name, same, text,
        },
        ip_fields,
        typed::KindRules,
    },
};

/// Says who keeps Endpoints.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The controller that keeps those of Services: nobody can do anything about what it writes.
const CONTROLLER: &str = "endpoint-controller";

/// The rules of Endpoints.
pub(crate) struct EndpointsRules;

impl KindRules for EndpointsRules {
    type Kind = Endpoints;

    const CREATE_ON_UPDATE: bool = true;

    fn default(&self, endpoints: &mut Endpoints) {
        for subset in endpoints.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                fill(&mut port.protocol, "TCP");
            }
        }
    }

    fn validate(&self, endpoints: &Endpoints) -> ErrorList {
        let mut errors = ErrorList::new();
        for (index, subset) in list(&endpoints.subsets).iter().enumerate() {
            let path = Path::new("subsets").index(index);
            let (ready, waiting) = (list(&subset.addresses), list(&subset.not_ready_addresses));
            if ready.is_empty() && waiting.is_empty() {
                errors.push(field::required(
                    path.clone(),
                    "must specify `addresses` or `notReadyAddresses`",
                ));
            }
            for (addresses, name) in [(ready, "addresses"), (waiting, "notReadyAddresses")] {
                for (index, address) in addresses.iter().enumerate() {
                    errors.extend(self::address(address, &path.child(name).index(index)));
                }
            }
            let ports = list(&subset.ports);
            for (index, port) in ports.iter().enumerate() {
                let path = path.child("ports").index(index);
                errors.extend(self::port(port, ports.len() > 1, &path));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Endpoints, old: &Endpoints) -> ErrorList {
        let errors = self.validate(new);
        // What was good once stays so. There may be many: they are compared only where that matters.
        if !errors.is_empty() && same(&new.subsets, &old.subsets) {
            return ErrorList::new();
        }
        errors
    }

    fn warnings(&self, endpoints: &Endpoints) -> Vec<String> {
        let labels = endpoints.metadata.labels.as_ref();
        let keeper = labels.and_then(|labels| labels.get(MANAGED_BY));
        if keeper.is_some_and(|keeper| keeper == CONTROLLER) {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (index, subset) in list(&endpoints.subsets).iter().enumerate() {
            let path = Path::new("subsets").index(index);
            for (addresses, name) in [
                (&subset.addresses, "addresses"),
                (&subset.not_ready_addresses, "notReadyAddresses"),
            ] {
                for (index, address) in list(addresses).iter().enumerate() {
                    let path = path.child(name).index(index).child("ip");
                    out.extend(ip_fields::ip_advice(&address.ip, &path));
                }
            }
        }
        out
    }
}

fn address(address: &EndpointAddress, path: &Path) -> ErrorList {
    let mut errors = ip_fields::legacy_ip(&address.ip, ip_fields::NONE, path.child("ip"));
    if !blank(&address.hostname) {
        errors.extend(dns_label(text(&address.hostname), path.child("hostname")));
    }
    if let Some(node) = &address.node_name {
        errors.extend(dns_subdomain(node, path.child("nodeName")));
    }
    errors.extend(ordinary_ip(&address.ip, path.child("ip")));
    errors
}

fn port(port: &EndpointPort, name_required: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if !blank(&port.name) {
        errors.extend(dns_label(text(&port.name), path.child("name")));
    } else if name_required {
        errors.push(field::required(path.child("name"), ""));
    }
    errors.extend(port_number(port.port, path.child("port")));
    errors.extend(one_of(
        text(&port.protocol),
        PROTOCOLS,
        path.child("protocol"),
    ));
    if let Some(protocol) = &port.app_protocol {
        errors.extend(qualified_name(protocol, path.child("appProtocol")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoints(ip: &str, labels: serde_json::Value) -> Endpoints {
        let subsets = json!([{"addresses": [{"ip": ip}]}]);
        let metadata = json!({"name": "e", "labels": labels});
        serde_json::from_value(json!({"metadata": metadata, "subsets": subsets})).unwrap()
    }

    #[test]
    fn addresses_that_stay_are_good() {
        let rules = EndpointsRules;
        let old = endpoints("::ffff:10.0.0.1", json!({}));
        assert_eq!(
            rules.validate(&old)[0].to_string(),
            r#"subsets[0].addresses[0].ip: Invalid value: "::ffff:10.0.0.1": must not be an IPv4-mapped IPv6 address"#
        );
        let new = endpoints("::ffff:10.0.0.1", json!({"a": "b"}));
        assert_eq!(rules.validate_update(&new, &old), []);
        let new = endpoints("::ffff:10.0.0.2", json!({}));
        assert_eq!(rules.validate_update(&new, &old).len(), 1);
        assert_eq!(
            rules.validate_update(&endpoints("10.0.0.1", json!({})), &old),
            []
        );
    }

    #[test]
    fn odd_addresses_are_warned_of() {
        for labels in [json!({}), json!({MANAGED_BY: "somebody"})] {
            let odd = endpoints("2001:DB8::1", labels);
            assert_eq!(
                EndpointsRules.warnings(&odd),
                [
                    r#"subsets[0].addresses[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#
                ]
            );
        }
        let kept = endpoints("2001:DB8::1", json!({MANAGED_BY: CONTROLLER}));
        assert_eq!(EndpointsRules.warnings(&kept), [""; 0]);
    }
}
