//! [`Records`]: which name has which records.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};

use crate::rules::{ServiceKey, endpoints};

/// A target of an SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The host's name, without the final dot.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a name has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// IPv4 addresses.
    pub a: Vec<Ipv4Addr>,
    /// The name that it stands for.
    pub cname: Option<String>,
    /// Services at it.
    pub srv: Vec<Target>,
    /// The name of an address.
    pub ptr: Vec<String>,
    /// Text.
    pub txt: Option<String>,
}

/// The records of a cluster, by lower-case name without the final dot.
#[derive(Clone, Debug, Default)]
pub struct Records {
    domain: String,
    names: BTreeMap<String, Answer>,
    /// Names that exist only because others lie below them.
    empty: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Records {
    /// The records of these Services and EndpointSlices under a cluster domain.
    pub fn build<'a>(
        domain: &str,
        services: impl IntoIterator<Item = &'a Arc<Service>>,
        slices: &BTreeMap<ServiceKey, Vec<Arc<EndpointSlice>>>,
    ) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let mut records = Records {
            domain,
            ..Records::default()
        };
        let version = format!("dns-version.{}", records.domain);
        records.names.entry(version).or_default().txt = Some("1.1.0".into());
        for service in services {
            let (Some(namespace), Some(name)) =
                (&service.metadata.namespace, &service.metadata.name)
            else {
                continue;
            };
            let slices = slices
                .get(&(namespace.clone(), name.clone()))
                .map_or(&[][..], Vec::as_slice);
            records.add_service(service, namespace, name, slices);
            records.namespaces.insert(namespace.clone());
        }
        let parents: Vec<String> = records
            .names
            .keys()
            .filter_map(|n| n.split_once('.').map(|p| p.1.into()))
            .collect();
        for mut parent in parents {
            while parent.len() >= records.domain.len() && records.empty.insert(parent.clone()) {
                match parent.split_once('.') {
                    Some((_, rest)) => parent = rest.to_owned(),
                    None => break,
                }
            }
        }
        records
    }

    fn add_service(
        &mut self,
        service: &Service,
        namespace: &str,
        name: &str,
        slices: &[Arc<EndpointSlice>],
    ) {
        let Some(spec) = &service.spec else { return };
        let base = format!("{name}.{namespace}.svc.{}", self.domain);
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(external) = &spec.external_name {
                self.names.entry(base).or_default().cname =
                    Some(external.trim_end_matches('.').to_owned());
            }
            return;
        }
        match spec.cluster_ip.as_deref() {
            Some("None") => self.add_headless(
                &base,
                slices,
                spec.publish_not_ready_addresses.unwrap_or(false),
            ),
            Some(ip) => {
                let Ok(ip) = ip.parse::<Ipv4Addr>() else {
                    return;
                };
                self.names.entry(base.clone()).or_default().a.push(ip);
                self.names
                    .entry(reverse(ip))
                    .or_default()
                    .ptr
                    .push(base.clone());
                for port in spec.ports.iter().flatten() {
                    let Ok(number) = u16::try_from(port.port) else {
                        continue;
                    };
                    let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) else {
                        continue;
                    };
                    let protocol = port
                        .protocol
                        .as_deref()
                        .unwrap_or("TCP")
                        .to_ascii_lowercase();
                    let target = Target {
                        host: base.clone(),
                        port: number,
                    };
                    self.names
                        .entry(format!("_{port_name}._{protocol}.{base}"))
                        .or_default()
                        .srv
                        .push(target);
                }
            }
            None => {}
        }
    }

    fn add_headless(&mut self, base: &str, slices: &[Arc<EndpointSlice>], publish_all: bool) {
        // The name of a headless Service without ready endpoints exists and has no addresses.
        self.empty.insert(base.to_owned());
        for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
            for endpoint in endpoints(slice)
                .iter()
                .filter(|e| publish_all || is_ready(e))
            {
                for address in &endpoint.addresses {
                    let Ok(IpAddr::V4(ip)) = address.parse::<IpAddr>() else {
                        continue;
                    };
                    let host = match &endpoint.hostname {
                        Some(hostname) => format!("{hostname}.{base}").to_ascii_lowercase(),
                        None => format!("{}.{base}", address.replace('.', "-")),
                    };
                    push(&mut self.names.entry(base.to_owned()).or_default().a, ip);
                    push(&mut self.names.entry(host.clone()).or_default().a, ip);
                    push(
                        &mut self.names.entry(reverse(ip)).or_default().ptr,
                        host.clone(),
                    );
                    for port in slice.ports.iter().flatten() {
                        let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else {
                            continue;
                        };
                        let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) else {
                            continue;
                        };
                        let protocol = port
                            .protocol
                            .as_deref()
                            .unwrap_or("TCP")
                            .to_ascii_lowercase();
                        let srv = &mut self
                            .names
                            .entry(format!("_{port_name}._{protocol}.{base}"))
                            .or_default()
                            .srv;
                        push(
                            srv,
                            Target {
                                host: host.clone(),
                                port: number,
                            },
                        );
                    }
                }
            }
        }
    }

    /// What a name has. `None` is a name that does not exist (`NXDOMAIN`); an empty answer one that
    /// exists without such records.
    pub fn lookup(&self, name: &str) -> Option<Answer> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(answer) = self.names.get(&name) {
            return Some(answer.clone());
        }
        if let Some(ip) = self.pod_name(&name) {
            return Some(Answer {
                a: vec![ip],
                ..Answer::default()
            });
        }
        (self.empty.contains(&name) || name == self.domain).then(Answer::default)
    }

    /// Whether a name is the cluster's to answer: in its domain, or the reverse of an address that
    /// it knows.
    pub fn is_ours(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == self.domain
            || name
                .strip_suffix(&self.domain)
                .is_some_and(|rest| rest.ends_with('.'))
            || self.names.contains_key(&name)
    }

    /// `1-2-3-4.namespace.pod.domain` is 1.2.3.4, for every namespace that has a Service: as CoreDNS
    /// has it with `pods insecure`.
    fn pod_name(&self, name: &str) -> Option<Ipv4Addr> {
        let rest = name.strip_suffix(&self.domain)?.strip_suffix(".pod.")?;
        let (ip, namespace) = rest.split_once('.')?;
        self.namespaces
            .contains(namespace)
            .then(|| ip.replace('-', ".").parse().ok())?
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|c| c.ready)
        .unwrap_or(true)
}

fn reverse(ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn records() -> Records {
        let service = |name: &str, spec: serde_json::Value| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(json!({
                    "apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
                }))
                .unwrap(),
            )
        };
        let services = [
            service(
                "web",
                json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}),
            ),
            service(
                "db",
                json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}),
            ),
            service(
                "out",
                json!({"type": "ExternalName", "externalName": "example.org"}),
            ),
            service("empty", json!({"clusterIP": "None"})),
        ];
        let slice: EndpointSlice = serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "db-1", "namespace": "shop"},
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "hostname": "db-0"},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
                {"addresses": ["10.244.0.7"]},
            ],
        }))
        .unwrap();
        let slices = BTreeMap::from([(("shop".into(), "db".into()), vec![Arc::new(slice)])]);
        Records::build("cluster.local", &services, &slices)
    }

    #[test]
    fn a_service_has_its_address_whatever_the_case_of_the_question() {
        let ip: Ipv4Addr = "10.96.0.7".parse().unwrap();
        assert_eq!(
            records().lookup("Web.Shop.svc.cluster.local.").unwrap().a,
            [ip]
        );
        assert_eq!(
            records().lookup("7.0.96.10.in-addr.arpa").unwrap().ptr,
            ["web.shop.svc.cluster.local"]
        );
    }

    #[test]
    fn a_named_port_has_an_srv_record() {
        let answer = records()
            .lookup("_http._tcp.web.shop.svc.cluster.local")
            .unwrap();
        assert_eq!(
            answer.srv,
            [Target {
                host: "web.shop.svc.cluster.local".into(),
                port: 80
            }]
        );
    }

    #[test]
    fn a_headless_service_names_its_ready_endpoints() {
        let answer = records().lookup("db.shop.svc.cluster.local").unwrap();
        assert_eq!(answer.a.len(), 2);
        assert_eq!(
            records()
                .lookup("db-0.db.shop.svc.cluster.local")
                .unwrap()
                .a
                .len(),
            1
        );
        assert_eq!(
            records()
                .lookup("10-244-0-7.db.shop.svc.cluster.local")
                .unwrap()
                .a
                .len(),
            1
        );
        assert_eq!(
            records().lookup("10-244-0-6.db.shop.svc.cluster.local"),
            None
        );
    }

    #[test]
    fn an_external_name_is_an_alias() {
        assert_eq!(
            records()
                .lookup("out.shop.svc.cluster.local")
                .unwrap()
                .cname
                .as_deref(),
            Some("example.org")
        );
    }

    #[test]
    fn names_with_nothing_at_them_differ_from_names_that_are_not_there() {
        assert_eq!(
            records().lookup("empty.shop.svc.cluster.local"),
            Some(Answer::default())
        );
        assert_eq!(
            records().lookup("shop.svc.cluster.local"),
            Some(Answer::default())
        );
        assert_eq!(records().lookup("nothing.shop.svc.cluster.local"), None);
        assert_eq!(records().lookup("web.elsewhere.svc.cluster.local"), None);
    }

    #[test]
    fn pods_have_names_made_of_their_addresses() {
        assert_eq!(
            records()
                .lookup("10-244-0-9.shop.pod.cluster.local")
                .unwrap()
                .a
                .len(),
            1
        );
        assert_eq!(
            records().lookup("10-244-0-9.elsewhere.pod.cluster.local"),
            None
        );
        assert_eq!(records().lookup("nonsense.shop.pod.cluster.local"), None);
    }

    #[test]
    fn only_the_cluster_domain_is_ours() {
        let records = records();
        assert!(records.is_ours("anything.cluster.local."));
        assert!(!records.is_ours("notcluster.local"));
        assert!(!records.is_ours("example.org"));
    }
}
