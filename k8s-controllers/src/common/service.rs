//! Which pods are behind a Service, and at which ports.

use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{owner, pod};
use crate::runtime::{Change, Informer, ObjectKey, WorkQueue};

/// The label on the endpoints of a Service without an address of its own.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether the Service has no cluster IP by choice.
pub(crate) fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        == Some("None")
}

/// Whether the Service has a cluster IP; upstream's `IsServiceIPSet`.
pub(crate) fn has_ip(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let ip = spec
        .and_then(|spec| spec.cluster_ip.as_deref())
        .unwrap_or_default();
    !is_external && !ip.is_empty() && ip != "None"
}

/// Whether the Service wants pods that are not ready too.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// Whether the Service has a selector, and the pod's labels match it.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
    else {
        return false;
    };
    let labels = pod.metadata.labels.as_ref();
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

/// Whether the pod has an address to speak of. A pod that is being deleted has one for as long as
/// `with_terminating` cares.
pub(crate) fn is_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    !pod::is_terminal(pod)
        && addresses(pod).next().is_some()
        && (with_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The pod's addresses.
pub(crate) fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    let one = status
        .and_then(|status| status.pod_ip.as_deref())
        .filter(|_| all.is_empty());
    all.iter()
        .map(|ip| ip.ip.as_str())
        .chain(one)
        .filter(|ip| !ip.is_empty())
}

/// The pod's host name in the Service's domain, if it has chosen one there.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain == service.metadata.name).then(|| hostname.clone())
}

/// The pod's number of a Service's port: the target port, or what the pod calls by that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let protocol = protocol(port);
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars =
                sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|container| container.ports.iter().flatten())
                .find(|port| {
                    port.name.as_deref() == Some(name)
                        && port.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|port| port.container_port)
        }
    }
}

/// The protocol of a Service's port.
pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// Whether an address is of IPv6.
pub(crate) fn is_ipv6(address: &str) -> bool {
    address.contains(':')
}

/// Queues the Services whose endpoints may change with a change of a pod.
pub(crate) fn watch_pods(
    pods: &Informer<Pod>,
    services: &Informer<Service>,
    queue: &WorkQueue<ObjectKey>,
) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.add_handler(move |change| {
        let (new, old) = match &change {
            Change::Updated { old, new } => {
                if same_endpoint(old, new) {
                    return;
                }
                (*new, Some(*old))
            }
            Change::Added(pod) | Change::Deleted(pod) => (*pod, None),
        };
        for service in services.list_namespace(owner::namespace(&new.metadata)) {
            if selects(&service, new) || old.is_some_and(|old| selects(&service, old)) {
                queue.add(ObjectKey::of(&service.metadata));
            }
        }
    });
}

/// Whether two states of a pod are the same to all Services.
fn same_endpoint(a: &Pod, b: &Pod) -> bool {
    let spec = |pod: &Pod| {
        pod.spec.as_ref().map(|spec| {
            (
                spec.node_name.clone(),
                spec.hostname.clone(),
                spec.subdomain.clone(),
            )
        })
    };
    a.metadata.deletion_timestamp.is_some() == b.metadata.deletion_timestamp.is_some()
        && pod::is_ready(a) == pod::is_ready(b)
        && pod::is_terminal(a) == pod::is_terminal(b)
        && a.metadata.labels == b.metadata.labels
        && addresses(a).eq(addresses(b))
        && spec(a) == spec(b)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

    use super::*;

    #[test]
    fn a_named_target_port_is_looked_up_in_the_pod() {
        let port = ContainerPort {
            name: Some("http".to_owned()),
            container_port: 8080,
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        };
        let container = Container {
            ports: Some(vec![port]),
            ..Default::default()
        };
        let pod = Pod {
            spec: Some(PodSpec {
                containers: vec![container],
                ..Default::default()
            }),
            ..Default::default()
        };
        let of = |target: Option<IntOrString>| {
            target_port(
                &pod,
                &ServicePort {
                    port: 80,
                    target_port: target,
                    ..Default::default()
                },
            )
        };
        assert_eq!(of(None), Some(80));
        assert_eq!(of(Some(IntOrString::Int(81))), Some(81));
        assert_eq!(of(Some(IntOrString::String("http".to_owned()))), Some(8080));
        assert_eq!(of(Some(IntOrString::String("other".to_owned()))), None);
    }
}
