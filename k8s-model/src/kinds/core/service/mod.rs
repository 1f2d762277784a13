//! The rules of Services.

mod defaults;
mod status;
mod strategy;
mod validation;
mod warnings;

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceSpec};

use crate::kinds::checks::{list, text};

pub(crate) use self::strategy::ServiceRules;
pub use self::validation::address_findings;

fn kind(spec: &ServiceSpec) -> &str {
    text(&spec.type_)
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    kind(spec) != "ExternalName"
}

fn needs_node_port(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

/// Whether those outside the cluster reach it by addresses of its own or of the nodes, so that it has a say in how that goes.
fn externally_accessible(spec: &ServiceSpec) -> bool {
    needs_node_port(spec) || (kind(spec) == "ClusterIP" && !list(&spec.external_ips).is_empty())
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer" && text(&spec.external_traffic_policy) == "Local"
}

fn is_headless(spec: &ServiceSpec) -> bool {
    list(&spec.cluster_ips) == ["None"]
}

fn load_balancer(service: &Service) -> LoadBalancerStatus {
    service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.clone())
        .unwrap_or_default()
}
