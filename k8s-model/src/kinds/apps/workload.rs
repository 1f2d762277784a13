//! What the kinds have in common that keep a number of pods running.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::Value;

use crate::{
    Object,
    field::{self, ErrorList, Path},
    json::go_text,
    kinds::{
        checks::{
            IMMUTABLE, int_or_string, non_negative, same, selector_matches, selects_all, text,
        },
        core::pod::{
            self, Before, TemplateCheck, changed_long_running_template, changed_template,
            template_metadata,
        },
        difference::{self, spelled_selector},
        selectors::{is_bad, label_selector, selector_of},
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
    template.metadata.get_or_insert_default();
    pod::defaults::pod_spec(template.spec.get_or_insert_default());
}

/// A selector that selects something, and a template that it selects, which may take the place of another.
pub(crate) fn selector_and_changed_template(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    old: Before<'_>,
    kind: &str,
    path: &Path,
) -> ErrorList {
    selector_and_pods(selector, template, old, true, kind, path)
}

/// The same; the template's pods are looked at only if they are `checked`.
pub(super) fn selector_and_pods(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    old: Before<'_>,
    checked: bool,
    kind: &str,
    path: &Path,
) -> ErrorList {
    let at = path.child("selector");
    let malformed = is_bad(selector);
    let mut errors = match kind {
        "DaemonSet" => selector_of(old.values(), selector, &at),
        _ => label_selector(selector, &at),
    };
    // The type cannot tell an empty selector from none at all; of none, upstream says nothing for a DaemonSet.
    if selects_all(selector) && kind != "DaemonSet" {
        errors.push(field::required(at.clone(), ""));
    }
    // What a malformed selector has to do with the template, upstream sees in three ways. It looks at the metadata of a
    // StatefulSet's template by itself, too, and that whatever is with the rest.
    let mut checks: &[TemplateCheck] = match (kind, checked) {
        ("StatefulSet", true) => &[changed_template, template_metadata],
        ("StatefulSet", false) => &[template_metadata],
        _ => &[changed_template],
    };
    match kind {
        "StatefulSet" if malformed => {
            errors.push(field::invalid_spelled(at, &spelled_selector(selector), ""));
            checks = &[];
        }
        "ReplicaSet" if malformed => {
            let text = "invalid label selector";
            errors.push(field::invalid_spelled(
                at,
                &spelled_selector(selector),
                text,
            ));
            return errors;
        }
        _ => {}
    }
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let labels = labels.unwrap_or_default();
    let selected = !selects_all(selector) && selector_matches(selector, &labels);
    let matches = malformed || selected;
    errors.extend(changed_long_running_template(
        template,
        old,
        matches,
        checks,
        kind,
        &path.child("template"),
    ));
    errors
}

/// A number that may be absent, and is zero then.
pub(crate) fn or_zero(number: Option<impl Into<i64>>) -> i64 {
    number.map(Into::into).unwrap_or_default()
}

/// What is counted apart from the replicas, or is no count of them.
const UNLIMITED: &[&str] = &[
    "collisionCount",
    "observedGeneration",
    "terminatingReplicas",
    "unavailableReplicas",
];

/// The numbers of a status: first that none is negative, in their order, then that no count is above the number of
/// replicas.
pub(crate) fn replica_counts(replicas: i32, counts: &[(&str, i64)], path: &Path) -> ErrorList {
    // StatefulSets tell the whole path.
    let of_ready = if counts.iter().any(|(name, _)| *name == "currentReplicas") {
        "cannot be greater than status.readyReplicas"
    } else {
        "cannot be greater than readyReplicas"
    };
    let mut errors = non_negative(replicas, path.child("replicas"));
    for (name, count) in counts {
        errors.extend(non_negative(*count, path.child(name)));
    }
    let count = |name: &str| {
        let found = counts.iter().find(|(key, _)| *key == name);
        found.map(|(_, count)| *count).unwrap_or_default()
    };
    for (name, count) in counts {
        if !UNLIMITED.contains(name) && *count > i64::from(replicas) {
            errors.push(field::invalid(
                path.child(name),
                *count,
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
        return vec![field::invalid(path, Value::Null, IMMUTABLE)];
    }
    difference::immutable("LabelSelector", new, old, path)
}

/// A strategy as upstream's internal type is told.
pub(super) fn spelled_strategy(sort: &Option<String>, rolling: Option<String>) -> String {
    let sort = go_text(&text(sort).into());
    let rolling = rolling.as_deref().unwrap_or("null");
    format!(r#"{{"Type":{sort},"RollingUpdate":{rolling}}}"#)
}

/// The numbers of a rolling update, likewise.
pub(super) fn spelled_rolling_update(
    unavailable: &Option<IntOrString>,
    surge: &Option<IntOrString>,
) -> String {
    let [unavailable, surge] = [unavailable, surge].map(|value| {
        let value = value.as_ref().map_or_else(|| 0.into(), int_or_string);
        go_text(&value)
    });
    format!(r#"{{"MaxUnavailable":{unavailable},"MaxSurge":{surge}}}"#)
}

/// What is wrong with a strategy of a type that there is not.
pub(super) fn unknown_strategy(path: Path, spelled: &str, known: &[&str]) -> field::Error {
    let mut error = field::not_supported(path, Value::Null, known);
    error.value = None;
    error.detail = format!("{spelled}: {}", error.detail);
    error
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
    use crate::{Object, Resource, ResourceTable};

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

    /// A kind that keeps pods running, and an object of it with parts of its spec replaced.
    fn object(resource: &str, patch: &Value) -> (&'static Resource, Box<dyn Object>) {
        let group = match resource {
            "replicationcontrollers" => "",
            _ => "apps",
        };
        let row = ResourceTable::builtin()
            .resource(group, "v1", resource)
            .unwrap();
        let labels = json!({"a": "b"});
        let selector = match group {
            "" => labels.clone(),
            _ => json!({"matchLabels": labels}),
        };
        let mut value = json!({"metadata": {"name": "x"}, "spec": {"selector": selector,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [
                {"name": "c", "image": "i"}]}}}});
        json_patch::merge(&mut value, patch);
        let mut object = (row.codec.from_value)(value, &mut |_| {}).unwrap();
        row.strategy.default(&mut *object);
        (row, object)
    }

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    const WORKLOADS: [&str; 5] = [
        "daemonsets",
        "deployments",
        "replicasets",
        "replicationcontrollers",
        "statefulsets",
    ];

    #[test]
    fn an_update_is_told_its_faults_once() {
        for resource in WORKLOADS {
            let (row, old) = object(resource, &json!({}));
            let (_, new) = object(resource, &json!({"spec": {"minReadySeconds": -1}}));
            let told = told(row.strategy.validate_update(&*new, &*old));
            let text =
                "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0";
            assert_eq!(told, [text], "{resource}");
            assert_eq!(row.strategy.metadata_repeats(), (0, 1), "{resource}");
        }
    }

    #[test]
    fn a_selector_is_shown_with_its_labels_first() {
        let expression = json!({"key": "a", "operator": "Nope"});
        let patch = json!({"spec": {"selector": {"matchExpressions": [expression]}}});
        let shown = r#"spec.selector: Invalid value: {"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"Nope"}]}"#;
        for (resource, detail) in [
            ("deployments", ": invalid label selector"),
            ("statefulsets", ""),
        ] {
            let (row, new) = object(resource, &patch);
            let found = told(row.strategy.validate(&*new));
            let expected = format!("{shown}{detail}");
            assert!(found.contains(&expected), "{resource}: {found:?}");
        }
        let (row, old) = object("daemonsets", &json!({}));
        let (_, new) = object("daemonsets", &patch);
        let found = told(row.strategy.validate_update(&*new, &*old));
        let expected = format!("{shown}: field is immutable");
        assert!(found.contains(&expected), "{found:?}");
    }

    #[test]
    fn a_malformed_selector_hides_what_upstream_does_not_look_at() {
        let patch = json!({"spec": {"selector": {"matchLabels": {"a": "?"}}, "template": {"spec": {
            "restartPolicy": "Never", "activeDeadlineSeconds": 1, "containers": [{"name": "c"}]}}}});
        let (malformed, image) = ("spec.selector", "spec.template.spec.containers[0].image");
        let (policy, deadline) = (
            "spec.template.spec.restartPolicy",
            "spec.template.spec.activeDeadlineSeconds",
        );
        let labels = "spec.selector.matchLabels";
        for (resource, fields) in [
            ("daemonsets", &[labels, image, policy, deadline][..]),
            ("deployments", &[labels, malformed]),
            ("replicasets", &[labels, malformed]),
            ("statefulsets", &[labels, malformed, policy, deadline]),
        ] {
            let (row, new) = object(resource, &patch);
            let found = row.strategy.validate(&*new);
            let found: Vec<_> = found.iter().map(|error| error.field.to_string()).collect();
            assert_eq!(found, fields, "{resource}");
        }
        let (row, new) = object("statefulsets", &patch);
        assert_eq!(
            told(row.strategy.validate(&*new))[1],
            r#"spec.selector: Invalid value: {"matchLabels":{"a":"?"}}"#
        );
    }

    #[test]
    fn a_selector_that_is_taken_away_is_null() {
        for resource in ["daemonsets", "deployments", "replicasets", "statefulsets"] {
            let (row, old) = object(resource, &json!({}));
            let (_, new) = object(
                resource,
                &json!({"spec": {"selector": {"matchLabels": null}}}),
            );
            let told = told(row.strategy.validate_update(&*new, &*old));
            let text = "spec.selector: Invalid value: null: field is immutable";
            assert!(told.iter().any(|found| found == text), "{told:?}");
        }
    }

    #[test]
    fn a_strategy_that_there_is_not_is_shown_with_all_its_fields() {
        let found = |resource: &str, field: &str, strategy: Value| {
            let (row, new) = object(resource, &json!({"spec": {field: strategy}}));
            told(row.strategy.validate(&*new))
        };
        for (resource, field, known) in [
            ("deployments", "strategy", r#""Recreate", "RollingUpdate""#),
            (
                "daemonsets",
                "updateStrategy",
                r#""RollingUpdate", "OnDelete""#,
            ),
        ] {
            let told = |shown: &str| {
                [format!(
                    "spec.{field}: Unsupported value: {shown}: supported values: {known}"
                )]
            };
            assert_eq!(
                found(resource, field, json!({"type": "<"})),
                told(r#"{"Type":"\u003c","RollingUpdate":null}"#)
            );
            assert_eq!(
                found(
                    resource,
                    field,
                    json!({"type": "X", "rollingUpdate": {"maxSurge": "5%"}})
                ),
                told(r#"{"Type":"X","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":"5%"}}"#)
            );
        }
    }

    #[test]
    fn numbers_of_a_status_are_judged_in_upstreams_order() {
        let numbers = json!({"replicas": -1, "readyReplicas": -1, "currentReplicas": -1,
            "updatedReplicas": -1, "availableReplicas": 0, "fullyLabeledReplicas": -1,
            "unavailableReplicas": -1, "terminatingReplicas": -1, "observedGeneration": -1,
            "collisionCount": -1});
        for (resource, order) in [
            (
                "deployments",
                "observedGeneration replicas updatedReplicas readyReplicas unavailableReplicas terminatingReplicas \
                 collisionCount >availableReplicas >availableReplicas",
            ),
            (
                "replicasets",
                "replicas fullyLabeledReplicas readyReplicas observedGeneration terminatingReplicas \
                 >availableReplicas >availableReplicas",
            ),
            (
                "replicationcontrollers",
                "replicas fullyLabeledReplicas readyReplicas observedGeneration >availableReplicas >availableReplicas",
            ),
            (
                "statefulsets",
                "replicas readyReplicas currentReplicas updatedReplicas observedGeneration collisionCount \
                 >availableReplicas >availableReplicas",
            ),
        ] {
            let (row, old) = object(resource, &json!({"status": {"replicas": 0}}));
            let (_, new) = object(resource, &json!({"status": numbers}));
            let found = row.strategy.validate_status_update(&*new, &*old);
            let brief = |error: &field::Error| {
                let field = error.field.to_string();
                let name = field.trim_start_matches("status.");
                let sign = if error.detail.contains("cannot be greater") {
                    ">"
                } else {
                    ""
                };
                format!("{sign}{name}")
            };
            let found: Vec<String> = found.iter().map(brief).collect();
            assert_eq!(found.join(" "), order, "{resource}");
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
