//! The rules of LimitRanges.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        quantities::{self, ResourceList},
        typed::KindRules,
    },
    names,
    quantity::{Amount, Format},
};

/// The rules of LimitRanges.
pub(crate) struct LimitRangeRules;

impl KindRules for LimitRangeRules {
    type Kind = LimitRange;

    const METADATA: (usize, usize) = (1, 0);

    const UNNAMED: bool = true;
    const CREATE_ON_UPDATE: bool = true;

    fn default(&self, range: &mut LimitRange) {
        let Some(spec) = &mut range.spec else { return };
        for item in &mut spec.limits {
            for list in [
                &mut item.max,
                &mut item.min,
                &mut item.default,
                &mut item.default_request,
                &mut item.max_limit_request_ratio,
            ] {
                quantities::normalize(list);
            }
            if item.type_ == "Container" {
                container_defaults(item);
            }
        }
    }

    fn validate(&self, range: &LimitRange) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut seen = BTreeSet::new();
        let items = range.spec.as_ref().map_or(&[][..], |spec| &spec.limits);
        for (index, item) in items.iter().enumerate() {
            let path = Path::new("spec").child("limits").index(index);
            errors.extend(sort(&item.type_, &path.child("type")));
            if !seen.insert(item.type_.as_str()) {
                errors.push(field::duplicate(path.child("type"), item.type_.as_str()));
            }
            errors.extend(validate_item(item, &path));
        }
        errors
    }
}

/// A container's limit is the maximum unless said otherwise, and its request the limit, or else
/// the minimum.
fn container_defaults(item: &mut LimitRangeItem) {
    let fill = |to: &mut ResourceList, from: &Option<ResourceList>| {
        for (name, quantity) in from.iter().flatten() {
            to.entry(name.clone()).or_insert_with(|| quantity.clone());
        }
    };
    let mut limits = item.default.take().unwrap_or_default();
    fill(&mut limits, &item.max);
    let mut requests = item.default_request.take().unwrap_or_default();
    let limits = Some(limits);
    fill(&mut requests, &limits);
    fill(&mut requests, &item.min);
    item.default = limits.filter(|list| !list.is_empty());
    item.default_request = Some(requests).filter(|list| !list.is_empty());
}

fn sort(name: &str, path: &Path) -> ErrorList {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        return wrong
            .into_iter()
            .map(|text| field::invalid(path.clone(), name, text))
            .collect();
    }
    if !name.contains('/') && !matches!(name, "Pod" | "Container" | "PersistentVolumeClaim") {
        return vec![field::invalid(
            path.clone(),
            name,
            "must be a standard limit type or fully qualified",
        )];
    }
    ErrorList::new()
}

fn validate_item(item: &LimitRangeItem, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let of_pods = item.type_ == "Pod";
    let mut names = BTreeSet::new();
    for (list, field_name) in [
        (&item.max, "max"),
        (&item.min, "min"),
        (&item.default, "default"),
        (&item.default_request, "defaultRequest"),
        (&item.max_limit_request_ratio, "maxLimitRequestRatio"),
    ] {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else {
            continue;
        };
        if of_pods && field_name.starts_with("default") {
            errors.push(field::forbidden(
                path.child(field_name),
                "may not be specified when `type` is 'Pod'",
            ));
            continue;
        }
        for (name, quantity) in list {
            let path = path.child(field_name).key(name);
            errors.extend(if matches!(item.type_.as_str(), "Pod" | "Container") {
                quantities::container_resource_name(name, &path)
            } else {
                quantities::resource_name(name, &path)
            });
            if quantities::parse(quantity).is_none() {
                errors.push(quantities::malformed(quantity, path));
            }
            names.insert(name.as_str());
        }
    }
    if item.type_ == "PersistentVolumeClaim" {
        let has = |list: &Option<ResourceList>| {
            list.as_ref()
                .is_some_and(|list| list.contains_key("storage"))
        };
        if !has(&item.min) && !has(&item.max) {
            errors.push(field::required(
                path.child("limits"),
                "either minimum or maximum storage value is required, but neither was provided",
            ));
        }
    }
    for name in names {
        errors.extend(order(item, name, path));
    }
    errors
}

/// Which of two values upstream shows: not always that of the field which it names.
enum Shown {
    Low,
    High,
}

/// The values for one resource are in order: minimum, request, limit, maximum.
fn order(item: &LimitRangeItem, name: &str, path: &Path) -> ErrorList {
    let get = |list: &Option<ResourceList>| -> Option<(Amount, Quantity)> {
        let quantity = list.as_ref()?.get(name)?;
        Some((quantities::parse(quantity)?, quantity.clone()))
    };
    let of_pods = item.type_ == "Pod";
    let least = get(&item.min);
    let most = get(&item.max);
    let limit = if of_pods { None } else { get(&item.default) };
    let request = if of_pods {
        None
    } else {
        get(&item.default_request)
    };
    let mut errors = ErrorList::new();
    let asked = "defaultRequest";
    for ((low, low_name), (high, high_name), at, shown) in [
        ((&least, "min"), (&most, "max"), "min", Shown::Low),
        (
            (&least, "min"),
            (&request, "default request"),
            asked,
            Shown::High,
        ),
        (
            (&request, "default request"),
            (&most, "max"),
            asked,
            Shown::Low,
        ),
        (
            (&request, "default request"),
            (&limit, "default limit"),
            asked,
            Shown::Low,
        ),
        ((&least, "min"), (&limit, "default"), "default", Shown::Low),
        ((&limit, "default"), (&most, "max"), "default", Shown::High),
    ] {
        if let (Some((low, low_text)), Some((high, high_text))) = (low, high)
            && low > high
        {
            let shown = match shown {
                Shown::Low => low_text,
                Shown::High => high_text,
            };
            errors.push(field::invalid(
                path.child(at).key(name),
                shown.0.as_str(),
                format!(
                    "{low_name} value {} is greater than {high_name} value {}",
                    low_text.0, high_text.0
                ),
            ));
        }
    }
    if let Some((ratio, text)) = get(&item.max_limit_request_ratio) {
        let at = path.child("maxLimitRequestRatio").key(name);
        if ratio < Amount::new(1, Format::DecimalSi) {
            errors.push(field::invalid(
                at.clone(),
                text.0.as_str(),
                format!("ratio {} is less than 1", text.0),
            ));
        }
        if let (Some((least, _)), Some((most, _))) = (&least, &most) {
            let bound = most.to_f64() / least.to_f64();
            if ratio.to_f64() > bound {
                errors.push(field::invalid(
                    at,
                    text.0.as_str(),
                    format!("ratio {} is greater than max/min = {bound:.6}", text.0),
                ));
            }
        }
    }
    // What cannot be had twice is asked for as much as it is limited to.
    if let (Some((limit, limit_text)), Some((request, request_text))) = (&limit, &request)
        && limit != request
        && !quantities::is_overcommit_allowed(name)
    {
        errors.push(field::invalid(
            path.child("defaultRequest").key(name),
            request_text.0.as_str(),
            format!(
                "default value {} must equal to defaultRequest value {} in {name}",
                limit_text.0, request_text.0
            ),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_limit_implies_its_defaults() {
        let mut range: LimitRange = serde_json::from_value(json!({"metadata": {}, "spec":
            {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}))
        .unwrap();
        LimitRangeRules.default(&mut range);
        let item = serde_json::to_value(&range.spec.unwrap().limits[0]).unwrap();
        assert_eq!(item["default"], json!({"cpu": "2"}));
        assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
    }

    #[test]
    fn the_minimum_is_not_above_the_maximum() {
        let range: LimitRange = serde_json::from_value(json!({"metadata": {}, "spec":
            {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}}))
        .unwrap();
        assert_eq!(
            LimitRangeRules.validate(&range)[0].to_string(),
            r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#
        );
    }

    #[test]
    fn what_cannot_be_had_twice_has_the_same_request_and_limit() {
        let found = |name: &str, request: &str| {
            let range: LimitRange =
                serde_json::from_value(json!({"metadata": {}, "spec": {"limits": [{
                "type": "Container", "default": {name: "2"}, "defaultRequest": {name: request}}]}}))
                .unwrap();
            let errors = LimitRangeRules.validate(&range);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("cpu", "1"), [""; 0]);
        assert_eq!(found("example.com/gpu", "2000m"), [""; 0]);
        assert_eq!(
            found("example.com/gpu", "1"),
            [
                r#"spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in example.com/gpu"#
            ]
        );
    }
}
