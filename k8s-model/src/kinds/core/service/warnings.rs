//! Advice on Services.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::kind;
use crate::{
    field::Path,
    kinds::{
        checks::{blank, list, text},
        ip_fields::{ip_advice, range_advice},
    },
};

const AWARE_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// Advice on a Service, new or not.
pub(super) fn of_service(service: &Service) -> Vec<String> {
    let mut out = Vec::new();
    let annotations = service.metadata.annotations.as_ref();
    if annotations.is_some_and(|map| map.contains_key(AWARE_HINTS)) {
        out.push(format!(
            "annotation {AWARE_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if let Some(spec) = &service.spec {
        of_spec(spec, &Path::new("spec"), &mut out);
    }
    out
}

/// Advice on where a load balancer is said to be reached.
pub(super) fn of_status(service: &Service) -> Vec<String> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let points = balancer.map(|balancer| list(&balancer.ingress));
    let points = points.unwrap_or_default().iter().enumerate();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    points
        .filter_map(|(index, point)| ip_advice(text(&point.ip), &path.index(index)))
        .collect()
}

/// Whether a Service has no address because it is to have none. One of another type cannot be.
fn is_headless(spec: &ServiceSpec) -> bool {
    kind(spec) == "ClusterIP" && text(&spec.cluster_ip) == "None"
}

fn of_spec(spec: &ServiceSpec, path: &Path, out: &mut Vec<String>) {
    let (headless, external) = (is_headless(spec), kind(spec) == "ExternalName");
    let (addresses, balancer) = (list(&spec.external_ips), text(&spec.load_balancer_ip));
    if !matches!(text(&spec.cluster_ip), "" | "None") {
        addresses_advice(list(&spec.cluster_ips), &path.child("clusterIPs"), out);
    }
    if headless {
        for (is_set, name) in [
            (!balancer.is_empty(), "loadBalancerIP"),
            (!addresses.is_empty(), "externalIPs"),
            // Upstream tells this one by the name that the field has in Go.
            (text(&spec.session_affinity) != "None", "SessionAffinity"),
        ] {
            if is_set {
                let path = path.child(name);
                out.push(format!("{path} is ignored for headless services"));
            }
        }
    }
    let at = path.child("externalIPs");
    addresses_advice(addresses, &at, out);
    if !addresses.is_empty() && !headless && !external {
        out.push(format!(
            "{at} is deprecated and may no longer be implemented in some clusters"
        ));
    }
    if !balancer.is_empty() {
        out.extend(ip_advice(balancer, &path.child("loadBalancerIP")));
    }
    let ranges = list(&spec.load_balancer_source_ranges);
    for (index, range) in ranges.iter().enumerate() {
        let path = path.child("loadBalancerSourceRanges").index(index);
        out.extend(range_advice(range, &path));
    }
    if external && !addresses.is_empty() {
        out.push(format!(
            "{at} is ignored when spec.type is \"ExternalName\""
        ));
    }
    if !external && !blank(&spec.external_name) {
        let path = path.child("externalName");
        out.push(format!(
            "{path} is ignored when spec.type is not \"ExternalName\""
        ));
    }
    if text(&spec.traffic_distribution) == "PreferClose" {
        let path = path.child("trafficDistribution");
        out.push(format!(
            "{path}: \"PreferClose\" is deprecated; use \"PreferSameZone\""
        ));
    }
}

fn addresses_advice(addresses: &[String], path: &Path, out: &mut Vec<String>) {
    let addresses = addresses.iter().enumerate();
    out.extend(addresses.filter_map(|(index, ip)| ip_advice(ip, &path.index(index))));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::{core::service::ServiceRules, typed::KindRules};

    fn told(spec: Value) -> Vec<String> {
        told_of(json!({"metadata": {}, "spec": spec}))
    }

    fn told_of(service: Value) -> Vec<String> {
        let mut service: Service = serde_json::from_value(service).unwrap();
        ServiceRules.default(&mut service);
        let told = ServiceRules.warnings(&service);
        assert_eq!(ServiceRules.update_warnings(&service, &service), told);
        told
    }

    #[test]
    fn a_plain_service_needs_no_advice() {
        let ip = "10.0.0.1";
        assert_eq!(told(json!({"clusterIP": ip, "clusterIPs": [ip]})), [""; 0]);
        let none = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        assert_eq!(told(none), [""; 0]);
        let external = json!({"type": "ExternalName", "externalName": "example.com"});
        assert_eq!(told(external), [""; 0]);
    }

    #[test]
    fn an_older_annotation_is_advised_against() {
        let annotations = json!({AWARE_HINTS: "auto"});
        assert_eq!(
            told_of(json!({"metadata": {"annotations": annotations}, "spec": {}})),
            [
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"
            ]
        );
    }

    #[test]
    fn headless_services_ignore_much() {
        let spec = |kind: &str| {
            json!({"type": kind, "clusterIP": "None", "clusterIPs": ["None"],
                "loadBalancerIP": "10.0.0.1", "externalIPs": ["10.0.0.2"], "sessionAffinity": "ClientIP"})
        };
        assert_eq!(
            told(spec("ClusterIP")),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ]
        );
        assert_eq!(
            told(spec("NodePort")),
            ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"]
        );
    }

    #[test]
    fn odd_addresses_are_warned_of() {
        let spec = json!({
            "type": "LoadBalancer",
            "clusterIP": "2001:DB8::1", "clusterIPs": ["2001:DB8::1"],
            "externalIPs": ["10.0.0.1", "010.0.0.1"],
            "loadBalancerIP": "2001:DB8::2",
            "loadBalancerSourceRanges": ["2001:DB8::/64"],
        });
        assert_eq!(
            told(spec),
            [
                r#"spec.clusterIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#,
                r#"spec.externalIPs[1]: non-standard IP address "010.0.0.1" will be considered invalid in a future Kubernetes release: use "10.0.0.1""#,
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                r#"spec.loadBalancerIP: IPv6 address "2001:DB8::2" should be in RFC 5952 canonical format ("2001:db8::2")"#,
                r#"spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#,
            ]
        );
    }

    #[test]
    fn what_a_type_ignores_is_told() {
        assert_eq!(
            told(json!({"type": "ExternalName", "externalName": "a", "externalIPs": ["10.0.0.1"]})),
            [r#"spec.externalIPs is ignored when spec.type is "ExternalName""#]
        );
        assert_eq!(
            told(json!({"externalName": "a", "trafficDistribution": "PreferClose"})),
            [
                r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
                r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
            ]
        );
    }

    #[test]
    fn a_balancer_is_reached_at_addresses_in_their_usual_form() {
        let points = json!([{"ip": "FD00::1"}, {"hostname": "a"}, {"ip": "10.0.0.1"}]);
        let service = json!({"metadata": {}, "status": {"loadBalancer": {"ingress": points}}});
        let service: Service = serde_json::from_value(service).unwrap();
        assert_eq!(
            ServiceRules.status_warnings(&service, &service),
            [
                r#"status.loadBalancer.ingress[0]: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#
            ]
        );
    }
}
