//! Advice on ports that stand in each other's way.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};

use crate::{
    field::Path,
    kinds::checks::{list, text},
};

/// Where a port is: the list of its container, the container's place there, and its own in that.
#[derive(Clone, Copy)]
struct Place(&'static str, usize, usize);

impl Place {
    fn path(self, spec: &Path) -> Path {
        let Place(containers, container, port) = self;
        spec.child(containers)
            .index(container)
            .child("ports")
            .index(port)
    }
}

/// The ports of the containers in a list of that name.
fn of<'c>(
    name: &'static str,
    containers: impl Iterator<Item = &'c Option<Vec<ContainerPort>>>,
) -> impl Iterator<Item = (Place, &'c ContainerPort)> {
    containers.enumerate().flat_map(move |(container, ports)| {
        let ports = list(ports).iter().enumerate();
        ports.map(move |(at, port)| (Place(name, container, at), port))
    })
}

pub(super) fn ports(spec: &PodSpec, path: &Path, out: &mut Vec<String>) {
    let (init, added) = (
        list(&spec.init_containers),
        list(&spec.ephemeral_containers),
    );
    let ports: Vec<(Place, &ContainerPort)> = of("initContainers", init.iter().map(|c| &c.ports))
        .chain(of("containers", spec.containers.iter().map(|c| &c.ports)))
        .chain(of("ephemeralContainers", added.iter().map(|c| &c.ports)))
        .collect();
    if ports.is_empty() {
        return;
    }
    let mut seen: HashMap<(i32, &str), Vec<(Place, &ContainerPort)>> = HashMap::new();
    for &(place, port) in &ports {
        let host_port = port.host_port.unwrap_or(0);
        let at = || place.path(path);
        if host_port == 0 && !text(&port.host_ip).is_empty() {
            out.push(format!(
                "{}: hostIP set without hostPort: {}",
                at(),
                in_go(port)
            ));
        }
        let earlier = seen
            .entry((port.container_port, text(&port.protocol)))
            .or_default();
        for (other_place, other) in &*earlier {
            if let Some(what) = clash(port, other) {
                out.push(format!(
                    "{}: {what} port definition with {}",
                    at(),
                    other_place.path(path)
                ));
            }
        }
        earlier.push((place, port));
    }
    let mut names: HashMap<&str, Place> = HashMap::new();
    for (place, port) in &ports {
        let name = text(&port.name);
        if name.is_empty() {
            continue;
        }
        match names.get(name) {
            Some(first) => {
                let first = first.path(path);
                out.push(format!(
                    "{}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}",
                    place.path(path),
                ));
            }
            None => {
                names.insert(name, *place);
            }
        }
    }
}

/// How two definitions of the same port of the pod stand to each other.
fn clash(one: &ContainerPort, other: &ContainerPort) -> Option<&'static str> {
    let [host, other_host] =
        [one, other].map(|port| (text(&port.host_ip), port.host_port.unwrap_or(0)));
    if host == other_host {
        Some("duplicate")
    } else if host.1 == 0 || other_host.1 == 0 {
        Some("overlapping")
    } else if host.1 == other_host.1 && host.0.is_empty() != other_host.0.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

/// A port as Go shows it.
fn in_go(port: &ContainerPort) -> String {
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text(&port.name),
        port.host_port.unwrap_or(0),
        port.container_port,
        text(&port.protocol),
        text(&port.host_ip),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::told;

    fn found(ports: Value) -> Vec<String> {
        told(
            json!({"containers": [{"name": "c", "ports": ports}]}),
            Value::Null,
        )
    }

    #[test]
    fn ports_that_stand_in_each_others_way_are_told() {
        let at = "t.spec.containers[0].ports";
        let port = |ip: &str, host: i32| json!({"containerPort": 80, "protocol": "TCP", "hostIP": ip, "hostPort": host});
        assert_eq!(
            found(json!([
                port("", 1),
                port("", 2),
                port("10.0.0.1", 3),
                port("10.0.0.2", 3)
            ])),
            [""; 0]
        );
        assert_eq!(
            found(json!([port("10.0.0.1", 0)])),
            [format!(
                "{at}[0]: hostIP set without hostPort: {{Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}}"
            )]
        );
        for (ports, what) in [
            ([port("", 0), port("", 0)], "duplicate"),
            ([port("", 1), port("", 1)], "duplicate"),
            ([port("", 1), port("", 0)], "overlapping"),
            ([port("", 1), port("10.0.0.1", 1)], "dangerously ambiguous"),
        ] {
            assert_eq!(
                found(json!(ports)),
                [format!("{at}[1]: {what} port definition with {at}[0]")]
            );
        }
        let other = json!({"containerPort": 80, "protocol": "UDP"});
        assert_eq!(found(json!([port("", 0), other])), [""; 0]);
    }

    #[test]
    fn a_name_of_a_port_stands_for_the_first_that_has_it() {
        let port = |number: i32| json!({"name": "web", "containerPort": number});
        let spec = json!({"initContainers": [{"name": "i", "ports": [port(1)]}],
            "containers": [{"name": "c", "ports": [port(2)]}]});
        let first = "t.spec.initContainers[0].ports[0]";
        assert_eq!(
            told(spec, Value::Null),
            [format!(
                r#"t.spec.containers[0].ports[0]: duplicate port name "web" with {first}, services and probes that select ports by name will use {first}"#
            )]
        );
    }
}
