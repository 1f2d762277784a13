//! What becomes of a claim: what is allocated to it, for whom, and what drivers tell of that.

use std::collections::HashSet;

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, DeviceRequestAllocationResult, ResourceClaim,
    ResourceClaimConsumerReference, ResourceClaimStatus,
};
use serde_json::Value;

use super::{
    allocation::allocation,
    config::raw,
    lists::{each_unique, repeated},
    names,
    network::network,
    requests::Requests,
};
use crate::{
    field::{self, ErrorList, Path},
    json::go_text,
    kinds::checks::{conditions, dns_label, json, list, same, slot, text},
};

const CONSUMERS: usize = 256;
const CONDITIONS: usize = 8;

/// The driver, the pool, and the device in it.
type Device<'s> = (&'s str, &'s str, &'s str);
/// A device, and which share of it if it is shared.
type Share<'s> = (Device<'s>, &'s str);

fn results(status: Option<&ResourceClaimStatus>) -> &[DeviceRequestAllocationResult] {
    let allocation = status.and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    devices.map(|devices| list(&devices.results)).unwrap_or_default()
}

fn allocated(result: &DeviceRequestAllocationResult) -> Device<'_> {
    (&result.driver, &result.pool, &result.device)
}

fn told_of(status: &AllocatedDeviceStatus) -> Device<'_> {
    (&status.driver, &status.pool, &status.device)
}

fn share(status: &AllocatedDeviceStatus) -> Share<'_> {
    (told_of(status), text(&status.share_id))
}

/// Of devices that a claim has no more nothing is told.
pub(super) fn drop_deallocated(new: &mut ResourceClaim, old: &ResourceClaim) {
    let Some(status) = &mut new.status else {
        return;
    };
    let devices = status.devices.take().unwrap_or_default();
    let has: HashSet<_> = results(Some(status)).iter().map(allocated).collect();
    let had = results(old.status.as_ref()).iter().map(allocated);
    let gone: HashSet<_> = had.filter(|device| !has.contains(device)).collect();
    let left = devices.into_iter().filter(|one| !gone.contains(&told_of(one)));
    let left: Vec<_> = left.collect();
    status.devices = Some(left).filter(|left| !left.is_empty());
}

/// What is wrong with a changed status.
pub(super) fn changed(new: &ResourceClaim, old: &ResourceClaim) -> ErrorList {
    let path = Path::new("status");
    let Some(status) = &new.status else {
        return ErrorList::new();
    };
    let before = old.status.as_ref();
    let mut out = each_unique(
        list(&status.reserved_for),
        CONSUMERS,
        &path.child("reservedFor"),
        |consumer| &consumer.uid,
        consumer,
    );
    out.extend(devices(status, &path.child("devices")));
    let is_leaving = new.metadata.deletion_timestamp.is_some();
    out.extend(reservations(status, before, is_leaving, &path.child("reservedFor")));
    let path = path.child("allocation");
    match (&status.allocation, before.and_then(|before| before.allocation.as_ref())) {
        (Some(now), Some(before)) if !same(now, before) => {
            out.push(field::invalid(path, Value::Null, "field cannot be modified once set"));
        }
        (Some(now), None) => {
            let requests = Requests::of(slot(&new.spec));
            out.extend(allocation(now, &requests, &path));
        }
        _ => {}
    }
    out
}

fn consumer(consumer: &ResourceClaimConsumerReference, path: &Path) -> ErrorList {
    let fields = [
        ("resource", &consumer.resource),
        ("name", &consumer.name),
        ("uid", &consumer.uid),
    ];
    let missing = fields.iter().filter(|(_, value)| value.is_empty());
    missing.map(|(name, _)| field::required(path.child(name), "")).collect()
}

/// A claim is for somebody only while something is allocated to it, and for nobody new while it leaves.
fn reservations(
    status: &ResourceClaimStatus,
    before: Option<&ResourceClaimStatus>,
    is_leaving: bool,
    path: &Path,
) -> ErrorList {
    fn all(status: &ResourceClaimStatus) -> impl Iterator<Item = [&str; 4]> {
        list(&status.reserved_for).iter().map(|one| {
            [text(&one.api_group), &one.resource, &one.name, &one.uid]
        })
    }
    if list(&status.reserved_for).is_empty() {
        return ErrorList::new();
    }
    if status.allocation.is_none() {
        let text = "may not be specified when `allocated` is not set";
        return vec![field::forbidden(path.clone(), text)];
    }
    let known: HashSet<_> = before.into_iter().flat_map(all).collect();
    if is_leaving && all(status).any(|one| !known.contains(&one)) {
        let text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        return vec![field::forbidden(path.clone(), text)];
    }
    ErrorList::new()
}

/// What is wrong with what drivers tell of devices: each tells of one that is allocated.
fn devices(status: &ResourceClaimStatus, path: &Path) -> ErrorList {
    let allocated = results(Some(status)).iter();
    let allocated: HashSet<Share<'_>> = allocated
        .map(|result| (self::allocated(result), text(&result.share_id)))
        .collect();
    let all = list(&status.devices);
    let each = all.iter().enumerate();
    let mut out: ErrorList = each
        .flat_map(|(index, one)| device(one, allocated.contains(&share(one)), &path.index(index)))
        .collect();
    out.extend(repeated(all, path, share, json));
    out
}

fn device(device: &AllocatedDeviceStatus, is_allocated: bool, path: &Path) -> ErrorList {
    let mut out = names::driver(&device.driver, &path.child("driver"));
    out.extend(names::pool(&device.pool, &path.child("pool")));
    out.extend(dns_label(&device.device, path.child("device")));
    if let Some(share) = &device.share_id {
        out.extend(names::share(share, &path.child("shareID")));
    }
    if !is_allocated {
        let ((driver, pool, name), share) = share(device);
        let [driver, pool, name, share] =
            [driver, pool, name, share].map(|part| go_text(&part.into()));
        let spelled =
            format!(r#"{{"Driver":{driver},"Pool":{pool},"Device":{name},"ShareID":{share}}}"#);
        let text = "must be an allocated device in the claim";
        out.push(field::invalid_spelled(path.clone(), &spelled, text));
    }
    let (said, at) = (list(&device.conditions), path.child("conditions"));
    if said.len() > CONDITIONS {
        out.push(field::too_many(at.clone(), said.len(), CONDITIONS));
    }
    out.extend(conditions(said, &at));
    if let Some(data) = device.data.as_ref().filter(|data| data.0 != Value::Null) {
        out.extend(raw(data, false, path.child("data")));
    }
    if let Some(data) = &device.network_data {
        out.extend(network(data, &path.child("networkData")));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ResourceClaimRules;
    use super::*;
    use crate::kinds::typed::KindRules;

    const SHARE: &str = "0f3a4b5c-1111-4222-8333-0123456789ab";

    fn claim(status: Value) -> ResourceClaim {
        let requests = json!([{"name": "a", "exactly": {"deviceClassName": "c"}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}]);
        let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}, "status": status});
        serde_json::from_value(claim).unwrap()
    }

    fn found(new: Value, old: Value) -> Vec<String> {
        let found = ResourceClaimRules.validate_status_update(&claim(new), &claim(old));
        found.iter().map(ToString::to_string).collect()
    }

    fn result(fields: Value) -> Value {
        let mut result = json!({"request": "a", "driver": "d", "pool": "p/q", "device": "e"});
        result.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        result
    }

    fn given(results: Value) -> Value {
        json!({"allocation": {"devices": {"results": results}}})
    }

    #[test]
    fn a_new_allocation_is_of_devices_and_for_requests_that_there_are() {
        let new = |fields: Value| found(given(json!([result(fields)])), json!({}));
        assert_eq!(new(json!({"request": "b/x", "shareID": SHARE})), [""; 0]);
        let at = "status.allocation.devices.results[0]";
        let text = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        for (fields, text) in [
            (json!({"request": "z"}), format!(r#".request: Invalid value: "z": {text}"#)),
            (json!({"driver": ""}), ".driver: Required value".to_owned()),
            (json!({"driver": "a".repeat(64)}), ".driver: Too long: may not be more than 63 characters".to_owned()),
            (json!({"pool": ""}), ".pool: Required value".to_owned()),
            (json!({"pool": "a//b"}), r#".pool: Invalid value: "a//b": segment 1: must not be empty"#.to_owned()),
            (json!({"shareID": "1"}), r#".shareID: Invalid value: "1": must be a lowercase UUID in 8-4-4-4-12 format"#.to_owned()),
            (json!({"shareID": SHARE.to_uppercase()}), format!(r#".shareID: Invalid value: "{}": must be a lowercase UUID in 8-4-4-4-12 format"#, SHARE.to_uppercase())),
            (json!({"bindingConditions": ["a"]}), ".bindingFailureConditions: Invalid value: []: bindingFailureConditions are required to use bindingConditions".to_owned()),
        ] {
            assert_eq!(new(fields), [format!("{at}{text}")]);
        }
        for fields in [json!({"device": "A"}), json!({"pool": "A/b"})] {
            assert_eq!(new(fields).len(), 1);
        }
        let many = vec![result(json!({})); 33];
        assert_eq!(
            found(given(json!(many)), json!({})),
            ["status.allocation.devices.results: Too many: 33: must have at most 32 items"]
        );
        let config = |config: Value| found(json!({"allocation": {"devices": {"config": [config]}}}), json!({}));
        let opaque = json!({"driver": "d", "parameters": {}});
        let at = "status.allocation.devices.config[0]";
        assert_eq!(config(json!({"source": "FromClass", "opaque": opaque, "requests": ["a"]})), [""; 0]);
        assert_eq!(
            config(json!({"source": "", "opaque": opaque})),
            [format!("{at}.source: Required value")]
        );
        assert_eq!(
            config(json!({"source": "Else", "opaque": opaque})),
            [format!(r#"{at}.source: Unsupported value: "Else": supported values: "FromClaim", "FromClass""#)]
        );
        assert_eq!(
            found(json!({"allocation": {"nodeSelector": {"nodeSelectorTerms": []}}}), json!({})),
            ["status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term"]
        );
    }

    #[test]
    fn an_allocation_stays_until_it_goes() {
        let (one, other) = (given(json!([result(json!({"request": "z"}))])), given(json!([])));
        assert_eq!(found(one.clone(), one.clone()), [""; 0]);
        assert_eq!(found(json!({}), one.clone()), [""; 0]);
        assert_eq!(
            found(other, one),
            [r#"status.allocation: Invalid value: null: field cannot be modified once set"#]
        );
    }

    #[test]
    fn a_claim_is_for_somebody_while_it_has_something() {
        let consumer = |uid: &str| json!({"resource": "pods", "name": "a", "uid": uid});
        let reserved = |consumers: Value| json!({"reservedFor": consumers, "allocation": {}});
        let had = json!({"allocation": {}});
        assert_eq!(found(reserved(json!([consumer("1")])), had.clone()), [""; 0]);
        let at = "status.reservedFor";
        assert_eq!(
            found(json!({"reservedFor": [consumer("1")]}), json!({})),
            [format!("{at}: Forbidden: may not be specified when `allocated` is not set")]
        );
        assert_eq!(
            found(reserved(json!([{"resource": "", "name": "", "uid": ""}])), had.clone()),
            ["resource", "name", "uid"].map(|name| format!("{at}[0].{name}: Required value"))
        );
        assert_eq!(
            found(reserved(json!([consumer("1"), consumer("1")])), had.clone()),
            [format!(r#"{at}[1]: Duplicate value: {{"name":"a","resource":"pods","uid":"1"}}"#)]
        );
        let many: Vec<Value> = (0..257).map(|i| consumer(&i.to_string())).collect();
        assert_eq!(
            found(reserved(json!(many)), had),
            [format!("{at}: Too many: 257: must have at most 256 items")]
        );
        let mut leaving = claim(reserved(json!([consumer("1")])));
        leaving.metadata.deletion_timestamp = Some(crate::metadata::to_second(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        let found = |old: Value| ResourceClaimRules.validate_status_update(&leaving, &claim(old)).len();
        assert_eq!(found(reserved(json!([consumer("1"), consumer("2")]))), 0);
        assert_eq!(found(reserved(json!([consumer("2")]))), 1);
    }

    #[test]
    fn drivers_tell_of_what_is_allocated() {
        let results = json!([result(json!({})), result(json!({"shareID": SHARE}))]);
        let told = |fields: Value| {
            let mut device = json!({"driver": "d", "pool": "p/q", "device": "e"});
            device.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            device
        };
        let with = |devices: Value| {
            let mut status = given(results.clone());
            status["devices"] = devices;
            found(status, given(results.clone()))
        };
        let data = json!({"data": {"a": 1}, "networkData": {"ips": ["10.0.0.1/8", "2001:db8::5/64"]}});
        assert_eq!(with(json!([told(data), told(json!({"shareID": SHARE}))])), [""; 0]);
        let at = "status.devices[0]";
        let text = "must be an allocated device in the claim";
        assert_eq!(
            with(json!([told(json!({"device": "f"}))])),
            [format!(
                r#"{at}: Invalid value: {{"Driver":"d","Pool":"p/q","Device":"f","ShareID":""}}: {text}"#
            )]
        );
        let other = SHARE.replace('0', "1");
        assert_eq!(
            with(json!([told(json!({"shareID": other}))])),
            [format!(
                r#"{at}: Invalid value: {{"Driver":"d","Pool":"p/q","Device":"e","ShareID":"{other}"}}: {text}"#
            )]
        );
        assert_eq!(
            with(json!([told(json!({})), told(json!({}))])),
            [r#"status.devices[1]: Duplicate value: {"device":"e","driver":"d","pool":"p/q"}"#]
        );
        let condition = |i: usize| json!({"type": format!("T{i}"), "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let conditions: Vec<Value> = (0..9).map(condition).collect();
        let form = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        let ips: Vec<String> = (0..17).map(|i| format!("10.0.0.{i}/8")).collect();
        for (fields, text) in [
            (json!({"conditions": conditions}), ".conditions: Too many: 9: must have at most 8 items".to_owned()),
            (json!({"data": 1}), r#".data: Invalid value: "<value omitted>": must be a valid JSON object"#.to_owned()),
            (json!({"data": {"a": "x".repeat(10 << 10)}}), ".data: Too long: may not be more than 10240 bytes".to_owned()),
            (json!({"networkData": {"interfaceName": "a".repeat(257)}}), ".networkData.interfaceName: Too long: may not be more than 256 bytes".to_owned()),
            (json!({"networkData": {"hardwareAddress": "a".repeat(129)}}), ".networkData.hardwareAddress: Too long: may not be more than 128 bytes".to_owned()),
            (json!({"networkData": {"ips": ips}}), ".networkData.ips: Too many: 17: must have at most 16 items".to_owned()),
            (json!({"networkData": {"ips": ["10.0.0.1"]}}), format!(r#".networkData.ips[0]: Invalid value: "10.0.0.1": {form}"#)),
            (json!({"networkData": {"ips": ["10.0.0.1/8", "10.0.0.1/8"]}}), r#".networkData.ips[1]: Duplicate value: "10.0.0.1/8""#.to_owned()),
        ] {
            assert_eq!(with(json!([told(fields)])), [format!("{at}{text}")]);
        }
    }

    #[test]
    fn of_what_is_no_more_allocated_nothing_is_told() {
        let told = |device: &str| json!({"driver": "d", "pool": "p/q", "device": device});
        let old = claim(json!({
            "allocation": {"devices": {"results": [result(json!({})), result(json!({"device": "f"}))]}},
            "devices": [told("e"), told("f")],
        }));
        let mut new = old.clone();
        new.metadata.finalizers = Some(vec!["a/b".to_owned()]);
        new.status.as_mut().unwrap().allocation = None;
        ResourceClaimRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(new, claim(json!({})));
        // What never was allocated stays, to be found wrong.
        let mut new = claim(json!({"devices": [told("e"), told("g")]}));
        ResourceClaimRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(new, claim(json!({"devices": [told("g")]})));
        assert_eq!(ResourceClaimRules.validate_status_update(&new, &old).len(), 1);
    }
}
