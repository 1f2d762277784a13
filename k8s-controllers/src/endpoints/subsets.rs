//! What a Service's Endpoints should be: the pure core.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};

use crate::common::{owner, pod, service};

/// The most addresses in an Endpoints object.
const MAX_ADDRESSES: usize = 1000;
/// Says that there are more.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The Endpoints that the Service should have, made from those that it has; `None` when they are
/// right as they are.
pub(crate) fn reconcile(
    service: &Service,
    pods: &[Arc<Pod>],
    current: Option<&Endpoints>,
) -> Option<Endpoints> {
    let (subsets, truncated) = subsets(service, pods);
    let mut wanted = current.cloned().unwrap_or_default();
    wanted.metadata.name = service.metadata.name.clone();
    wanted.metadata.namespace = service.metadata.namespace.clone();
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS);
    if !service::has_ip(service) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    wanted.metadata.labels = (!labels.is_empty()).then_some(labels);
    let mut annotations = wanted.metadata.annotations.take().unwrap_or_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    wanted.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    match current {
        Some(current) if same(current, &wanted) => None,
        _ => Some(wanted),
    }
}

fn same(a: &Endpoints, b: &Endpoints) -> bool {
    let labels = |endpoints: &Endpoints| endpoints.metadata.labels.clone().unwrap_or_default();
    let annotations =
        |endpoints: &Endpoints| endpoints.metadata.annotations.clone().unwrap_or_default();
    a.subsets.as_deref().unwrap_or_default() == b.subsets.as_deref().unwrap_or_default()
        && labels(a) == labels(b)
        && annotations(a) == annotations(b)
}

/// Ports in a form that orders subsets.
type PortKey = Vec<(String, i32, String)>;
/// Ports, and the ready and not ready addresses that have them.
type Group = (
    Vec<EndpointPort>,
    Vec<EndpointAddress>,
    Vec<EndpointAddress>,
);

/// Pods with the same ports share a subset. Says also whether some had to be left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let publish = service::publishes_not_ready(service);
    let mut groups: BTreeMap<PortKey, Group> = BTreeMap::new();
    for pod in pods {
        if !service::is_endpoint(pod, publish) {
            continue;
        }
        let Some(address) = address(service, pod) else {
            continue;
        };
        let ports = ports(service, pod);
        if ports.is_empty() && !service::is_headless(service) {
            continue;
        }
        let key = ports.iter().map(|p| {
            (
                p.name.clone().unwrap_or_default(),
                p.port,
                p.protocol.clone().unwrap_or_default(),
            )
        });
        let (_, ready, not_ready) = groups
            .entry(key.collect())
            .or_insert_with(|| (ports, Vec::new(), Vec::new()));
        if publish || pod::is_ready(pod) {
            ready.push(address);
        } else {
            not_ready.push(address);
        }
    }
    let total: usize = groups
        .values()
        .map(|(_, ready, not_ready)| ready.len() + not_ready.len())
        .sum();
    let truncated = total > MAX_ADDRESSES;
    let mut room = MAX_ADDRESSES;
    if truncated {
        // Ready ones first, as upstream does.
        for (_, ready, _) in groups.values_mut() {
            ready.truncate(room);
            room -= ready.len();
        }
        for (_, _, not_ready) in groups.values_mut() {
            not_ready.truncate(room);
            room -= not_ready.len();
        }
    }
    let some = |mut list: Vec<EndpointAddress>| {
        list.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!list.is_empty()).then_some(list)
    };
    let subsets = groups
        .into_values()
        .filter(|(_, ready, not_ready)| !ready.is_empty() || !not_ready.is_empty())
        .map(|(ports, ready, not_ready)| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(not_ready),
            ports: (!ports.is_empty()).then_some(ports),
        })
        .collect();
    (subsets, truncated)
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let mut ports: Vec<EndpointPort> = ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone(),
                port: service::target_port(pod, port)?,
                protocol: Some(service::protocol(port).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

/// The pod's address of the Service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref()?;
    let family = spec
        .ip_families
        .as_ref()
        .and_then(|families| families.first())
        .map(String::as_str);
    let ipv6 = match (family, spec.cluster_ip.as_deref()) {
        (Some(family), _) => family == "IPv6",
        (None, Some(ip)) if ip != "None" && !ip.is_empty() => service::is_ipv6(ip),
        _ => service::addresses(pod).next().is_some_and(service::is_ipv6),
    };
    let ip = service::addresses(pod).find(|ip| service::is_ipv6(ip) == ipv6)?;
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: service::hostname(service, pod),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(owner::namespace(&pod.metadata).to_owned()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

    use super::*;
    use crate::common::fixture;

    fn service(ports: &[i32]) -> Service {
        let port = |port: &i32| ServicePort {
            name: Some(format!("p{port}")),
            port: *port,
            ..Default::default()
        };
        let mut service = Service {
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.0.0.1".to_owned()),
                ports: Some(ports.iter().map(port).collect()),
                ..Default::default()
            }),
            ..Default::default()
        };
        service.metadata.name = Some("web".to_owned());
        service
    }

    fn pods() -> Vec<Arc<Pod>> {
        vec![
            Arc::new(
                fixture::pod("default", "b")
                    .ip("10.1.0.2")
                    .ready("2026-01-01T00:00:00Z")
                    .build(),
            ),
            Arc::new(
                fixture::pod("default", "a")
                    .ip("10.1.0.1")
                    .ready("2026-01-01T00:00:00Z")
                    .build(),
            ),
            Arc::new(fixture::pod("default", "starting").ip("10.1.0.3").build()),
            Arc::new(
                fixture::pod("default", "dying")
                    .ip("10.1.0.4")
                    .deleting()
                    .build(),
            ),
            Arc::new(fixture::pod("default", "no-address").build()),
            Arc::new(
                fixture::pod("default", "over")
                    .ip("10.1.0.5")
                    .phase("Succeeded")
                    .build(),
            ),
        ]
    }

    fn ips(addresses: &Option<Vec<EndpointAddress>>) -> Vec<&str> {
        addresses
            .iter()
            .flatten()
            .map(|address| address.ip.as_str())
            .collect()
    }

    #[test]
    fn pods_are_sorted_into_ready_and_not_ready_and_settle() {
        let service = service(&[80, 443]);
        let endpoints = reconcile(&service, &pods(), None).unwrap();
        let subsets = endpoints.subsets.as_ref().unwrap();
        assert_eq!(subsets.len(), 1);
        assert_eq!(ips(&subsets[0].addresses), ["10.1.0.1", "10.1.0.2"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.1.0.3"]);
        assert_eq!(subsets[0].ports.as_ref().unwrap().len(), 2);
        assert_eq!(reconcile(&service, &pods(), Some(&endpoints)), None);
    }

    #[test]
    fn publishing_not_ready_addresses_makes_all_ready() {
        let mut service = service(&[80]);
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        let endpoints = reconcile(&service, &pods(), None).unwrap();
        let subsets = endpoints.subsets.unwrap();
        assert_eq!(
            ips(&subsets[0].addresses),
            ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"]
        );
    }

    #[test]
    fn a_headless_service_needs_no_ports_and_is_labelled() {
        let mut service = service(&[]);
        service.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
        let endpoints = reconcile(&service, &pods(), None).unwrap();
        assert_eq!(
            endpoints.metadata.labels.unwrap()["service.kubernetes.io/headless"],
            ""
        );
        assert_eq!(
            ips(&endpoints.subsets.unwrap()[0].addresses),
            ["10.1.0.1", "10.1.0.2"]
        );
    }
}
