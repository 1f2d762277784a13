//! The downward API: a pod's own fields and resources as text.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{Container, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{PodView, quantity};

/// What a node knows that a pod's fields may refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
}

/// The value at a field path; `Err` has upstream's message.
pub(crate) fn field(
    pod: &PodView,
    path: &str,
    node: &NodeFacts,
    pod_ips: &[IpAddr],
) -> Result<String, String> {
    let meta = &pod.object.metadata;
    let join = |ips: &[IpAddr]| {
        ips.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    if let Some((field, key)) = subscript(path) {
        let map = match field {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map
            .as_ref()
            .and_then(|m| m.get(key))
            .cloned()
            .unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => pod
            .spec()
            .node_name
            .clone()
            .unwrap_or_else(|| node.name.clone()),
        "spec.serviceAccountName" => pod.spec().service_account_name.clone().unwrap_or_default(),
        "spec.restartPolicy" => pod.spec().restart_policy.clone().unwrap_or_default(),
        "status.hostIP" => first(&node.ips),
        "status.hostIPs" => join(&node.ips),
        "status.podIP" => first(pod_ips),
        "status.podIPs" => join(pod_ips),
        "status.phase" => pod.phase().to_owned(),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_suffix("']")?;
    rest.split_once("['")
}

/// `key="value"` lines, sorted.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = write!(out, "{key}={value:?}");
    }
    out
}

/// A container's request or limit, divided and rounded up. Limits that are absent are the node's
/// allocatable amount.
pub(crate) fn resource(
    pod: &PodView,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: &NodeFacts,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => pod
            .find(name)
            .map(|(_, c)| c)
            .ok_or_else(|| format!("container {name} not found"))?,
        None => own.ok_or("containerName is required")?,
    };
    let (kind, name) = selector
        .resource
        .split_once('.')
        .filter(|(kind, _)| matches!(*kind, "limits" | "requests"))
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let milli_of = |q: &Quantity| quantity::milli(q).filter(|v| *v != 0);
    let found = if kind == "limits" {
        limits
            .and_then(|l| l.get(name))
            .and_then(milli_of)
            .or_else(|| node.allocatable.get(name).and_then(milli_of))
    } else {
        requests.and_then(|l| l.get(name)).and_then(milli_of)
    };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(quantity::milli)
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    let amount = found.unwrap_or(0);
    Ok(((amount + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

    use super::*;

    #[test]
    fn fields_come_as_text() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        pod.metadata.labels = Some(
            [("a", "1"), ("b", "x y")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        );
        let pod = PodView::new(pod);
        let node = NodeFacts {
            ips: vec!["10.0.0.1".parse().unwrap()],
            ..Default::default()
        };
        let get = |path| field(&pod, path, &node, &["10.1.0.5".parse().unwrap()]);
        assert_eq!(get("metadata.name").unwrap(), "p");
        assert_eq!(get("metadata.labels").unwrap(), "a=\"1\"\nb=\"x y\"");
        assert_eq!(get("metadata.labels['b']").unwrap(), "x y");
        assert_eq!(get("status.hostIP").unwrap(), "10.0.0.1");
        assert_eq!(get("status.podIPs").unwrap(), "10.1.0.5");
        assert!(get("spec.nonsense").is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let limits = [("cpu".to_owned(), Quantity("1250m".to_owned()))];
        let container = Container {
            resources: Some(ResourceRequirements {
                limits: Some(limits.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let pod = PodView::new(Pod::default());
        let node = NodeFacts {
            allocatable: [("memory".to_owned(), Quantity("1Gi".to_owned()))].into(),
            ..Default::default()
        };
        let get = |resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                resource: resource.to_owned(),
                divisor: Some(Quantity(divisor.to_owned())),
                ..Default::default()
            };
            super::resource(&pod, Some(&container), &selector, &node).unwrap()
        };
        assert_eq!(get("limits.cpu", "0"), "2");
        assert_eq!(get("limits.cpu", "1m"), "1250");
        assert_eq!(get("limits.memory", "1Mi"), "1024");
        assert_eq!(get("requests.cpu", "1m"), "0");
    }
}
