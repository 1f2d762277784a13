//! The rules of Endpoints.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            PROTOCOLS, blank, dns_label, dns_subdomain, fill, ip, list, one_of, ordinary_ip,
            port_number, qualified_name, text,
        },
        typed::KindRules,
    },
};

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
}

fn address(address: &EndpointAddress, path: &Path) -> ErrorList {
    let mut errors = ip(&address.ip, path.child("ip"));
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
