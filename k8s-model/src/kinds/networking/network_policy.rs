//! The rules of NetworkPolicies.

use std::net::IpAddr;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            fill_absent, label_selector, list, messages, parse_cidr, port_number, same, supported,
        },
        typed::KindRules,
    },
    names,
};

/// The rules of NetworkPolicies.
pub(crate) struct NetworkPolicyRules;

fn default_ports(ports: &mut Option<Vec<NetworkPolicyPort>>) {
    for port in ports.iter_mut().flatten() {
        fill_absent(&mut port.protocol, "TCP");
    }
}

impl KindRules for NetworkPolicyRules {
    type Kind = NetworkPolicy;

    const TOLD_TWICE: bool = true;

    const GENERATION: bool = true;

    fn default(&self, policy: &mut NetworkPolicy) {
        let spec = policy.spec.get_or_insert_default();
        for rule in spec.ingress.iter_mut().flatten() {
            default_ports(&mut rule.ports);
        }
        for rule in spec.egress.iter_mut().flatten() {
            default_ports(&mut rule.ports);
        }
        if list(&spec.policy_types).is_empty() {
            let mut types = vec!["Ingress".to_owned()];
            if !list(&spec.egress).is_empty() {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn spec_changed(&self, new: &NetworkPolicy, old: &NetworkPolicy) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn validate(&self, policy: &NetworkPolicy) -> ErrorList {
        let empty = NetworkPolicySpec::default();
        validate_spec(policy.spec.as_ref().unwrap_or(&empty), &Path::new("spec"))
    }
}

fn validate_spec(spec: &NetworkPolicySpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(selector) = &spec.pod_selector {
        errors.extend(label_selector(selector, &path.child("podSelector")));
    }
    for (index, rule) in list(&spec.ingress).iter().enumerate() {
        let path = path.child("ingress").index(index);
        errors.extend(rule_parts(
            list(&rule.ports),
            list(&rule.from),
            "from",
            &path,
        ));
    }
    for (index, rule) in list(&spec.egress).iter().enumerate() {
        let path = path.child("egress").index(index);
        errors.extend(rule_parts(list(&rule.ports), list(&rule.to), "to", &path));
    }
    let types = list(&spec.policy_types);
    let at = path.child("policyTypes");
    if types.len() > 2 {
        errors.push(field::invalid(
            at,
            types.to_vec(),
            "may not specify more than two policyTypes",
        ));
        return errors;
    }
    for (index, sort) in types.iter().enumerate() {
        errors.extend(supported(sort, &["Ingress", "Egress"], at.index(index)));
    }
    errors
}

fn rule_parts(
    ports: &[NetworkPolicyPort],
    peers: &[NetworkPolicyPeer],
    name: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, port) in ports.iter().enumerate() {
        errors.extend(validate_port(port, &path.child("ports").index(index)));
    }
    for (index, peer) in peers.iter().enumerate() {
        errors.extend(validate_peer(peer, &path.child(name).index(index)));
    }
    errors
}

fn validate_port(port: &NetworkPolicyPort, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(protocol) = &port.protocol {
        errors.extend(supported(
            protocol,
            &["TCP", "UDP", "SCTP"],
            path.child("protocol"),
        ));
    }
    let at = path.child("endPort");
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(first)), last) => {
            errors.extend(port_number(*first, path.child("port")));
            if let Some(last) = last {
                if last < *first {
                    errors.push(field::invalid(
                        at.clone(),
                        *first,
                        "must be greater than or equal to `port`",
                    ));
                }
                errors.extend(port_number(last, at));
            }
        }
        (Some(IntOrString::String(name)), last) => {
            if let Some(last) = last {
                errors.push(field::invalid(
                    at,
                    last,
                    "may not be specified when `port` is non-numeric",
                ));
            }
            errors.extend(messages(
                &path.child("port"),
                name.as_str(),
                names::port_name(name),
            ));
        }
        (None, Some(last)) => errors.push(field::invalid(
            at,
            last,
            "may not be specified when `port` is not specified",
        )),
        (None, None) => {}
    }
    errors
}

fn validate_peer(peer: &NetworkPolicyPeer, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut selectors = 0;
    for (selector, name) in [
        (&peer.pod_selector, "podSelector"),
        (&peer.namespace_selector, "namespaceSelector"),
    ] {
        if let Some(selector) = selector {
            selectors += 1;
            errors.extend(label_selector(selector, &path.child(name)));
        }
    }
    match &peer.ip_block {
        Some(block) => {
            errors.extend(validate_block(block, &path.child("ipBlock")));
            if selectors > 0 {
                errors.push(field::forbidden(
                    path.clone(),
                    "may not specify both ipBlock and another peer",
                ));
            }
        }
        None if selectors == 0 => {
            errors.push(field::required(path.clone(), "must specify a peer"));
        }
        None => {}
    }
    errors
}

fn validate_block(block: &IPBlock, path: &Path) -> ErrorList {
    const MALFORMED: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    if block.cidr.is_empty() {
        return vec![field::required(path.child("cidr"), "")];
    }
    let Some(outer) = parse_cidr(&block.cidr) else {
        return vec![field::invalid(
            path.child("cidr"),
            block.cidr.as_str(),
            MALFORMED,
        )];
    };
    let mut errors = ErrorList::new();
    for (index, except) in list(&block.except).iter().enumerate() {
        let path = path.child("except").index(index);
        match parse_cidr(except) {
            None => errors.push(field::invalid(path, except.as_str(), MALFORMED)),
            Some(inner) if !strictly_contains(outer, inner) => errors.push(field::invalid(
                path,
                except.as_str(),
                "must be a strict subset of `cidr`",
            )),
            Some(_) => {}
        }
    }
    errors
}

fn strictly_contains(outer: (IpAddr, u8), inner: (IpAddr, u8)) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let mask = |length: u8| {
        if length == 0 {
            0
        } else {
            u128::MAX << (128 - u32::from(length))
        }
    };
    outer.0.is_ipv4() == inner.0.is_ipv4()
        && outer.1 < inner.1
        && bits(outer.0) & mask(outer.1) == bits(inner.0) & mask(outer.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_lie_inside_their_block() {
        let cidr = |text| parse_cidr(text).unwrap();
        assert!(strictly_contains(cidr("10.0.0.0/8"), cidr("10.1.0.0/16")));
        assert!(!strictly_contains(cidr("10.0.0.0/8"), cidr("10.0.0.0/8")));
        assert!(!strictly_contains(cidr("10.0.0.0/8"), cidr("11.0.0.0/16")));
        assert!(!strictly_contains(cidr("0.0.0.0/0"), cidr("::/1")));
    }
}
