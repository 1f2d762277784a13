//! What a pod says of other pods: affinity terms and spread constraints, parsed.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use k8s_model::labels::{Operator, Requirement, Selector, SelectorError};
use k8s_openapi::api::core::v1::{PodAffinityTerm, TopologySpreadConstraint};

use super::{Interned, NodeShape};

/// Which pods, seen over which topology: one term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinityTerm {
    /// Pods in these namespaces…
    pub namespaces: BTreeSet<String>,
    /// …and in those with such labels…
    pub namespace_selector: Selector,
    /// …that have such labels.
    pub selector: Selector,
    /// The node label whose values are the domains.
    pub topology_key: Arc<str>,
}

impl AffinityTerm {
    /// Parses a term of a pod in `namespace` with these labels. `matchLabelKeys` and
    /// `mismatchLabelKeys` become requirements (KEP-3633).
    pub(super) fn parse(
        term: &PodAffinityTerm,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, SelectorError> {
        let mut selector = Selector::try_from(term.label_selector.as_ref())?;
        if term.label_selector.is_some() {
            let same = term.match_label_keys.iter().flatten();
            let other = term.mismatch_label_keys.iter().flatten();
            let keys = same
                .map(|k| (k, Operator::In))
                .chain(other.map(|k| (k, Operator::NotIn)));
            selector = with_own_labels(selector, keys, labels)?;
        }
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Ok(Self {
            namespaces,
            namespace_selector: Selector::try_from(term.namespace_selector.as_ref())?,
            selector,
            topology_key: term.topology_key.as_str().into(),
        })
    }

    /// Whether it speaks of pods with these labels, in a namespace with those.
    pub fn matches(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        namespace_labels: &BTreeMap<String, String>,
    ) -> bool {
        (self.namespaces.contains(namespace) || self.namespace_selector.matches(namespace_labels))
            && self.selector.matches(labels)
    }
}

/// Adds requirements on the values that a pod itself has.
fn with_own_labels<'a>(
    selector: Selector,
    keys: impl Iterator<Item = (&'a String, Operator)>,
    labels: &BTreeMap<String, String>,
) -> Result<Selector, SelectorError> {
    let mut requirements = selector.requirements().to_vec();
    let before = requirements.len();
    for (key, operator) in keys {
        if let Some(value) = labels.get(key) {
            let requirement = Requirement::try_new(key, operator, vec![value.clone()])?;
            if !requirements.contains(&requirement) {
                requirements.push(requirement);
            }
        }
    }
    Ok(if selector.is_nothing() || requirements.len() == before {
        selector
    } else {
        Selector::new(requirements)
    })
}

fn hash_selector<H: Hasher>(selector: &Selector, state: &mut H) {
    for requirement in selector.requirements() {
        requirement.key().hash(state);
        requirement.values().hash(state);
    }
}

impl Hash for AffinityTerm {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.topology_key.hash(state);
        self.namespaces.hash(state);
        hash_selector(&self.selector, state);
    }
}

/// One topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadConstraint {
    /// The node label whose values are the domains.
    pub topology_key: Arc<str>,
    /// How much fuller than the emptiest a domain may be; at least 1.
    pub max_skew: i64,
    /// With fewer domains than this, the emptiest counts as empty.
    pub min_domains: usize,
    /// The pods that are counted.
    pub selector: Selector,
    /// Whether nodes that the pod's node affinity rules out are left aside.
    pub honors_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate are left aside.
    pub honors_taints: bool,
    /// Whether it must hold (`DoNotSchedule`).
    pub is_hard: bool,
}

impl SpreadConstraint {
    pub(super) fn parse(
        constraint: &TopologySpreadConstraint,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, SelectorError> {
        let selector = Selector::try_from(constraint.label_selector.as_ref())?;
        let keys = constraint.match_label_keys.iter().flatten();
        let selector = with_own_labels(selector, keys.map(|k| (k, Operator::In)), labels)?;
        Ok(Self {
            topology_key: constraint.topology_key.as_str().into(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            selector,
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            is_hard: constraint.when_unsatisfiable != "ScheduleAnyway",
        })
    }
}

impl TryFrom<&TopologySpreadConstraint> for SpreadConstraint {
    type Error = SelectorError;

    /// A constraint of nobody's, without `matchLabelKeys`.
    fn try_from(constraint: &TopologySpreadConstraint) -> Result<Self, SelectorError> {
        Self::parse(constraint, &BTreeMap::new())
    }
}

impl Hash for SpreadConstraint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.topology_key.hash(state);
        self.is_hard.hash(state);
        hash_selector(&self.selector, state);
    }
}

/// The spread constraints of one kind that hold for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// The constraints, all hard or all soft.
    pub constraints: Vec<SpreadConstraint>,
    /// Whether only nodes count that have all the keys.
    pub requires_all_keys: bool,
    /// The pods' namespace.
    pub namespace: String,
    /// Decides which nodes count, where policies say so.
    pub node: Interned<NodeShape>,
}
