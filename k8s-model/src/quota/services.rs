//! What Services count as.

use k8s_openapi::api::core::v1::Service;

use super::{Amounts, ONE, number};
use crate::{kinds::checks::list, quantity::Amount};

pub(super) fn measures(name: &str) -> bool {
    matches!(
        name,
        "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
    )
}

/// Node ports are counted as intended: they are not allocated yet.
pub(super) fn usage(service: &Service) -> Amounts {
    let spec = service.spec.as_ref();
    let ports = spec.map(|spec| list(&spec.ports)).unwrap_or_default();
    let sort = spec.and_then(|spec| spec.type_.as_deref());
    let (node_ports, balancers) = match sort {
        Some("NodePort") => (ports.len(), Amount::ZERO),
        Some("LoadBalancer") => {
            let allocates = spec.and_then(|spec| spec.allocate_load_balancer_node_ports);
            let count = if allocates == Some(false) {
                let given = |port: &Option<i32>| port.is_some_and(|port| port != 0);
                ports.iter().filter(|port| given(&port.node_port)).count()
            } else {
                ports.len()
            };
            (count, ONE)
        }
        _ => (0, Amount::ZERO),
    };
    Amounts::from([
        ("count/services".to_owned(), ONE),
        ("services".to_owned(), ONE),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), balancers),
    ])
}
