//! Fields of features that are off in Kubernetes 1.37: nobody sets them, but where they were set they stay.

use k8s_openapi::{k8s_if_ge_1_37, k8s_if_le_1_36};

k8s_if_le_1_36! {
    use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimSpec, ResourceSliceSpec};

    pub(super) fn drop_of_slice(_new: &mut ResourceSliceSpec, _old: Option<&ResourceSliceSpec>) {}

    pub(super) fn drop_of_claim(
        _new: Option<&mut ResourceClaimSpec>,
        _old: Option<&ResourceClaimSpec>,
    ) {
    }

    pub(super) fn drop_of_status(_new: &mut ResourceClaim, _old: &ResourceClaim) {}
}

k8s_if_ge_1_37! {
    use k8s_openapi::api::resource::v1::{
        Device, DeviceAttribute, DeviceRequest,
        DeviceRequestAllocationResult, ResourceClaim, ResourceClaimSpec, ResourceClaimStatus,
        ResourceSliceSpec,
    };

    use crate::kinds::checks::list;

    /// Drops from a slice: attributes that are lists (DRAListTypeAttributes), resources of nodes
    /// (DRANodeAllocatableResources), groups of devices that go together (DRADeviceCompatibilityGroups) and what need not
    /// be done on a node (DRAOptionalNodeOperations).
    pub(super) fn drop_of_slice(new: &mut ResourceSliceSpec, old: Option<&ResourceSliceSpec>) {
        let in_use = |uses: &dyn Fn(&Device) -> bool| {
            old.is_some_and(|old| list(&old.devices).iter().any(uses))
        };
        let lists = in_use(&|device| device.attributes.iter().flatten().any(|(_, one)| is_list(one)));
        let resources = in_use(&|device| device.node_allocatable_resources.is_some());
        let groups = in_use(&|device| {
            let mut consumed = list(&device.consumes_counters).iter();
            consumed.any(|one| one.compatibility_groups.is_some())
        });
        for device in new.devices.iter_mut().flatten() {
            if !lists {
                device.attributes.iter_mut().flatten().for_each(|(_, one)| drop_lists(one));
            }
            if !resources {
                device.node_allocatable_resources = None;
            }
            for consumed in device.consumes_counters.iter_mut().flatten() {
                consumed.compatibility_groups = consumed.compatibility_groups.take().filter(|_| groups);
            }
        }
        if old.is_none_or(|old| old.skip_node_operations.is_none()) {
            new.skip_node_operations = None;
        }
    }

    fn is_list(attribute: &DeviceAttribute) -> bool {
        attribute.bools.is_some()
            || attribute.ints.is_some()
            || attribute.strings.is_some()
            || attribute.versions.is_some()
    }

    fn drop_lists(attribute: &mut DeviceAttribute) {
        attribute.bools = None;
        attribute.ints = None;
        attribute.strings = None;
        attribute.versions = None;
    }

    /// Drops from what a claim asks for attributes that are worked out from others (DRADerivedAttributes).
    pub(super) fn drop_of_claim(
        new: Option<&mut ResourceClaimSpec>,
        old: Option<&ResourceClaimSpec>,
    ) {
        let derived = |request: &DeviceRequest| {
            let exactly = request.exactly.iter().map(|exactly| &exactly.derived_attributes);
            let parts = list(&request.first_available).iter().map(|part| &part.derived_attributes);
            exactly.chain(parts).any(Option::is_some)
        };
        let devices = old.and_then(|old| old.devices.as_ref());
        if devices.is_some_and(|devices| list(&devices.requests).iter().any(derived)) {
            return;
        }
        let requests = new.and_then(|new| new.devices.as_mut()?.requests.as_mut());
        for request in requests.into_iter().flatten() {
            if let Some(exactly) = &mut request.exactly {
                exactly.derived_attributes = None;
            }
            for part in request.first_available.iter_mut().flatten() {
                part.derived_attributes = None;
            }
        }
    }

    /// Drops from an allocation what need not be done on a node (DRAOptionalNodeOperations).
    pub(super) fn drop_of_status(new: &mut ResourceClaim, old: &ResourceClaim) {
        fn results(status: &mut ResourceClaimStatus) -> Option<&mut Vec<DeviceRequestAllocationResult>> {
            status.allocation.as_mut()?.devices.as_mut()?.results.as_mut()
        }
        let before = old.status.as_ref().and_then(|status| status.allocation.as_ref()?.devices.as_ref());
        let before = before.map(|devices| list(&devices.results)).unwrap_or_default();
        if before.iter().any(|result| result.skip_node_operations.is_some()) {
            return;
        }
        for result in new.status.as_mut().and_then(results).into_iter().flatten() {
            result.skip_node_operations = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
    use serde_json::{Value, json};

    use super::super::{ResourceClaimRules, ResourceSliceRules};
    use crate::kinds::typed::KindRules;

    #[test]
    fn what_is_not_in_use_yet_is_dropped_from_slices() {
        let slice = |spec: Value| -> ResourceSlice {
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
        };
        let spec = |operations: Value, device: Value| {
            json!({"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                "skipNodeOperations": operations, "devices": [device]})
        };
        let counters = |groups: Value| json!([{"counterSet": "s", "counters": {}, "compatibilityGroups": groups}]);
        let full = slice(spec(json!(["*"]), json!({"name": "a", "attributes": {"x": {"int": 1, "ints": [1]}},
            "nodeAllocatableResources": {"cpu": {}}, "consumesCounters": counters(json!(["g"]))})));
        let plain = slice(spec(Value::Null, json!({"name": "a", "attributes": {"x": {"int": 1}},
            "consumesCounters": counters(Value::Null)})));
        let mut new = full.clone();
        ResourceSliceRules.prepare_for_create(&mut new);
        assert_eq!(new, plain);
        let mut new = full.clone();
        ResourceSliceRules.prepare_for_update(&mut new, &plain);
        assert_eq!(new, plain);
        let mut new = full.clone();
        ResourceSliceRules.prepare_for_update(&mut new, &full);
        assert_eq!(new, full);
    }

    #[test]
    fn what_is_not_in_use_yet_is_dropped_from_claims() {
        let claim = |derived: Value, operations: Value| -> ResourceClaim {
            let request = json!({"name": "r", "exactly": {"deviceClassName": "c", "derivedAttributes": derived}});
            let result = json!({"request": "r", "driver": "d", "pool": "p", "device": "e", "skipNodeOperations": operations});
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}},
                "status": {"allocation": {"devices": {"results": [result]}}}})).unwrap()
        };
        let full = claim(json!([{"name": "a/b", "expression": "1"}]), json!(["*"]));
        let plain = claim(Value::Null, Value::Null);
        let mut new = full.clone();
        ResourceClaimRules.prepare_for_create(&mut new);
        assert_eq!(new.spec, plain.spec);
        let mut new = full.clone();
        ResourceClaimRules.prepare_for_status_update(&mut new, &plain);
        assert_eq!(new, plain);
        let mut new = full.clone();
        ResourceClaimRules.prepare_for_status_update(&mut new, &full);
        assert_eq!(new, full);
    }
}
