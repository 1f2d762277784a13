//! What a namespace is told when it is to enforce more: which of its pods would be refused.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::Pod;

use super::{
    checks::{self, Subject},
    policy::LevelVersion,
};

/// How many pods are looked at.
const LIMIT: usize = 3000;

/// The pods that tell most first: one of each controller, then the others of theirs.
fn prioritized(pods: Vec<Pod>) -> Vec<Pod> {
    let mut seen = HashSet::new();
    let (mut first, others): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(|pod| {
        let owners = pod.metadata.owner_references.iter().flatten();
        let mut controllers = owners.filter(|owner| owner.controller == Some(true));
        controllers
            .next()
            .is_none_or(|owner| seen.insert(owner.uid.clone()))
    });
    first.extend(others);
    first
}

/// The warnings, in upstream's order and words.
pub(super) fn warnings(namespace: &str, enforce: LevelVersion, pods: Vec<Pod>) -> Vec<String> {
    let total = pods.len();
    // By what is violated: the first pod by name, and how many there are.
    let mut violations: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in prioritized(pods).iter().take(LIMIT) {
        let Some(spec) = &pod.spec else { continue };
        let findings = checks::run(
            enforce,
            &Subject {
                annotations: pod.metadata.annotations.as_ref(),
                spec,
            },
        );
        if findings.is_empty() {
            continue;
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (first, count) = violations
            .entry(checks::reasons(&findings))
            .or_insert_with(|| (name.clone(), 0));
        if name < *first {
            *first = name;
        }
        *count += 1;
    }
    let mut out = Vec::new();
    if total > LIMIT {
        out.push(format!(
            "new PodSecurity enforce level only checked against the first {LIMIT} of {total} existing pods"
        ));
    }
    if !violations.is_empty() {
        out.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = violations
        .into_iter()
        .map(|(reasons, (first, count))| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            count => format!("{first} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    out.extend(lines);
    out
}
