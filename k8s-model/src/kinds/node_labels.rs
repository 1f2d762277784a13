//! Labels of nodes that are out of use: advice for those who still select by them.

use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{field::Path, kinds::checks::list};

/// A label, since when it is out of use, and its newer name.
const RENAMED: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
];

/// Labels that have no newer name that means the same, and what is said of them.
const OTHERS: [(&str, &str); 3] = [
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

/// The newer name of a label, if it has one: what selects by either selects the same nodes.
pub(crate) fn newer(label: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(old, ..)| *old == label);
    found.map(|(.., new)| *new)
}

/// What is said of a label, if it is out of use.
pub(crate) fn advice(label: &str) -> Option<String> {
    let renamed = RENAMED.iter().find(|(old, ..)| *old == label);
    let renamed =
        renamed.map(|(_, since, new)| format!("deprecated since {since}; use \"{new}\" instead"));
    let other = || OTHERS.iter().find(|(old, _)| *old == label);
    renamed.or_else(|| other().map(|(_, told)| (*told).to_owned()))
}

/// Advice on a label at a place that does not name it.
pub(crate) fn named(label: &str, path: &Path) -> Option<String> {
    advice(label).map(|advice| format!("{path}: {label} is {advice}"))
}

/// Advice on the expressions of a term.
pub(crate) fn term(term: &NodeSelectorTerm, path: &Path) -> Vec<String> {
    let expressions = list(&term.match_expressions).iter();
    let keys = expressions.map(|NodeSelectorRequirement { key, .. }| key);
    keyed(keys, &path.child("matchExpressions"))
}

/// Advice on a selector.
pub(crate) fn selector(selector: &LabelSelector, path: &Path) -> Vec<String> {
    let expressions = list(&selector.match_expressions).iter();
    let mut out = keyed(
        expressions.map(|expression| &expression.key),
        &path.child("matchExpressions"),
    );
    let labels = selector.match_labels.iter().flatten();
    out.extend(labels.filter_map(|(label, _)| {
        let path = path.child("matchLabels").child(label.as_str());
        advice(label).map(|advice| format!("{path}: {advice}"))
    }));
    out
}

fn keyed<'a>(keys: impl Iterator<Item = &'a String>, path: &Path) -> Vec<String> {
    keys.enumerate()
        .filter_map(|(at, key)| named(key, &path.index(at).child("key")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_out_of_use_are_advised_against() {
        for (label, told, new) in [
            ("kubernetes.io/arch", None, None),
            (
                "beta.kubernetes.io/arch",
                Some("deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
                Some("kubernetes.io/arch"),
            ),
            (
                "app.kubernetes.io/created-by",
                Some("deprecated since v1.9"),
                None,
            ),
            (
                "scheduler.alpha.kubernetes.io/preferAvoidPods",
                Some("deprecated since v1.22; use Taints and Tolerations instead"),
                None,
            ),
            (
                "node-role.kubernetes.io/master",
                Some("use \"node-role.kubernetes.io/control-plane\" instead"),
                None,
            ),
        ] {
            assert_eq!(advice(label).as_deref(), told, "{label}");
            assert_eq!(newer(label), new, "{label}");
        }
    }
}
