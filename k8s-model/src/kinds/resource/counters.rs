//! Counters that devices of a pool share.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Counter, CounterSet, DeviceCounterConsumption};

use super::{
    capacity::well_formed,
    lists::{each_unique, shortened},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::dns_label,
};

const SETS: usize = 8;
/// How many sets a device takes from at most.
const CONSUMED_SETS: usize = 2;
const COUNTERS: usize = 32;
const NAME: usize = 63;

/// What is wrong with the counters of a pool.
pub(super) fn shared(all: &[CounterSet], path: &Path) -> ErrorList {
    each_unique(all, SETS, path, |set| &set.name, |set, path| {
        let mut out = name(&set.name, path.child("name"));
        out.extend(counters(&set.counters, &path.child("counters")));
        out
    })
}

/// What is wrong with what a device takes from counters.
pub(super) fn consumed(all: &[DeviceCounterConsumption], path: &Path) -> ErrorList {
    each_unique(all, CONSUMED_SETS, path, |one| &one.counter_set, |one, path| {
        let mut out = name(&one.counter_set, path.child("counterSet"));
        out.extend(counters(&one.counters, &path.child("counters")));
        out
    })
}

fn name(name: &str, path: Path) -> ErrorList {
    match name {
        "" => vec![field::required(path, "")],
        name => dns_label(name, path),
    }
}

fn counters(all: &BTreeMap<String, Counter>, path: &Path) -> ErrorList {
    match all.len() {
        0 => vec![field::required(path.clone(), "")],
        count if count > COUNTERS => vec![field::too_many(path.clone(), count, COUNTERS)],
        _ => all
            .iter()
            .flat_map(|(name, counter)| {
                let mut out = dns_label(name, path.clone());
                let at = || path.key(&shortened(name, NAME)).child("value");
                out.extend(well_formed(&counter.value, at));
                out
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn told(found: ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    fn many(count: usize) -> Value {
        let all: Map<_, _> = (0..count).map(|i| (format!("c{i}"), json!({"value": "1"}))).collect();
        json!(all)
    }

    #[test]
    fn counters_come_in_sets_that_have_names() {
        let found = |sets: Value| {
            let sets: Vec<CounterSet> = serde_json::from_value(sets).unwrap();
            told(shared(&sets, &Path::new("s")))
        };
        let set = |name: &str, counters: Value| json!({"name": name, "counters": counters});
        assert_eq!(found(json!([set("a", many(32)), set("b", many(1))])), [""; 0]);
        assert_eq!(
            found(json!([set("", json!({}))])),
            ["s[0].name: Required value", "s[0].counters: Required value"]
        );
        assert_eq!(
            found(json!([set("a", many(33))])),
            ["s[0].counters: Too many: 33: must have at most 32 items"]
        );
        assert_eq!(
            found(json!([set("a", many(1)), set("a", many(1))])),
            [r#"s[1]: Duplicate value: {"counters":{"c0":{"value":"1"}},"name":"a"}"#]
        );
        assert_eq!(
            found(json!(vec![set("a", many(1)); 9])),
            ["s: Too many: 9: must have at most 8 items"]
        );
        let bad = found(json!([set("A", json!({"b c": {"value": "1"}, "d": {"value": "x"}}))]));
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[1].starts_with(r#"s[0].counters: Invalid value: "b c": a lowercase"#), "{bad:?}");
        assert!(bad[2].starts_with(r#"s[0].counters[d].value: Invalid value: "x""#), "{bad:?}");
    }

    #[test]
    fn a_device_takes_from_few_sets() {
        let found = |all: Value| {
            let all: Vec<DeviceCounterConsumption> = serde_json::from_value(all).unwrap();
            told(consumed(&all, &Path::new("u")))
        };
        let of = |set: &str| json!({"counterSet": set, "counters": many(1)});
        assert_eq!(found(json!([of("a"), of("b")])), [""; 0]);
        assert_eq!(found(json!([of("")])), ["u[0].counterSet: Required value"]);
        assert_eq!(
            found(json!([of("a"), of("b"), of("c")])),
            ["u: Too many: 3: must have at most 2 items"]
        );
        assert_eq!(found(json!([of("a"), of("a")])).len(), 1);
    }
}
