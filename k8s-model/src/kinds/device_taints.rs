//! Taints of devices: DeviceTaintRules of the group `resource.k8s.io`.

use k8s_openapi::api::resource::v1::DeviceTaintRule;

use super::{
    checks::{conditions, list, one_of, qualified_name},
    typed::KindRules,
};
use crate::{
    field::{self, ErrorList, Path},
    names,
};

/// How many conditions a rule may have at most.
const CONDITIONS: usize = 8;

/// The rules of DeviceTaintRules.
pub(crate) struct DeviceTaintRuleRules;

impl KindRules for DeviceTaintRuleRules {
    type Kind = DeviceTaintRule;

    const GENERATION: bool = true;

    fn spec_changed(&self, new: &DeviceTaintRule, old: &DeviceTaintRule) -> bool {
        new.spec != old.spec
    }

    fn prepare_for_create(&self, rule: &mut DeviceTaintRule) {
        rule.status = None;
    }

    fn validate(&self, rule: &DeviceTaintRule) -> ErrorList {
        let (taint, path) = (&rule.spec.taint, Path::new("spec").child("taint"));
        let mut out = match taint.key.is_empty() {
            true => vec![field::required(path.child("key"), "")],
            false => qualified_name(&taint.key, path.child("key")),
        };
        if let Some(value) = &taint.value {
            let problems = names::label_value(value).into_iter();
            let at = path.child("value");
            out.extend(problems.map(|text| field::invalid(at.clone(), value.as_str(), text)));
        }
        let effects = ["NoExecute", "NoSchedule", "None"];
        match taint.effect.is_empty() {
            true => out.push(field::required(path.child("effect"), "")),
            false => out.extend(one_of(&taint.effect, &effects, path.child("effect"))),
        }
        out
    }

    fn prepare_for_update(&self, new: &mut DeviceTaintRule, old: &DeviceTaintRule) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut DeviceTaintRule, old: &DeviceTaintRule) {
        new.spec.clone_from(&old.spec);
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
