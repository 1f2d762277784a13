//! Services and what leads to them.

use serde_json::Value;

use super::{
    column::{AGE, Column, NAME, column as typed, text as column, wide},
    view::{View, first_few, get, labels, list, scalar, selector, text},
};

pub(super) const SERVICE: &[Column] = &[
    NAME,
    column("Type", "How the service is reached."),
    column(
        "Cluster-IP",
        "The address of the service inside the cluster.",
    ),
    column(
        "External-IP",
        "The addresses of the service outside the cluster.",
    ),
    column("Port(s)", "The ports of the service."),
    AGE,
    wide("Selector", "The labels of the pods behind the service."),
];

pub(super) fn service(view: &View) -> Vec<Value> {
    let ports: Vec<String> = view
        .list("spec.ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (scalar(get(port, "port")), text(port, "protocol"));
            match get(port, "nodePort").as_i64().filter(|port| *port > 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    let ports = if ports.is_empty() {
        "<none>".to_owned()
    } else {
        ports.join(",")
    };
    let cluster_ip = match view.list("spec.clusterIPs").first().and_then(Value::as_str) {
        Some(ip) => ip,
        None => view.text_or("spec.clusterIP", "<none>"),
    };
    vec![
        view.name(),
        view.text("spec.type").into(),
        cluster_ip.into(),
        external_ip(view).into(),
        ports.into(),
        view.age(),
        labels(view.get("spec.selector")).into(),
    ]
}

fn external_ip(view: &View) -> String {
    let external: Vec<String> = view.list("spec.externalIPs").iter().map(scalar).collect();
    match view.text("spec.type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut all = load_balancer(view);
            all.extend(external);
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => view.text("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn load_balancer(view: &View) -> Vec<String> {
    let mut points: Vec<String> = view
        .list("status.loadBalancer.ingress")
        .iter()
        .map(|point| match text(point, "ip") {
            "" => text(point, "hostname").to_owned(),
            ip => ip.to_owned(),
        })
        .filter(|point| !point.is_empty())
        .collect();
    points.sort();
    points.dedup();
    points
}

pub(super) const ENDPOINTS: &[Column] = &[
    NAME,
    column(
        "Endpoints",
        "The addresses and ports of the service's pods.",
    ),
    AGE,
];

pub(super) fn endpoints(view: &View) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in view.list("subsets") {
        let addresses = || {
            list(subset, "addresses")
                .iter()
                .map(|address| text(address, "ip"))
        };
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = scalar(get(port, "port"));
            all.extend(addresses().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    let shown = if view.list("subsets").is_empty() {
        "<none>".to_owned()
    } else {
        first_few(&all, 3, ",", "")
    };
    vec![view.name(), shown.into(), view.age()]
}

pub(super) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    column("AddressType", "What the addresses are: IPv4, IPv6 or FQDN."),
    column("Ports", "The ports of the endpoints."),
    column("Endpoints", "The addresses of the endpoints."),
    AGE,
];

pub(super) fn endpoint_slice(view: &View) -> Vec<Value> {
    let ports: Vec<String> = view
        .list("ports")
        .iter()
        .map(|port| match (get(port, "port"), get(port, "name")) {
            (Value::Null, Value::Null) => "*".to_owned(),
            (Value::Null, name) => scalar(name),
            (number, _) => scalar(number),
        })
        .collect();
    let addresses: Vec<String> = view
        .list("endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "addresses"))
        .map(scalar)
        .collect();
    vec![
        view.name(),
        view.text("addressType").into(),
        first_few(&ports, 3, ",", "<unset>").into(),
        first_few(&addresses, 3, ",", "<unset>").into(),
        view.age(),
    ]
}

pub(super) const INGRESS: &[Column] = &[
    NAME,
    column(
        "Class",
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    column(
        "Hosts",
        "Hosts that incoming requests are matched against before the ingress rule",
    ),
    column(
        "Address",
        "Address is a list containing ingress points for the load-balancer",
    ),
    column("Ports", "Ports of TLS configurations that open"),
    AGE,
];

pub(super) fn ingress(view: &View) -> Vec<Value> {
    let rules = view.list("spec.rules");
    let mut hosts: Vec<String> = rules
        .iter()
        .map(|rule| text(rule, "host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = if hosts.len() > 3 {
        hosts.truncate(3);
        format!("{} + {} more...", hosts.join(","), rules.len() - 3)
    } else if hosts.is_empty() {
        "*".to_owned()
    } else {
        hosts.join(",")
    };
    let ports = if view.list("spec.tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        view.name(),
        view.text_or("spec.ingressClassName", "<none>").into(),
        hosts.into(),
        load_balancer(view).join(",").into(),
        ports.into(),
        view.age(),
    ]
}

pub(super) const INGRESS_CLASS: &[Column] = &[
    NAME,
    column(
        "Controller",
        "Controller that is responsible for handling this class",
    ),
    column(
        "Parameters",
        "A reference to a resource with additional parameters",
    ),
    AGE,
];

pub(super) fn ingress_class(view: &View) -> Vec<Value> {
    let parameters = match view.text("spec.parameters.kind") {
        "" => "<none>".to_owned(),
        kind => {
            let name = view.text("spec.parameters.name");
            match view.text("spec.parameters.apiGroup") {
                "" => format!("{kind}/{name}"),
                group => format!("{kind}.{group}/{name}"),
            }
        }
    };
    vec![
        view.name(),
        view.text("spec.controller").into(),
        parameters.into(),
        view.age(),
    ]
}

pub(super) const NETWORK_POLICY: &[Column] = &[
    NAME,
    column("Pod-Selector", "The pods that the policy applies to."),
    AGE,
];

pub(super) fn network_policy(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        selector(view.get("spec.podSelector")).into(),
        view.age(),
    ]
}

pub(super) const SERVICE_CIDR: &[Column] = &[
    NAME,
    column("CIDRs", "The ranges of the services' addresses."),
    AGE,
];

pub(super) fn service_cidr(view: &View) -> Vec<Value> {
    let ranges: Vec<String> = view.list("spec.cidrs").iter().map(scalar).collect();
    vec![view.name(), ranges.join(",").into(), view.age()]
}

pub(super) const IP_ADDRESS: &[Column] = &[
    NAME,
    column("ParentRef", "What the address is used by."),
    AGE,
];

pub(super) fn ip_address(view: &View) -> Vec<Value> {
    let part = |name: &str| view.text(&format!("spec.parentRef.{name}"));
    let kind = match part("group") {
        "" => part("resource").to_lowercase(),
        group => format!("{}.{group}", part("resource")).to_lowercase(),
    };
    let parent = match part("namespace") {
        "" => format!("{kind}/{}", part("name")),
        namespace => format!("{kind}/{namespace}/{}", part("name")),
    };
    vec![view.name(), parent.into(), view.age()]
}

pub(super) const API_SERVICE: &[Column] = &[
    NAME,
    typed(
        "Service",
        "string",
        "The reference to the service that hosts this API endpoint.",
    ),
    typed("Available", "string", "Whether this service is available."),
    AGE,
];

pub(super) fn api_service(view: &View) -> Vec<Value> {
    let service = match view.text("spec.service.name") {
        "" => "Local".to_owned(),
        name => format!("{}/{name}", view.text("spec.service.namespace")),
    };
    let condition = view
        .list("status.conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Available");
    let available = condition.map_or("Unknown".to_owned(), |condition| {
        match (text(condition, "status"), text(condition, "reason")) {
            ("True", _) => "True".to_owned(),
            (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        }
    });
    vec![view.name(), service.into(), available.into(), view.age()]
}
