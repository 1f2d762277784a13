//! Validation of what says where a pod may run: affinity, tolerations, spreading.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{
        Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
        PodSchedulingGate, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{
        blank, json, label_selector, list, messages, one_of, qualified_name, supported, text,
    },
    names,
};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &Affinity, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            errors.extend(node_selector(selector, &path.child(REQUIRED)));
        }
        let preferred = list(&node.preferred_during_scheduling_ignored_during_execution);
        for (index, term) in preferred.iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            errors.extend(weight(term.weight, &path));
            errors.extend(node_selector_term(
                &term.preference,
                &path.child("preference"),
            ));
        }
    }
    if let Some(pods) = &affinity.pod_affinity {
        errors.extend(pod_terms(
            list(&pods.required_during_scheduling_ignored_during_execution),
            list(&pods.preferred_during_scheduling_ignored_during_execution),
            &path.child("podAffinity"),
        ));
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        errors.extend(pod_terms(
            list(&pods.required_during_scheduling_ignored_during_execution),
            list(&pods.preferred_during_scheduling_ignored_during_execution),
            &path.child("podAntiAffinity"),
        ));
    }
    errors
}

fn weight(weight: i32, path: &Path) -> ErrorList {
    if (1..=100).contains(&weight) {
        ErrorList::new()
    } else {
        vec![field::invalid(
            path.child("weight"),
            weight,
            "must be in the range 1-100",
        )]
    }
}

/// A node selector with at least one term.
pub(crate) fn node_selector(selector: &NodeSelector, path: &Path) -> ErrorList {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return vec![field::required(
            path,
            "must have at least one node selector term",
        )];
    }
    selector
        .node_selector_terms
        .iter()
        .enumerate()
        .flat_map(|(index, term)| node_selector_term(term, &path.index(index)))
        .collect()
}

fn node_selector_term(term: &NodeSelectorTerm, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, requirement) in list(&term.match_expressions).iter().enumerate() {
        errors.extend(expression(
            requirement,
            &path.child("matchExpressions").index(index),
        ));
    }
    for (index, requirement) in list(&term.match_fields).iter().enumerate() {
        errors.extend(field_requirement(
            requirement,
            &path.child("matchFields").index(index),
        ));
    }
    errors
}

fn expression(requirement: &NodeSelectorRequirement, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let values = list(&requirement.values);
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.push(field::required(
                    path.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                errors.push(field::forbidden(
                    path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                errors.push(field::required(
                    path.child("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                ));
            }
        }
        other => errors.push(field::invalid(
            path.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    errors.extend(qualified_name(&requirement.key, path.child("key")));
    errors
}

fn field_requirement(requirement: &NodeSelectorRequirement, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let values = list(&requirement.values);
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.len() != 1 {
                errors.push(field::required(
                    path.child("values"),
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                ));
            }
        }
        other => errors.push(field::invalid(
            path.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    if requirement.key != "metadata.name" {
        errors.push(field::invalid(
            path.child("key"),
            requirement.key.as_str(),
            "not a valid field selector key",
        ));
        return errors;
    }
    for (index, value) in values.iter().enumerate() {
        errors.extend(messages(
            &path.child("values").index(index),
            value.as_str(),
            names::dns_subdomain(value, false),
        ));
    }
    errors
}

fn pod_terms(
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, term) in required.iter().enumerate() {
        errors.extend(pod_term(term, &path.child(REQUIRED).index(index)));
    }
    for (index, term) in preferred.iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        errors.extend(weight(term.weight, &path));
        errors.extend(pod_term(
            &term.pod_affinity_term,
            &path.child("podAffinityTerm"),
        ));
    }
    errors
}

fn pod_term(term: &PodAffinityTerm, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(selector) = &term.label_selector {
        errors.extend(label_selector(selector, &path.child("labelSelector")));
    }
    if let Some(selector) = &term.namespace_selector {
        errors.extend(label_selector(selector, &path.child("namespaceSelector")));
    }
    for namespace in list(&term.namespaces) {
        errors.extend(messages(
            &path.child("namespace"),
            namespace.as_str(),
            names::dns_label(namespace, false),
        ));
    }
    let key = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.push(field::required(key.clone(), "can not be empty"));
    }
    errors.extend(qualified_name(&term.topology_key, key));
    errors
}

/// A taint's or a toleration's effect.
pub(crate) fn effect(effect: &str, path: Path) -> ErrorList {
    one_of(effect, EFFECTS, path)
}

/// A list of tolerations.
pub(crate) fn tolerations(tolerations: &[Toleration], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let operator = text(&toleration.operator);
        if blank(&toleration.key) {
            if operator != "Exists" {
                errors.push(field::invalid(
                    path.child("operator"),
                    operator,
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                ));
            }
        } else {
            errors.extend(qualified_name(text(&toleration.key), path.child("key")));
        }
        if toleration.toleration_seconds.is_some() && text(&toleration.effect) != "NoExecute" {
            errors.push(field::invalid(
                path.child("effect"),
                text(&toleration.effect),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        let value = text(&toleration.value);
        match operator {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(field::invalid(
                        path.child("operator"),
                        value,
                        wrong.join(";"),
                    ));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    errors.push(field::invalid(
                        path.child("operator"),
                        json(toleration),
                        "value must be empty when `operator` is 'Exists'",
                    ));
                }
            }
            other => errors.extend(supported(
                other,
                &["Equal", "Exists"],
                path.child("operator"),
            )),
        }
        if !blank(&toleration.effect) {
            errors.extend(effect(text(&toleration.effect), path.child("effect")));
        }
    }
    errors
}

pub(super) fn gates(gates: &[PodSchedulingGate], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        let path = path.index(index).child("name");
        errors.extend(qualified_name(&gate.name, path.clone()));
        if !seen.insert(gate.name.as_str()) {
            errors.push(field::duplicate(path, gate.name.as_str()));
        }
    }
    errors
}

pub(super) fn spreading(constraints: &[TopologySpreadConstraint], path: &Path) -> ErrorList {
    const ABOVE_ZERO: &str = "must be greater than zero";
    let mut errors = ErrorList::new();
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        if constraint.max_skew <= 0 {
            errors.push(field::invalid(
                path.child("maxSkew"),
                constraint.max_skew,
                ABOVE_ZERO,
            ));
        }
        if constraint.topology_key.is_empty() {
            errors.push(field::required(
                path.child("topologyKey"),
                "can not be empty",
            ));
        }
        let when = constraint.when_unsatisfiable.as_str();
        errors.extend(supported(
            when,
            &["DoNotSchedule", "ScheduleAnyway"],
            path.child("whenUnsatisfiable"),
        ));
        let again = constraints[index + 1..].iter().any(|other| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == when
        });
        if again {
            errors.push(field::duplicate(
                path.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{}, {when}}}", constraint.topology_key),
            ));
        }
        if let Some(domains) = constraint.min_domains {
            if domains <= 0 {
                errors.push(field::invalid(
                    path.child("minDomains"),
                    domains,
                    ABOVE_ZERO,
                ));
            }
            if when != "DoNotSchedule" {
                errors.push(field::invalid(
                    path.child("minDomains"),
                    domains,
                    format!(
                        "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                    ),
                ));
            }
        }
        for (policy, name) in [
            (&constraint.node_affinity_policy, "nodeAffinityPolicy"),
            (&constraint.node_taints_policy, "nodeTaintsPolicy"),
        ] {
            if let Some(policy) = policy {
                errors.extend(supported(policy, &["Honor", "Ignore"], path.child(name)));
            }
        }
        if let Some(selector) = &constraint.label_selector {
            errors.extend(label_selector(selector, &path.child("labelSelector")));
        }
        let keys = list(&constraint.match_label_keys);
        if !keys.is_empty() && constraint.label_selector.is_none() {
            errors.push(field::forbidden(
                path.child("matchLabelKeys"),
                "must not be specified when labelSelector is not set",
            ));
        }
        for (index, key) in keys.iter().enumerate() {
            let path = path.child("matchLabelKeys").index(index);
            errors.extend(qualified_name(key, path.clone()));
            if constraint
                .label_selector
                .as_ref()
                .is_some_and(|selector| names_key(selector, key))
            {
                errors.push(field::invalid(
                    path,
                    key.as_str(),
                    "exists in both matchLabelKeys and labelSelector",
                ));
            }
        }
    }
    errors
}

fn names_key(selector: &LabelSelector, key: &str) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(key))
        || list(&selector.match_expressions)
            .iter()
            .any(|requirement| requirement.key == key)
}
