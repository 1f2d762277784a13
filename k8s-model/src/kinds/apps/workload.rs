//! What the kinds have in common that keep a number of pods running.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            IMMUTABLE, immutable, json, label_selector, non_negative, same, selector_matches,
            selects_all,
        },
        core::pod,
    },
    names,
};

/// Advice on the name of what makes pods, if their host names cannot begin with it.
pub(crate) fn name_advice(name: &Option<String>) -> Option<String> {
    let wrong = names::dns_label(name.as_deref().unwrap_or_default(), false);
    let advice = || {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; \
             a DNS label is recommended: [{}]",
            wrong.join(" ")
        )
    };
    (!wrong.is_empty()).then(advice)
}

/// Defaults the template's spec.
pub(crate) fn default_template(template: &mut PodTemplateSpec) {
    pod::defaults::pod_spec(template.spec.get_or_insert_default());
}

/// A selector that selects something, and a template that it selects, which may take the place of another.
pub(crate) fn selector_and_changed_template(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    old: Option<&PodTemplateSpec>,
    kind: &str,
    path: &Path,
) -> ErrorList {
    selector_and_pods(selector, template, old, true, kind, path)
}

/// The same; the template's pods are looked at only if they are `checked`.
pub(super) fn selector_and_pods(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    old: Option<&PodTemplateSpec>,
    checked: bool,
    kind: &str,
    path: &Path,
) -> ErrorList {
    let at = path.child("selector");
    let malformed = label_selector(selector, &at);
    let sound = malformed.is_empty();
    let mut errors = malformed;
    // The type cannot tell an empty selector from none at all; of none, upstream says nothing for a DaemonSet.
    if selects_all(selector) && kind != "DaemonSet" {
        errors.push(field::required(at.clone(), ""));
    }
    if !sound {
        // So upstream says it.
        let told = match kind {
            "DaemonSet" => None,
            "StatefulSet" => Some(""),
            _ => Some("invalid label selector"),
        };
        errors.extend(told.map(|text| field::invalid(at, json(selector), text)));
        return errors;
    }
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let matches = !selects_all(selector) && selector_matches(selector, &labels.unwrap_or_default());
    errors.extend(pod::changed_long_running_template(
        template,
        old,
        matches,
        checked,
        kind,
        &path.child("template"),
    ));
    errors
}

/// The counts of a status: none negative, none above the number of replicas.
pub(crate) fn replica_counts(
    replicas: i32,
    counts: &[(&str, Option<i32>)],
    path: &Path,
) -> ErrorList {
    // StatefulSets tell the whole path.
    let of_ready = if counts.iter().any(|(name, _)| *name == "currentReplicas") {
        "cannot be greater than status.readyReplicas"
    } else {
        "cannot be greater than readyReplicas"
    };
    let mut errors = non_negative(replicas, path.child("replicas"));
    for (name, count) in counts {
        errors.extend(non_negative(count.unwrap_or_default(), path.child(name)));
    }
    let count = |name: &str| {
        let found = counts.iter().find(|(key, _)| *key == name);
        found.and_then(|(_, count)| *count).unwrap_or_default()
    };
    for (name, _) in counts {
        let limited = !matches!(*name, "unavailableReplicas" | "terminatingReplicas");
        if limited && count(name) > replicas {
            errors.push(field::invalid(
                path.child(name),
                count(name),
                "cannot be greater than status.replicas",
            ));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(field::invalid(
            path.child("availableReplicas"),
            count("availableReplicas"),
            of_ready,
        ));
    }
    errors
}

/// What is wrong with another selector than there was. One that says nothing is told as none at all, as in
/// [`selector_and_changed_template`].
pub(crate) fn selector_change(new: &LabelSelector, old: &LabelSelector, path: Path) -> ErrorList {
    if !same(new, old) && selects_all(new) {
        return vec![field::invalid(path, "null", IMMUTABLE)];
    }
    immutable(new, old, path)
}

/// A count that only grows.
pub(crate) fn not_decremented(new: Option<i32>, old: Option<i32>, path: Path) -> ErrorList {
    let lower = match (new, old) {
        (None, Some(_)) => true,
        (Some(new), Some(old)) => new < old,
        (_, None) => false,
    };
    if lower {
        vec![field::invalid(
            path,
            new.unwrap_or_default(),
            "cannot be decremented",
        )]
    } else {
        ErrorList::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_dots_makes_a_surprising_host_name() {
        assert_eq!(name_advice(&Some("a-b".to_owned())), None);
        assert_eq!(
            name_advice(&Some("a.b".to_owned())).as_deref(),
            Some(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
            )
        );
    }
}
