//! What a Service keeps that an update leaves out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{families::ips, has_cluster_ip, needs_health_check, wants_any_node_port};

/// What an update that leaves them out keeps: upstream's `patchAllocatedValues`.
pub(super) fn keep(new: &mut Service, old: &Service) {
    let (Some(new), Some(old)) = (new.spec.as_mut(), old.spec.as_ref()) else {
        return;
    };
    if has_cluster_ip(new) && has_cluster_ip(old) {
        if new.cluster_ip.as_deref().is_none_or(str::is_empty) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if ips(new).is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    // Who knows the one address alone means it where it changes.
    if new.cluster_ip != old.cluster_ip && ips(new) == ips(old) {
        let only = new.cluster_ip.clone().filter(|ip| !ip.is_empty());
        new.cluster_ips = only.map(|ip| vec![ip]);
    }
    if wants_any_node_port(new.type_.as_deref()) && wants_any_node_port(old.type_.as_deref()) {
        keep_node_ports(new, old);
    }
    if needs_health_check(new)
        && needs_health_check(old)
        && new.health_check_node_port.unwrap_or(0) == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Each port keeps its number by its name, whatever else of it has changed, if none has taken that over. So it is where no
/// more numbers are handed out, too.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let named = |port: &ServicePort| port.name.clone().unwrap_or_default();
    let had: BTreeMap<String, i32> = (old.ports.iter().flatten())
        .map(|port| (named(port), port.node_port.unwrap_or(0)))
        .collect();
    let (before, now) = (numbers(old), numbers(new));
    let mut used: BTreeSet<i32> = before.intersection(&now).copied().collect();
    for port in new.ports.iter_mut().flatten() {
        if port.node_port.unwrap_or(0) == 0
            && let Some(number) = had.get(&named(port)).filter(|number| **number != 0)
            && used.insert(*number)
        {
            port.node_port = Some(*number);
        }
    }
}

fn numbers(spec: &ServiceSpec) -> BTreeSet<i32> {
    let ports = spec.ports.iter().flatten();
    let numbers = ports.filter_map(|port| port.node_port);
    numbers.filter(|number| *number != 0).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The numbers that the ports have after an update.
    fn kept(new: Value, old: Value) -> Vec<i32> {
        let service = |spec: Value| serde_json::from_value(json!({"spec": spec})).unwrap();
        let (mut new, old): (Service, Service) = (service(new), service(old));
        keep(&mut new, &old);
        let ports = new.spec.unwrap().ports.unwrap();
        let ports = ports.into_iter();
        ports.map(|port| port.node_port.unwrap_or(0)).collect()
    }

    fn ports(sort: &str, numbers: &[(&str, i32)]) -> Value {
        let port = |(name, number): &(&str, i32)| json!({"name": name, "nodePort": number});
        json!({"type": sort, "ports": numbers.iter().map(port).collect::<Vec<_>>()})
    }

    #[test]
    fn a_port_keeps_its_number_unless_another_has_it() {
        let old = ports("NodePort", &[("a", 1), ("b", 2)]);
        for (new, numbers) in [
            ([("b", 0), ("a", 0)], [2, 1]),
            ([("a", 2), ("b", 0)], [2, 0]),
            ([("a", 3), ("b", 0)], [3, 2]),
            ([("a", 0), ("a", 0)], [1, 0]),
            ([("c", 0), ("b", 0)], [0, 2]),
        ] {
            assert_eq!(kept(ports("LoadBalancer", &new), old.clone()), numbers);
        }
    }

    #[test]
    fn a_port_keeps_its_number_where_none_are_handed_out() {
        let mut new = ports("LoadBalancer", &[("a", 0)]);
        new["allocateLoadBalancerNodePorts"] = false.into();
        assert_eq!(kept(new, ports("LoadBalancer", &[("a", 1)])), [1]);
    }

    #[test]
    fn what_a_type_has_no_use_for_is_not_taken_away_here() {
        let new = ports("ClusterIP", &[("a", 1), ("b", 0)]);
        let old = ports("NodePort", &[("a", 1), ("b", 2)]);
        assert_eq!(kept(new, old), [1, 0]);
    }
}
