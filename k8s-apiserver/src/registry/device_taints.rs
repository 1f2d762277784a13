//! What the server itself says of taints of devices: since when they are there.

use k8s_model::{Object, metadata};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp, k8s_if_ge_1_34, k8s_if_ge_1_37,
    k8s_if_le_1_33, k8s_if_le_1_36,
};

/// Fills in since when taints are there, where that is not said.
pub(crate) fn say_since(object: &mut dyn Object, now: Timestamp) {
    let now = metadata::to_second(now);
    of_slice(object, &now);
    of_rule(object, &now);
}

k8s_if_ge_1_34! {
    fn of_slice(object: &mut dyn Object, now: &Time) {
        use k8s_openapi::api::resource::v1::ResourceSlice;
        let Some(slice) = object.downcast_mut::<ResourceSlice>() else {
            return;
        };
        let devices = slice.spec.devices.iter_mut().flatten();
        for taint in devices.flat_map(|device| &mut device.taints).flatten() {
            taint.time_added.get_or_insert_with(|| now.clone());
        }
    }
}

k8s_if_le_1_33! {
    /// There are no slices in their stable version.
    fn of_slice(_object: &mut dyn Object, _now: &Time) {}
}

k8s_if_ge_1_37! {
    use k8s_openapi::api::resource::v1::DeviceTaintRule;

    fn of_rule(object: &mut dyn Object, now: &Time) {
        if let Some(rule) = object.downcast_mut::<DeviceTaintRule>() {
            let taint = &mut rule.spec.taint;
            taint.time_added.get_or_insert_with(|| now.clone());
        }
    }

    /// A rule's taint is there anew when its effect changes, unless the client says since when it is there.
    pub(crate) fn say_changed(new: &mut dyn Object, old: &dyn Object, now: Timestamp) {
        let (Some(new), Some(old)) = (
            new.downcast_mut::<DeviceTaintRule>(),
            old.downcast_ref::<DeviceTaintRule>(),
        ) else {
            return;
        };
        let (taint, before) = (&mut new.spec.taint, &old.spec.taint);
        if taint.effect != before.effect && taint.time_added == before.time_added {
            taint.time_added = Some(metadata::to_second(now));
        }
    }
}

k8s_if_le_1_36! {
    /// There are no rules in their stable version.
    fn of_rule(_object: &mut dyn Object, _now: &Time) {}

    /// There are no rules in their stable version.
    pub(crate) fn say_changed(_new: &mut dyn Object, _old: &dyn Object, _now: Timestamp) {}
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::{DeviceTaintRule, ResourceSlice};
    use serde_json::{Value, json};

    use super::*;

    const EARLIER: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-05-01T12:00:00Z";

    fn now() -> Timestamp {
        "2026-05-01T12:00:00.5Z".parse().unwrap()
    }

    fn rule(effect: &str, since: Value) -> DeviceTaintRule {
        let taint = json!({"key": "a", "effect": effect, "timeAdded": since});
        serde_json::from_value(json!({"metadata": {}, "spec": {"taint": taint}})).unwrap()
    }

    #[test]
    fn a_taint_says_since_when_it_is_there() {
        let mut one = rule("None", Value::Null);
        say_since(&mut one, now());
        assert_eq!(one, rule("None", json!(NOW)));
        let mut one = rule("None", json!(EARLIER));
        say_since(&mut one, now());
        assert_eq!(one, rule("None", json!(EARLIER)));
        let slice = |since: [Value; 2]| -> ResourceSlice {
            let taints =
                since.map(|since| json!({"key": "a", "effect": "None", "timeAdded": since}));
            let spec = json!({"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "e"}, {"name": "f", "taints": taints}]});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let mut one = slice([Value::Null, json!(EARLIER)]);
        say_since(&mut one, now());
        assert_eq!(one, slice([json!(NOW), json!(EARLIER)]));
    }

    #[test]
    fn a_taint_with_another_effect_is_there_anew() {
        let old = rule("None", json!(EARLIER));
        for (mut new, wanted) in [
            (rule("NoExecute", json!(EARLIER)), NOW),
            (rule("None", json!(EARLIER)), EARLIER),
            (
                rule("NoExecute", json!("2026-02-02T00:00:00Z")),
                "2026-02-02T00:00:00Z",
            ),
        ] {
            let effect = new.spec.taint.effect.clone();
            say_changed(&mut new, &old, now());
            assert_eq!(new, rule(&effect, json!(wanted)));
        }
    }
}
