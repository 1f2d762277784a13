//! The rules of Services.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};

use super::{
    defaults, externally_accessible, kind, load_balancer, needs_cluster_ip, needs_health_check,
    needs_node_port, status, validation, warnings,
};
use crate::{
    field::{ErrorList, Path},
    kinds::{
        checks::{blank, list, text},
        typed::KindRules,
    },
    names,
    schema::MINOR,
};

/// The rules of Services.
///
/// Cluster addresses, their families, and node ports are the API server's to allocate, before
/// validation.
pub(crate) struct ServiceRules;

impl KindRules for ServiceRules {
    type Kind = Service;

    const CREATE_ON_UPDATE: bool = true;
    const METADATA: (usize, usize) = (0, 1);
    const SELECTABLE: &'static [&'static str] = &["spec.clusterIP", "spec.type"];

    fn default(&self, service: &mut Service) {
        defaults::spec(service.spec.get_or_insert_default());
        defaults::status(service);
    }

    fn prepare_for_create(&self, service: &mut Service) {
        service.status = Some(ServiceStatus {
            load_balancer: Some(Default::default()),
            ..ServiceStatus::default()
        });
        if let Some(spec) = &mut service.spec
            && !blank(&spec.cluster_ip)
            && list(&spec.cluster_ips).is_empty()
        {
            spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
        }
    }

    fn validate(&self, service: &Service) -> ErrorList {
        let wrong = validation::address_findings(service, None);
        if wrong.is_empty() {
            validation::service(service, None)
        } else {
            wrong
        }
    }

    fn prepare_for_update(&self, new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
        let balanced = new
            .spec
            .as_ref()
            .is_some_and(|spec| kind(spec) == "LoadBalancer");
        if let (Some(new), Some(old)) = (&mut new.spec, &old.spec) {
            keep_allocated(new, old);
            align_cluster_ips(new, old);
            drop_what_the_type_has_no_use_for(new, old);
        }
        if !balanced {
            new.status.get_or_insert_default().load_balancer = Some(Default::default());
        }
    }

    fn validate_update(&self, new: &Service, old: &Service) -> ErrorList {
        let wrong = validation::address_findings(new, Some(old));
        if !wrong.is_empty() {
            return wrong;
        }
        let mut errors = match (&new.spec, &old.spec) {
            (Some(new), Some(old)) => validation::changes(new, old),
            _ => ErrorList::new(),
        };
        errors.extend(validation::service(new, Some(old)));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &Service, old: &Service) -> ErrorList {
        let empty = ServiceSpec::default();
        status::validate(
            &load_balancer(new),
            &load_balancer(old),
            new.spec.as_ref().unwrap_or(&empty),
            &Path::new("status").child("loadBalancer"),
        )
    }

    fn warnings(&self, service: &Service) -> Vec<String> {
        warnings::of_service(service)
    }

    fn status_warnings(&self, new: &Service, _old: &Service) -> Vec<String> {
        warnings::of_status(new)
    }

    fn selectable(&self, service: &Service) -> Vec<String> {
        let spec = service.spec.as_ref();
        vec![
            spec.map_or("", |spec| text(&spec.cluster_ip)).to_owned(),
            spec.map_or("", kind).to_owned(),
        ]
    }

    /// A name may begin with a digit since 1.36 (`RelaxedServiceNameValidation`).
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        if MINOR >= 36 {
            names::dns_label(name, prefix)
        } else {
            names::dns1035(name, prefix)
        }
    }
}

/// A client that leaves out what was allocated means what is there.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if blank(&new.cluster_ip) && !blank(&old.cluster_ip) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if list(&new.cluster_ips).is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
        if list(&new.ip_families).is_empty() {
            new.ip_families.clone_from(&old.ip_families);
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let now = node_ports(new);
        let mut used: BTreeSet<i32> = node_ports(old).intersection(&now).copied().collect();
        let by_name: BTreeMap<&str, i32> = list(&old.ports)
            .iter()
            .filter_map(|port| Some((text(&port.name), port.node_port?)))
            .collect();
        for port in new.ports.iter_mut().flatten() {
            if port.node_port.unwrap_or_default() == 0
                && let Some(number) = by_name.get(text(&port.name))
                && used.insert(*number)
            {
                port.node_port = Some(*number);
            }
        }
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port.unwrap_or_default() == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    list(&spec.ports)
        .iter()
        .filter_map(|port| port.node_port)
        .filter(|port| *port != 0)
        .collect()
}

/// A client that knows only `clusterIP` has its wish carried over to `clusterIPs`: that they stay, or that there is another.
fn align_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let is_left_out = list(&new.cluster_ips).is_empty();
    let changes = text(&new.cluster_ip) != text(&old.cluster_ip);
    if is_left_out && !changes && !list(&old.cluster_ips).is_empty() {
        new.cluster_ips.clone_from(&old.cluster_ips);
    } else if (changes && list(&new.cluster_ips) == list(&old.cluster_ips))
        || (is_left_out && needs_cluster_ip(new))
    {
        let only = new.cluster_ip.clone().filter(|ip| !ip.is_empty());
        new.cluster_ips = only.map(|ip| vec![ip]);
    }
}

/// Drops what belonged to the old type, unless the client has changed it too.
fn drop_what_the_type_has_no_use_for(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if needs_node_port(old) && !needs_node_port(new) && node_ports(new).is_subset(&node_ports(old))
    {
        for port in new.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if externally_accessible(old)
        && !externally_accessible(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Strategy, kinds::typed::Typed};

    fn service(spec: serde_json::Value) -> Service {
        let mut service: Service =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        ServiceRules.default(&mut service);
        service
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_service_gets_upstreams_defaults() {
        let service = service(json!({"ports": [{"port": 80}]}));
        assert_eq!(
            serde_json::to_value(service.spec).unwrap(),
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "sessionAffinity": "None", "type": "ClusterIP",
                "internalTrafficPolicy": "Cluster"})
        );
    }

    #[test]
    fn a_cluster_ip_may_not_change() {
        let spec = |ip: &str| {
            service(json!({"ports": [{"port": 80}], "clusterIP": ip,
            "clusterIPs": [ip]}))
        };
        let (mut new, old) = (spec("10.0.0.2"), spec("10.0.0.1"));
        ServiceRules.prepare_for_update(&mut new, &old);
        assert_eq!(
            texts(ServiceRules.validate_update(&new, &old)),
            [r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set"#]
        );
    }

    #[test]
    fn what_is_no_address_is_all_that_is_told() {
        let old = service(json!({"ports": [{"port": 80}], "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1"]}));
        let new = service(json!({"ports": [{"port": 0}], "clusterIP": "x", "clusterIPs": ["x"]}));
        let told = [
            r#"spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ];
        assert_eq!(texts(ServiceRules.validate_update(&new, &old)), told);
        assert_eq!(texts(ServiceRules.validate(&new)), told);
    }

    #[test]
    fn a_name_may_begin_with_a_digit() {
        assert_eq!(ServiceRules.validate_name("1web", false), [""; 0]);
        assert_eq!(ServiceRules.validate_name("1web-", true), [""; 0]);
        assert_eq!(ServiceRules.validate_name("1.web", false).len(), 1);
    }

    #[test]
    fn addresses_that_were_there_stay_good() {
        const MAPPED: &str = "::ffff:1.2.3.4";
        const RANGE: &str = "10.0.0.5/8";
        let odd = |more: serde_json::Value| {
            let mut spec =
                json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30001}]});
            for (name, value) in more.as_object().into_iter().flatten() {
                spec[name] = value.clone();
            }
            service(spec)
        };
        let mut old = odd(json!({"externalIPs": [MAPPED], "loadBalancerSourceRanges": [RANGE]}));
        assert_eq!(
            texts(ServiceRules.validate(&old)),
            [
                format!(
                    r#"spec.externalIPs[0]: Invalid value: "{MAPPED}": must not be an IPv4-mapped IPv6 address"#
                ),
                format!(
                    r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "{RANGE}": must not have bits set beyond the prefix length"#
                ),
            ]
        );
        assert_eq!(texts(ServiceRules.validate_update(&old, &old)), [""; 0]);
        let status = json!({"loadBalancer": {"ingress": [{"ip": MAPPED, "ipMode": "VIP"}]}});
        let before = old.clone();
        old.status = Some(serde_json::from_value(status).unwrap());
        assert_eq!(ServiceRules.validate_status_update(&old, &old), []);
        assert_eq!(
            texts(ServiceRules.validate_status_update(&old, &before)),
            [format!(
                r#"status.loadBalancer.ingress[0].ip: Invalid value: "{MAPPED}": must not be an IPv4-mapped IPv6 address"#
            )]
        );
        let headless = |ip: &str| odd(json!({"clusterIP": ip, "clusterIPs": [ip]}));
        assert_eq!(
            texts(ServiceRules.validate(&headless(MAPPED))),
            [format!(
                r#"spec.clusterIPs[0]: Invalid value: "{MAPPED}": must not be an IPv4-mapped IPv6 address"#
            )]
        );
        let old = headless(MAPPED);
        assert_eq!(texts(ServiceRules.validate_update(&old, &old)), [""; 0]);
    }

    #[test]
    fn annotated_ranges_are_looked_at_when_they_change() {
        const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
        let annotated = |ranges: &str| {
            let mut service = service(json!({"type": "LoadBalancer", "ports": [{"port": 80}]}));
            service.metadata.annotations = Some([(RANGES.to_owned(), ranges.to_owned())].into());
            service
        };
        assert_eq!(
            texts(ServiceRules.validate(&annotated(" 10.0.0.0/8 , ::/0 "))),
            [""; 0]
        );
        let old = annotated("10.0.0.0/8,x");
        assert_eq!(
            texts(ServiceRules.validate(&old)),
            [
                r#"metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#
            ]
        );
        assert_eq!(texts(ServiceRules.validate_update(&old, &old)), [""; 0]);
        let new = annotated("y");
        assert_eq!(ServiceRules.validate_update(&new, &old).len(), 1);
    }

    #[test]
    fn what_was_allocated_survives_an_update_that_leaves_it_out() {
        let old = service(json!({"type": "NodePort", "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1"], "ports": [{"name": "a", "port": 80, "nodePort": 30001}]}));
        let mut new = service(json!({"type": "NodePort", "ports": [{"name": "a", "port": 81}]}));
        ServiceRules.prepare_for_update(&mut new, &old);
        let spec = new.spec.clone().unwrap();
        assert_eq!(spec.cluster_ips, Some(vec!["10.0.0.1".to_owned()]));
        assert_eq!(spec.ports.unwrap()[0].node_port, Some(30001));
        assert_eq!(texts(ServiceRules.validate_update(&new, &old)), [""; 0]);
    }

    #[test]
    fn leaving_a_type_drops_what_came_with_it() {
        let old = service(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}));
        let mut new = old.clone();
        new.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
        ServiceRules.prepare_for_update(&mut new, &old);
        let spec = new.spec.unwrap();
        assert_eq!(spec.ports.unwrap()[0].node_port, None);
        assert_eq!(spec.external_traffic_policy, None);
    }

    #[test]
    fn several_ports_need_names() {
        let service = service(json!({"ports": [{"port": 80}, {"port": 81}]}));
        assert_eq!(
            texts(ServiceRules.validate(&service)),
            [
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value"
            ]
        );
    }

    #[test]
    fn a_service_becomes_an_external_name_whichever_addresses_it_had() {
        let addresses = json!({"type": "ClusterIP", "ports": [{"port": 80}], "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack"});
        let old = service(addresses);
        for more in [
            json!({}),
            json!({"clusterIP": "10.0.0.1"}),
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
        ] {
            let mut spec = json!({"type": "ExternalName", "externalName": "a.b"});
            for (name, value) in more.as_object().unwrap() {
                spec[name] = value.clone();
            }
            let mut new = service(spec);
            ServiceRules.prepare_for_update(&mut new, &old);
            assert_eq!(texts(ServiceRules.validate_update(&new, &old)), [""; 0]);
            let spec = new.spec.unwrap();
            assert!(blank(&spec.cluster_ip) && spec.cluster_ips.is_none());
        }
    }

    #[test]
    fn who_knows_one_address_keeps_both_or_wants_another() {
        let both = |first: &str, all: serde_json::Value| {
            service(json!({"ports": [{"port": 80}], "clusterIP": first, "clusterIPs": all}))
        };
        let old = both("10.0.0.1", json!(["10.0.0.1", "fd00::1"]));
        for (first, all) in [
            ("10.0.0.1", vec!["10.0.0.1", "fd00::1"]),
            ("10.0.0.2", vec!["10.0.0.2"]),
        ] {
            let mut new = both(first, json!([]));
            ServiceRules.prepare_for_update(&mut new, &old);
            assert_eq!(list(&new.spec.unwrap().cluster_ips), all);
        }
    }

    #[test]
    fn external_addresses_keep_their_traffic_policy() {
        let old = service(json!({"type": "NodePort", "ports": [{"port": 80}],
            "externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Local"}));
        let changed = |externals: Option<Vec<String>>, old: &Service| {
            let mut new = old.clone();
            let spec = new.spec.as_mut().unwrap();
            spec.type_ = Some("ClusterIP".to_owned());
            spec.external_ips = externals;
            ServiceRules.prepare_for_update(&mut new, old);
            assert_eq!(texts(ServiceRules.validate_update(&new, old)), [""; 0]);
            new
        };
        let kept = changed(Some(vec!["1.2.3.4".to_owned()]), &old);
        let policy = |service: &Service| {
            let spec = service.spec.as_ref().unwrap();
            spec.external_traffic_policy.clone()
        };
        assert_eq!(policy(&kept).as_deref(), Some("Local"));
        assert_eq!(policy(&changed(None, &kept)), None);
    }

    #[test]
    fn metadata_is_looked_at_once_more_where_it_changes() {
        let mut service = service(json!({"ports": [{"port": 80}]}));
        service.metadata.finalizers = Some(vec!["x".to_owned()]);
        let found = Typed(ServiceRules).validate_update(&service, &service);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(Typed(ServiceRules).metadata_repeats(), (0, 1));
    }
}
