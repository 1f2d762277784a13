//! What a pod asks for as a whole, beside what its containers ask for (KEP-2837).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::resources::{self, aggregate};
use crate::{
    field::{self, ErrorList, Path},
    kinds::quantities::{self, ResourceList},
};

/// Whether a pod as a whole can ask for a resource.
pub(super) fn is_supported(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || quantities::is_huge_pages(name)
}

fn has_supported(list: &Option<ResourceList>) -> bool {
    list.iter().flatten().any(|(name, _)| is_supported(name))
}

/// Whether the pod as a whole asks for something that pods can ask for.
pub(crate) fn is_set(spec: &PodSpec) -> bool {
    spec.resources
        .as_ref()
        .is_some_and(|own| has_supported(&own.requests) || has_supported(&own.limits))
}

/// Whether the pod as a whole has requests that pods can have.
pub(super) fn has_requests(spec: &PodSpec) -> bool {
    spec.resources
        .as_ref()
        .is_some_and(|own| has_supported(&own.requests))
}

fn add(list: &mut Option<ResourceList>, name: String, amount: Quantity) {
    list.get_or_insert_default().entry(name).or_insert(amount);
}

/// Completes what a pod says as a whole by what its containers ask for, once these have their defaults.
pub(super) fn default(spec: &mut PodSpec) {
    huge_page_limits(spec);
    requests(spec);
}

fn is_empty(list: &Option<ResourceList>) -> bool {
    list.as_ref().is_none_or(BTreeMap::is_empty)
}

/// Huge pages are limited to what the containers are limited to, together.
fn huge_page_limits(spec: &mut PodSpec) {
    let own = spec.resources.as_ref();
    if own.is_none_or(|own| is_empty(&own.limits) && is_empty(&own.requests)) {
        return;
    }
    let sums = aggregate(spec, |asked| asked.limits.as_ref());
    let Some(own) = &mut spec.resources else {
        return;
    };
    for (name, sum) in sums {
        let requested = |list: &ResourceList| list.contains_key(&name);
        if quantities::is_huge_pages(&name) && !own.requests.as_ref().is_some_and(requested) {
            add(&mut own.limits, name, sum.to_quantity());
        }
    }
}

/// A pod with limits requests what its containers do together; of what they do not request, all that it may have.
fn requests(spec: &mut PodSpec) {
    let own = spec.resources.as_ref();
    if own.is_none_or(|own| is_empty(&own.limits)) {
        return;
    }
    let sums = aggregate(spec, |asked| asked.requests.as_ref());
    let Some(own) = &mut spec.resources else {
        return;
    };
    for (name, sum) in sums {
        if is_supported(&name) && quantities::is_overcommit_allowed(&name) {
            add(&mut own.requests, name, sum.to_quantity());
        }
    }
    for (name, limit) in own.limits.iter().flatten() {
        if is_supported(name) {
            add(&mut own.requests, name.clone(), limit.clone());
        }
    }
}

/// Checks what a pod asks for as a whole, alone and beside its containers.
pub(super) fn validate(
    spec: &PodSpec,
    claims: &BTreeSet<&str>,
    broken_pages: bool,
    path: &Path,
) -> ErrorList {
    let Some(own) = &spec.resources else {
        return ErrorList::new();
    };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        let text = "may not be set for a windows pod";
        return vec![field::forbidden(path.clone(), text)];
    }
    let mut errors = ErrorList::new();
    if own.claims.is_some() {
        errors.push(field::forbidden(
            path.child("claims"),
            "claims may not be set for Resources at pod-level",
        ));
    }
    errors.extend(resources::requirements(
        own,
        name,
        claims,
        broken_pages,
        path,
    ));
    errors.extend(consistency(spec, own, path));
    errors
}

fn name(name: &str, path: &Path) -> ErrorList {
    let errors = quantities::resource_name(name, path);
    if errors.is_empty() && !is_supported(name) {
        let supported = ["cpu", "hugepages-", "memory"];
        return vec![field::not_supported(path.clone(), name, &supported)];
    }
    errors
}

/// The containers request no more together, and none may have more alone, than the pod as a whole.
fn consistency(spec: &PodSpec, own: &ResourceRequirements, path: &Path) -> ErrorList {
    let empty = ResourceList::new();
    let own_requests = own.requests.as_ref().unwrap_or(&empty);
    let own_limits = own.limits.as_ref().unwrap_or(&empty);
    let mut errors = ErrorList::new();
    for (name, sum) in aggregate(spec, |asked| asked.requests.as_ref()) {
        let Some(request) = own_requests.get(&name) else {
            continue;
        };
        if quantities::parse(request).is_some_and(|request| sum > request) {
            errors.push(field::invalid(
                path.child("requests").key(&name),
                request.0.as_str(),
                format!("must be greater than or equal to aggregate container requests of {sum}"),
            ));
        }
    }
    for (name, sum) in aggregate(spec, |asked| asked.limits.as_ref()) {
        let Some(limit) = own_limits.get(&name) else {
            continue;
        };
        let is_more = quantities::parse(limit).is_some_and(|limit| sum > limit);
        if is_more && quantities::is_huge_pages(&name) {
            errors.push(field::invalid(
                path.child("limits").key(&name),
                limit.0.as_str(),
                format!("must be greater than or equal to aggregate container limits of {sum}"),
            ));
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let asked = container.resources.as_ref();
        let limits = asked.and_then(|asked| asked.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let most = own_limits.get(name);
            let (Some(wanted), Some(most)) =
                (quantities::parse(limit), most.and_then(quantities::parse))
            else {
                continue;
            };
            if wanted > most {
                let path = path.child("containers").index(index).key(name);
                errors.push(field::invalid(
                    path.child("limits"),
                    limit.0.as_str(),
                    format!("must be less than or equal to pod limits of {most}"),
                ));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(resources: Value, containers: &[Value]) -> PodSpec {
        let containers: Vec<Value> = containers
            .iter()
            .map(|asked| json!({"name": "c", "resources": asked}))
            .collect();
        serde_json::from_value(json!({"containers": containers, "resources": resources})).unwrap()
    }

    #[test]
    fn a_pod_with_limits_requests_what_its_containers_do() {
        for (resources, containers, expected) in [
            (
                json!({"limits": {"cpu": "2", "memory": "2Gi"}}),
                [
                    json!({"requests": {"cpu": "500m", "memory": "512Mi"}}),
                    json!({"requests": {"memory": "512Mi", "example.com/a": "1"}}),
                ],
                json!({"limits": {"cpu": "2", "memory": "2Gi"},
                    "requests": {"cpu": "500m", "memory": "1Gi"}}),
            ),
            (
                json!({"limits": {"cpu": "2"}, "requests": {"memory": "1Gi"}}),
                [json!({}), json!({})],
                json!({"limits": {"cpu": "2"}, "requests": {"cpu": "2", "memory": "1Gi"}}),
            ),
            (
                json!({"requests": {"cpu": "2"}}),
                [
                    json!({"requests": {"cpu": "1", "memory": "1Gi"}}),
                    json!({"limits": {"hugepages-2Mi": "4Mi"}}),
                ],
                json!({"limits": {"hugepages-2Mi": "4Mi"},
                    "requests": {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "4Mi"}}),
            ),
            (
                json!({}),
                [
                    json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1", "hugepages-2Mi": "4Mi"}}),
                    json!({}),
                ],
                json!({}),
            ),
        ] {
            let mut spec = spec(resources, &containers);
            default(&mut spec);
            let once = spec.clone();
            assert_eq!(serde_json::to_value(&spec.resources).unwrap(), expected);
            default(&mut spec);
            assert_eq!(spec, once);
        }
    }

    #[test]
    fn a_pod_asks_for_no_less_than_its_containers() {
        let found = |resources: Value, containers: &[Value]| {
            let spec = spec(resources, containers);
            validate(
                &spec,
                &BTreeSet::new(),
                false,
                &Path::new("spec").child("resources"),
            )
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
        };
        let one = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
        for fine in [
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}),
            json!({"limits": {"cpu": "2", "memory": "1Gi"}}),
            json!({"requests": {"memory": "1Gi"}}),
        ] {
            assert_eq!(found(fine, &[one.clone(), one.clone()]), [""; 0]);
        }
        for (resources, containers, expected) in [
            (
                json!({"requests": {"cpu": "1m"}}),
                vec![json!({"requests": {"cpu": "64"}})],
                "spec.resources.requests[cpu]: Invalid value: \"1m\": must be greater than or equal to aggregate container requests of 64",
            ),
            (
                json!({"limits": {"cpu": "1"}}),
                vec![json!({}), json!({"limits": {"cpu": "1500m"}})],
                "spec.resources.containers[1][cpu].limits: Invalid value: \"1500m\": must be less than or equal to pod limits of 1",
            ),
            (
                json!({"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}),
                vec![json!({"limits": {"hugepages-2Mi": "2Mi"}}); 2],
                "spec.resources.limits[hugepages-2Mi]: Invalid value: \"2Mi\": must be greater than or equal to aggregate container limits of 4Mi",
            ),
            (
                json!({"requests": {"ephemeral-storage": "1Gi"}}),
                vec![],
                "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ),
            (
                json!({"requests": {"nope": "1"}}),
                vec![],
                "spec.resources.requests[nope]: Invalid value: \"nope\": must be a standard resource type or fully qualified",
            ),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                vec![],
                "spec.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                json!({"claims": []}),
                vec![],
                "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
            ),
        ] {
            assert_eq!(found(resources, &containers), [expected]);
        }
    }

    #[test]
    fn windows_knows_no_resources_of_a_pod() {
        let mut spec = spec(json!({"requests": {"cpu": "1"}}), &[]);
        spec.os = Some(serde_json::from_value(json!({"name": "windows"})).unwrap());
        let errors = validate(&spec, &BTreeSet::new(), false, &Path::new("r"));
        assert_eq!(
            errors[0].to_string(),
            "r: Forbidden: may not be set for a windows pod"
        );
    }
}
