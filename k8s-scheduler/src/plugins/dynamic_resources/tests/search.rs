//! What is found on one node.

use super::*;

#[test]
fn expressions_select_devices_by_what_drivers_say_of_them() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(slice(
        "a",
        json!([
            {"name": "small", "attributes": {"model": {"string": "s"}, "cores": {"int": 4}, "x.example.com/v": {"version": "1.2.3"}},
             "capacity": {"memory": {"value": "4Gi"}}},
            {"name": "large", "attributes": {"model": {"string": "l"}, "ecc": {"bool": true}},
             "capacity": {"memory": {"value": "40Gi"}}},
        ]),
    ));
    let select = |expression: &str| {
        let selectors = json!([{"cel": {"expression": expression}}]);
        let devices = json!({"requests": [exactly("r", json!({"selectors": selectors}))]});
        given(&snapshot, devices, "a").map(|found| found.join(","))
    };
    let driver = "device.attributes[\"d.example.com\"]";
    let large = Ok("r=large".to_owned());
    assert_eq!(select(&format!("{driver}.model == \"l\"")), large);
    assert_eq!(
        select("device.capacity[\"d.example.com\"].memory.isGreaterThan(quantity(\"10Gi\"))"),
        large
    );
    assert_eq!(select(&format!("has({driver}.ecc) && {driver}.ecc")), large);
    assert_eq!(
        select(
            "device.driver == \"d.example.com\" && !has(device.attributes[\"x.example.com\"].v)"
        ),
        large
    );
    assert_eq!(
        select(
            "has(device.attributes[\"x.example.com\"].v) && device.attributes[\"x.example.com\"].v.isLessThan(semver(\"2.0.0\"))"
        ),
        Ok("r=small".to_owned())
    );
    assert_eq!(select(&format!("{driver}.?cores.orValue(0) > 8")), none());
    assert_eq!(select("device.allowMultipleAllocations"), none());
    assert_eq!(
        select(&format!("{driver}.ecc")),
        Err(Failure::Claim(
            "claim default/c: selector #0 on device d.example.com/a/small: CEL runtime error: no such key: ecc".to_owned()
        ))
    );
    let broken = select("device.").unwrap_err();
    let Failure::Claim(text) = broken else {
        panic!("{broken:?}");
    };
    assert!(
        text.starts_with("claim default/c: selector #0: CEL compile error: "),
        "{text}"
    );
}

#[test]
fn a_class_selects_and_configures() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(slice(
        "a",
        json!([{"name": "x"}, {"name": "y", "attributes": {"good": {"bool": true}}}]),
    ));
    snapshot.set(class(
        "good",
        json!({"selectors": [{"cel": {"expression": "has(device.attributes[\"d.example.com\"].good)"}}],
            "config": [{"opaque": {"driver": "d.example.com", "parameters": {"a": 1}}}]}),
    ));
    let request = json!({"deviceClassName": "good", "allocationMode": "ExactCount", "count": 1});
    let other = |requests: Value| json!({"requests": requests, "opaque": {"driver": "d.example.com", "parameters": {}}});
    let devices = json!({
        "requests": [{"name": "r", "exactly": request}, exactly("s", json!({}))],
        "config": [other(json!(["s"])), other(json!(["r", "s"])), other(json!([]))],
    });
    let found = allocate(&snapshot, vec![claim("c", devices, json!({}))], "a").unwrap();
    let written = json!(found[0]);
    assert_eq!(written["devices"]["results"][0]["device"], "y");
    assert_eq!(
        written["devices"]["results"][1],
        json!({"request": "s", "driver": "d.example.com", "pool": "a", "device": "x"})
    );
    let config = written["devices"]["config"].as_array().unwrap();
    let of = |i: usize| (config[i]["source"].clone(), config[i]["requests"].clone());
    assert_eq!(of(0), (json!("FromClass"), json!(["r"])));
    assert_eq!(config[0]["opaque"]["parameters"]["a"], 1);
    assert_eq!(of(1), (json!("FromClaim"), json!(["s"])));
    assert_eq!(
        of(2),
        (json!("FromClaim"), json!(null)),
        "it is about all of them"
    );
    assert_eq!(of(3), (json!("FromClaim"), json!(null)));
    assert_eq!(
        written["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"],
        json!(["a"])
    );
}

#[test]
fn the_first_alternative_that_there_is_will_do() {
    let mut snapshot = cluster(&["a", "b"]);
    snapshot.set(slice("a", json!([{"name": "s1"}])));
    snapshot.set(slice("b", json!([{"name": "s1"}, {"name": "s2"}])));
    let part = |name: &str, count: usize| json!({"name": name, "deviceClassName": "any", "allocationMode": "ExactCount", "count": count});
    let devices =
        json!({"requests": [{"name": "r", "firstAvailable": [part("two", 2), part("one", 1)]}]});
    assert_eq!(
        given(&snapshot, devices.clone(), "a").unwrap(),
        ["r/one=s1"]
    );
    assert_eq!(
        given(&snapshot, devices.clone(), "b").unwrap(),
        ["r/two=s1", "r/two=s2"]
    );
    // And where both fit, the node with the better one is preferred.
    snapshot.set(Object::ResourceClaim(claim("c", devices, json!({}))));
    let (_, scheduler) = scheduler();
    for seed in 0..8 {
        let placed = scheduler
            .schedule(&snapshot, &pod("p", &["c"]), seed)
            .unwrap();
        assert_eq!((placed.node.as_str(), placed.feasible), ("b", 2));
    }
}

#[test]
fn all_devices_means_all_or_none() {
    let mut snapshot = cluster(&["a", "b"]);
    snapshot.set(slice("a", json!([{"name": "x"}, {"name": "y"}])));
    let all = json!({"requests": [exactly("r", json!({"allocationMode": "All"}))]});
    assert_eq!(given(&snapshot, all.clone(), "a").unwrap(), ["r=x", "r=y"]);
    assert_eq!(given(&snapshot, all.clone(), "b"), none());
    let held = json!({"allocation": {"devices": {"results": [
        {"request": "r", "driver": "d.example.com", "pool": "a", "device": "y"}]}}});
    snapshot.set(Object::ResourceClaim(claim("o", json!({}), held)));
    assert_eq!(given(&snapshot, all.clone(), "a"), none());
    let admin =
        json!({"requests": [exactly("r", json!({"allocationMode": "All", "adminAccess": true}))]});
    assert_eq!(given(&snapshot, admin, "a").unwrap(), ["r=x", "r=y"]);
    let many: Vec<Value> = (0..33).map(|i| json!({"name": format!("d{i}")})).collect();
    snapshot.set(slice("b", json!(many)));
    assert_eq!(
        given(&snapshot, all, "b"),
        Err(Failure::Claim(
            "claim default/c: number of requested devices 33 exceeds the claim limit of 32"
                .to_owned()
        ))
    );
}

#[test]
fn a_pool_counts_when_all_of_its_newest_generation_is_there() {
    let mut snapshot = cluster(&["a", "b"]);
    let spec = |node: &str, generation: i64, count: i64, device: &str| {
        json!({"driver": "d.example.com", "nodeName": node, "devices": [{"name": device}],
            "pool": {"name": "p", "generation": generation, "resourceSliceCount": count}})
    };
    let one = json!({"requests": [exactly("r", json!({}))]});
    snapshot.set(slice_of(spec("a", 1, 2, "x")));
    assert_eq!(
        given(&snapshot, one.clone(), "a"),
        none(),
        "a slice is missing"
    );
    let all = json!({"requests": [exactly("r", json!({"allocationMode": "All"}))]});
    assert_eq!(
        given(&snapshot, all, "a"),
        Err(Failure::Claim(
            "claim default/c, request r: asks for all devices, but resource pool d.example.com/p is currently being updated".to_owned()
        ))
    );
    snapshot.set(slice_of(spec("b", 1, 2, "y")));
    assert_eq!(given(&snapshot, one.clone(), "a").unwrap(), ["r=x"]);
    snapshot.set(slice_of(spec("b", 2, 1, "z")));
    assert_eq!(
        given(&snapshot, one.clone(), "a"),
        none(),
        "a's devices are out of date"
    );
    assert_eq!(given(&snapshot, one.clone(), "b").unwrap(), ["r=z"]);
    let twice = json!({"driver": "d.example.com", "nodeName": "b", "devices": [{"name": "z"}, {"name": "z"}],
        "pool": {"name": "p", "generation": 2, "resourceSliceCount": 1}});
    snapshot.set(slice_of(twice));
    assert_eq!(
        given(&snapshot, one, "b"),
        Err(Failure::Node(
            "invalid resource pools were encountered".to_owned()
        ))
    );
}

#[test]
fn devices_may_be_for_all_nodes_or_for_some() {
    let mut snapshot = cluster(&["a", "b", "c"]);
    let pool = |name: &str| json!({"name": name, "generation": 1, "resourceSliceCount": 1});
    let only_b = json!({"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "name", "operator": "In", "values": ["b"]}]}]});
    snapshot.set(slice_of(json!({"driver": "d", "pool": pool("some"), "nodeSelector": only_b, "devices": [{"name": "s"}]})));
    let one = json!({"requests": [exactly("r", json!({}))]});
    let on = |snapshot: &Snapshot, node: &str| {
        allocate(snapshot, vec![claim("c", one.clone(), json!({}))], node).map(|mut found| {
            let found = found.remove(0);
            let selector = json!(found.node_selector);
            (found.devices.results[0].device.clone(), selector)
        })
    };
    assert_eq!(on(&snapshot, "b"), Ok(("s".to_owned(), only_b)));
    assert_eq!(on(&snapshot, "a"), none());
    let each = json!([{"name": "x", "nodeName": "a"}, {"name": "y", "allNodes": true}]);
    snapshot.set(slice_of(json!({"driver": "c", "pool": pool("each"), "perDeviceNodeSelection": true, "devices": each})));
    assert_eq!(on(&snapshot, "a").unwrap().0, "x");
    assert_eq!(on(&snapshot, "c"), Ok(("y".to_owned(), Value::Null)));
}

#[test]
fn a_tainted_device_needs_a_toleration() {
    let mut snapshot = cluster(&["a"]);
    let taint = json!({"key": "sick", "value": "very", "effect": "NoSchedule"});
    snapshot.set(slice("a", json!([{"name": "x", "taints": [taint]}, {"name": "y", "taints": [{"key": "k", "effect": "None"}]}])));
    let two = |tolerations: Value| {
        let request = exactly("r", json!({"count": 2, "tolerations": tolerations}));
        json!({"requests": [request]})
    };
    assert_eq!(given(&snapshot, two(json!([])), "a"), none());
    let tolerates = json!([{"key": "sick", "operator": "Exists"}]);
    assert_eq!(
        given(&snapshot, two(tolerates.clone()), "a").unwrap(),
        ["r=x", "r=y"]
    );
    let rule = json!({"metadata": {"name": "r"}, "spec": {"deviceSelector": {"device": "y"},
        "taint": {"key": "more", "effect": "NoExecute"}}});
    let rule = Object::DeviceTaintRule(from(rule));
    snapshot.set(rule.clone());
    assert_eq!(given(&snapshot, two(tolerates.clone()), "a"), none());
    snapshot.unset(&rule);
    assert!(given(&snapshot, two(tolerates), "a").is_ok());
}

#[test]
fn parts_of_a_device_share_its_counters() {
    let mut snapshot = cluster(&["a"]);
    let part = |name: &str, slices: i64| json!({"name": name, "consumesCounters": [{"counterSet": "gpu", "counters": {"slices": {"value": slices.to_string()}}}]});
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 2});
    let counters = json!({"driver": "d.example.com", "nodeName": "a", "pool": pool,
        "sharedCounters": [{"name": "gpu", "counters": {"slices": {"value": "4"}}}]});
    let devices = json!({"driver": "d.example.com", "nodeName": "a", "pool": pool,
        "devices": [part("whole", 4), part("half-0", 2), part("half-1", 2)]});
    for (name, spec) in [("counters", counters), ("devices", devices)] {
        let slice = json!({"metadata": {"name": name}, "spec": spec});
        snapshot.set(Object::ResourceSlice(from(slice)));
    }
    let want = |count: usize| json!({"requests": [exactly("r", json!({"count": count}))]});
    assert_eq!(given(&snapshot, want(1), "a").unwrap(), ["r=whole"]);
    assert_eq!(
        given(&snapshot, want(2), "a").unwrap(),
        ["r=half-0", "r=half-1"]
    );
    assert_eq!(given(&snapshot, want(3), "a"), none());
    let held = json!({"allocation": {"devices": {"results": [
        {"request": "r", "driver": "d.example.com", "pool": "p", "device": "half-1"}]}}});
    snapshot.set(Object::ResourceClaim(claim("o", json!({}), held)));
    assert_eq!(given(&snapshot, want(1), "a").unwrap(), ["r=half-0"]);
    assert_eq!(given(&snapshot, want(2), "a"), none());
}

#[test]
fn claims_share_the_capacity_of_a_device() {
    let mut snapshot = cluster(&["a"]);
    snapshot.set(slice(
        "a",
        json!([{"name": "nic", "allowMultipleAllocations": true, "capacity": {"bandwidth": {"value": "10",
            "requestPolicy": {"default": "1", "validRange": {"min": "1", "step": "1"}}}}}]),
    ));
    let want = |name: &str, much: &str| {
        let capacity = json!({"requests": {"bandwidth": much}});
        claim(
            name,
            json!({"requests": [exactly("r", json!({"capacity": capacity}))]}),
            json!({}),
        )
    };
    let found = allocate(&snapshot, vec![want("c", "4"), want("d", "6")], "a").unwrap();
    assert_eq!(
        json!(found[1].devices.results[0].consumed_capacity),
        json!({"bandwidth": "6"})
    );
    assert_eq!(
        allocate(&snapshot, vec![want("c", "4"), want("d", "7")], "a"),
        none()
    );
    let mut held = want("e", "4");
    let mut allocation = found[0].clone();
    allocation.devices.results[0].share_id = Some(share_id(&held, 0));
    held.status.allocation = Some(allocation);
    snapshot.set(Object::ResourceClaim(held.clone()));
    assert_eq!(allocate(&snapshot, vec![want("c", "7")], "a"), none());
    assert!(allocate(&snapshot, vec![want("c", "6")], "a").is_ok());
    snapshot.unset(&Object::ResourceClaim(held));
    assert!(allocate(&snapshot, vec![want("c", "7")], "a").is_ok());
}

#[test]
fn a_search_without_end_is_given_up() {
    let mut snapshot = cluster(&["a"]);
    let devices: Vec<Value> = (0..40)
        .map(|i| json!({"name": format!("d{i:02}"), "attributes": {"n": {"int": i}}}))
        .collect();
    snapshot.set(slice("a", json!(devices)));
    // Twenty of forty that differ in all but must have one thing in common, which shows with the last pair.
    let requests: Vec<Value> = (0..20)
        .map(|i| exactly(&format!("r{i}"), json!({})))
        .collect();
    let devices = json!({"requests": requests, "constraints": [
        {"requests": ["r18", "r19"], "matchAttribute": "d.example.com/n"}]});
    assert_eq!(
        given(&snapshot, devices, "a"),
        Err(Failure::Node(
            "timed out trying to allocate devices".to_owned()
        ))
    );
}
