//! The rules of NetworkPolicies.

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{fill_absent, list, messages, port_number, same, supported},
        declared::Declared,
        ip_fields,
        selectors::{Values, is_bad, selector_of},
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

    const METADATA: (usize, usize) = (0, 1);

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
        validate_policy(policy, &Stored::default())
    }

    fn validate_update(&self, new: &NetworkPolicy, old: &NetworkPolicy) -> ErrorList {
        validate_policy(new, &Stored::of(old))
    }

    fn declared(&self, new: &NetworkPolicy, old: Option<&NetworkPolicy>) -> ErrorList {
        let before = old.map(|old| &old.spec);
        Declared::of(&new.spec, before, Path::new("spec")).then(|_, _| {
            let blocks = blocks(new).into_iter();
            let empty = blocks.filter(|(block, _)| block.cidr.is_empty());
            empty
                .map(|(_, path)| field::required(path.child("cidr"), ""))
                .collect()
        })
    }

    fn warnings(&self, policy: &NetworkPolicy) -> Vec<String> {
        blocks(policy)
            .iter()
            .flat_map(|(block, path)| {
                let cidr = ip_fields::range_advice(&block.cidr, &path.child("cidr"));
                let except = list(&block.except).iter().enumerate();
                cidr.into_iter().chain(except.flat_map(|(index, except)| {
                    ip_fields::range_advice(except, &path.child("except").index(index))
                }))
            })
            .collect()
    }
}

/// The blocks of addresses that a policy names, and where.
fn blocks(policy: &NetworkPolicy) -> Vec<(&IPBlock, Path)> {
    let Some(spec) = &policy.spec else {
        return Vec::new();
    };
    let path = Path::new("spec");
    let ingress = list(&spec.ingress).iter().enumerate();
    let ingress = ingress.map(|(index, rule)| {
        let path = path.child("ingress").index(index).child("from");
        (list(&rule.from), path)
    });
    let egress = list(&spec.egress).iter().enumerate();
    let egress = egress.map(|(index, rule)| {
        let path = path.child("egress").index(index).child("to");
        (list(&rule.to), path)
    });
    let peers = ingress.chain(egress);
    let blocks = peers.flat_map(|(peers, path)| {
        let blocks = peers.iter().enumerate().filter_map(move |(index, peer)| {
            let block = peer.ip_block.as_ref()?;
            Some((block, path.index(index).child("ipBlock")))
        });
        blocks.collect::<Vec<_>>()
    });
    blocks.collect()
}

/// What of a stored policy stays good, wherever it is in the new one.
#[derive(Default)]
struct Stored<'a> {
    ranges: Vec<&'a str>,
    /// Values in selectors that no label can have: all may have them where the policy's own had.
    selector_values: bool,
}

impl<'a> Stored<'a> {
    fn of(policy: &'a NetworkPolicy) -> Self {
        let own = policy
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_selector.as_ref());
        Stored {
            ranges: ranges(policy),
            selector_values: own.is_some_and(is_bad),
        }
    }

    fn values(&self) -> Values {
        Values::labels_unless(self.selector_values)
    }
}

/// All ranges that a policy names.
fn ranges(policy: &NetworkPolicy) -> Vec<&str> {
    let blocks = blocks(policy).into_iter();
    let ranges = blocks.flat_map(|(block, _)| {
        let except = list(&block.except).iter().map(String::as_str);
        std::iter::once(block.cidr.as_str()).chain(except)
    });
    ranges.collect()
}

fn validate_policy(policy: &NetworkPolicy, stored: &Stored<'_>) -> ErrorList {
    let empty = NetworkPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&empty);
    validate_spec(spec, stored, &Path::new("spec"))
}

fn validate_spec(spec: &NetworkPolicySpec, stored: &Stored<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(selector) = &spec.pod_selector {
        let path = path.child("podSelector");
        errors.extend(selector_of(stored.values(), selector, &path));
    }
    for (index, rule) in list(&spec.ingress).iter().enumerate() {
        let path = path.child("ingress").index(index);
        let peers = peers(list(&rule.from), stored, &path.child("from"));
        errors.extend(ports(list(&rule.ports), &path.child("ports")));
        errors.extend(peers);
    }
    for (index, rule) in list(&spec.egress).iter().enumerate() {
        let path = path.child("egress").index(index);
        let peers = peers(list(&rule.to), stored, &path.child("to"));
        errors.extend(ports(list(&rule.ports), &path.child("ports")));
        errors.extend(peers);
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

fn ports(ports: &[NetworkPolicyPort], path: &Path) -> ErrorList {
    let ports = ports.iter().enumerate();
    ports
        .flat_map(|(index, port)| validate_port(port, &path.index(index)))
        .collect()
}

fn peers(peers: &[NetworkPolicyPeer], stored: &Stored<'_>, path: &Path) -> ErrorList {
    let peers = peers.iter().enumerate();
    peers
        .flat_map(|(index, peer)| validate_peer(peer, stored, &path.index(index)))
        .collect()
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
                        last,
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

fn validate_peer(peer: &NetworkPolicyPeer, stored: &Stored<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut selectors = 0;
    for (selector, name) in [
        (&peer.pod_selector, "podSelector"),
        (&peer.namespace_selector, "namespaceSelector"),
    ] {
        if let Some(selector) = selector {
            selectors += 1;
            errors.extend(selector_of(stored.values(), selector, &path.child(name)));
        }
    }
    match &peer.ip_block {
        Some(block) => {
            errors.extend(validate_block(
                block,
                &stored.ranges,
                &path.child("ipBlock"),
            ));
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

fn validate_block(block: &IPBlock, before: &[&str], path: &Path) -> ErrorList {
    let at = path.child("cidr");
    if block.cidr.is_empty() {
        return vec![field::required(at, "")];
    }
    let mut errors = ip_fields::legacy_range(&block.cidr, before, at);
    let Some(outer) = ip_fields::parse_range(&block.cidr) else {
        return errors;
    };
    for (index, except) in list(&block.except).iter().enumerate() {
        let path = path.child("except").index(index);
        errors.extend(ip_fields::legacy_range(except, before, path.clone()));
        let inner = ip_fields::parse_range(except);
        if inner.is_some_and(|inner| !ip_fields::strictly_contains(outer, inner)) {
            let text = "must be a strict subset of `cidr`";
            errors.push(field::invalid(path, except.as_str(), text));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: Value) -> NetworkPolicy {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn to_blocks(blocks: &[Value]) -> NetworkPolicy {
        let peers: Vec<Value> = blocks.iter().map(|b| json!({"ipBlock": b})).collect();
        policy(json!({"egress": [{"to": peers}]}))
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn exceptions_lie_inside_their_block() {
        let good = json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]});
        assert_eq!(NetworkPolicyRules.validate(&to_blocks(&[good])), []);
        let bad = json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "::/1", "x"]});
        let at = "spec.egress[0].to[0].ipBlock.except";
        assert_eq!(
            texts(NetworkPolicyRules.validate(&to_blocks(&[bad]))),
            [
                format!(
                    r#"{at}[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#
                ),
                format!(r#"{at}[1]: Invalid value: "::/1": must be a strict subset of `cidr`"#),
                format!(
                    r#"{at}[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#
                ),
            ]
        );
    }

    #[test]
    fn ranges_that_were_there_stay_good_wherever_they_are() {
        let rules = NetworkPolicyRules;
        let (wide, inner) = ("10.0.0.5/8", "10.1.2.3/16");
        let old = to_blocks(&[json!({"cidr": wide, "except": [inner]})]);
        let told = |cidr| {
            format!(r#"Invalid value: "{cidr}": must not have bits set beyond the prefix length"#)
        };
        assert_eq!(
            texts(rules.validate(&old)),
            [
                format!("spec.egress[0].to[0].ipBlock.cidr: {}", told(wide)),
                format!("spec.egress[0].to[0].ipBlock.except[0]: {}", told(inner)),
            ]
        );
        let new = policy(
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": inner}}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": wide}}]}]}),
        );
        assert_eq!(rules.validate_update(&new, &old), []);
        let new = to_blocks(&[json!({"cidr": "10.0.0.6/8"})]);
        assert_eq!(rules.validate_update(&new, &old).len(), 1);
    }

    #[test]
    fn an_end_before_the_beginning_is_shown() {
        let policy = policy(json!({"ingress": [{"ports": [{"port": 6, "endPort": 5}]}]}));
        assert_eq!(
            texts(NetworkPolicyRules.validate(&policy)),
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`"
            ]
        );
    }

    #[test]
    fn ranges_in_other_forms_are_warned_of() {
        let policy = to_blocks(&[json!({"cidr": "2001:DB8::/32", "except": ["2001:DB8::/64"]})]);
        assert_eq!(
            NetworkPolicyRules.warnings(&policy),
            [
                r#"spec.egress[0].to[0].ipBlock.cidr: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")"#,
                r#"spec.egress[0].to[0].ipBlock.except[0]: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#,
            ]
        );
    }
}
