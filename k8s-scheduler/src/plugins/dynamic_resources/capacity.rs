//! How much of a device a request uses (KEP-5075).

use std::collections::BTreeMap;

use k8s_model::quantity::{Amount, Format};

use crate::snapshot::devices::wire::{Device, DeviceCapacity, RequestPolicy, Size, ValidRange};

/// What is used of each capacity of a device, by name.
pub(super) type Used = BTreeMap<String, Amount>;

/// What a request uses of each capacity; `None` if the device does not take such a request.
pub(super) fn used(requests: &BTreeMap<String, Size>, device: &Device) -> Option<Used> {
    if requests
        .keys()
        .any(|name| !device.capacity.contains_key(name))
    {
        return None;
    }
    let mut all = Used::new();
    for (name, capacity) in &device.capacity {
        let amount = one(requests.get(name).map(|size| size.0), capacity);
        if violates(amount, capacity.request_policy.as_ref()) {
            return None;
        }
        all.insert(name.clone(), amount);
    }
    Some(all)
}

fn one(requested: Option<Amount>, capacity: &DeviceCapacity) -> Amount {
    let policy = capacity.request_policy.as_ref();
    let Some(requested) = requested else {
        let default = policy.and_then(|policy| policy.default);
        return default.unwrap_or(capacity.value).0;
    };
    let Some(policy) = policy else {
        return requested;
    };
    if let Some(range) = &policy.valid_range
        && let Some(min) = range.min
    {
        return within(requested, min.0, range);
    }
    let mut values = policy.valid_values.iter();
    values
        .find(|value| requested <= value.0)
        .map_or(requested, |value| value.0)
}

/// The next value of a range.
fn within(requested: Amount, min: Amount, range: &ValidRange) -> Amount {
    if requested < min {
        return min;
    }
    let Some(step) = range
        .step
        .map(|step| step.0.value())
        .filter(|step| *step > 0)
    else {
        return requested;
    };
    let more = requested.value().saturating_sub(min.value());
    let steps = more / step + i64::from(more % step != 0);
    let value = min.value().saturating_add(steps.saturating_mul(step));
    Amount::new(value, Format::BinarySi)
}

fn violates(amount: Amount, policy: Option<&RequestPolicy>) -> bool {
    let Some(policy) = policy else {
        return false;
    };
    if policy.default.is_some_and(|default| default.0 == amount) {
        return false;
    }
    if let Some(range) = &policy.valid_range {
        let step = range
            .step
            .map(|step| step.0.value())
            .filter(|step| *step > 0);
        let min = range.min.map_or(0, |min| min.0.value());
        return range.max.is_some_and(|max| amount > max.0)
            || step.is_some_and(|step| amount.value().saturating_sub(min) % step != 0);
    }
    !policy.valid_values.is_empty() && policy.valid_values.iter().all(|value| value.0 != amount)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn memory(policy: serde_json::Value, request: Option<&str>) -> Option<String> {
        let device: Device = serde_json::from_value(json!({
            "name": "d", "capacity": {"memory": {"value": "10Gi", "requestPolicy": policy}},
        }))
        .unwrap();
        let request = request.map(|text| {
            let size = serde_json::from_value(json!(text)).unwrap();
            ("memory".to_owned(), size)
        });
        let used = used(&request.into_iter().collect(), &device)?;
        Some(used["memory"].to_string())
    }

    #[test]
    fn requests_are_rounded_up_as_the_device_says() {
        let range =
            json!({"default": "1Gi", "validRange": {"min": "2Gi", "step": "1Gi", "max": "8Gi"}});
        assert_eq!(memory(range.clone(), None).unwrap(), "1Gi");
        assert_eq!(memory(range.clone(), Some("100Mi")).unwrap(), "2Gi");
        assert_eq!(memory(range.clone(), Some("2500Mi")).unwrap(), "3Gi");
        assert_eq!(memory(range, Some("9Gi")), None);
        let values = json!({"default": "1Gi", "validValues": ["1Gi", "4Gi"]});
        assert_eq!(memory(values.clone(), Some("2Gi")).unwrap(), "4Gi");
        assert_eq!(memory(values, Some("5Gi")), None);
        assert_eq!(memory(json!(null), None).unwrap(), "10Gi");
        assert_eq!(memory(json!(null), Some("3Gi")).unwrap(), "3Gi");
    }

    #[test]
    fn what_a_device_does_not_have_cannot_be_requested() {
        let device: Device = serde_json::from_value(json!({"name": "d"})).unwrap();
        let requests = BTreeMap::from([("memory".to_owned(), Size::default())]);
        assert_eq!(used(&requests, &device), None);
    }
}
