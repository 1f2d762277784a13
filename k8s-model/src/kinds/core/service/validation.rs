//! Validation of Services.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{is_headless, kind, needs_health_check, needs_node_port};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            PROTOCOLS, dns_label, dns_subdomain, json, list, one_of, one_of_each_family,
            ordinary_ip, port_number, port_number_or_name, qualified_name, supported, text,
        },
        ip_fields,
    },
    metadata,
};

const MAX_STICKY_SECONDS: i32 = 86400;
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

fn selector_labels(labels: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    metadata::validate_labels(labels, path)
}

/// What is wrong with a Service's addresses and their families. Upstream looks at it before it gives out addresses, and when
/// anything is found looks no further. Addresses of the old one stay good.
pub fn address_findings(service: &Service, old: Option<&Service>) -> ErrorList {
    let empty = ServiceSpec::default();
    let old = old.and_then(|old| old.spec.as_ref()).unwrap_or(&empty);
    let spec = service.spec.as_ref();
    spec.map_or_else(ErrorList::new, |spec| {
        cluster_ips(spec, old, &Path::new("spec"))
    })
}

/// Checks a Service, whose addresses stay good where they were like that before.
pub(super) fn service(service: &Service, old: Option<&Service>) -> ErrorList {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let old_spec = old.and_then(|old| old.spec.as_ref()).unwrap_or(&empty);
    let path = Path::new("spec");
    let ports = list(&spec.ports);
    let mut errors = ErrorList::new();
    if ports.is_empty() && !is_headless(spec) && kind(spec) != "ExternalName" {
        errors.push(field::required(path.child("ports"), ""));
    }
    errors.extend(by_type(spec, &path));
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        errors.extend(service_port(port, ports.len() > 1, &mut names, &path));
    }
    if let Some(selector) = &spec.selector {
        errors.extend(selector_labels(selector, &path.child("selector")));
    }
    errors.extend(session_affinity(spec, &path));
    errors.extend(cluster_ips(spec, old_spec, &path));
    for (index, address) in list(&spec.external_ips).iter().enumerate() {
        let path = path.child("externalIPs").index(index);
        let wrong = ip_fields::legacy_ip(address, list(&old_spec.external_ips), path.clone());
        if wrong.is_empty() {
            errors.extend(ordinary_ip(address, path));
        } else {
            errors.extend(wrong);
        }
    }
    errors.extend(one_of(kind(spec), TYPES, path.child("type")));
    errors.extend(port_conflicts(spec, &path.child("ports")));
    errors.extend(load_balancer_fields(spec, old_spec, &path));
    errors.extend(annotated_ranges(service, old));
    errors.extend(traffic_policies(spec, &path));
    errors
}

fn by_type(spec: &ServiceSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let no_none = |sort: &str| {
        field::invalid(
            path.child("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {sort} services"),
        )
    };
    match kind(spec) {
        sort @ ("LoadBalancer" | "NodePort") if is_headless(spec) => errors.push(no_none(sort)),
        "ExternalName" => {
            for (set, name) in [
                (!list(&spec.cluster_ips).is_empty(), "clusterIPs"),
                (!list(&spec.ip_families).is_empty(), "ipFamilies"),
                (spec.ip_family_policy.is_some(), "ipFamilyPolicy"),
            ] {
                if set {
                    errors.push(field::forbidden(
                        path.child(name),
                        "may not be set for ExternalName services",
                    ));
                }
            }
            let name = text(&spec.external_name);
            let name = name.strip_suffix('.').unwrap_or(name);
            let path = path.child("externalName");
            if name.is_empty() {
                errors.push(field::required(path, ""));
            } else {
                errors.extend(dns_subdomain(name, path));
            }
        }
        _ => {}
    }
    errors
}

fn service_port<'a>(
    port: &'a ServicePort,
    name_required: bool,
    names: &mut BTreeSet<&'a str>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = text(&port.name);
    if !name.is_empty() {
        errors.extend(dns_label(name, path.child("name")));
        if !names.insert(name) {
            errors.push(field::duplicate(path.child("name"), name));
        }
    } else if name_required {
        errors.push(field::required(path.child("name"), ""));
    }
    errors.extend(port_number(port.port, path.child("port")));
    errors.extend(one_of(
        text(&port.protocol),
        PROTOCOLS,
        path.child("protocol"),
    ));
    let target = port.target_port.clone().unwrap_or(IntOrString::Int(0));
    errors.extend(port_number_or_name(&target, path.child("targetPort")));
    if let Some(protocol) = &port.app_protocol {
        errors.extend(qualified_name(protocol, path.child("appProtocol")));
    }
    errors
}

fn session_affinity(spec: &ServiceSpec, path: &Path) -> ErrorList {
    let affinity = text(&spec.session_affinity);
    let mut errors = one_of(
        affinity,
        &["ClientIP", "None"],
        path.child("sessionAffinity"),
    );
    let path = path.child("sessionAffinityConfig");
    match affinity {
        "ClientIP" => {
            let needed = |path| field::required(path, "when session affinity type is ClientIP");
            let client = spec
                .session_affinity_config
                .as_ref()
                .map(|c| c.client_ip.as_ref());
            match client {
                None => errors.push(needed(path)),
                Some(None) => errors.push(needed(path.child("clientIP"))),
                Some(Some(client)) => {
                    let path = path.child("clientIP").child("timeoutSeconds");
                    match client.timeout_seconds {
                        None => errors.push(needed(path)),
                        Some(seconds) if !(1..=MAX_STICKY_SECONDS).contains(&seconds) => {
                            errors.push(field::invalid(
                                path,
                                seconds,
                                format!(
                                    "must be greater than 0 and less than {MAX_STICKY_SECONDS}"
                                ),
                            ));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        "None" if spec.session_affinity_config.is_some() => errors.push(field::forbidden(
            path,
            "must not be set when session affinity is None",
        )),
        _ => {}
    }
    errors
}

fn cluster_ips(spec: &ServiceSpec, old: &ServiceSpec, path: &Path) -> ErrorList {
    if kind(spec) == "ExternalName" {
        return ErrorList::new();
    }
    let mut errors = ErrorList::new();
    let path_of_ips = path.child("clusterIPs");
    let (single, plural) = (text(&spec.cluster_ip), list(&spec.cluster_ips));
    let families = list(&spec.ip_families);
    let invalid = |detail: &str| field::invalid(path_of_ips.clone(), plural.to_vec(), detail);
    if single.is_empty() {
        if !plural.is_empty() {
            errors.push(invalid("must be empty when `clusterIP` is not specified"));
        }
    } else if plural.is_empty() {
        errors.push(field::required(path_of_ips.clone(), ""));
    } else if plural[0] != single {
        errors.push(invalid("first value must match `clusterIP`"));
    }
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        let path = path.child("ipFamilies").index(index);
        errors.extend(supported(family, &["IPv4", "IPv6"], path.clone()));
        if !seen.insert(family) {
            errors.push(field::duplicate(path, family.as_str()));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        errors.extend(supported(
            policy,
            &["PreferDualStack", "RequireDualStack", "SingleStack"],
            path.child("ipFamilyPolicy"),
        ));
    }
    let mut malformed = false;
    for (index, address) in plural.iter().enumerate() {
        if index == 0 && address == "None" {
            if plural.len() > 1 {
                malformed = true;
                errors.push(invalid("'None' must be the first and only value"));
            }
            continue;
        }
        let before = list(&old.cluster_ips);
        let wrong = ip_fields::legacy_ip(address, before, path_of_ips.index(index));
        malformed |= !wrong.is_empty();
        errors.extend(wrong);
    }
    if plural.len() > 2 {
        errors.push(invalid("may only hold up to 2 values"));
    }
    if malformed {
        return errors;
    }
    if plural.len() > 1 && !one_of_each_family(plural.iter().filter_map(|ip| ip_fields::parse(ip)))
    {
        errors.push(invalid(
            "may specify no more than one IP for each IP family",
        ));
    }
    if !is_headless(spec) {
        for (index, (address, family)) in plural.iter().zip(families).enumerate() {
            let is_four = ip_fields::parse(address).is_some_and(ip_fields::is_four);
            if (family == "IPv4" && !is_four) || (family == "IPv6" && is_four) {
                errors.push(field::invalid(
                    path_of_ips.index(index),
                    address.as_str(),
                    format!("expected an {family} value as indicated by `ipFamilies[{index}]`"),
                ));
            }
        }
    }
    errors
}

fn port_conflicts(spec: &ServiceSpec, path: &Path) -> ErrorList {
    let ports = list(&spec.ports);
    let node_port = |port: &ServicePort| port.node_port.filter(|port| *port != 0);
    let mut errors = ErrorList::new();
    if kind(spec) == "ClusterIP" {
        for (index, _) in ports
            .iter()
            .enumerate()
            .filter(|(_, port)| node_port(port).is_some())
        {
            errors.push(field::forbidden(
                path.index(index).child("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if let Some(number) = node_port(port)
            && !seen.insert((&port.protocol, number))
        {
            errors.push(field::duplicate(
                path.index(index).child("nodePort"),
                number,
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if !seen.insert((&port.protocol, port.port)) {
            let key = serde_json::json!({"protocol": port.protocol, "port": port.port});
            errors.push(field::duplicate(path.index(index), key));
        }
    }
    errors
}

fn load_balancer_fields(spec: &ServiceSpec, old: &ServiceSpec, path: &Path) -> ErrorList {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let mut errors = ErrorList::new();
    let balanced = kind(spec) == "LoadBalancer";
    let ranges = list(&spec.load_balancer_source_ranges);
    if !ranges.is_empty() {
        let path = path.child("loadBalancerSourceRanges");
        if !balanced {
            errors.push(field::forbidden(path.clone(), ONLY));
        }
        let before = list(&old.load_balancer_source_ranges).iter();
        let before: Vec<&str> = before.map(|range| range.trim()).collect();
        for (index, range) in ranges.iter().enumerate() {
            let path = path.index(index);
            errors.extend(ip_fields::legacy_range(range.trim(), &before, path));
        }
    }
    let allocate = spec.allocate_load_balancer_node_ports;
    if allocate.is_some() && !balanced {
        errors.push(field::forbidden(
            path.child("allocateLoadBalancerNodePorts"),
            ONLY,
        ));
    }
    if balanced && allocate.is_none() {
        errors.push(field::required(
            Path::new("allocateLoadBalancerNodePorts"),
            "",
        ));
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = path.child("loadBalancerClass");
        if balanced {
            errors.extend(qualified_name(class, path));
        } else {
            errors.push(field::forbidden(path, ONLY));
        }
    }
    errors
}

/// The annotation that said what may reach a load balancer before there was a field for it.
fn annotated_ranges(service: &Service, old: Option<&Service>) -> ErrorList {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    fn annotated(service: &Service) -> Option<&String> {
        service.metadata.annotations.as_ref()?.get(ANNOTATION)
    }
    let spec = service.spec.as_ref();
    let has_field = spec.is_some_and(|spec| !list(&spec.load_balancer_source_ranges).is_empty());
    let Some(value) = annotated(service) else {
        return ErrorList::new();
    };
    if has_field {
        return ErrorList::new();
    }
    let path = Path::new("metadata").child("annotations").key(ANNOTATION);
    let mut errors = ErrorList::new();
    if spec.is_some_and(|spec| kind(spec) != "LoadBalancer") {
        errors.push(field::forbidden(
            path.clone(),
            "may only be used when `type` is 'LoadBalancer'",
        ));
    }
    if old.and_then(annotated) != Some(value) && !value.trim().is_empty() {
        for range in value.trim().split(',') {
            let range = range.trim();
            errors.extend(ip_fields::legacy_range(
                range,
                ip_fields::NONE,
                path.clone(),
            ));
        }
    }
    errors
}

fn traffic_policies(spec: &ServiceSpec, path: &Path) -> ErrorList {
    const POLICIES: &[&str] = &["Cluster", "Local"];
    let mut errors = ErrorList::new();
    let external = text(&spec.external_traffic_policy);
    if needs_node_port(spec) {
        errors.extend(one_of(
            external,
            POLICIES,
            path.child("externalTrafficPolicy"),
        ));
    } else if !external.is_empty() {
        errors.push(field::invalid(
            path.child("externalTrafficPolicy"),
            external,
            "may only be set for externally-accessible services",
        ));
    }
    let health = spec.health_check_node_port.unwrap_or_default();
    let at = path.child("healthCheckNodePort");
    if !needs_health_check(spec) {
        if health != 0 {
            errors.push(field::invalid(
                at,
                health,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ));
        }
    } else if health == 0 {
        errors.push(field::required(at, ""));
    } else {
        errors.extend(port_number(health, at));
    }
    match &spec.internal_traffic_policy {
        None if matches!(kind(spec), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.push(field::required(path.child("internalTrafficPolicy"), ""));
        }
        None => {}
        Some(policy) => {
            errors.extend(supported(
                policy,
                POLICIES,
                path.child("internalTrafficPolicy"),
            ));
        }
    }
    if let Some(distribution) = &spec.traffic_distribution {
        errors.extend(supported(
            distribution,
            &["PreferClose", "PreferSameNode", "PreferSameZone"],
            path.child("trafficDistribution"),
        ));
    }
    errors
}

/// What may not change once it is there.
pub(super) fn changes(new: &ServiceSpec, old: &ServiceSpec) -> ErrorList {
    const SET: &str = "may not change once set";
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        let (headless, was_headless) = (is_headless(new), is_headless(old));
        let (ips, old_ips) = (list(&new.cluster_ips), list(&old.cluster_ips));
        if !(headless && was_headless) {
            errors.extend(list_changes(
                ips,
                old_ips,
                new,
                "clusterIPs",
                "primary clusterIP",
                &path,
            ));
        }
        if !headless && !was_headless {
            errors.extend(list_changes(
                list(&new.ip_families),
                list(&old.ip_families),
                new,
                "ipFamilies",
                "primary ipFamily",
                &path,
            ));
        }
    }
    if kind(new) == "LoadBalancer"
        && kind(old) == "LoadBalancer"
        && new.load_balancer_class != old.load_balancer_class
    {
        errors.push(field::invalid(
            path.child("loadBalancerClass"),
            new.load_balancer_class.as_deref().unwrap_or("null"),
            SET,
        ));
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port != old.health_check_node_port
    {
        errors.push(field::forbidden(
            path.child("healthCheckNodePort"),
            "field is immutable",
        ));
    }
    errors
}

/// The first of each list stays; the second may come and go with the IP family policy.
fn list_changes(
    new: &[String],
    old: &[String],
    spec: &ServiceSpec,
    name: &str,
    primary: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut invalid = |index: usize, detail: String| {
        errors.push(field::invalid(
            path.child(name).index(index),
            new.to_vec(),
            detail,
        ));
    };
    const SET: &str = "may not change once set";
    if new.len() == old.len() {
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if new != old {
                invalid(index, SET.to_owned());
            }
        }
        return errors;
    }
    if new.is_empty() {
        invalid(0, format!("{primary} can not be unset"));
    }
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && new != old
    {
        invalid(0, SET.to_owned());
    }
    if new.len() == 1 && old.len() > 1 && text(&spec.ip_family_policy) != "SingleStack" {
        let what = if name == "clusterIPs" {
            "clusterIP"
        } else {
            "ipFamily"
        };
        errors.push(field::invalid(
            path.child("ipFamilyPolicy"),
            json(&spec.ip_family_policy),
            format!("must be set to 'SingleStack' when releasing the secondary {what}"),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kinds::{core::service::ServiceRules, typed::KindRules};

    #[test]
    fn any_port_may_be_reached_from_outside() {
        let mut service = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 10250}]},
        }))
        .unwrap();
        ServiceRules.default(&mut service);
        assert_eq!(ServiceRules.validate(&service), []);
    }
}
