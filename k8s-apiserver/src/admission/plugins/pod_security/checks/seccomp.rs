//! Seccomp profiles, in both levels.

use std::collections::BTreeSet;

use super::{
    Finding, Subject, Values, baseline::bad, containers::all, finding, named, plural, quoted,
    setters,
};

fn allowed(sort: &str) -> bool {
    matches!(sort, "RuntimeDefault" | "Localhost")
}

/// Before there was a field: the annotations.
pub(super) fn annotations(subject: &Subject<'_>) -> Option<Finding> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let concerns = |key: &str| {
        key == POD
            || key
                .strip_prefix(CONTAINER)
                .is_some_and(|name| all(subject.spec).any(|container| container.name == name))
    };
    let forbidden: BTreeSet<String> = subject
        .annotations()
        .filter(|(key, value)| {
            concerns(key)
                && !matches!(*value, "runtime/default" | "docker/default")
                && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", forbidden.len());
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    finding(
        "seccompProfile",
        format!("forbidden {word} {}", forbidden.join(", ")),
    )
}

/// The type that the pod sets.
fn of_pod<'a>(subject: &Subject<'a>) -> Option<&'a str> {
    let security = subject.spec.security_context.as_ref();
    let profile = security.and_then(|security| security.seccomp_profile.as_ref());
    profile.map(|profile| profile.type_.as_str())
}

/// No other profile than the runtime's or one of the node's.
pub(super) fn baseline(subject: &Subject<'_>) -> Option<Finding> {
    let mut values = Values::new();
    let pod = of_pod(subject).filter(|sort| !allowed(sort));
    values.extend(pod);
    let containers = bad(subject, |container| {
        let profile = container.security.and_then(|s| s.seccomp_profile.as_ref());
        let sort = profile.map(|p| p.type_.as_str()).filter(|s| !allowed(s));
        values.extend(sort);
        sort.is_some()
    });
    let who = setters(pod.is_some(), &containers)?;
    finding(
        "seccompProfile",
        format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(values)
        ),
    )
}

/// Such a profile, and not none.
pub(super) fn restricted(subject: &Subject<'_>) -> Option<Finding> {
    if let Some(finding) = baseline(subject) {
        return Some(finding);
    }
    if of_pod(subject).is_some() {
        return None;
    }
    let without = bad(subject, |container| {
        container
            .security
            .is_none_or(|security| security.seccomp_profile.is_none())
    });
    if without.is_empty() {
        return None;
    }
    let who = named(&without);
    finding(
        "seccompProfile",
        format!(
            r#"pod or {who} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#
        ),
    )
}
