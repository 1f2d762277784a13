//! What the kinds have in common that keep a number of pods running.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    Object,
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

/// The advice on what an update changes: whoever left it as it is has heard it before.
pub(crate) fn of_change<T: Object>(
    new: &T,
    old: &T,
    advice: impl FnOnce(&T) -> Vec<String>,
) -> Vec<String> {
    if new.metadata().generation == old.metadata().generation {
        return Vec::new();
    }
    advice(new)
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
    use serde_json::{Value, json};

    use super::*;
    use crate::ResourceTable;

    #[test]
    fn templates_are_advised_on_where_they_are_new() {
        let table = ResourceTable::builtin();
        let pods = json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}, "containers": []}});
        let selector = json!({"matchLabels": {"a": "b"}});
        let plain = json!({"selector": selector, "template": pods});
        let job = json!({"template": pods});
        for (group, resource, body) in [
            ("apps", "deployments", json!({"spec": plain})),
            ("apps", "replicasets", json!({"spec": plain})),
            ("apps", "statefulsets", json!({"spec": plain})),
            ("apps", "daemonsets", json!({"spec": plain})),
            (
                "",
                "replicationcontrollers",
                json!({"spec": {"template": pods}}),
            ),
            ("", "podtemplates", json!({"template": pods})),
            ("batch", "jobs", json!({"spec": job})),
            (
                "batch",
                "cronjobs",
                json!({"spec": {"schedule": "", "jobTemplate": {"spec": job}}}),
            ),
        ] {
            let row = table.resource(group, "v1", resource).unwrap();
            let object = |body: &Value| {
                let mut object = body.clone();
                object["metadata"] = json!({"name": "a", "generation": 1});
                let mut object = (row.codec.from_value)(object, &mut |_| {}).unwrap();
                row.strategy.default(&mut *object);
                object
            };
            let updated = |new: &Value, old: &Value| {
                let (mut new, old) = (object(new), object(old));
                row.strategy.prepare_for_update(&mut *new, &*old);
                if row.strategy.spec_changed(&*new, &*old) {
                    new.metadata_mut().generation = Some(2);
                }
                row.strategy.update_warnings(&*new, &*old)
            };
            let told = row.strategy.warnings(&*object(&body));
            assert_eq!(told.len(), 1, "{resource}: {told:?}");
            assert_eq!(updated(&body, &body), [""; 0], "{resource}");
            let mut other = body.clone();
            let places = [
                "/template",
                "/spec/template",
                "/spec/jobTemplate/spec/template",
            ];
            let template = places.iter().find(|place| body.pointer(place).is_some());
            other.pointer_mut(template.unwrap()).unwrap()["metadata"]["labels"]["c"] = json!("d");
            assert_eq!(updated(&body, &other), told, "{resource}");
            // What else a DaemonSet has is no concern of its template's.
            if resource == "daemonsets" {
                let mut other = body.clone();
                other["spec"]["minReadySeconds"] = json!(1);
                assert_eq!(updated(&body, &other), [""; 0]);
            }
        }
    }

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
