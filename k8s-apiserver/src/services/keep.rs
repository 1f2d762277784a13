//! What a Service keeps that an update leaves out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::{families::ips, has_cluster_ip, needs_node_ports, wants_any_node_port};

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
    if needs_node_ports(new) && wants_any_node_port(old.type_.as_deref()) {
        // By name, whatever else of the port has changed.
        let named = |port: &ServicePort| port.name.clone().unwrap_or_default();
        let had: BTreeMap<String, Option<i32>> = (old.ports.iter().flatten())
            .map(|port| (named(port), port.node_port))
            .collect();
        let used: Vec<i32> = new
            .ports
            .iter()
            .flatten()
            .filter_map(|p| p.node_port)
            .collect();
        for port in new
            .ports
            .iter_mut()
            .flatten()
            .filter(|p| p.node_port.unwrap_or(0) == 0)
        {
            let found = had.get(&named(port)).copied().flatten();
            port.node_port = found.filter(|n| !used.contains(n));
        }
    } else if !wants_any_node_port(new.type_.as_deref())
        && wants_any_node_port(old.type_.as_deref())
    {
        // Back to `ClusterIP`: node ports that are merely left over go.
        let had: Vec<i32> = old
            .ports
            .iter()
            .flatten()
            .filter_map(|p| p.node_port)
            .collect();
        for port in new.ports.iter_mut().flatten() {
            if port.node_port.is_some_and(|n| had.contains(&n)) {
                port.node_port = None;
            }
        }
    }
    if new.type_.as_deref() == Some("LoadBalancer")
        && old.type_.as_deref() == Some("LoadBalancer")
        && new.health_check_node_port.unwrap_or(0) == 0
        && new.external_traffic_policy.as_deref() == Some("Local")
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}
