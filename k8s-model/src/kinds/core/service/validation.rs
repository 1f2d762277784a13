//! Validation of Services.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{externally_accessible, is_headless, kind, needs_health_check};
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
    let mut errors: ErrorList = topology(service).into_iter().collect();
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
    errors.extend(if list(&spec.load_balancer_source_ranges).is_empty() {
        annotated_ranges(service, old)
    } else {
        source_ranges(spec, old_spec, &path)
    });
    errors.extend(load_balancer_fields(spec, &path));
    errors.extend(traffic_policies(spec, &path));
    errors
}

/// Two annotations say whether traffic is to stay near, an older one and a newer one.
fn topology(service: &Service) -> Option<field::Error> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    let annotations = service.metadata.annotations.as_ref()?;
    let (hints, mode) = (annotations.get(HINTS)?, annotations.get(MODE)?);
    (mode != hints).then(|| {
        field::invalid(
            Path::new("metadata").child("annotations").key(MODE),
            mode.as_str(),
            format!("must match annotations[{HINTS}] when both are specified"),
        )
    })
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
            // So upstream's own type has it: a port with nothing but what it is compared by.
            let protocol = json(&text(&port.protocol));
            let spelled = format!(
                r#"{{"Name":"","Protocol":{protocol},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                port.port
            );
            errors.push(field::duplicate_spelled(path.index(index), spelled));
        }
    }
    errors
}

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// What may reach a load balancer.
fn source_ranges(spec: &ServiceSpec, old: &ServiceSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    // So upstream spells it here.
    let path = path.child("LoadBalancerSourceRanges");
    if kind(spec) != "LoadBalancer" {
        errors.push(field::forbidden(path.clone(), ONLY_BALANCED));
    }
    let before = list(&old.load_balancer_source_ranges).iter();
    let before: Vec<&str> = before.map(|range| range.trim()).collect();
    let ranges = list(&spec.load_balancer_source_ranges);
    for (index, range) in ranges.iter().enumerate() {
        let path = path.index(index);
        errors.extend(ip_fields::legacy_range(range.trim(), &before, path));
    }
    errors
}

fn load_balancer_fields(spec: &ServiceSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let balanced = kind(spec) == "LoadBalancer";
    let allocate = spec.allocate_load_balancer_node_ports;
    if allocate.is_some() && !balanced {
        errors.push(field::forbidden(
            path.child("allocateLoadBalancerNodePorts"),
            ONLY_BALANCED,
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
            errors.push(field::forbidden(path, ONLY_BALANCED));
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
    let Some(value) = annotated(service) else {
        return ErrorList::new();
    };
    let path = Path::new("metadata").child("annotations").key(ANNOTATION);
    let mut errors = ErrorList::new();
    let spec = service.spec.as_ref();
    if spec.is_some_and(|spec| kind(spec) != "LoadBalancer") {
        errors.push(field::forbidden(path.clone(), ONLY_BALANCED));
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
    if externally_accessible(spec) {
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
            &["PreferClose", "PreferSameZone", "PreferSameNode"],
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
            json(&new.load_balancer_class),
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
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::{core::service::ServiceRules, typed::KindRules};

    /// A service of that type, with more in its spec.
    fn of_type(sort: &str, more: Value) -> Service {
        let mut spec = json!({"type": sort, "ports": [{"port": 80}]});
        for (name, value) in more.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        let mut service =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        ServiceRules.default(&mut service);
        service
    }

    fn annotated(mut service: Service, annotations: &[(&str, &str)]) -> Service {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        service.metadata.annotations = Some(annotations.iter().map(owned).collect());
        service
    }

    fn told(service: &Service) -> Vec<String> {
        let found = ServiceRules.validate(service);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn any_port_may_be_reached_from_outside() {
        let service = of_type("LoadBalancer", json!({"ports": [{"port": 10250}]}));
        assert_eq!(told(&service), [""; 0]);
    }

    #[test]
    fn a_service_with_external_addresses_says_how_they_are_reached() {
        let external =
            |policy: Value| json!({"externalIPs": ["1.2.3.4"], "externalTrafficPolicy": policy});
        let service = of_type("ClusterIP", external(Value::Null));
        let policy = service.spec.as_ref().unwrap();
        assert_eq!(policy.external_traffic_policy.as_deref(), Some("Cluster"));
        assert_eq!(told(&service), [""; 0]);
        let mut service = of_type("ClusterIP", external("Local".into()));
        assert_eq!(told(&service), [""; 0]);
        service.spec.as_mut().unwrap().external_traffic_policy = None;
        assert_eq!(
            told(&service),
            ["spec.externalTrafficPolicy: Required value"]
        );
        assert_eq!(
            told(&of_type(
                "ClusterIP",
                json!({"externalTrafficPolicy": "Local"})
            )),
            [
                r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#
            ]
        );
        assert_eq!(
            told(&of_type(
                "ExternalName",
                json!({"externalName": "a.b", "externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Local"})
            ))
            .len(),
            1
        );
    }

    #[test]
    fn ranges_are_told_of_where_they_stand() {
        const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
        const ONLY: &str = "Forbidden: may only be used when `type` is 'LoadBalancer'";
        let fields = json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "x"],
            "allocateLoadBalancerNodePorts": true, "loadBalancerClass": "a.b/c"});
        let rest = [
            format!("spec.allocateLoadBalancerNodePorts: {ONLY}"),
            format!("spec.loadBalancerClass: {ONLY}"),
        ];
        let mut expected = vec![
            format!("spec.LoadBalancerSourceRanges: {ONLY}"),
            r#"spec.LoadBalancerSourceRanges[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#.to_owned(),
        ];
        expected.extend(rest.clone());
        let mut service = annotated(of_type("ClusterIP", fields), &[(RANGES, "10.0.0.0/8")]);
        assert_eq!(told(&service), expected);
        service.spec.as_mut().unwrap().load_balancer_source_ranges = None;
        let mut expected = vec![format!("metadata.annotations[{RANGES}]: {ONLY}")];
        expected.extend(rest);
        assert_eq!(told(&service), expected);
    }

    #[test]
    fn two_annotations_say_the_same_of_topology() {
        const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
        const MODE: &str = "service.kubernetes.io/topology-mode";
        let found = |annotations: &[(&str, &str)]| {
            told(&annotated(
                of_type("ClusterIP", json!({"sessionAffinity": "x"})),
                annotations,
            ))
        };
        for good in [
            vec![],
            vec![(MODE, "Auto")],
            vec![(HINTS, "auto")],
            vec![(HINTS, "Auto"), (MODE, "Auto")],
        ] {
            assert_eq!(found(&good).len(), 1);
        }
        let both = found(&[(HINTS, "auto"), (MODE, "Auto")]);
        assert_eq!(
            both[0],
            format!(
                r#"metadata.annotations[{MODE}]: Invalid value: "Auto": must match annotations[{HINTS}] when both are specified"#
            )
        );
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn a_port_is_there_once() {
        let ports = json!([
            {"name": "a", "port": 80, "nodePort": 30001},
            {"name": "b", "port": 80, "targetPort": 8080, "nodePort": 30002},
            {"name": "c", "port": 80, "protocol": "UDP"},
        ]);
        assert_eq!(
            told(&of_type("NodePort", json!({"ports": ports}))),
            [
                r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#
            ]
        );
    }

    #[test]
    fn ways_to_spread_traffic_are_told_in_upstreams_order() {
        assert_eq!(
            told(&of_type("ClusterIP", json!({"trafficDistribution": "x"}))),
            [
                r#"spec.trafficDistribution: Unsupported value: "x": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#
            ]
        );
    }

    #[test]
    fn a_class_that_is_taken_away_is_shown_as_nothing() {
        let old = of_type("LoadBalancer", json!({"loadBalancerClass": "a.b/c"}));
        let class = |class: Value| {
            let new = of_type("LoadBalancer", json!({"loadBalancerClass": class}));
            ServiceRules.validate_update(&new, &old)[0].to_string()
        };
        assert_eq!(
            class(Value::Null),
            "spec.loadBalancerClass: Invalid value: null: may not change once set"
        );
        assert_eq!(
            class("null".into()),
            r#"spec.loadBalancerClass: Invalid value: "null": may not change once set"#
        );
    }

    #[test]
    fn a_third_address_is_one_too_many() {
        let found = |ips: &[&str]| {
            told(&of_type(
                "ClusterIP",
                json!({"clusterIP": ips[0], "clusterIPs": ips}),
            ))
        };
        const MANY: &str = "may only hold up to 2 values";
        const SAME: &str = "may specify no more than one IP for each IP family";
        for (ips, texts) in [
            (vec!["10.0.0.1", "::1"], vec![]),
            (vec!["10.0.0.1", "::1", "10.0.0.2"], vec![MANY]),
            (vec!["10.0.0.1", "10.0.0.2"], vec![SAME]),
            (vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"], vec![MANY, SAME]),
        ] {
            let shown = serde_json::to_string(&ips).unwrap();
            let all = texts.iter();
            let all = all.map(|text| format!("spec.clusterIPs: Invalid value: {shown}: {text}"));
            assert_eq!(found(&ips), all.collect::<Vec<_>>());
        }
    }
}
