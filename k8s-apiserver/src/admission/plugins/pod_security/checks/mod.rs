//! The checks of the Pod Security Standards, by level and version.
//!
//! See <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

mod baseline;
mod containers;
mod restricted;
mod seccomp;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodSpec;

use super::policy::{Level, LevelVersion};

/// What checks look at: a pod, or what a workload makes pods from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) annotations: Option<&'a BTreeMap<String, String>>,
    pub(super) spec: &'a PodSpec,
}

impl Subject<'_> {
    fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn is_for_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }

    /// Whether its users are none of the node's: root within is nobody without.
    fn has_own_users(&self) -> bool {
        self.spec.host_users == Some(false)
    }
}

/// What a check forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// The check for pods that share their users with the node.
fn unless_own_users(subject: &Subject<'_>, check: CheckFn) -> Option<Finding> {
    if subject.has_own_users() {
        None
    } else {
        check(subject)
    }
}

fn finding(reason: &str, detail: String) -> Option<Finding> {
    Some(Finding {
        reason: reason.to_owned(),
        detail,
    })
}

type CheckFn = fn(&Subject<'_>) -> Option<Finding>;

/// A check.
struct Check {
    id: &'static str,
    /// From which minor versions on, and how.
    versions: &'static [(u32, CheckFn)],
    /// The check of the lower level that it takes the place of.
    replaces: &'static str,
}

/// How it is checked in a version.
fn in_version(check: &Check, minor: Option<u32>) -> Option<CheckFn> {
    check
        .versions
        .iter()
        .rev()
        .find(|(since, _)| minor.is_none_or(|minor| minor >= *since))
        .map(|(_, run)| *run)
}

/// Runs the checks of a level, those of the lower level first, each in the order of their names.
pub(super) fn run(policy: LevelVersion, subject: &Subject<'_>) -> Vec<Finding> {
    let stricter = match policy.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[][..],
        Level::Restricted => restricted::CHECKS,
    };
    let stricter: Vec<(&Check, CheckFn)> = stricter
        .iter()
        .filter_map(|check| Some((check, in_version(check, policy.minor)?)))
        .collect();
    baseline::CHECKS
        .iter()
        .filter(|check| stricter.iter().all(|(other, _)| other.replaces != check.id))
        .filter_map(|check| in_version(check, policy.minor))
        .chain(stricter.iter().map(|(_, run)| *run))
        .filter_map(|run| run(subject))
        .collect()
}

/// The findings with their details, as in `host namespaces (hostPID=true), privileged (…)`.
pub(super) fn describe(findings: &[Finding]) -> String {
    let parts: Vec<String> = findings
        .iter()
        .map(|finding| match finding.detail.as_str() {
            "" => finding.reason.clone(),
            detail => format!("{} ({detail})", finding.reason),
        })
        .collect();
    parts.join(", ")
}

/// The findings without their details.
pub(super) fn reasons(findings: &[Finding]) -> String {
    let parts: Vec<&str> = findings.iter().map(|f| f.reason.as_str()).collect();
    parts.join(", ")
}

fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| format!("\"{i}\"")).collect();
    items.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, or `containers "a", "b"`.
fn named(containers: &[&str]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", containers.len()),
        quoted(containers.iter().copied())
    )
}

/// Who set something: the pod, containers, or both.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_owned());
    }
    if !containers.is_empty() {
        parts.push(named(containers));
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Values that were found, each once and in order.
type Values<'a> = BTreeSet<&'a str>;

#[cfg(test)]
mod tests;
