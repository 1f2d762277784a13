//! The rules of Nodes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, one_of_each_family, qualified_name, same, text},
        core::pod::effect,
        difference::spelled,
        ip_fields, quantities,
        typed::KindRules,
    },
    names,
};

/// The rules of Nodes.
pub(crate) struct NodeRules;

impl KindRules for NodeRules {
    type Kind = Node;

    const SELECTABLE: &'static [&'static str] = &["spec.unschedulable"];

    fn default(&self, node: &mut Node) {
        if let Some(spec) = &mut node.spec {
            ranges(spec);
        }
        let Some(status) = &mut node.status else {
            return;
        };
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
        quantities::normalize(&mut status.capacity);
        quantities::normalize(&mut status.allocatable);
    }

    fn prepare_for_create(&self, node: &mut Node) {
        if let Some(spec) = &mut node.spec {
            spec.config_source = None;
        }
        if let Some(status) = &mut node.status {
            status.config = None;
        }
    }

    fn validate(&self, node: &Node) -> ErrorList {
        validate_node(node)
    }

    fn prepare_for_update(&self, new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
        if old
            .spec
            .as_ref()
            .is_none_or(|spec| spec.config_source.is_none())
            && let Some(spec) = &mut new.spec
        {
            spec.config_source = None;
        }
    }

    fn validate_update(&self, new: &Node, old: &Node) -> ErrorList {
        let mut errors = validate_node(new);
        errors.extend(changes(new, old));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
        let configured = |node: &Node| node.status.as_ref().is_some_and(|s| s.config.is_some());
        if !configured(old)
            && let Some(status) = &mut new.status
        {
            status.config = None;
        }
    }

    fn warnings(&self, node: &Node) -> Vec<String> {
        let spec = node.spec.as_ref();
        let named = spec.and_then(|spec| spec.external_id.as_deref());
        let text = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
        let named = named.is_some_and(|id| !id.is_empty());
        named.then(|| text.to_owned()).into_iter().collect()
    }

    fn validate_status_update(&self, new: &Node, old: &Node) -> ErrorList {
        changes(new, old)
    }

    fn selectable(&self, node: &Node) -> Vec<String> {
        let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable);
        vec![unschedulable.unwrap_or_default().to_string()]
    }
}

/// Checks a node as if it were new: its ranges must be good, whatever they were before.
fn validate_node(node: &Node) -> ErrorList {
    let empty = NodeSpec::default();
    let spec = node.spec.as_ref().unwrap_or(&empty);
    let path = Path::new("metadata").child("taints");
    let mut errors = taints(list(&spec.taints), &path);
    errors.extend(resources(node));
    errors.extend(pod_cidrs(spec));
    errors
}

/// The first range of a node stands in two fields, of which the older one counts.
fn ranges(spec: &mut NodeSpec) {
    let (first, all) = (&mut spec.pod_cidr, &mut spec.pod_cidrs);
    let known = all.as_ref().and_then(|all| all.first());
    match (first.as_deref().filter(|range| !range.is_empty()), known) {
        (None, Some(known)) => *first = Some(known.clone()),
        (Some(range), known) if known.is_none_or(|known| known != range) => {
            *all = Some(vec![range.to_owned()]);
        }
        _ => {}
    }
}

fn resources(node: &Node) -> ErrorList {
    let Some(status) = &node.status else {
        return ErrorList::new();
    };
    let path = Path::new("status");
    let mut errors = ErrorList::new();
    for (list, name) in [
        (&status.capacity, "capacity"),
        (&status.allocatable, "allocatable"),
    ] {
        for (resource, quantity) in list.iter().flatten() {
            let path = path.child(name).child(resource);
            errors.extend(quantities::resource_value(resource, quantity, path));
        }
    }
    errors
}

fn taints(taints: &[Taint], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        errors.extend(qualified_name(&taint.key, path.child("key")));
        let value = text(&taint.value);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(field::invalid(path.child("value"), value, wrong.join(";")));
        }
        errors.extend(effect(&taint.effect, path.child("effect")));
        if !seen.insert((&taint.effect, &taint.key)) {
            let mut error = field::duplicate_spelled(path, spelled("Taint", taint));
            error.detail += ": taints must be unique by key and effect pair";
            errors.push(error);
        }
    }
    errors
}

fn pod_cidrs(spec: &NodeSpec) -> ErrorList {
    let path = Path::new("spec").child("podCIDRs");
    let ranges = list(&spec.pod_cidrs);
    let mut errors = ErrorList::new();
    for (index, range) in ranges.iter().enumerate() {
        errors.extend(ip_fields::legacy_range(
            range,
            ip_fields::NONE,
            path.index(index),
        ));
    }
    let unread = |range: &&String| ip_fields::parse_range(range).is_none();
    if ranges.len() > 1
        && let Some((index, range)) = ranges.iter().enumerate().find(|(_, range)| unread(range))
    {
        errors.push(field::internal(
            path.clone(),
            format!(
                "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{index}]: <nil> \
                 (invalid CIDR address: {range})"
            ),
        ));
    }
    let parsed = ranges
        .iter()
        .filter_map(|range| ip_fields::parse_range(range));
    let addresses = parsed.map(|(address, _)| address);
    if ranges.len() > 2 || (ranges.len() > 1 && !one_of_each_family(addresses)) {
        errors.push(field::invalid(
            path,
            ranges.to_vec(),
            "may specify no more than one CIDR for each IP family",
        ));
    }
    errors
}

fn changes(new: &Node, old: &Node) -> ErrorList {
    let empty = NodeSpec::default();
    let (new_spec, old_spec) = (
        new.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    let mut errors = resources(new);
    let addresses = new.status.iter().flat_map(|status| list(&status.addresses));
    let mut seen = BTreeSet::new();
    for (index, address) in addresses.enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            let path = Path::new("status").child("addresses").index(index);
            let spelled = spelled("NodeAddress", address);
            errors.push(field::duplicate_spelled(path, spelled));
        }
    }
    let path = Path::new("spec");
    let (ranges, old_ranges) = (list(&new_spec.pod_cidrs), list(&old_spec.pod_cidrs));
    let changed = match ranges.len() == old_ranges.len() {
        true => ranges
            .iter()
            .zip(old_ranges)
            .filter(|(a, b)| a != b)
            .count(),
        false => usize::from(!old_ranges.is_empty()),
    };
    for _ in 0..changed {
        errors.push(field::forbidden(
            path.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let provider = text(&old_spec.provider_id);
    if !provider.is_empty() && provider != text(&new_spec.provider_id) {
        errors.push(field::forbidden(
            path.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    let at = Path::new("metadata").child("taints");
    errors.extend(taints(list(&new_spec.taints), &at));
    if !same(&new_spec.external_id, &old_spec.external_id) {
        errors.push(field::forbidden(
            path.child("externalID"),
            "may not be updated",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_range_once_set_stays() {
        let node = |range: &str| -> Node {
            serde_json::from_value(json!({"metadata": {}, "spec": {"podCIDRs": [range]}})).unwrap()
        };
        assert_eq!(
            NodeRules.validate_update(&node("10.1.0.0/24"), &node("10.0.0.0/24"))[0].to_string(),
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
        );
    }

    #[test]
    fn a_pod_range_begins_where_it_says() {
        let node = |range: &str, labels: serde_json::Value| -> Node {
            let metadata = json!({"name": "n", "labels": labels});
            serde_json::from_value(json!({"metadata": metadata, "spec": {"podCIDRs": [range]}}))
                .unwrap()
        };
        assert_eq!(NodeRules.validate(&node("10.0.0.0/24", json!({}))), []);
        let old = node("10.0.0.5/24", json!({}));
        assert_eq!(
            NodeRules.validate(&old)[0].to_string(),
            r#"spec.podCIDRs[0]: Invalid value: "10.0.0.5/24": must not have bits set beyond the prefix length"#
        );
        // Nor does one stay that was like that before.
        let new = node("10.0.0.5/24", json!({"a": "b"}));
        assert_eq!(NodeRules.validate_update(&new, &old).len(), 1);
    }

    #[test]
    fn ranges_of_which_one_is_none_are_no_pair() {
        let found = |ranges: &[&str]| -> Vec<String> {
            let node = json!({"metadata": {}, "spec": {"podCIDRs": ranges}});
            let errors = NodeRules.validate(&serde_json::from_value(node).unwrap());
            errors.iter().map(ToString::to_string).collect()
        };
        let no_range = r#"Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#;
        let no_pair = "may specify no more than one CIDR for each IP family";
        assert_eq!(
            found(&["10.0.0.0/24", "x"]),
            [
                format!("spec.podCIDRs[1]: {no_range}"),
                "spec.podCIDRs: Internal error: invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[1]: <nil> (invalid CIDR address: x)".to_owned(),
                format!(r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","x"]: {no_pair}"#),
            ]
        );
        assert_eq!(found(&["x"]), [format!("spec.podCIDRs[0]: {no_range}")]);
        assert_eq!(
            found(&["10.0.0.0/24"; 2]),
            [format!(
                r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.0.0/24"]: {no_pair}"#
            )]
        );
    }

    #[test]
    fn faults_of_a_node_are_told_in_upstreams_order() {
        let node = json!({"metadata": {}, "status": {"capacity": {"cpu": "-1"}}, "spec": {
            "taints": [{"key": "k", "effect": ""}],
            "podCIDRs": ["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"]}});
        let errors = NodeRules.validate(&serde_json::from_value(node).unwrap());
        let fields: Vec<String> = errors.iter().map(|error| error.field.to_string()).collect();
        assert_eq!(
            fields,
            [
                "metadata.taints[0].effect",
                "status.capacity.cpu",
                "spec.podCIDRs"
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_taints_is_told_twice_of_a_changed_node() {
        let node = json!({"metadata": {}, "spec": {"taints": [{"key": "k", "effect": ""}]}});
        let node: Node = serde_json::from_value(node).unwrap();
        let errors = NodeRules.validate_update(&node, &node);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["metadata.taints[0].effect: Required value"; 2]);
    }

    #[test]
    fn what_is_there_twice_is_told_as_upstreams_own_types() {
        let node = json!({"metadata": {},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "k", "effect": "NoExecute", "value": "x"}]},
            "status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "Hostname", "address": "n"}]}});
        let node: Node = serde_json::from_value(node).unwrap();
        let found = NodeRules.validate_update(&node, &node);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        for expected in [
            r#"metadata.taints[1]: Duplicate value: {"Key":"k","Value":"x","Effect":"NoExecute","TimeAdded":null}: taints must be unique by key and effect pair"#,
            r#"status.addresses[1]: Duplicate value: {"Type":"Hostname","Address":"n"}"#,
        ] {
            assert!(found.iter().any(|text| text == expected), "{found:?}");
        }
    }

    #[test]
    fn allocatable_is_capacity_unless_given() {
        let mut node: Node = serde_json::from_value(
            json!({"metadata": {}, "status": {"capacity": {"cpu": "2000m"}}}),
        )
        .unwrap();
        NodeRules.default(&mut node);
        assert_eq!(node.status.unwrap().allocatable.unwrap()["cpu"].0, "2");
    }
}
