//! Node selectors: terms of requirements on labels and fields.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::snapshot::NodeInfo;

/// Whether a node satisfies one of the terms of a selector.
pub(crate) fn matches_any(selector: &NodeSelector, node: &NodeInfo) -> bool {
    let mut terms = selector.node_selector_terms.iter();
    terms.any(|term| matches(term, node))
}

/// Whether a node satisfies every requirement of a term. An empty term matches nothing.
pub(super) fn matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| satisfies(r, node.label(&r.key)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && satisfies(r, Some(node.name())))
}

fn satisfies(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    match (requirement.operator.as_str(), value) {
        ("In", Some(value)) => values.iter().any(|v| v == value),
        ("NotIn", value) => value.is_none_or(|value| !values.iter().any(|v| v == value)),
        ("Exists", value) => value.is_some(),
        ("DoesNotExist", value) => value.is_none(),
        ("Gt" | "Lt", Some(value)) => {
            let [bound] = values else { return false };
            match (number(value), number(bound)) {
                (Some(value), Some(bound)) if requirement.operator == "Gt" => value > bound,
                (Some(value), Some(bound)) => value < bound,
                _ => false,
            }
        }
        _ => false,
    }
}
