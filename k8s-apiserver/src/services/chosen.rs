//! Which node ports somebody chose for a Service.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::needs_node_ports;

/// The node ports that are chosen, each with the place of the port that it is claimed for. In a new Service all protocols of
/// a port share the first that is chosen for one of them, so that it is claimed once.
pub(super) fn chosen(spec: &ServiceSpec, is_new: bool) -> Vec<(usize, i32)> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let is_shared = is_new && needs_node_ports(spec);
    let number = |port: &ServicePort| port.node_port.filter(|number| *number != 0);
    let numbers = ports.iter().rev();
    let first: BTreeMap<i32, i32> = numbers
        .filter_map(|port| Some((port.port, number(port)?)))
        .collect();
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let shared = first.get(&port.port).copied();
        let number = number(port).or(shared.filter(|_| is_shared));
        let is_again = is_new && number == shared && !seen.insert(port.port);
        if let Some(number) = number.filter(|_| !is_again) {
            all.push((i, number));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn protocols_of_a_new_services_port_share_a_number() {
        type Case<'a> = (&'a [(i32, i32)], &'a [(usize, i32)], &'a [(usize, i32)]);
        // Ports with their numbers, and what is chosen: for a new Service, and for an old one.
        let cases: [Case; 5] = [
            (&[(80, 0), (81, 0)], &[], &[]),
            (&[(53, 1), (53, 1)], &[(0, 1)], &[(0, 1), (1, 1)]),
            (&[(80, 0), (53, 0), (53, 1)], &[(1, 1)], &[(2, 1)]),
            (&[(80, 1), (81, 1)], &[(0, 1), (1, 1)], &[(0, 1), (1, 1)]),
            (
                &[(53, 1), (53, 2), (53, 2)],
                &[(0, 1), (1, 2), (2, 2)],
                &[(0, 1), (1, 2), (2, 2)],
            ),
        ];
        for (ports, new, old) in cases {
            let ports = ports.iter();
            let ports = ports.map(|(port, number)| json!({"port": port, "nodePort": number}));
            let spec = json!({"type": "NodePort", "ports": ports.collect::<Vec<_>>()});
            let spec = serde_json::from_value(spec).unwrap();
            assert_eq!(chosen(&spec, true), new, "{spec:?}");
            assert_eq!(chosen(&spec, false), old, "{spec:?}");
        }
    }

    #[test]
    fn nothing_is_shared_where_nothing_is_handed_out() {
        let spec = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 53}, {"port": 53, "nodePort": 1}]});
        let spec = serde_json::from_value(spec).unwrap();
        assert_eq!(chosen(&spec, true), [(1, 1)]);
    }
}
