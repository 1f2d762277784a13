//! Validation of what says where a pod may run: affinity, tolerations, spreading.

use std::{collections::BTreeSet, num::IntErrorKind};

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    PodSchedulingGate, PodSpec, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use super::{allowances::Allowances, label_keys};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, list, messages, one_of, qualified_name, supported, text},
        selectors::{self, Values, key_and_values, label_selector, selector_of},
    },
    names,
};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &Affinity, allowed: Allowances, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            errors.extend(node_selector(
                selector,
                allowed.node_affinity_values,
                &path.child(REQUIRED),
            ));
        }
        let preferred = list(&node.preferred_during_scheduling_ignored_during_execution);
        for (index, term) in preferred.iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            errors.extend(weight(term.weight, &path));
            errors.extend(node_selector_term(
                &term.preference,
                // Upstream leaves those alone: such a term may well do no harm.
                Values::Any,
                &path.child("preference"),
            ));
        }
    }
    let values = Values::labels_unless(allowed.selector_values);
    if let Some(pods) = &affinity.pod_affinity {
        errors.extend(pod_terms(
            list(&pods.required_during_scheduling_ignored_during_execution),
            list(&pods.preferred_during_scheduling_ignored_during_execution),
            values,
            &path.child("podAffinity"),
        ));
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        errors.extend(pod_terms(
            list(&pods.required_during_scheduling_ignored_during_execution),
            list(&pods.preferred_during_scheduling_ignored_during_execution),
            values,
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

/// Whether a required node affinity has values that no label can have.
pub(super) fn has_bad_node_affinity_values(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref();
    let node = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node.and_then(|node| {
        node.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_some_and(has_bad_values)
}

/// Whether a node selector has values that no label can have.
pub(crate) fn has_bad_values(selector: &NodeSelector) -> bool {
    let terms = selector.node_selector_terms.iter();
    let mut values = terms
        .flat_map(|term| list(&term.match_expressions))
        .flat_map(|requirement| list(&requirement.values));
    values.any(|value| !names::label_value(value).is_empty())
}

/// A node selector with at least one term. It may have values that no label can have where the stored one has.
pub(crate) fn node_selector(selector: &NodeSelector, any_values: bool, path: &Path) -> ErrorList {
    let values = Values::labels_unless(any_values);
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
        .flat_map(|(index, term)| node_selector_term(term, values, &path.index(index)))
        .collect()
}

fn node_selector_term(term: &NodeSelectorTerm, values: Values, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, requirement) in list(&term.match_expressions).iter().enumerate() {
        errors.extend(expression(
            requirement,
            values,
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

fn expression(requirement: &NodeSelectorRequirement, allowed: Values, path: &Path) -> ErrorList {
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
    let key = requirement.key.as_str();
    errors.extend(key_and_values(allowed, key, values, path));
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
    values: Values,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, term) in required.iter().enumerate() {
        errors.extend(pod_term(term, values, &path.child(REQUIRED).index(index)));
    }
    for (index, term) in preferred.iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        errors.extend(weight(term.weight, &path));
        errors.extend(pod_term(
            &term.pod_affinity_term,
            values,
            &path.child("podAffinityTerm"),
        ));
    }
    errors
}

/// Whether there is anything wrong with a selector of pods to be near, or not near.
pub(super) fn has_bad_affinity_selectors(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else {
        return false;
    };
    let near = affinity.pod_affinity.as_ref().map(|pods| {
        (
            list(&pods.required_during_scheduling_ignored_during_execution),
            list(&pods.preferred_during_scheduling_ignored_during_execution),
        )
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|pods| {
        (
            list(&pods.required_during_scheduling_ignored_during_execution),
            list(&pods.preferred_during_scheduling_ignored_during_execution),
        )
    });
    let mut terms = [near, far]
        .into_iter()
        .flatten()
        .flat_map(|(required, preferred)| {
            let preferred = preferred.iter().map(|term| &term.pod_affinity_term);
            required.iter().chain(preferred)
        });
    terms.any(|term| {
        let selectors = [&term.label_selector, &term.namespace_selector];
        selectors.into_iter().flatten().any(selectors::is_bad)
    })
}

fn pod_term(term: &PodAffinityTerm, values: Values, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (selector, name) in [
        (&term.label_selector, "labelSelector"),
        (&term.namespace_selector, "namespaceSelector"),
    ] {
        if let Some(selector) = selector {
            errors.extend(selector_of(values, selector, &path.child(name)));
        }
    }
    for namespace in list(&term.namespaces) {
        errors.extend(messages(
            &path.child("namespace"),
            namespace.as_str(),
            names::dns_label(namespace, false),
        ));
    }
    errors.extend(label_keys::validate(
        list(&term.match_label_keys),
        list(&term.mismatch_label_keys),
        term.label_selector.as_ref(),
        path,
    ));
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

/// Whether a toleration compares numbers.
fn compares(toleration: &Toleration) -> bool {
    matches!(text(&toleration.operator), "Gt" | "Lt")
}

/// Whether there are tolerations that compare numbers.
pub(super) fn has_comparisons(spec: &PodSpec) -> bool {
    list(&spec.tolerations).iter().any(compares)
}

/// What is wrong with the value of a toleration that compares it.
fn compared(value: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let invalid = |detail: String| field::invalid(path.child("value"), value, detail);
    if value.is_empty() {
        errors.push(invalid("must be non-empty".to_owned()));
    } else if !is_number || (digits.starts_with('0') && value != "0") {
        let detail = "must be a valid decimal integer in canonical form";
        errors.push(invalid(detail.to_owned()));
    }
    if let Err(error) = value.parse::<i64>() {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let detail = format!("strconv.ParseInt: parsing {value:?}: {why}");
        errors.push(invalid(detail));
    }
    errors
}

/// A list of tolerations. Only where the stored ones do may they compare numbers (`TaintTolerationComparisonOperators`, which
/// is off in 1.37).
pub(crate) fn tolerations(tolerations: &[Toleration], comparing: bool, path: &Path) -> ErrorList {
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
                        value,
                        "value must be empty when `operator` is 'Exists'",
                    ));
                }
            }
            "Gt" | "Lt" if comparing => errors.extend(compared(value, &path)),
            "Gt" | "Lt" => errors.push(field::not_supported(
                path.child("operator"),
                operator,
                &["Equal", "Exists", "Lt", "Gt"],
            )),
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
        let path = path.index(index);
        errors.extend(qualified_name(&gate.name, path.clone()));
        if !seen.insert(gate.name.as_str()) {
            errors.push(field::duplicate(path, gate.name.as_str()));
        }
    }
    errors
}

/// Whether the selector of a spread constraint is none.
pub(super) fn has_bad_spread_selectors(spec: &PodSpec) -> bool {
    let constraints = list(&spec.topology_spread_constraints).iter();
    let mut selectors = constraints.filter_map(|constraint| constraint.label_selector.as_ref());
    selectors.any(selectors::is_bad)
}

/// Whether the selector of a spread constraint has a key of `matchLabelKeys` for another reason than that.
pub(super) fn has_bad_spread_keys(spec: &PodSpec) -> bool {
    let constraints = list(&spec.topology_spread_constraints);
    constraints
        .iter()
        .any(|constraint| !spread_keys(constraint, &Path::default()).is_empty())
}

fn spread_keys(constraint: &TopologySpreadConstraint, path: &Path) -> ErrorList {
    let keys = list(&constraint.match_label_keys);
    label_keys::validate(keys, &[], constraint.label_selector.as_ref(), path)
}

pub(super) fn spreading(
    constraints: &[TopologySpreadConstraint],
    allowed: Allowances,
    path: &Path,
) -> ErrorList {
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
        errors.extend(if allowed.spread_keys {
            label_keys::validate_unmerged(
                list(&constraint.match_label_keys),
                constraint.label_selector.as_ref(),
                &path.child("matchLabelKeys"),
            )
        } else {
            spread_keys(constraint, &path)
        });
        if let Some(selector) = &constraint.label_selector
            && !allowed.spread_selectors
        {
            errors.extend(label_selector(selector, &path.child("labelSelector")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolume;
    use serde_json::json;

    use super::*;
    use crate::kinds::{core::persistent_volume::PersistentVolumeRules, typed::KindRules};

    #[test]
    fn numbers_are_compared_only_where_they_were() {
        let told = |operator: &str, value: &str, comparing| -> Vec<String> {
            let toleration = json!({"key": "k", "operator": operator, "value": value});
            let toleration = serde_json::from_value(toleration).unwrap();
            let errors = tolerations(&[toleration], comparing, &Path::new("t"));
            errors.iter().map(ToString::to_string).collect()
        };
        let known = r#"supported values: "Equal", "Exists""#;
        for (operator, comparing, more) in [
            ("Lt", false, r#", "Lt", "Gt""#),
            ("Odd", false, ""),
            ("Odd", true, ""),
        ] {
            assert_eq!(
                told(operator, "5", comparing),
                [format!(
                    "t[0].operator: Unsupported value: {operator:?}: {known}{more}"
                )]
            );
        }
        let parsing = "strconv.ParseInt: parsing";
        let form = "must be a valid decimal integer in canonical form";
        for (value, wrong) in [
            ("5", vec![]),
            ("-10", vec![]),
            ("0", vec![]),
            (
                "",
                vec![
                    "must be non-empty".to_owned(),
                    format!(r#"{parsing} "": invalid syntax"#),
                ],
            ),
            ("-0", vec![form.to_owned()]),
            ("05", vec![form.to_owned()]),
            ("+5", vec![form.to_owned()]),
            (
                "5x",
                vec![
                    form.to_owned(),
                    format!(r#"{parsing} "5x": invalid syntax"#),
                ],
            ),
            (
                "9223372036854775808",
                vec![format!(
                    r#"{parsing} "9223372036854775808": value out of range"#
                )],
            ),
        ] {
            let wrong = wrong.iter();
            let wrong = wrong.map(|text| format!("t[0].value: Invalid value: {value:?}: {text}"));
            assert_eq!(told("Gt", value, true), wrong.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_volumes_nodes_have_values_of_labels_unless_they_were_stored_so() {
        let volume = |value: &str| -> PersistentVolume {
            serde_json::from_value(json!({
                "metadata": {"name": "a"},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "d", "volumeHandle": "v"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                        [{"key": "a", "operator": "In", "values": [value]}]}]}},
                },
            }))
            .unwrap()
        };
        let (good, bad) = (volume("b"), volume("b c"));
        assert!(PersistentVolumeRules.validate(&good).is_empty());
        let errors = PersistentVolumeRules.validate(&bad);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].to_string().starts_with(
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"b c\": a valid label must be"
            ),
            "{errors:?}"
        );
        assert!(PersistentVolumeRules.validate_update(&bad, &bad).is_empty());
    }
}
