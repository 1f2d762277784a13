//! What the conditions of a namespace in deletion say: the pure core.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NamespaceCondition, NamespaceStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// What one pass over a namespace found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Groups that could not be discovered.
    pub(crate) undiscovered: Vec<String>,
    /// Requests that failed.
    pub(crate) failures: Vec<String>,
    /// How many objects of each resource are left.
    pub(crate) remaining: BTreeMap<String, usize>,
    /// How many objects each finalizer holds.
    pub(crate) finalizers: BTreeMap<String, usize>,
}

/// Every condition that the controller keeps, with its reason and message when all is well.
const FINE: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

/// Brings a status' conditions up to date. Says whether that changed anything.
pub(crate) fn update(status: &mut NamespaceStatus, findings: &Findings, now: &Time) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for (kind, reason, message) in FINE {
        let trouble = trouble(kind, findings);
        let (state, reason, message) = match &trouble {
            Some((reason, message)) => ("True", *reason, message.as_str()),
            None => ("False", reason, message),
        };
        let current = conditions
            .iter_mut()
            .find(|condition| condition.type_ == kind);
        if let Some(current) = current {
            if current.status == state
                && current.reason.as_deref() == Some(reason)
                && current.message.as_deref() == Some(message)
            {
                continue;
            }
            if current.status != state {
                current.last_transition_time = Some(now.clone());
            }
            current.status = state.to_owned();
            current.reason = Some(reason.to_owned());
            current.message = Some(message.to_owned());
        } else {
            conditions.push(NamespaceCondition {
                type_: kind.to_owned(),
                status: state.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(now.clone()),
            });
        }
        changed = true;
    }
    changed
}

fn trouble(kind: &str, findings: &Findings) -> Option<(&'static str, String)> {
    let counted = |counts: &BTreeMap<String, usize>, link: &str| {
        let mut texts: Vec<_> = counts
            .iter()
            .map(|(what, count)| format!("{what} {link} {count} resource instances"))
            .collect();
        texts.sort();
        texts.join(", ")
    };
    match kind {
        "NamespaceDeletionDiscoveryFailure" if !findings.undiscovered.is_empty() => {
            let mut groups = findings.undiscovered.clone();
            groups.sort();
            let message = format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                groups.len(),
                groups.join(", ")
            );
            Some(("DiscoveryFailed", message))
        }
        "NamespaceDeletionContentFailure" if !findings.failures.is_empty() => {
            let mut failures = findings.failures.clone();
            failures.sort();
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                failures.len(),
                failures.join(", ")
            );
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" if !findings.remaining.is_empty() => {
            let message = format!(
                "Some resources are remaining: {}",
                counted(&findings.remaining, "has")
            );
            Some(("SomeResourcesRemain", message))
        }
        "NamespaceFinalizersRemaining" if !findings.finalizers.is_empty() => {
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                counted(&findings.finalizers, "in")
            );
            Some(("SomeFinalizersRemain", message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::fixture::time;

    #[test]
    fn conditions_tell_what_is_left_and_change_only_when_that_does() {
        let mut status = NamespaceStatus::default();
        let (first, later) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T00:01:00Z"));
        let mut findings = Findings::default();
        findings.remaining.insert("pods.".to_owned(), 2);
        findings.finalizers.insert("example.com/f".to_owned(), 1);
        assert!(update(&mut status, &findings, &first));
        assert!(!update(&mut status, &findings, &later));
        let conditions = status.conditions.as_ref().unwrap();
        assert_eq!(conditions.len(), 5);
        assert_eq!(
            conditions[3].message.as_deref(),
            Some("Some resources are remaining: pods. has 2 resource instances")
        );
        assert_eq!(
            conditions[4].message.as_deref(),
            Some(
                "Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances"
            )
        );
        assert!(update(&mut status, &Findings::default(), &later));
        let remaining = &status.conditions.as_ref().unwrap()[3];
        assert_eq!(
            (remaining.status.as_str(), &remaining.last_transition_time),
            ("False", &Some(later))
        );
    }
}
