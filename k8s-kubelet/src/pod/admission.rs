//! Whether a node takes a pod that was bound to it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration,
};

use super::{PodView, qos::amount, quantity};

/// Why a pod was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

fn predicate(name: &str) -> Refusal {
    Refusal {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed"),
    }
}

/// What a pod takes of a resource, in thousandths: the sum of its containers and sidecars or the
/// largest init container on top of the sidecars before it, whichever is more, and overhead.
pub(crate) fn request(pod: &PodView, resource: &str) -> i128 {
    let of = |c: &Container| {
        amount(c, resource, false)
            .or_else(|| amount(c, resource, true))
            .unwrap_or(0)
    };
    let main: i128 = pod.main().iter().map(of).sum();
    let mut sidecars = 0;
    let mut init = 0;
    for c in pod.init() {
        if super::view::init_kind(c) == super::ContainerKind::Sidecar {
            sidecars += of(c);
            init = init.max(sidecars);
        } else {
            init = init.max(sidecars + of(c));
        }
    }
    let overhead = pod
        .spec()
        .overhead
        .as_ref()
        .and_then(|o| o.get(resource))
        .and_then(quantity::milli)
        .unwrap_or(0);
    (main + sidecars).max(init) + overhead
}

/// Decides on a pod beside those that are there already.
pub(crate) fn admit<'a>(
    pod: &PodView,
    others: impl Iterator<Item = &'a PodView> + Clone,
    node: &Node,
) -> Result<(), Refusal> {
    if let Some(os) = pod.spec().os.as_ref().filter(|os| os.name != "linux") {
        let _ = os;
        return Err(Refusal {
            reason: "PodOSNotSupported".to_owned(),
            message: "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
        });
    }
    fits_resources(pod, others.clone(), node)?;
    if !matches_node(pod, node) {
        return Err(predicate("NodeAffinity"));
    }
    if !ports_free(pod, others) {
        return Err(predicate("NodePorts"));
    }
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
    let intolerable =
        |t: &Taint| t.effect == "NoExecute" && !tolerations.iter().any(|x| tolerates(x, t));
    if taints.iter().any(intolerable) {
        return Err(predicate("TaintToleration"));
    }
    Ok(())
}

fn fits_resources<'a>(
    pod: &PodView,
    others: impl Iterator<Item = &'a PodView> + Clone,
    node: &Node,
) -> Result<(), Refusal> {
    let Some(allocatable) = node.status.as_ref().and_then(|s| s.allocatable.as_ref()) else {
        return Ok(());
    };
    let refuse = |resource: &str, requested: i128, used: i128, capacity: i128| Refusal {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    if let Some(most) = allocatable.get("pods").and_then(quantity::value) {
        let there = others.clone().count() as i128;
        if there + 1 > i128::from(most) {
            return Err(refuse("pods", 1, there, i128::from(most)));
        }
    }
    let mut wanted: BTreeMap<&str, ()> = BTreeMap::new();
    let containers = pod.init().iter().chain(pod.main());
    for list in containers
        .filter_map(|c| c.resources.as_ref())
        .flat_map(|r| [&r.requests, &r.limits])
    {
        wanted.extend(list.iter().flatten().map(|(name, _)| (name.as_str(), ())));
    }
    // CPU and memory first, as upstream reports them.
    let mut names: Vec<&str> = wanted.into_keys().collect();
    names.sort_by_key(|n| (*n != "cpu", *n != "memory"));
    for name in names {
        let requested = request(pod, name);
        let Some(capacity) = allocatable.get(name).and_then(quantity::milli) else {
            continue;
        };
        if requested == 0 {
            continue;
        }
        let used: i128 = others.clone().map(|o| request(o, name)).sum();
        if requested + used > capacity {
            // CPU is told in thousandths, everything else in whole units.
            let unit = if name == "cpu" { 1 } else { 1000 };
            return Err(refuse(name, requested / unit, used / unit, capacity / unit));
        }
    }
    Ok(())
}

fn host_ports(pod: &PodView) -> Vec<(String, String, i32)> {
    let containers = pod
        .main()
        .iter()
        .chain(pod.init().iter().filter(|c| c.restart_policy.is_some()));
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|p| *p > 0)?;
            let ip = p
                .host_ip
                .clone()
                .filter(|i| !i.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((
                ip,
                p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port,
            ))
        })
        .collect()
}

fn ports_free<'a>(pod: &PodView, others: impl Iterator<Item = &'a PodView>) -> bool {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return true;
    }
    let taken: Vec<_> = others.flat_map(host_ports).collect();
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    !wanted.iter().any(|(ip, protocol, port)| {
        taken
            .iter()
            .any(|(i, pr, po)| po == port && pr == protocol && (i == ip || any(i) || any(ip)))
    })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if toleration
        .effect
        .as_deref()
        .is_some_and(|e| !e.is_empty() && e != taint.effect)
    {
        return false;
    }
    let exists = toleration.operator.as_deref() == Some("Exists");
    match toleration.key.as_deref().filter(|k| !k.is_empty()) {
        None => exists,
        Some(key) if key != taint.key => false,
        Some(_) => {
            exists
                || toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
    }
}

fn matches_node(pod: &PodView, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = pod
        .spec()
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = pod
        .spec()
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|n| {
            n.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let name = node.metadata.name.as_deref().unwrap_or_default();
    selected
        && required.is_none_or(|r| {
            r.node_selector_terms
                .iter()
                .any(|t| term_matches(t, &labels, name))
        })
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|r| requirement_matches(r, labels.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && requirement_matches(r, Some(name)))
}

fn requirement_matches(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let number = || {
        value?
            .parse::<i64>()
            .ok()
            .zip(values.first()?.parse::<i64>().ok())
    };
    match r.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => !value.is_some_and(|v| values.iter().any(|x| x == v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(have, want)| have > want),
        "Lt" => number().is_some_and(|(have, want)| have < want),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{ContainerPort, NodeStatus, Pod, PodSpec, ResourceRequirements},
        apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;

    fn node() -> Node {
        let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "2")];
        let allocatable = allocatable.map(|(k, v)| (k.to_owned(), Quantity(v.to_owned())));
        let mut node = Node {
            status: Some(NodeStatus {
                allocatable: Some(allocatable.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        node.metadata.labels = Some([("disk".to_owned(), "ssd".to_owned())].into());
        node
    }

    fn pod(cpu: &str, change: impl FnOnce(&mut PodSpec)) -> PodView {
        let container = Container {
            resources: Some(ResourceRequirements {
                requests: Some([("cpu".to_owned(), Quantity(cpu.to_owned()))].into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut spec = PodSpec {
            containers: vec![container],
            ..Default::default()
        };
        change(&mut spec);
        PodView::new(Pod {
            spec: Some(spec),
            ..Default::default()
        })
    }

    #[test]
    fn a_full_node_refuses_in_upstreams_words() {
        let there = [pod("1500m", |_| {})];
        let refusal = admit(&pod("1", |_| {}), there.iter(), &node()).unwrap_err();
        assert_eq!(refusal.reason, "OutOfcpu");
        assert_eq!(
            refusal.message,
            "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
        );
        assert_eq!(admit(&pod("500m", |_| {}), there.iter(), &node()), Ok(()));
        let two = [pod("1m", |_| {}), pod("1m", |_| {})];
        assert_eq!(
            admit(&pod("1m", |_| {}), two.iter(), &node())
                .unwrap_err()
                .reason,
            "OutOfpods"
        );
    }

    #[test]
    fn host_ports_and_node_labels_are_checked() {
        let with_port = |spec: &mut PodSpec| {
            spec.containers[0].ports = Some(vec![ContainerPort {
                host_port: Some(80),
                ..Default::default()
            }]);
        };
        let there = [pod("1m", with_port)];
        assert_eq!(
            admit(&pod("1m", with_port), there.iter(), &node())
                .unwrap_err()
                .reason,
            "NodePorts"
        );
        let select = |value: &'static str| {
            move |spec: &mut PodSpec| {
                spec.node_selector = Some([("disk".to_owned(), value.to_owned())].into());
            }
        };
        assert_eq!(admit(&pod("1m", select("ssd")), [].iter(), &node()), Ok(()));
        assert_eq!(
            admit(&pod("1m", select("hdd")), [].iter(), &node())
                .unwrap_err()
                .message,
            "Predicate NodeAffinity failed"
        );
    }
}
