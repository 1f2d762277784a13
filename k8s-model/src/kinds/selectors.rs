//! Label selectors: their syntax, and what of it a stored object may go on having.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, messages, qualified_name},
    metadata, names,
};

/// What values a requirement on labels may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Those that a label can have.
    Labels,
    /// Others too: they were not always looked at, and the stored object has some.
    Any,
}

impl Values {
    /// Values of labels, unless there may be `any`.
    pub(crate) fn labels_unless(any: bool) -> Self {
        if any { Values::Any } else { Values::Labels }
    }
}

/// A label selector's syntax.
pub(crate) fn label_selector(selector: &LabelSelector, path: &Path) -> ErrorList {
    selector_of(Values::Labels, selector, path)
}

/// The syntax of a label selector whose expressions have such values.
pub(crate) fn selector_of(allowed: Values, selector: &LabelSelector, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(map) = &selector.match_labels {
        errors.extend(metadata::validate_labels(map, &path.child("matchLabels")));
    }
    for (index, requirement) in list(&selector.match_expressions).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = list(&requirement.values);
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.push(field::required(
                path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    errors.push(field::forbidden(
                        path.child("values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    ));
                }
            }
            other => errors.push(field::invalid(
                path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        errors.extend(key_and_values(allowed, &requirement.key, values, &path));
    }
    errors
}

/// The syntax of a requirement's key, and of its values.
pub(crate) fn key_and_values(
    allowed: Values,
    key: &str,
    values: &[String],
    path: &Path,
) -> ErrorList {
    let mut errors = qualified_name(key, path.child("key"));
    if allowed == Values::Labels {
        let path = path.child("values");
        for (index, value) in values.iter().enumerate() {
            let texts = names::label_value(value);
            errors.extend(messages(&path.index(index), value.as_str(), texts));
        }
    }
    errors
}

/// Whether there is anything wrong with a selector. In most kinds, an update of an object with such a one may have any values.
pub(crate) fn is_bad(selector: &LabelSelector) -> bool {
    !label_selector(selector, &Path::default()).is_empty()
}

/// Whether the expressions of a selector have values that no label can have.
pub(crate) fn has_bad_values(selector: &LabelSelector) -> bool {
    let expressions = list(&selector.match_expressions).iter();
    let mut values = expressions.flat_map(|expression| list(&expression.values));
    values.any(|value| !names::label_value(value).is_empty())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::ClusterRole;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use crate::kinds::{
        apps::{
            daemon_set::DaemonSetRules, deployment::DeploymentRules, stateful_set::StatefulSetRules,
        },
        batch::job::JobRules,
        core::{persistent_volume_claim::PersistentVolumeClaimRules, pod::PodRules},
        networking::network_policy::NetworkPolicyRules,
        policy::PodDisruptionBudgetRules,
        rbac::role::ClusterRoleRules,
        storage::csi::CsiStorageCapacityRules,
        typed::KindRules,
    };

    const BAD: &str = "b c";

    fn selector(value: &str) -> Value {
        json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": [value]}]})
    }

    /// The fields of an update of which something is said that is about a value, by what there was.
    fn told<R>(rules: &R, new: Value, old: Value) -> Vec<String>
    where
        R: KindRules<Kind: DeserializeOwned>,
    {
        let [mut new, mut old] =
            [new, old].map(|value| serde_json::from_value::<R::Kind>(value).unwrap());
        rules.default(&mut new);
        rules.default(&mut old);
        let errors = rules.validate_update(&new, &old);
        let of_values = errors
            .iter()
            .filter(|error| error.detail.starts_with("a valid label"));
        of_values.map(|error| error.field.to_string()).collect()
    }

    /// That bad values are found in new objects, and overlooked in those that had some at one of the places.
    fn check<R>(rules: R, object: impl Fn(&[&str]) -> Value, places: usize)
    where
        R: KindRules<Kind: DeserializeOwned>,
    {
        let good = object(&vec!["b"; places]);
        let bad = object(&vec![BAD; places]);
        assert_eq!(told(&rules, good.clone(), good.clone()), [""; 0]);
        let found = told(&rules, bad.clone(), good);
        assert!(found.len() >= places, "{found:?}");
        for place in 0..places {
            let mut values = vec!["b"; places];
            values[place] = BAD;
            let found = told(&rules, bad.clone(), object(&values));
            assert_eq!(found, [""; 0], "{place}");
        }
    }

    fn template(affinity: Value) -> Value {
        json!({"metadata": {"labels": {"a": "x"}}, "spec": {
            "containers": [{"name": "c", "image": "i"}], "affinity": affinity}})
    }

    fn affinity(value: &str) -> Value {
        let term = json!({"topologyKey": "t", "labelSelector": selector(value)});
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "podAffinityTerm": term}]}})
    }

    #[test]
    fn stored_values_that_no_label_can_have_are_overlooked() {
        check(
            PersistentVolumeClaimRules,
            |values| json!({"metadata": {}, "spec": {"selector": selector(values[0])}}),
            1,
        );
        check(
            PodDisruptionBudgetRules,
            |values| json!({"metadata": {}, "spec": {"selector": selector(values[0])}}),
            1,
        );
        check(
            CsiStorageCapacityRules,
            |values| json!({"metadata": {}, "storageClassName": "s", "nodeTopology": selector(values[0])}),
            1,
        );
        check(
            ClusterRoleRules,
            |values| json!({"metadata": {}, "aggregationRule": {"clusterRoleSelectors": [selector(values[0])]}}),
            1,
        );
        let selected = |values: &[&str]| {
            json!({"metadata": {"uid": "u", "name": "j"}, "spec": {"manualSelector": true,
                "selector": selector(values[0]), "template": template(affinity(values[1]))}})
        };
        check(JobRules, selected, 2);
        check(DaemonSetRules, selected, 2);
    }

    #[test]
    fn a_policys_own_selector_says_for_all() {
        let policy = |own: &str, peer: &str| {
            json!({"metadata": {}, "spec": {"podSelector": selector(own),
                "ingress": [{"from": [{"podSelector": selector(peer)}]}]}})
        };
        let found = |new, old| told(&NetworkPolicyRules, new, old);
        assert_eq!(found(policy(BAD, BAD), policy("b", BAD)).len(), 2);
        assert_eq!(found(policy(BAD, BAD), policy(BAD, "b")), [""; 0]);
    }

    #[test]
    fn a_cluster_role_selects_by_what_can_be_read_all_the_same() {
        let role = |value: &str| -> ClusterRole {
            let rule = json!({"clusterRoleSelectors": [selector(value)]});
            serde_json::from_value(json!({"metadata": {}, "aggregationRule": rule})).unwrap()
        };
        let errors = ClusterRoleRules.validate_update(&role(BAD), &role(BAD));
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector."
            ]
        );
    }

    #[test]
    fn pods_keep_the_values_of_their_affinity() {
        let pod = |values: &[&str]| {
            let mut pod = template(affinity(values[0]));
            pod["metadata"]["name"] = json!("p");
            pod
        };
        check(PodRules, pod, 1);
    }

    #[test]
    fn the_selectors_of_those_who_count_pods_are_never_bad() {
        let object = |value: &str| {
            json!({"metadata": {}, "spec": {"serviceName": "s", "selector": selector(value),
                "template": template(affinity("b"))}})
        };
        assert_eq!(
            told(&DeploymentRules, object(BAD), object(BAD)),
            ["spec.selector.matchExpressions[0].values[0]"]
        );
        assert_eq!(
            told(&StatefulSetRules, object(BAD), object(BAD)),
            ["spec.selector.matchExpressions[0].values[0]"]
        );
    }
}
