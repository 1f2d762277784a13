//! Labels of nodes that have newer names: advice for those who still select by them.

use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{field::Path, kinds::checks::list};

/// What is said of a label, if it has a newer name.
pub(crate) fn advice(label: &str) -> Option<&'static str> {
    Some(match label {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        _ => return None,
    })
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
