//! What changes about a pod that is held back by scheduling gates: the nodes that it may run on can become fewer
//! (KEP-3838).

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{json, list, same},
        difference::{spelled, spelled_list},
    },
};

/// Checks that a new node selection says all that the old one says, and perhaps more.
pub(super) fn narrowed(new: &PodSpec, old: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let wanted = new.node_selector.as_ref();
    let kept =
        |(key, value): (&String, &String)| wanted.and_then(|new| new.get(key)) == Some(value);
    if !old.node_selector.iter().flatten().all(kept) {
        errors.push(field::invalid(
            path.child("nodeSelector"),
            json(&new.node_selector),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        ));
    }
    errors.extend(narrowed_affinity(
        required(new),
        required(old),
        &path
            .child("affinity")
            .child("nodeAffinity")
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms"),
    ));
    errors
}

fn node_affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// The terms of which a node must meet one.
fn required(spec: &PodSpec) -> &[NodeSelectorTerm] {
    node_affinity(spec)
        .and_then(|node| {
            node.required_during_scheduling_ignored_during_execution
                .as_ref()
        })
        .map_or(&[], |selector| &selector.node_selector_terms)
}

/// Where there are terms, another would let in more nodes, and one less could do so.
fn narrowed_affinity(new: &[NodeSelectorTerm], old: &[NodeSelectorTerm], path: &Path) -> ErrorList {
    if old.is_empty() {
        return ErrorList::new();
    }
    if new.len() != old.len() {
        return vec![field::invalid_spelled(
            path.clone(),
            &spelled_list("NodeSelectorTerm", Some(new)),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        )];
    }
    let pairs = new.iter().zip(old).enumerate();
    pairs
        .filter(|(_, (new, old))| !is_narrowed(new, old))
        .map(|(index, (new, _))| {
            field::invalid_spelled(
                path.index(index),
                &spelled("NodeSelectorTerm", new),
                "only additions are allowed (no mutations or deletions)",
            )
        })
        .collect()
}

/// Whether a term begins as it was. One that says nothing lets in no node, and must go on doing so.
fn is_narrowed(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let [new, old] =
        [new, old].map(|term| [list(&term.match_expressions), list(&term.match_fields)]);
    let is_empty =
        |lists: &[&[NodeSelectorRequirement]; 2]| lists.iter().all(|list| list.is_empty());
    let begins = |(new, old): (&[NodeSelectorRequirement], &[NodeSelectorRequirement])| {
        new.get(..old.len()).is_some_and(|start| same(&start, &old))
    };
    if is_empty(&old) {
        return is_empty(&new);
    }
    new.into_iter().zip(old).all(begins)
}

/// Undoes all changes to the selection of nodes: [`narrowed`] tells what is wrong with them.
pub(super) fn restore(new: &mut PodSpec, old: &PodSpec) {
    new.node_selector.clone_from(&old.node_selector);
    let before = node_affinity(old);
    if same(&node_affinity(new), &before) {
        return;
    }
    let mut affinity = new.affinity.take().unwrap_or_default();
    affinity.node_affinity = before.cloned();
    let is_there = old.affinity.is_some() || affinity != Affinity::default();
    new.affinity = is_there.then_some(affinity);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use crate::kinds::{
        core::pod::{defaults, update},
        difference::spelled,
    };

    const UPDATE: &str = "spec: Forbidden: pod updates may not change fields other than";

    fn pod(spec: Value) -> Pod {
        let mut value = json!({"metadata": {"name": "a"}, "spec": {
            "containers": [{"name": "c", "image": "x:1"}], "schedulingGates": [{"name": "g"}]}});
        json_patch::merge(&mut value["spec"], &spec);
        let mut pod = serde_json::from_value(value).unwrap();
        defaults::pod(&mut pod);
        pod
    }

    fn changes(new: Value, old: Value) -> Vec<String> {
        update::update(&pod(new), &pod(old))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn node(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    fn term(keys: &[&str]) -> Value {
        let all = keys
            .iter()
            .map(|key| json!({"key": key, "operator": "Exists"}));
        json!({"matchExpressions": all.collect::<Vec<_>>()})
    }

    #[test]
    fn a_gated_pod_can_have_fewer_nodes() {
        let anti = json!({"affinity": {"podAntiAffinity": {}}});
        let mut both = anti.clone();
        json_patch::merge(&mut both, &node(json!([term(&["a"])])));
        for (new, old) in [
            (json!({"nodeSelector": {"a": "b"}}), json!({})),
            (
                json!({"nodeSelector": {"a": "b", "c": "d"}}),
                json!({"nodeSelector": {"a": "b"}}),
            ),
            (node(json!([term(&["a"])])), json!({})),
            (both, anti),
            (
                node(json!([term(&["a", "b"]), term(&["c"])])),
                node(json!([term(&["a"]), term(&["c"])])),
            ),
            (json!({"schedulingGates": null}), json!({})),
        ] {
            assert_eq!(changes(new.clone(), old), [""; 0], "{new}");
        }
    }

    #[test]
    fn a_gated_pod_can_not_have_more_nodes() {
        let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        for (new, old, expected) in [
            (
                json!({"nodeSelector": {"a": "c"}}),
                json!({"nodeSelector": {"a": "b"}}),
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)".to_owned(),
            ),
            (
                json!({}),
                node(json!([term(&["a"])])),
                format!("{required}: Invalid value: []: no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
            ),
            (
                node(json!([term(&["b", "a"])])),
                node(json!([term(&["a"])])),
                format!("{required}[0]: Invalid value: {}: only additions are allowed (no mutations or deletions)", spelled("NodeSelectorTerm", &term(&["b", "a"]))),
            ),
            (
                node(json!([term(&["a"])])),
                node(json!([{}])),
                format!("{required}[0]: Invalid value: {}: only additions are allowed (no mutations or deletions)", spelled("NodeSelectorTerm", &term(&["a"]))),
            ),
        ] {
            assert_eq!(changes(new, old), [expected]);
        }
        let weighted = json!({"weight": 1, "podAffinityTerm": {"topologyKey": "t"}});
        let pods = json!({"affinity": {"podAffinity":
            {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}}});
        let errors = changes(pods, json!({}));
        assert!(
            errors.len() == 1 && errors[0].starts_with(UPDATE),
            "{errors:?}"
        );
    }

    #[test]
    fn a_pod_that_is_not_gated_stays_so_and_keeps_its_nodes() {
        let free = |mut spec: Value| {
            spec["schedulingGates"] = Value::Null;
            spec
        };
        assert_eq!(
            changes(json!({}), free(json!({}))),
            [
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"
            ]
        );
        for new in [
            json!({"nodeSelector": {"a": "b"}}),
            node(json!([term(&["a"])])),
        ] {
            let errors = changes(free(new), free(json!({})));
            assert!(
                errors.len() == 1 && errors[0].starts_with(UPDATE),
                "{errors:?}"
            );
        }
    }
}
