//! DeviceTaintRules.

use k8s_openapi::{
    api::resource::v1::{DeviceTaintRule, DeviceTaintSelector},
    jiff::Timestamp,
};

use super::{names, taints::taint};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{conditions, dns_label, list},
        typed::KindRules,
    },
    metadata,
};

/// How many conditions a rule may have at most.
const CONDITIONS: usize = 8;

/// The rules of DeviceTaintRules.
pub(crate) struct DeviceTaintRuleRules;

impl KindRules for DeviceTaintRuleRules {
    type Kind = DeviceTaintRule;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn spec_changed(&self, new: &DeviceTaintRule, old: &DeviceTaintRule) -> bool {
        new.spec != old.spec
    }

    fn prepare_for_create(&self, rule: &mut DeviceTaintRule) {
        rule.status = None;
    }

    fn validate(&self, rule: &DeviceTaintRule) -> ErrorList {
        spec(rule, None)
    }

    fn prepare_for_update(&self, new: &mut DeviceTaintRule, old: &DeviceTaintRule) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &DeviceTaintRule, old: &DeviceTaintRule) -> ErrorList {
        spec(new, Some(old))
    }

    fn stamp(
        &self,
        subresource: &str,
        new: &mut DeviceTaintRule,
        old: Option<&DeviceTaintRule>,
        now: Timestamp,
    ) {
        if !subresource.is_empty() {
            return;
        }
        let taint = &mut new.spec.taint;
        let before = old.map(|old| &old.spec.taint);
        // With another effect it is there anew.
        let is_old = before.is_some_and(|before| {
            taint.effect != before.effect && taint.time_added == before.time_added
        });
        if is_old || taint.time_added.is_none() {
            taint.time_added = Some(metadata::to_second(now));
        }
    }

    fn prepare_for_status_update(&self, new: &mut DeviceTaintRule, old: &DeviceTaintRule) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(&self, new: &DeviceTaintRule, _old: &DeviceTaintRule) -> ErrorList {
        let said = new.status.as_ref().map(|status| list(&status.conditions));
        let (said, path) = (
            said.unwrap_or_default(),
            Path::new("status").child("conditions"),
        );
        let mut out = conditions(said, &path);
        if said.len() > CONDITIONS {
            out.push(field::too_many(path, said.len(), CONDITIONS));
        }
        out
    }
}

fn spec(rule: &DeviceTaintRule, old: Option<&DeviceTaintRule>) -> ErrorList {
    let path = Path::new("spec");
    let selector = rule.spec.device_selector.as_ref();
    let mut out = selector
        .map(|selector| devices(selector, &path.child("deviceSelector")))
        .unwrap_or_default();
    let before = old.map(|old| old.spec.taint.effect.as_str());
    out.extend(taint(&rule.spec.taint, before, &path.child("taint")));
    out
}

/// What is wrong with what says which devices are tainted.
fn devices(selector: &DeviceTaintSelector, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if let Some(driver) = &selector.driver {
        out.extend(names::driver(driver, &path.child("driver")));
    }
    if let Some(pool) = &selector.pool {
        out.extend(names::pool(pool, &path.child("pool")));
    }
    if let Some(device) = &selector.device {
        out.extend(dns_label(device, path.child("device")));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(selector: Value, taint: Value) -> DeviceTaintRule {
        let spec = json!({"deviceSelector": selector, "taint": taint});
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap()
    }

    fn told(found: ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rule_says_which_devices_have_what_taint() {
        let found = |selector: Value, taint: Value| told(DeviceTaintRuleRules.validate(&rule(selector, taint)));
        let good = json!({"key": "a.b/c", "value": "d", "effect": "NoExecute"});
        for selector in [Value::Null, json!({}), json!({"driver": "a.b", "pool": "c/d", "device": "e"})] {
            assert_eq!(found(selector, good.clone()), [""; 0]);
        }
        assert_eq!(
            found(json!({"driver": "", "pool": ""}), good.clone()),
            [
                "spec.deviceSelector.driver: Required value",
                "spec.deviceSelector.pool: Required value",
            ]
        );
        assert!(
            found(json!({"device": "E"}), good)[0]
                .starts_with(r#"spec.deviceSelector.device: Invalid value: "E": a lowercase"#)
        );
        assert_eq!(
            found(Value::Null, json!({"key": "a", "effect": ""})),
            ["spec.taint.effect: Required value"]
        );
        let found = found(Value::Null, json!({"key": "", "effect": "None"}));
        let begins = r#"spec.taint.key: Invalid value: "": name part must be non-empty"#;
        assert!(found.len() == 2 && found[0] == begins, "{found:?}");
    }

    #[test]
    fn a_taint_says_since_when_it_is_there() {
        const EARLIER: &str = "2026-01-01T00:00:00Z";
        const LATER: &str = "2026-02-02T00:00:00Z";
        const NOW: &str = "2026-05-01T12:00:00Z";
        let since = |effect: &str, time: Value| rule(json!({}), json!({"key": "a", "effect": effect, "timeAdded": time}));
        let old = since("None", json!(EARLIER));
        for (old, effect, said, wanted) in [
            (None, "None", Value::Null, NOW),
            (None, "None", json!(EARLIER), EARLIER),
            (Some(&old), "None", Value::Null, NOW),
            (Some(&old), "None", json!(EARLIER), EARLIER),
            (Some(&old), "NoExecute", json!(EARLIER), NOW),
            (Some(&old), "NoExecute", json!(LATER), LATER),
        ] {
            let mut new = since(effect, said);
            DeviceTaintRuleRules.stamp("", &mut new, old, "2026-05-01T12:00:00.5Z".parse().unwrap());
            assert_eq!(new, since(effect, json!(wanted)));
        }
    }

    #[test]
    fn an_effect_that_was_there_stays() {
        let taint = |effect: &str, value: &str| rule(json!({}), json!({"key": "a", "effect": effect, "value": value}));
        let found = |new: &DeviceTaintRule, old: &DeviceTaintRule| told(DeviceTaintRuleRules.validate_update(new, old));
        assert_eq!(found(&taint("Else", "b"), &taint("Else", "c")), [""; 0]);
        assert_eq!(
            found(&taint("Else", "b"), &taint("None", "b")),
            [r#"spec.taint.effect: Unsupported value: "Else": supported values: "NoExecute", "NoSchedule", "None""#]
        );
    }

    #[test]
    fn its_status_changes_nothing_but_conditions() {
        let old = rule(json!({}), json!({"key": "a", "effect": "None"}));
        let mut new = rule(json!({}), json!({"key": "b", "effect": "None"}));
        new.metadata.finalizers = Some(vec!["a/b".to_owned()]);
        DeviceTaintRuleRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(new, old);
        let condition = |i: usize| json!({"type": format!("T{i}"), "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let conditions: Vec<Value> = (0..9).map(condition).collect();
        new.status = serde_json::from_value(json!({"conditions": conditions})).unwrap();
        assert_eq!(
            told(DeviceTaintRuleRules.validate_status_update(&new, &old)),
            ["status.conditions: Too many: 9: must have at most 8 items"]
        );
    }
}
