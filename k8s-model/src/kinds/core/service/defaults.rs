//! The defaults of Services.

use k8s_openapi::{
    api::core::v1::{ClientIPConfig, Service, ServiceSpec, SessionAffinityConfig},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{externally_accessible, kind};
use crate::kinds::checks::{blank, fill, fill_absent, text};

/// How long a client sticks to its endpoint: three hours.
const STICKY_SECONDS: i32 = 10800;

/// There is a status, and an address in it is a load balancer's own unless it says otherwise (KEP-1860).
pub(super) fn status(service: &mut Service) {
    let status = service.status.get_or_insert_default();
    let balancer = status.load_balancer.get_or_insert_default();
    if service
        .spec
        .as_ref()
        .is_none_or(|spec| kind(spec) != "LoadBalancer")
    {
        return;
    }
    for ingress in balancer.ingress.iter_mut().flatten() {
        if !blank(&ingress.ip) {
            fill_absent(&mut ingress.ip_mode, "VIP");
        }
    }
}

pub(super) fn spec(spec: &mut ServiceSpec) {
    fill(&mut spec.session_affinity, "None");
    match text(&spec.session_affinity) {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let timeout = spec
                .session_affinity_config
                .as_ref()
                .and_then(|config| config.client_ip.as_ref())
                .and_then(|client| client.timeout_seconds);
            if timeout.is_none() {
                spec.session_affinity_config = Some(SessionAffinityConfig {
                    client_ip: Some(ClientIPConfig {
                        timeout_seconds: Some(STICKY_SECONDS),
                    }),
                });
            }
        }
        _ => {}
    }
    fill(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
        if port.node_port == Some(0) {
            port.node_port = None;
        }
    }
    if externally_accessible(spec) && blank(&spec.external_traffic_policy) {
        spec.external_traffic_policy = Some("Cluster".to_owned());
    }
    if spec.internal_traffic_policy.is_none()
        && matches!(kind(spec), "NodePort" | "LoadBalancer" | "ClusterIP")
    {
        spec.internal_traffic_policy = Some("Cluster".to_owned());
    }
    // It says nothing of a service that is elsewhere.
    if kind(spec) == "ExternalName"
        && matches!(
            spec.internal_traffic_policy.as_deref(),
            Some("Cluster" | "Local")
        )
    {
        spec.internal_traffic_policy = None;
    }
    if kind(spec) == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}
