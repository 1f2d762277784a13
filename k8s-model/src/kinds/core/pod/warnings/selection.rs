//! Advice on what a pod says of the nodes that it may run on, and of the pods that it is to be near to.

use k8s_openapi::{
    api::core::v1::{NodeSelectorTerm, PodAffinityTerm, PodSpec, WeightedPodAffinityTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    field::Path,
    kinds::{checks::list, node_labels},
    names,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Advice on labels of nodes that have newer names, on values that no label has, and on selectors that select nothing.
pub(super) fn of_nodes(spec: &PodSpec, path: &Path, out: &mut Vec<String>) {
    for (label, _) in spec.node_selector.iter().flatten() {
        let path = path.child("nodeSelector").key(label);
        out.extend(node_labels::advice(label).map(|advice| format!("{path}: {advice}")));
    }
    let affinity = spec.affinity.as_ref();
    if let Some(affinity) = affinity.and_then(|affinity| affinity.node_affinity.as_ref()) {
        let path = path.child("affinity").child("nodeAffinity");
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        let place = path.child(REQUIRED).child("nodeSelectorTerms");
        let terms = required
            .iter()
            .flat_map(|required| &required.node_selector_terms);
        for (at, term) in terms.enumerate() {
            out.extend(node_labels::term(term, &place.index(at)));
        }
        let place = path.child(PREFERRED);
        let preferred = &affinity.preferred_during_scheduling_ignored_during_execution;
        for (at, term) in list(preferred).iter().enumerate() {
            let path = place.index(at).child("preference");
            preferred_term(&term.preference, &path, out);
        }
    }
    for (at, spread) in list(&spec.topology_spread_constraints).iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(at);
        out.extend(node_labels::named(
            &spread.topology_key,
            &path.child("topologyKey"),
        ));
        out.extend(selects_none(spread.label_selector.as_ref(), || path));
    }
}

/// Required terms with such values are refused; these do no harm but that they never hold.
fn preferred_term(term: &NodeSelectorTerm, path: &Path, out: &mut Vec<String>) {
    for (at, requirement) in list(&term.match_expressions).iter().enumerate() {
        let path = path.child("matchExpressions").index(at);
        out.extend(node_labels::named(&requirement.key, &path.child("key")));
        for (at, value) in list(&requirement.values).iter().enumerate() {
            let wrong = names::label_value(value).into_iter();
            let path = path.child("values").index(at);
            out.extend(wrong.map(|text| format!("{path}: {value} is invalid, {text}")));
        }
    }
}

/// Advice on affinity to pods that are none.
pub(super) fn of_pods(spec: &PodSpec, path: &Path, out: &mut Vec<String>) {
    let Some(affinity) = &spec.affinity else {
        return;
    };
    let path = path.child("affinity");
    if let Some(affinity) = &affinity.pod_affinity {
        let required = list(&affinity.required_during_scheduling_ignored_during_execution);
        let preferred = list(&affinity.preferred_during_scheduling_ignored_during_execution);
        near_none(required, preferred, &path.child("podAffinity"), out);
    }
    if let Some(affinity) = &affinity.pod_anti_affinity {
        let required = list(&affinity.required_during_scheduling_ignored_during_execution);
        let preferred = list(&affinity.preferred_during_scheduling_ignored_during_execution);
        near_none(required, preferred, &path.child("podAntiAffinity"), out);
    }
}

fn near_none(
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    path: &Path,
    out: &mut Vec<String>,
) {
    for (at, term) in required.iter().enumerate() {
        let place = || path.child(REQUIRED).index(at);
        out.extend(selects_none(term.label_selector.as_ref(), place));
    }
    for (at, term) in preferred.iter().enumerate() {
        let place = || path.child(PREFERRED).index(at).child("podAffinityTerm");
        out.extend(selects_none(
            term.pod_affinity_term.label_selector.as_ref(),
            place,
        ));
    }
}

fn selects_none(selector: Option<&LabelSelector>, path: impl FnOnce() -> Path) -> Option<String> {
    match selector {
        Some(_) => None,
        None => Some(format!(
            "{}: a null labelSelector results in matching no pod",
            path().child("labelSelector")
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::told;

    #[test]
    fn selectors_that_select_nothing_are_told() {
        let term = |selector: Value| json!({"topologyKey": "a", "labelSelector": selector});
        let preferred = |selector: Value| json!([{"weight": 1, "podAffinityTerm": term(selector)}]);
        let spec = |selector: Value| {
            let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term(selector.clone())],
                "preferredDuringSchedulingIgnoredDuringExecution": preferred(selector.clone())});
            json!({"affinity": {"podAffinity": affinity, "podAntiAffinity": affinity},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": selector}]})
        };
        assert_eq!(told(spec(json!({})), Value::Null), [""; 0]);
        let at = "t.spec.affinity";
        let places = [
            "t.spec.topologySpreadConstraints[0]".to_owned(),
            format!("{at}.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"),
            format!(
                "{at}.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm"
            ),
            format!("{at}.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"),
            format!(
                "{at}.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm"
            ),
        ];
        let expected = places.map(|at| {
            format!("{at}.labelSelector: a null labelSelector results in matching no pod")
        });
        assert_eq!(told(spec(Value::Null), Value::Null), expected);
    }

    #[test]
    fn values_that_no_label_has_are_told_of_what_is_preferred() {
        let preference =
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c d"]}]});
        let spec = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": preference}]}}});
        let found = told(spec, Value::Null);
        let begins = "t.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference\
            .matchExpressions[0].values[1]: c d is invalid, a valid label must";
        assert!(
            found.len() == 1 && found[0].starts_with(begins),
            "{found:?}"
        );
    }
}
