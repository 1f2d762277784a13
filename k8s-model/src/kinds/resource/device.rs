//! Devices, as slices list them.

use std::collections::HashSet;

use k8s_openapi::api::resource::v1::Device;
use serde_json::Value;

use super::{
    attributes, capacity, counters,
    lists::{each, repeated},
    places, taints,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{dns_label, json, list, qualified_name, same},
};

/// How many attributes and capacities a device has at most.
const PARTS: usize = 32;
const TAINTS: usize = 16;
/// How many conditions a device has at most that let it be used, or that tell that it will not.
const CONDITIONS: usize = 4;

/// What is wrong with a device. Capacities and taints that were there `before` stay.
pub(super) fn device(
    device: &Device,
    before: Option<&Device>,
    per_device: bool,
    path: &Path,
) -> ErrorList {
    let mut out = dns_label(&device.name, path.child("name"));
    let attributes = device.attributes.as_ref().map_or(0, |all| all.len());
    let parts = attributes + device.capacity.as_ref().map_or(0, |all| all.len());
    if parts > PARTS {
        let text = format!("the total number of attributes and capacities must not exceed {PARTS}");
        out.push(field::invalid(path.clone(), parts, text));
    }
    out.extend(attributes::attributes(device, &path.child("attributes")));
    if before.is_none_or(|before| !same(&before.capacity, &device.capacity)) {
        out.extend(capacity::capacities(device, &path.child("capacity")));
    }
    if before.is_none_or(|before| !same(&before.taints, &device.taints)) {
        let check = |taint: &_, path: &Path| taints::taint(taint, None, path);
        out.extend(each(list(&device.taints), TAINTS, &path.child("taints"), check));
    }
    let consumed = list(&device.consumes_counters);
    out.extend(counters::consumed(consumed, &path.child("consumesCounters")));
    out.extend(places::of_device(device, per_device, path));
    let conditions = list(&device.binding_conditions);
    let failures = list(&device.binding_failure_conditions);
    out.extend(binding_conditions(conditions, failures, path));
    out
}

/// What is wrong with the types of conditions that pods wait for before they get a device, and of those that tell that
/// they wait in vain.
pub(super) fn binding_conditions(
    conditions: &[String],
    failures: &[String],
    path: &Path,
) -> ErrorList {
    let (at, at_failures) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    let check = |one: &String, path: &Path| qualified_name(one, path.clone());
    let mut out = each(conditions, CONDITIONS, &at, check);
    out.extend(each(failures, CONDITIONS, &at_failures, check));
    let shown = |one: &String| Value::from(one.as_str());
    out.extend(repeated(conditions, &at, |one| one, shown));
    out.extend(repeated(failures, &at_failures, |one| one, shown));
    let known: HashSet<&String> = conditions.iter().collect();
    for (index, one) in failures.iter().enumerate() {
        if known.contains(one) {
            let text = "bindingFailureConditions must not overlap with bindingConditions";
            out.push(field::invalid(at_failures.index(index), one.as_str(), text));
        }
    }
    if conditions.is_empty() && !failures.is_empty() {
        let text = "bindingConditions are required to use bindingFailureConditions";
        out.push(field::invalid(at, json(&conditions), text));
    }
    if failures.is_empty() && !conditions.is_empty() {
        let text = "bindingFailureConditions are required to use bindingConditions";
        out.push(field::invalid(at_failures, json(&failures), text));
    }
    out
}

/// Brings all amounts into canonical form.
pub(super) fn normalize(device: &mut Device) {
    capacity::normalize(device);
    for consumed in device.consumes_counters.iter_mut().flatten() {
        capacity::normalize_counters(&mut consumed.counters);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(fields: Value) -> Device {
        let mut device = json!({"name": "d"});
        device.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(device).unwrap()
    }

    fn found(fields: Value) -> Vec<String> {
        let found = device(&made(fields), None, false, &Path::new("d"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_device_has_a_name_and_so_many_parts() {
        assert!(found(json!({"name": "A"}))[0].starts_with(r#"d.name: Invalid value: "A": a lowercase"#));
        let parts = |attributes: usize, capacities: usize| {
            let attributes: serde_json::Map<_, _> = (0..attributes).map(|i| (format!("a{i}"), json!({"int": i}))).collect();
            let capacities: serde_json::Map<_, _> = (0..capacities).map(|i| (format!("c{i}"), json!({"value": "1"}))).collect();
            found(json!({"attributes": attributes, "capacity": capacities}))
        };
        assert_eq!(parts(16, 16), [""; 0]);
        assert_eq!(
            parts(17, 16),
            ["d: Invalid value: 33: the total number of attributes and capacities must not exceed 32"]
        );
    }

    #[test]
    fn conditions_of_binding_come_in_both_kinds_and_differ() {
        let binding = |conditions: Value, failures: Value| {
            found(json!({"bindingConditions": conditions, "bindingFailureConditions": failures}))
        };
        assert_eq!(binding(json!(["a.b/ready"]), json!(["broken"])), [""; 0]);
        for (conditions, failures, texts) in [
            (json!(["a"]), json!([]), vec!["bindingFailureConditions: Invalid value: []: bindingFailureConditions are required to use bindingConditions"]),
            (json!([]), json!(["a"]), vec!["bindingConditions: Invalid value: []: bindingConditions are required to use bindingFailureConditions"]),
            (json!(["a", "a"]), json!(["b", "b"]), vec![
                r#"bindingConditions[1]: Duplicate value: "a""#,
                r#"bindingFailureConditions[1]: Duplicate value: "b""#,
            ]),
            (json!(["a"]), json!(["a"]), vec![r#"bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must not overlap with bindingConditions"#]),
            (json!(["a", "b", "c", "d", "e"]), json!(["f"]), vec!["bindingConditions: Too many: 5: must have at most 4 items"]),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| format!("d.{text}")).collect();
            assert_eq!(binding(conditions, failures), texts);
        }
        assert_eq!(binding(json!(["a b"]), json!(["c"])).len(), 1);
    }

    #[test]
    fn taints_are_few_and_whole_unless_they_were_there() {
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect, "value": "v"});
        assert_eq!(found(json!({"taints": vec![taint("a", "NoExecute"); 16]})), [""; 0]);
        assert_eq!(
            found(json!({"taints": vec![taint("a", "None"); 17]})),
            ["d.taints: Too many: 17: must have at most 16 items"]
        );
        assert_eq!(found(json!({"taints": [taint("a", "")]})), ["d.taints[0].effect: Required value"]);
        let bad = json!({"taints": [taint("a", "Else")], "capacity": {"a b": {"value": "1"}}});
        assert_eq!(found(bad.clone()).len(), 2);
        let old = made(bad);
        let mut new = old.clone();
        new.binds_to_node = Some(true);
        assert_eq!(device(&new, Some(&old), false, &Path::new("d")), []);
    }
}
