//! The rules of DaemonSets.

use k8s_openapi::{
    api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::workload::{
    default_template, not_decremented, or_zero, selector_and_changed_template, selector_change,
    spelled_rolling_update, spelled_strategy, unknown_strategy,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            at_most_100_percent, fill, int_or_percent, int_or_percent_value, int_or_string,
            non_negative, same, slot, slot_mut, text,
        },
        core::pod::{Before, prepare_template, template_warnings},
        typed::KindRules,
    },
};

/// Counts the template's changes, for clients of an older version of the API.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The rules of DaemonSets.
pub(crate) struct DaemonSetRules;

fn template_generation(set: &DaemonSet) -> Option<i64> {
    set.metadata
        .annotations
        .as_ref()?
        .get(TEMPLATE_GENERATION)?
        .parse()
        .ok()
}

/// The generation that a set is taken to have before its update.
fn known_template_generation(set: &DaemonSet) -> i64 {
    template_generation(set).unwrap_or(1)
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    set.metadata
        .annotations
        .get_or_insert_default()
        .insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

impl KindRules for DaemonSetRules {
    type Kind = DaemonSet;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;

    fn default(&self, set: &mut DaemonSet) {
        // Upstream has it in a field of its own, and so in each object that it writes: whoever creates one owns it.
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations
            .entry(TEMPLATE_GENERATION.to_owned())
            .or_insert_with(|| "0".to_owned());
        let Some(spec): Option<&mut DaemonSetSpec> = slot_mut(&mut set.spec) else {
            return;
        };
        let strategy = spec.update_strategy.get_or_insert_default();
        fill(&mut strategy.type_, "RollingUpdate");
        if text(&strategy.type_) == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        default_template(&mut spec.template);
    }

    fn spec_changed(&self, new: &DaemonSet, old: &DaemonSet) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, set: &mut DaemonSet) {
        prepare(set, None);
        set.status = Some(DaemonSetStatus::default());
        let generation = template_generation(set).unwrap_or_default().max(1);
        set_template_generation(set, generation);
    }

    fn validate(&self, set: &DaemonSet) -> ErrorList {
        let spec: Option<&DaemonSetSpec> = slot(&set.spec);
        let empty = DaemonSetSpec::default();
        validate_spec(
            spec.unwrap_or(&empty),
            Before::default(),
            &Path::new("spec"),
        )
    }

    fn prepare_for_update(&self, new: &mut DaemonSet, old: &DaemonSet) {
        prepare(new, Some(old));
        new.status.clone_from(&old.status);
        let specs: (Option<&DaemonSetSpec>, Option<&DaemonSetSpec>) =
            (slot(&new.spec), slot(&old.spec));
        let changed = match specs {
            (Some(new), Some(old)) => !same(&new.template, &old.template),
            _ => false,
        };
        let generation = known_template_generation(old) + i64::from(changed);
        set_template_generation(new, generation);
    }

    fn validate_update(&self, new: &DaemonSet, old: &DaemonSet) -> ErrorList {
        let specs: (Option<&DaemonSetSpec>, Option<&DaemonSetSpec>) =
            (slot(&new.spec), slot(&old.spec));
        let (Some(spec), Some(old)) = specs else {
            return self.validate(new);
        };
        let path = Path::new("spec");
        let mut errors = selector_change(&spec.selector, &old.selector, path.child("selector"));
        let before = Before::of(&old.template, Some(&old.selector));
        errors.extend(validate_spec(spec, before, &path));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut DaemonSet, old: &DaemonSet) {
        new.spec = old.spec.clone();
        // To upstream it is a part of the spec.
        if let Some(generation) = template_generation(old) {
            set_template_generation(new, generation);
        }
    }

    fn validate_status_update(&self, new: &DaemonSet, old: &DaemonSet) -> ErrorList {
        let path = Path::new("status");
        let (new, old) = (
            new.status.clone().unwrap_or_default(),
            old.status.clone().unwrap_or_default(),
        );
        let mut errors = ErrorList::new();
        let observed = new.observed_generation.unwrap_or_default();
        for (count, name) in [
            (
                new.current_number_scheduled.into(),
                "currentNumberScheduled",
            ),
            (new.number_misscheduled.into(), "numberMisscheduled"),
            (
                new.desired_number_scheduled.into(),
                "desiredNumberScheduled",
            ),
            (new.number_ready.into(), "numberReady"),
            (observed, "observedGeneration"),
            (
                or_zero(new.updated_number_scheduled),
                "updatedNumberScheduled",
            ),
            (or_zero(new.number_available), "numberAvailable"),
            (or_zero(new.number_unavailable), "numberUnavailable"),
            (or_zero(new.collision_count), "collisionCount"),
        ] {
            errors.extend(non_negative(count, path.child(name)));
        }
        errors.extend(not_decremented(
            new.collision_count,
            old.collision_count,
            path.child("collisionCount"),
        ));
        errors
    }

    fn warnings(&self, set: &DaemonSet) -> Vec<String> {
        let path = Path::new("spec").child("template");
        let spec: Option<&DaemonSetSpec> = slot(&set.spec);
        spec.map(|spec| template_warnings(&spec.template, &path))
            .unwrap_or_default()
    }

    /// Its template has a generation of its own.
    fn update_warnings(&self, new: &DaemonSet, old: &DaemonSet) -> Vec<String> {
        if known_template_generation(new) == known_template_generation(old) {
            return Vec::new();
        }
        self.warnings(new)
    }
}

/// Drops from the template what templates cannot say, unless the stored one says it.
fn prepare(new: &mut DaemonSet, old: Option<&DaemonSet>) {
    let new: Option<&mut DaemonSetSpec> = slot_mut(&mut new.spec);
    let old: Option<&DaemonSetSpec> = old.and_then(|old| slot(&old.spec));
    if let Some(new) = new {
        prepare_template(&mut new.template, old.map(|old| &old.template));
    }
}

fn validate_spec(spec: &DaemonSetSpec, old: Before<'_>, path: &Path) -> ErrorList {
    let mut errors =
        selector_and_changed_template(&spec.selector, &spec.template, old, "DaemonSet", path);
    errors.extend(non_negative(
        spec.min_ready_seconds.unwrap_or_default(),
        path.child("minReadySeconds"),
    ));
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let at = path.child("updateStrategy");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(field::required(at.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => {
            errors.extend(rolling_update(rolling, &at.child("rollingUpdate")));
        }
        (_, rolling) => {
            let rolling = rolling.as_ref().map(|rolling| {
                spelled_rolling_update(&rolling.max_unavailable, &rolling.max_surge)
            });
            let spelled = spelled_strategy(&strategy.type_, rolling);
            let known = &["RollingUpdate", "OnDelete"];
            errors.push(unknown_strategy(at, &spelled, known));
        }
    }
    errors.extend(non_negative(
        spec.revision_history_limit.unwrap_or_default(),
        path.child("revisionHistoryLimit"),
    ));
    errors
}

fn rolling_update(rolling: &RollingUpdateDaemonSet, path: &Path) -> ErrorList {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let mut errors = ErrorList::new();
    for (value, name) in [(unavailable, "maxUnavailable"), (surge, "maxSurge")] {
        errors.extend(int_or_percent(value, path.child(name)));
        errors.extend(at_most_100_percent(value, path.child(name)));
    }
    match (
        int_or_percent_value(unavailable) != 0,
        int_or_percent_value(surge) != 0,
    ) {
        (true, true) => errors.push(field::invalid(
            path.child("maxSurge"),
            int_or_string(surge),
            "may not be set when maxUnavailable is non-zero",
        )),
        (false, false) => errors.push(field::required(
            path.child("maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(annotations: &Value, status: &Value) -> DaemonSet {
        let set = json!({
            "metadata": {"name": "s", "annotations": annotations}, "status": status,
            "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
        });
        serde_json::from_value(set).unwrap()
    }

    #[test]
    fn a_status_says_nothing_of_the_templates_generation() {
        let status = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0});
        let old = set(&json!({TEMPLATE_GENERATION: "3"}), &status);
        let mut new = set(&json!({"x": "y"}), &status);
        DaemonSetRules.default(&mut new);
        DaemonSetRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(template_generation(&new), Some(3));
        assert_eq!(new.metadata.annotations.unwrap()["x"], "y");
    }

    #[test]
    fn a_changed_selector_is_told_before_the_rest() {
        let old = set(&json!({}), &Value::Null);
        let mut new = old.clone();
        DaemonSetRules.default(&mut new);
        let spec: Option<&mut DaemonSetSpec> = slot_mut(&mut new.spec);
        let selector = serde_json::from_value(json!({"matchLabels": {"a": "c"}})).unwrap();
        spec.unwrap().selector = selector;
        let errors = DaemonSetRules.validate_update(&new, &old);
        assert_eq!(
            errors[0].to_string(),
            r#"spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable"#
        );
        assert!(errors.len() > 1, "{errors:?}");
    }

    #[test]
    fn counts_of_a_status_are_not_negative() {
        let zero = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0});
        let old = set(&json!({}), &zero);
        for name in ["numberReady", "observedGeneration", "collisionCount"] {
            let mut status = zero.clone();
            status[name] = json!(-1);
            let new = set(&json!({}), &status);
            let errors = DaemonSetRules.validate_status_update(&new, &old);
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let told =
                format!("status.{name}: Invalid value: -1: must be greater than or equal to 0");
            assert_eq!(texts, [told]);
        }
    }
}
