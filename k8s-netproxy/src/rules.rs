//! [`RuleSet`]: what a dataplane should do, and [`rules`], which decides it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint, EndpointSlice},
};

/// The label by which an EndpointSlice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A Service with this label is left to another proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of that name on the API (`TCP` when absent), if it is one.
    pub fn from_api(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// Names one port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port's name; empty for the only port of a Service.
    pub port: String,
    /// The port's protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.namespace, self.name, self.protocol, self.port
        )
    }
}

/// Where one port of one Service goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRule {
    /// The virtual address.
    pub cluster_ip: IpAddr,
    /// The port at every address that is the Service's own.
    pub port: u16,
    /// The port at the node's addresses.
    pub node_port: Option<u16>,
    /// Addresses at which the Service is also reachable as at its cluster IP: `externalIPs` and
    /// those of its load balancer.
    pub external_ips: Vec<IpAddr>,
    /// Where connections to the cluster IP go.
    pub cluster_endpoints: Vec<SocketAddr>,
    /// Where connections to the node port and the external addresses go.
    pub external_endpoints: Vec<SocketAddr>,
    /// Whether connections from outside keep their source address
    /// (`externalTrafficPolicy: Local`).
    pub preserve_source: bool,
    /// How long a client sticks to its endpoint after its last connection
    /// (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
}

/// What a dataplane should do, in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The rule of each Service port that has a cluster IP.
    pub services: BTreeMap<ServicePortName, ServiceRule>,
}

/// What the rules depend on besides the API objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeContext {
    /// The node's name: endpoints on it are local.
    pub node_name: String,
}

/// A Service's own name: its namespace and its name.
pub type ServiceKey = (String, String);

/// The rules for these Services and EndpointSlices, as seen from one node.
///
/// Pure. Services without a cluster IP (headless, `ExternalName`), with a cluster IP that is not
/// IPv4, or with the label [`PROXY_NAME_LABEL`] have none. An endpoint takes connections while it
/// is ready; if a port has no ready endpoint, those that serve while they terminate take them
/// (KEP-1669). See
/// <https://kubernetes.io/docs/reference/networking/virtual-ips/>.
pub fn rules<'a>(
    services: impl IntoIterator<Item = &'a Arc<Service>>,
    slices: &BTreeMap<ServiceKey, Vec<Arc<EndpointSlice>>>,
    context: &NodeContext,
) -> RuleSet {
    let mut set = RuleSet::default();
    for service in services {
        let Some(cluster_ip) = cluster_ip(service) else {
            continue;
        };
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name)
        else {
            continue;
        };
        let slices = slices
            .get(&(namespace.clone(), name.clone()))
            .map_or(&[][..], Vec::as_slice);
        for port in service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten())
        {
            let Some(protocol) = Protocol::from_api(port.protocol.as_deref()) else {
                continue;
            };
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let key = ServicePortName {
                namespace: namespace.clone(),
                name: name.clone(),
                port: port.name.clone().unwrap_or_default(),
                protocol,
            };
            set.services.insert(
                key,
                rule(service, port, protocol, number, cluster_ip, slices, context),
            );
        }
    }
    set
}

fn rule(
    service: &Service,
    port: &ServicePort,
    protocol: Protocol,
    number: u16,
    cluster_ip: IpAddr,
    slices: &[Arc<EndpointSlice>],
    context: &NodeContext,
) -> ServiceRule {
    let spec = service.spec.as_ref();
    let all = candidates(port, protocol, slices);
    let local = |policy: Option<&str>| policy == Some("Local");
    let internal_local = local(spec.and_then(|s| s.internal_traffic_policy.as_deref()));
    let external_local = local(spec.and_then(|s| s.external_traffic_policy.as_deref()));
    ServiceRule {
        cluster_ip,
        port: number,
        node_port: port
            .node_port
            .and_then(|p| u16::try_from(p).ok())
            .filter(|p| *p != 0),
        external_ips: external_ips(service),
        cluster_endpoints: choose(&all, internal_local, context),
        external_endpoints: choose(&all, external_local, context),
        preserve_source: external_local,
        affinity: spec
            .filter(|s| s.session_affinity.as_deref() == Some("ClientIP"))
            .map(|s| {
                let seconds = s
                    .session_affinity_config
                    .as_ref()
                    .and_then(|c| c.client_ip.as_ref())
                    .and_then(|c| c.timeout_seconds)
                    .and_then(|t| u64::try_from(t).ok())
                    .unwrap_or(10_800);
                Duration::from_secs(seconds)
            }),
    }
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    let labels = service.metadata.labels.as_ref();
    if labels.is_some_and(|l| {
        l.contains_key(PROXY_NAME_LABEL) || l.contains_key("service.kubernetes.io/headless")
    }) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let ip: IpAddr = spec.cluster_ip.as_deref()?.parse().ok()?;
    ip.is_ipv4().then_some(ip)
}

fn external_ips(service: &Service) -> Vec<IpAddr> {
    let declared = service
        .spec
        .iter()
        .flat_map(|s| s.external_ips.iter().flatten())
        .map(String::as_str);
    let balancer = service
        .status
        .iter()
        .flat_map(|s| {
            s.load_balancer
                .iter()
                .flat_map(|l| l.ingress.iter().flatten())
        })
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_deref());
    let ips: BTreeSet<IpAddr> = declared
        .chain(balancer)
        .filter_map(|ip| ip.parse().ok())
        .filter(IpAddr::is_ipv4)
        .collect();
    ips.into_iter().collect()
}

struct Candidate {
    address: SocketAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    node: Option<String>,
}

/// Every endpoint behind a port, once each, in address order.
fn candidates(
    port: &ServicePort,
    protocol: Protocol,
    slices: &[Arc<EndpointSlice>],
) -> Vec<Candidate> {
    let mut found: BTreeMap<SocketAddr, Candidate> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
        let wanted = port.name.as_deref().unwrap_or_default();
        let Some(number) = slice
            .ports
            .iter()
            .flatten()
            .find(|p| {
                p.name.as_deref().unwrap_or_default() == wanted
                    && Protocol::from_api(p.protocol.as_deref()) == Some(protocol)
            })
            .and_then(|p| p.port)
            .and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        for endpoint in endpoints(slice) {
            // All addresses of an endpoint are fungible: the first is the one used (KEP-752).
            let Some(ip) = endpoint
                .addresses
                .first()
                .and_then(|a| a.parse::<IpAddr>().ok())
            else {
                continue;
            };
            let address = SocketAddr::new(ip, number);
            found.insert(address, candidate(address, endpoint));
        }
    }
    found.into_values().collect()
}

/// The endpoints of a slice: a plain list in some versions of the API's types, an optional one in others.
pub(crate) fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    let list: Option<&Vec<Endpoint>> = (&slice.endpoints).into();
    list.map_or(&[], Vec::as_slice)
}

fn candidate(address: SocketAddr, endpoint: &Endpoint) -> Candidate {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Candidate {
        address,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.clone(),
    }
}

fn choose(all: &[Candidate], local_only: bool, context: &NodeContext) -> Vec<SocketAddr> {
    let eligible = |c: &&Candidate| !local_only || c.node.as_deref() == Some(&context.node_name);
    let ready: Vec<_> = all
        .iter()
        .filter(eligible)
        .filter(|c| c.ready)
        .map(|c| c.address)
        .collect();
    if !ready.is_empty() {
        return ready;
    }
    all.iter()
        .filter(eligible)
        .filter(|c| c.serving && c.terminating)
        .map(|c| c.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
            }))
            .unwrap(),
        )
    }

    fn slice(endpoints: serde_json::Value) -> BTreeMap<ServiceKey, Vec<Arc<EndpointSlice>>> {
        let slice = serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }))
        .unwrap();
        BTreeMap::from([(("shop".into(), "web".into()), vec![Arc::new(slice)])])
    }

    fn context() -> NodeContext {
        NodeContext {
            node_name: "n1".into(),
        }
    }

    fn only(set: &RuleSet) -> &ServiceRule {
        assert_eq!(set.services.len(), 1);
        set.services.values().next().unwrap()
    }

    #[test]
    fn ready_endpoints_take_the_connections() {
        let services = [service(
            json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}),
        )];
        let slices = slice(json!([
            {"addresses": ["10.244.0.3"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.2"]},
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false}},
        ]));
        let set = rules(&services, &slices, &context());
        assert_eq!(
            only(&set).cluster_endpoints,
            [
                "10.244.0.2:8080".parse().unwrap(),
                "10.244.0.3:8080".parse().unwrap()
            ]
        );
    }

    #[test]
    fn terminating_endpoints_serve_when_nothing_is_ready() {
        let services = [service(
            json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}),
        )];
        let slices = slice(json!([
            {"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ]));
        assert_eq!(
            only(&rules(&services, &slices, &context())).cluster_endpoints,
            ["10.244.0.3:8080".parse().unwrap()]
        );
    }

    #[test]
    fn local_policy_keeps_to_the_node() {
        let services = [service(json!({
            "type": "NodePort", "clusterIP": "10.96.0.7", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        }))];
        let slices = slice(json!([
            {"addresses": ["10.244.0.3"], "nodeName": "n1"},
            {"addresses": ["10.244.1.3"], "nodeName": "n2"},
        ]));
        let set = rules(&services, &slices, &context());
        let rule = only(&set);
        assert_eq!(
            rule.external_endpoints,
            ["10.244.0.3:8080".parse().unwrap()]
        );
        assert_eq!(rule.cluster_endpoints.len(), 2);
        assert!(rule.preserve_source);
        assert_eq!(rule.node_port, Some(30080));
    }

    #[test]
    fn headless_and_external_name_services_have_no_rules() {
        let services = [
            service(json!({"clusterIP": "None", "ports": [{"port": 80}]})),
            service(json!({"type": "ExternalName", "externalName": "example.org"})),
        ];
        assert!(
            rules(&services, &BTreeMap::new(), &context())
                .services
                .is_empty()
        );
    }

    #[test]
    fn a_port_out_of_range_is_no_rule_and_no_panic() {
        let services = [service(
            json!({"clusterIP": "10.96.0.7", "ports": [{"port": 70000}, {"port": -1}]}),
        )];
        assert!(
            rules(&services, &BTreeMap::new(), &context())
                .services
                .is_empty()
        );
    }
}
