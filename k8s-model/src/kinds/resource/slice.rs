//! ResourceSlices.

use std::collections::HashMap;

use k8s_openapi::{
    api::resource::v1::{Device, ResourcePool, ResourceSlice, ResourceSliceSpec},
    jiff::Timestamp,
};
use serde_json::Value;

use super::{
    alpha, attributes, capacity, counters, device,
    lists::{each, repeated},
    names, places,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{immutable, list},
        typed::KindRules,
    },
    metadata,
};

const DEVICES: usize = 128;
/// How many devices there may be if one has what takes more work to look at.
const ADVANCED_DEVICES: usize = 64;

/// The rules of ResourceSlices.
pub(crate) struct ResourceSliceRules;

impl KindRules for ResourceSliceRules {
    type Kind = ResourceSlice;

    const GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["spec.driver", "spec.nodeName"];

    fn default(&self, slice: &mut ResourceSlice) {
        slice.spec.devices.iter_mut().flatten().for_each(device::normalize);
        for set in slice.spec.shared_counters.iter_mut().flatten() {
            capacity::normalize_counters(&mut set.counters);
        }
    }

    fn spec_changed(&self, new: &ResourceSlice, old: &ResourceSlice) -> bool {
        new.spec != old.spec
    }

    fn selectable(&self, slice: &ResourceSlice) -> Vec<String> {
        vec![
            slice.spec.driver.clone(),
            slice.spec.node_name.clone().unwrap_or_default(),
        ]
    }

    fn stamp(
        &self,
        subresource: &str,
        new: &mut ResourceSlice,
        _old: Option<&ResourceSlice>,
        now: Timestamp,
    ) {
        if subresource.is_empty() {
            let devices = new.spec.devices.iter_mut().flatten();
            for taint in devices.flat_map(|device| &mut device.taints).flatten() {
                taint.time_added.get_or_insert_with(|| metadata::to_second(now));
            }
        }
    }

    fn prepare_for_create(&self, slice: &mut ResourceSlice) {
        alpha::drop_of_slice(&mut slice.spec, None);
    }

    fn validate(&self, slice: &ResourceSlice) -> ErrorList {
        spec(&slice.spec, None)
    }

    fn prepare_for_update(&self, new: &mut ResourceSlice, old: &ResourceSlice) {
        alpha::drop_of_slice(&mut new.spec, Some(&old.spec));
    }

    fn validate_update(&self, new: &ResourceSlice, old: &ResourceSlice) -> ErrorList {
        spec(&new.spec, Some(&old.spec))
    }

    fn warnings(&self, slice: &ResourceSlice) -> Vec<String> {
        let driver = &slice.spec.driver;
        match *driver == driver.to_lowercase() {
            true => Vec::new(),
            false => vec![format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
            )],
        }
    }
}

fn spec(spec: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>) -> ErrorList {
    let path = Path::new("spec");
    let mut out = names::driver(&spec.driver, &path.child("driver"));
    out.extend(pool(&spec.pool, &path.child("pool")));
    if let Some(old) = old {
        out.extend(unchanged(spec, old, &path));
    }
    out.extend(places::of_slice(spec, &path));
    if spec.shared_counters.is_some() && spec.devices.is_some() {
        let text = "only one of `sharedCounters` or `devices` is allowed";
        out.push(field::invalid(path.clone(), "", text));
    }
    out.extend(devices(spec, old, &path.child("devices")));
    let sets = list(&spec.shared_counters);
    out.extend(counters::shared(sets, &path.child("sharedCounters")));
    out
}

fn pool(pool: &ResourcePool, path: &Path) -> ErrorList {
    let mut out = names::pool(&pool.name, &path.child("name"));
    if pool.resource_slice_count <= 0 {
        let at = path.child("resourceSliceCount");
        out.push(field::invalid(at, pool.resource_slice_count, "must be greater than zero"));
    }
    if pool.generation < 0 {
        let (at, text) = (path.child("generation"), "must be greater than or equal to zero");
        out.push(field::invalid(at, pool.generation, text));
    }
    out
}

/// What a slice is of never changes.
fn unchanged(new: &ResourceSliceSpec, old: &ResourceSliceSpec, path: &Path) -> ErrorList {
    let at = path.child("pool").child("name");
    let mut out = immutable(&new.pool.name, &old.pool.name, at);
    out.extend(immutable(&new.driver, &old.driver, path.child("driver")));
    out.extend(immutable(&new.node_name, &old.node_name, path.child("nodeName")));
    out
}

fn devices(spec: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>, path: &Path) -> ErrorList {
    let all = list(&spec.devices);
    let is_advanced = |device: &Device| {
        !list(&device.taints).is_empty()
            || !list(&device.consumes_counters).is_empty()
            || attributes::have_lists(device)
    };
    let most = match all.iter().any(is_advanced) {
        true => ADVANCED_DEVICES,
        false => DEVICES,
    };
    // The first one of a name is the one that was there.
    let old = old.map(|old| list(&old.devices)).unwrap_or_default().iter().rev();
    let old: HashMap<&str, &Device> = old.map(|device| (device.name.as_str(), device)).collect();
    let per_device = spec.per_device_node_selection == Some(true);
    let mut out = each(all, most, path, |one, path| {
        device::device(one, old.get(one.name.as_str()).copied(), per_device, path)
    });
    if all.len() <= most {
        let name = |device: &Device| Value::from(device.name.as_str());
        out.extend(repeated(all, path, |device| &device.name, name));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(fields: Value) -> ResourceSlice {
        let mut spec = json!({"driver": "gpu.example.com", "pool": {"name": "a/b", "generation": 1, "resourceSliceCount": 1}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut slice = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
        ResourceSliceRules.default(&mut slice);
        slice
    }

    fn told(found: ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    fn found(fields: Value) -> Vec<String> {
        told(ResourceSliceRules.validate(&slice(fields)))
    }

    #[test]
    fn taints_say_since_when_they_are_there() {
        const EARLIER: &str = "2026-01-01T00:00:00Z";
        const NOW: &str = "2026-05-01T12:00:00Z";
        let slice = |since: [Value; 2]| -> ResourceSlice {
            let taints = since.map(|since| json!({"key": "a", "effect": "None", "timeAdded": since}));
            let spec = json!({"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "e"}, {"name": "f", "taints": taints}]});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let mut one = slice([Value::Null, json!(EARLIER)]);
        ResourceSliceRules.stamp("", &mut one, None, NOW.parse().unwrap());
        assert_eq!(one, slice([json!(NOW), json!(EARLIER)]));
    }

    #[test]
    fn a_slice_says_of_what_driver_and_pool_it_is() {
        let mut good = slice(json!({"allNodes": true}));
        assert_eq!(ResourceSliceRules.validate(&good), []);
        assert_eq!(ResourceSliceRules.warnings(&good), [""; 0]);
        good.spec.driver = "Gpu".to_owned();
        assert_eq!(ResourceSliceRules.validate(&good), []);
        assert_eq!(
            ResourceSliceRules.warnings(&good),
            [r#"spec.driver: driver names should be lowercase; "Gpu" contains uppercase characters"#]
        );
        let with = |field: &str, value: Value| found(json!({"allNodes": true, field: value}));
        assert_eq!(with("driver", json!("")), ["spec.driver: Required value"]);
        assert_eq!(with("driver", json!("a".repeat(64))), ["spec.driver: Too long: may not be more than 63 bytes"]);
        assert!(with("driver", json!("A_b"))[0].starts_with(r#"spec.driver: Invalid value: "A_b": a lowercase RFC 1123"#));
        let pool = |name: &str, generation: i64, count: i64| {
            with("pool", json!({"name": name, "generation": generation, "resourceSliceCount": count}))
        };
        assert_eq!(
            pool("", -1, 0),
            [
                "spec.pool.name: Required value",
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            ]
        );
        assert!(pool("a//b", 1, 1)[0].starts_with(r#"spec.pool.name: Invalid value: "": a lowercase"#));
    }

    #[test]
    fn a_slice_stays_of_its_driver_its_pool_and_its_node() {
        let old = slice(json!({"nodeName": "n"}));
        let mut new = slice(json!({"allNodes": true, "driver": "other"}));
        new.spec.pool.name = "c".to_owned();
        assert_eq!(
            told(ResourceSliceRules.validate_update(&new, &old)),
            [
                r#"spec.pool.name: Invalid value: "c": field is immutable"#,
                r#"spec.driver: Invalid value: "other": field is immutable"#,
                r#"spec.nodeName: Invalid value: null: field is immutable"#,
            ]
        );
    }

    #[test]
    fn devices_are_few_and_each_is_called_otherwise() {
        let many = |count: usize, more: Value| {
            let device = |i: usize| {
                let mut device = json!({"name": format!("d{i}")});
                if i == 0 {
                    device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                }
                device
            };
            let devices: Vec<Value> = (0..count).map(device).collect();
            found(json!({"allNodes": true, "devices": devices}))
        };
        let too_many = |count: usize, most: usize| vec![format!("spec.devices: Too many: {count}: must have at most {most} items")];
        assert_eq!(many(128, json!({})), [""; 0]);
        assert_eq!(many(129, json!({})), too_many(129, 128));
        let taints = json!({"taints": [{"key": "a", "effect": "None"}]});
        let counters = json!({"consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}]});
        for more in [taints, counters] {
            assert_eq!(many(64, more.clone()), [""; 0]);
            assert_eq!(many(65, more), too_many(65, 64));
        }
        let devices = json!([{"name": "a"}, {"name": "a"}]);
        assert_eq!(
            found(json!({"allNodes": true, "devices": devices})),
            [r#"spec.devices[1]: Duplicate value: "a""#]
        );
        let both = json!({"allNodes": true, "devices": [], "sharedCounters": []});
        assert_eq!(
            found(both),
            [r#"spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed"#]
        );
    }
}
