//! Labels of nodes that have newer names: advice for those who still select by them.

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

/// The newer name of a label, if it has one.
pub(crate) fn newer(label: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(old, ..)| *old == label);
    found.map(|(.., new)| *new)
}

/// What is said of a label, if it has a newer name.
pub(crate) fn advice(label: &str) -> Option<String> {
    let found = RENAMED.iter().find(|(old, ..)| *old == label);
    found.map(|(_, since, new)| format!("deprecated since {since}; use \"{new}\" instead"))
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
