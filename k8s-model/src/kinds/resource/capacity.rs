//! How much of something devices have, and how much of that requests may take.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::resource::v1::{
        CapacityRequestPolicy, CapacityRequestPolicyRange, CapacityRequirements, Counter, Device,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::Value;

use super::{
    lists::{each, repeated, shortened},
    names::{self, QUALIFIED},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, slot, slot_mut},
        quantities,
    },
    quantity::{Amount, Format},
};

/// How many amounts there may be to choose from.
const CHOICES: usize = 10;

/// The amount that a quantity says: none if it says nothing.
fn amount(quantity: &Quantity) -> Option<Amount> {
    match quantity.0.as_str() {
        "" => Some(Amount::default()),
        _ => quantities::parse(quantity),
    }
}

/// What is wrong with how a quantity is written.
pub(super) fn well_formed(quantity: &Quantity, path: impl FnOnce() -> Path) -> Option<field::Error> {
    match amount(quantity) {
        Some(_) => None,
        None => Some(quantities::malformed(quantity, path())),
    }
}

/// What is wrong with the capacities of a device.
pub(super) fn capacities(device: &Device, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let is_shared = device.allow_multiple_allocations == Some(true);
    for (name, capacity) in device.capacity.iter().flatten() {
        out.extend(names::qualified(name, path));
        let path = path.key(&shortened(name, QUALIFIED));
        let Some(most) = amount(&capacity.value) else {
            out.push(quantities::malformed(&capacity.value, path.child("value")));
            continue;
        };
        let path = path.child("requestPolicy");
        match &capacity.request_policy {
            None => {}
            Some(_) if !is_shared => {
                out.push(field::forbidden(path, "allowMultipleAllocations must be true"));
            }
            Some(policy) => out.extend(self::policy(policy, most, &path)),
        }
    }
    out
}

/// What is wrong with how much may be asked for, out of so much at most.
fn policy(policy: &CapacityRequestPolicy, most: Amount, path: &Path) -> ErrorList {
    let malformed = misspelled(policy, path);
    if !malformed.is_empty() {
        return malformed;
    }
    let default = policy.default.as_ref().and_then(amount);
    let values = list(&policy.valid_values);
    let missing = |of: &str| {
        let text = format!("required when {of} is defined");
        vec![field::required(path.child("default"), text)]
    };
    match (values, &policy.valid_range, default) {
        ([_, ..], Some(_), _) => {
            let text = r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
            vec![field::forbidden(path.clone(), text)]
        }
        ([_, ..], None, None) => missing("validValues"),
        ([_, ..], None, Some(default)) => {
            let values: Vec<Amount> = values.iter().filter_map(amount).collect();
            choices(&values, default, most, &path.child("validValues"))
        }
        ([], Some(_), None) => missing("validRange"),
        ([], Some(range), Some(default)) => {
            self::range(range, default, most, &path.child("validRange"))
        }
        ([], None, _) => ErrorList::new(),
    }
}

/// What in a policy is no quantity.
fn misspelled(policy: &CapacityRequestPolicy, path: &Path) -> ErrorList {
    let check = |quantity: Option<&Quantity>, at: Path| well_formed(quantity?, || at);
    let mut out: ErrorList = check(policy.default.as_ref(), path.child("default")).into_iter().collect();
    for (index, value) in list(&policy.valid_values).iter().enumerate() {
        out.extend(check(Some(value), path.child("validValues").index(index)));
    }
    if let Some(range) = &policy.valid_range {
        let path = path.child("validRange");
        out.extend(check(slot(&range.min), path.child("min")));
        out.extend(check(range.max.as_ref(), path.child("max")));
        out.extend(check(range.step.as_ref(), path.child("step")));
    }
    out
}

fn invalid(path: Path, amount: Amount, text: impl Into<String>) -> field::Error {
    field::invalid(path, amount.to_string(), text)
}

/// What is wrong with amounts to choose from.
fn choices(values: &[Amount], default: Amount, most: Amount, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    for (index, pair) in values.windows(2).enumerate() {
        if let [one, next] = pair
            && one > next
        {
            let text = "values must be sorted in ascending order";
            out.push(invalid(path.index(index + 1), *next, text));
        }
    }
    out.extend(each(values, CHOICES, path, |value, path| {
        let text = format!("option is larger than capacity value: {most}");
        let finding = (*value > most).then(|| invalid(path.clone(), *value, text));
        finding.into_iter().collect()
    }));
    let is_short = values.len() <= CHOICES;
    if is_short {
        let shown = |value: &Amount| Value::from(value.value().to_string());
        out.extend(repeated(values, path, |value: &Amount| value.value(), shown));
    }
    // Where there are too many, upstream looks at none.
    if !is_short || !values.contains(&default) {
        let text = "default value is not valid according to the requestPolicy";
        out.push(invalid(path.clone(), default, text));
    }
    out
}

/// What is wrong with a range of amounts.
fn range(
    range: &CapacityRequestPolicyRange,
    default: Amount,
    most: Amount,
    path: &Path,
) -> ErrorList {
    let min = slot(&range.min).filter(|min: &&Quantity| !min.0.is_empty());
    let Some(min) = min.and_then(amount) else {
        let text = "required when validRange is defined";
        return vec![field::required(path.child("min"), text)];
    };
    let (max, step) = (range.max.as_ref().and_then(amount), range.step.as_ref().and_then(amount));
    let mut out = ErrorList::new();
    if min > most {
        let text = format!("min is larger than capacity value: {most}");
        out.push(invalid(path.child("min"), min, text));
    }
    if default < min {
        let text = format!("default is less than min: {min}");
        out.push(invalid(path.child("default"), default, text));
    }
    if let Some(max) = max {
        if min > max {
            let text = format!("min is larger than max: {max}");
            out.push(invalid(path.child("max"), min, text));
        }
        if max > most {
            let text = format!("max is larger than capacity value: {most}");
            out.push(invalid(path.child("max"), max, text));
        }
        if default > max {
            let text = format!("default is more than max: {max}");
            out.push(invalid(path.child("default"), default, text));
        }
    }
    if let Some(step) = step {
        out.extend(steps((min, max, step), default, most, path));
    }
    out
}

/// What is wrong with the steps in which amounts go up.
fn steps(
    (min, max, step): (Amount, Option<Amount>, Amount),
    default: Amount,
    most: Amount,
    path: &Path,
) -> ErrorList {
    let at = path.child("step");
    if step.signum() <= 0 {
        return vec![invalid(at, step, "must be greater than zero")];
    }
    let mut out = ErrorList::new();
    let next = min + step;
    if next > most {
        let text = format!("one step {next} is larger than capacity value: {most}");
        out.push(invalid(at.clone(), step, text));
    }
    let bounds = [("default", Some(default)), ("min", Some(min)), ("max", max), ("step", Some(step))];
    let unsafe_bounds: ErrorList = bounds
        .into_iter()
        .filter_map(|(name, amount)| countable(amount?, path.child(name)))
        .collect();
    if !unsafe_bounds.is_empty() {
        out.extend(unsafe_bounds);
        return out;
    }
    for amount in [Some(default), max].into_iter().flatten() {
        let rest = (amount.value() - min.value()).checked_rem(step.value());
        if rest != Some(0) {
            let text = format!("value is not a multiple of a given step ({step}) from ({min})");
            out.push(invalid(at.clone(), amount, text));
        }
    }
    out
}

/// Why steps up to an amount cannot be counted.
fn countable(amount: Amount, path: Path) -> Option<field::Error> {
    if amount.signum() < 0 {
        return Some(invalid(path, amount, "must be greater than or equal to 0"));
    }
    let largest = Amount::new(i64::MAX, Format::DecimalSi);
    let text = "must not be larger than 9223372036854775807";
    (amount > largest).then(|| invalid(path, amount, text))
}

/// Brings the amounts of a device's capacities into canonical form.
pub(super) fn normalize(device: &mut Device) {
    for capacity in device.capacity.iter_mut().flat_map(BTreeMap::values_mut) {
        quantities::normalize_one(&mut capacity.value);
        let Some(policy) = &mut capacity.request_policy else {
            continue;
        };
        policy.default.iter_mut().for_each(quantities::normalize_one);
        policy.valid_values.iter_mut().flatten().for_each(quantities::normalize_one);
        if let Some(range) = &mut policy.valid_range {
            slot_mut(&mut range.min).into_iter().for_each(quantities::normalize_one);
            range.max.iter_mut().for_each(quantities::normalize_one);
            range.step.iter_mut().for_each(quantities::normalize_one);
        }
    }
}

/// Brings the amounts of counters into canonical form.
pub(super) fn normalize_counters(all: &mut BTreeMap<String, Counter>) {
    for counter in all.values_mut() {
        quantities::normalize_one(&mut counter.value);
    }
}

/// Brings the amounts that a request asks for into canonical form.
pub(super) fn normalize_requests(capacity: &mut Option<CapacityRequirements>) {
    let requests = capacity.as_mut().and_then(|capacity| capacity.requests.as_mut());
    for amount in requests.into_iter().flat_map(BTreeMap::values_mut) {
        quantities::normalize_one(amount);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(is_shared: bool, capacity: Value) -> Vec<String> {
        let device = json!({"name": "d", "allowMultipleAllocations": is_shared, "capacity": {"m": capacity}});
        let mut device: Device = serde_json::from_value(device).unwrap();
        normalize(&mut device);
        let found = capacities(&device, &Path::new("c"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_capacity_is_a_quantity_under_a_qualified_name() {
        assert_eq!(found(false, json!({"value": "10Gi"})), [""; 0]);
        assert_eq!(found(false, json!({"value": "many"})).len(), 1);
        let device: Device = serde_json::from_value(json!({"name": "d", "capacity": {"a/b/c": {"value": "1"}}})).unwrap();
        let found = capacities(&device, &Path::new("c"));
        assert_eq!(
            found[0].to_string(),
            r#"c: Invalid value: "a/b/c": must not contain more than one slash"#
        );
    }

    #[test]
    fn what_may_be_asked_for_fits_what_there_is() {
        let policy = |policy: Value| found(true, json!({"value": "10Gi", "requestPolicy": policy}));
        let range = |default: &str, range: Value| policy(json!({"default": default, "validRange": range}));
        let values = |default: &str, values: Value| policy(json!({"default": default, "validValues": values}));
        for good in [
            json!({}),
            json!({"default": "1Gi"}),
            json!({"default": "1Gi", "validValues": ["1Gi", "2Gi", "10Gi"]}),
            json!({"default": "2Gi", "validRange": {"min": "1Gi"}}),
            json!({"default": "3Gi", "validRange": {"min": "1Gi", "max": "9Gi", "step": "1024Mi"}}),
        ] {
            assert_eq!(policy(good), [""; 0]);
        }
        let at = "c[m].requestPolicy";
        assert_eq!(
            found(false, json!({"value": "1", "requestPolicy": {}})),
            [format!("{at}: Forbidden: allowMultipleAllocations must be true")]
        );
        for (found, texts) in [
            (
                policy(json!({"validValues": ["1"], "validRange": {"min": "1"}})),
                vec![r#": Forbidden: exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#],
            ),
            (policy(json!({"validValues": ["1"]})), vec![".default: Required value: required when validValues is defined"]),
            (policy(json!({"validRange": {"min": "1"}})), vec![".default: Required value: required when validRange is defined"]),
            (range("1", json!({})), vec![".validRange.min: Required value: required when validRange is defined"]),
            (
                values("3Gi", json!(["2Gi", "1Gi", "20Gi"])),
                vec![
                    r#".validValues[1]: Invalid value: "1Gi": values must be sorted in ascending order"#,
                    r#".validValues[2]: Invalid value: "20Gi": option is larger than capacity value: 10Gi"#,
                    r#".validValues: Invalid value: "3Gi": default value is not valid according to the requestPolicy"#,
                ],
            ),
            (values("5", json!(["5", "5000m"])), vec![r#".validValues[1]: Duplicate value: "5""#]),
            (
                values("1", json!(["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"])),
                vec![
                    ".validValues: Too many: 11: must have at most 10 items",
                    r#".validValues: Invalid value: "1": default value is not valid according to the requestPolicy"#,
                ],
            ),
            (
                range("1Gi", json!({"min": "20Gi", "max": "15Gi"})),
                vec![
                    r#".validRange.min: Invalid value: "20Gi": min is larger than capacity value: 10Gi"#,
                    r#".validRange.default: Invalid value: "1Gi": default is less than min: 20Gi"#,
                    r#".validRange.max: Invalid value: "20Gi": min is larger than max: 15Gi"#,
                    r#".validRange.max: Invalid value: "15Gi": max is larger than capacity value: 10Gi"#,
                ],
            ),
            (range("5", json!({"min": "1", "max": "4"})), vec![r#".validRange.default: Invalid value: "5": default is more than max: 4"#]),
            (range("1", json!({"min": "1", "step": "0"})), vec![r#".validRange.step: Invalid value: "0": must be greater than zero"#]),
            (
                range("4", json!({"min": "1", "max": "8", "step": "2"})),
                vec![
                    r#".validRange.step: Invalid value: "4": value is not a multiple of a given step (2) from (1)"#,
                    r#".validRange.step: Invalid value: "8": value is not a multiple of a given step (2) from (1)"#,
                ],
            ),
            (
                range("1", json!({"min": "1", "step": "10Gi"})),
                vec![r#".validRange.step: Invalid value: "10Gi": one step 10737418241 is larger than capacity value: 10Gi"#],
            ),
            (
                range("-1", json!({"min": "-1", "step": "1"})),
                vec![
                    r#".validRange.default: Invalid value: "-1": must be greater than or equal to 0"#,
                    r#".validRange.min: Invalid value: "-1": must be greater than or equal to 0"#,
                ],
            ),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| format!("{at}{text}")).collect();
            assert_eq!(found, texts);
        }
        let found = range("x", json!({"min": "y", "step": "1"}));
        assert!(found.len() == 2 && found[1].starts_with("c[m].requestPolicy.validRange.min: Invalid"), "{found:?}");
    }
}
