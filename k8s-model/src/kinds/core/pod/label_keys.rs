//! Selectors of pods that are to have the same labels as the pod itself, or others (`matchLabelKeys` and
//! `mismatchLabelKeys`): a new pod's own values are put into them, and then stay as they are.
//!
//! See KEP-3633 and KEP-3243.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Pod, PodAffinityTerm, PodSpec, TopologySpreadConstraint, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, qualified_name},
};

/// A selector with the keys that it gets more of: those whose values are to be the same, and those where they are to
/// be others.
struct Keyed<'p> {
    selector: &'p mut LabelSelector,
    same: &'p [String],
    other: &'p [String],
}

impl<'p> Keyed<'p> {
    fn of_term(term: &'p mut PodAffinityTerm) -> Option<Self> {
        Some(Keyed {
            selector: term.label_selector.as_mut()?,
            same: list(&term.match_label_keys),
            other: list(&term.mismatch_label_keys),
        })
    }

    fn of_constraint(constraint: &'p mut TopologySpreadConstraint) -> Option<Self> {
        Some(Keyed {
            selector: constraint.label_selector.as_mut()?,
            same: list(&constraint.match_label_keys),
            other: &[],
        })
    }

    /// What the pod's labels add to the selector.
    fn additions(&self, labels: &BTreeMap<String, String>) -> Vec<LabelSelectorRequirement> {
        let of = |keys: &[String], operator: &str| {
            keys.iter()
                .filter_map(|key| {
                    Some(LabelSelectorRequirement {
                        key: key.clone(),
                        operator: operator.to_owned(),
                        values: Some(vec![labels.get(key)?.clone()]),
                    })
                })
                .collect::<Vec<_>>()
        };
        let mut all = of(self.same, "In");
        all.extend(of(self.other, "NotIn"));
        all
    }
}

fn terms<'p>(
    preferred: &'p mut Option<Vec<WeightedPodAffinityTerm>>,
    required: &'p mut Option<Vec<PodAffinityTerm>>,
) -> impl Iterator<Item = &'p mut PodAffinityTerm> {
    let preferred = preferred.iter_mut().flatten();
    let preferred = preferred.map(|term| &mut term.pod_affinity_term);
    preferred.chain(required.iter_mut().flatten())
}

/// The selectors of a pod's affinities and spread constraints, where there are any.
fn keyed(spec: &mut PodSpec) -> impl Iterator<Item = Keyed<'_>> {
    let affinity = spec.affinity.as_mut();
    let (with, without) = affinity.map_or((None, None), |affinity| {
        (
            affinity.pod_affinity.as_mut(),
            affinity.pod_anti_affinity.as_mut(),
        )
    });
    let with = with.into_iter().flat_map(|pods| {
        terms(
            &mut pods.preferred_during_scheduling_ignored_during_execution,
            &mut pods.required_during_scheduling_ignored_during_execution,
        )
    });
    let without = without.into_iter().flat_map(|pods| {
        terms(
            &mut pods.preferred_during_scheduling_ignored_during_execution,
            &mut pods.required_during_scheduling_ignored_during_execution,
        )
    });
    let spread = spec.topology_spread_constraints.iter_mut().flatten();
    with.chain(without)
        .filter_map(Keyed::of_term)
        .chain(spread.filter_map(Keyed::of_constraint))
}

/// Puts the pod's own values of the keys into its selectors. `again` is for a pod that may have been here before: what
/// has just been put in is not put in twice.
pub(super) fn merge(pod: &mut Pod, again: bool) {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let Some(spec) = &mut pod.spec else { return };
    for keyed in keyed(spec) {
        let added = keyed.additions(labels);
        if added.is_empty() {
            continue;
        }
        let there = keyed
            .selector
            .match_expressions
            .get_or_insert_with(Vec::new);
        if !(again && there.ends_with(&added)) {
            there.extend(added);
        }
    }
}

/// The keys of a selector, into which the values of a new pod have already been put. What is there twice for a key of
/// `same` has been said by the pod's author too, and could select nothing more.
pub(super) fn validate(
    same: &[String],
    other: &[String],
    selector: Option<&LabelSelector>,
    path: &Path,
) -> ErrorList {
    let mut errors = label_names(same, selector, &path.child("matchLabelKeys"));
    errors.extend(label_names(
        other,
        selector,
        &path.child("mismatchLabelKeys"),
    ));
    if let Some(selector) = selector {
        let labels = selector.match_labels.iter().flatten();
        let mut seen: BTreeSet<&str> = labels.map(|(key, _)| key.as_str()).collect();
        for requirement in list(&selector.match_expressions) {
            let key = requirement.key.as_str();
            let at = same.iter().rposition(|same| same == key);
            if let (Some(at), false) = (at, seen.insert(key)) {
                errors.push(field::invalid(path.index(at), key, IN_BOTH));
            }
        }
    }
    for (index, key) in same.iter().enumerate() {
        if other.contains(key) {
            errors.push(field::invalid(
                path.child("matchLabelKeys").index(index),
                key.as_str(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            ));
        }
    }
    errors
}

const IN_BOTH: &str = "exists in both matchLabelKeys and labelSelector";
const NO_SELECTOR: &str = "must not be specified when labelSelector is not set";

fn label_names(keys: &[String], selector: Option<&LabelSelector>, path: &Path) -> ErrorList {
    if keys.is_empty() {
        return ErrorList::new();
    }
    if selector.is_none() {
        return vec![field::forbidden(path.clone(), NO_SELECTOR)];
    }
    keys.iter()
        .enumerate()
        .flat_map(|(index, key)| qualified_name(key, path.index(index)))
        .collect()
}

/// The keys of a spread constraint of a pod from before values were put into its selector: none stands in both.
pub(super) fn validate_unmerged(
    keys: &[String],
    selector: Option<&LabelSelector>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if !keys.is_empty() && selector.is_none() {
        errors.push(field::forbidden(path.clone(), NO_SELECTOR));
    }
    for (index, key) in keys.iter().enumerate() {
        let path = path.index(index);
        errors.extend(qualified_name(key, path.clone()));
        if selector.is_some_and(|selector| names_key(selector, key)) {
            errors.push(field::invalid(path, key.as_str(), IN_BOTH));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn a_new_pods_values_are_put_into_its_selectors() {
        let term = json!({"topologyKey": "t", "labelSelector": {"matchLabels": {"x": "y"}},
            "matchLabelKeys": ["a", "none"], "mismatchLabelKeys": ["b"]});
        let weighted = json!({"weight": 1, "podAffinityTerm": term});
        let pods = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": [term],
            "preferredDuringSchedulingIgnoredDuringExecution": [weighted],
        });
        let spread = json!({"maxSkew": 1, "topologyKey": "t", "whenUnsatisfiable": "DoNotSchedule",
            "matchLabelKeys": ["a"], "labelSelector": {}});
        let alone = json!({"maxSkew": 1, "topologyKey": "t", "whenUnsatisfiable": "ScheduleAnyway",
            "matchLabelKeys": ["a"]});
        let mut pod = pod(json!({"containers": [],
            "affinity": {"podAffinity": pods, "podAntiAffinity": pods},
            "topologySpreadConstraints": [spread, alone]}));
        merge(&mut pod, false);
        let spec = serde_json::to_value(&pod.spec).unwrap();
        let same = json!({"key": "a", "operator": "In", "values": ["1"]});
        let other = json!({"key": "b", "operator": "NotIn", "values": ["2"]});
        for pods in ["podAffinity", "podAntiAffinity"] {
            let pods = &spec["affinity"][pods];
            let required = &pods["requiredDuringSchedulingIgnoredDuringExecution"][0];
            let preferred = &pods["preferredDuringSchedulingIgnoredDuringExecution"][0];
            for term in [required, &preferred["podAffinityTerm"]] {
                assert_eq!(
                    term["labelSelector"]["matchExpressions"],
                    json!([same, other])
                );
            }
        }
        let spread = &spec["topologySpreadConstraints"];
        assert_eq!(
            spread[0]["labelSelector"],
            json!({"matchExpressions": [same]})
        );
        assert_eq!(spread[1]["labelSelector"], Value::Null);
        let once = pod.clone();
        merge(&mut pod, true);
        assert_eq!(pod, once);
    }

    #[test]
    fn keys_are_labels_and_not_in_the_selector_already() {
        let found = |same: &[&str], other: &[&str], selector: Value| {
            let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
            let selector: Option<LabelSelector> = serde_json::from_value(selector).unwrap();
            validate(
                &keys(same),
                &keys(other),
                selector.as_ref(),
                &Path::new("t"),
            )
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
        };
        let merged = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]});
        assert_eq!(found(&["a"], &["b"], merged.clone()), [""; 0]);
        assert_eq!(found(&[], &["a"], merged.clone()), [""; 0]);
        let mut twice = merged.clone();
        twice["matchLabels"] = json!({"a": "1"});
        for (same, other, selector, expected) in [
            (
                ["a"].as_slice(),
                [].as_slice(),
                Value::Null,
                "t.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ),
            (
                &[],
                &["a"],
                Value::Null,
                "t.mismatchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ),
            (
                &["z", "a"],
                &[],
                twice,
                "t[1]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector",
            ),
            (
                &["a"],
                &["a"],
                merged,
                "t.matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys",
            ),
        ] {
            assert_eq!(found(same, other, selector), [expected]);
        }
        let errors = found(&["a b"], &[], json!({}));
        assert!(
            errors[0].starts_with("t.matchLabelKeys[0]: Invalid value: \"a b\": name part must"),
            "{errors:?}"
        );
    }
}
