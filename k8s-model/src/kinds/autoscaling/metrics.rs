//! What a HorizontalPodAutoscaler looks at.

use k8s_openapi::{
    api::autoscaling::v2::{
        HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::references::{self, Reference, Versions};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_label, list, messages, supported},
        quantities,
    },
    names,
};

const TYPES: &[&str] = &[
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// The objects that are measured.
pub(super) fn measured(spec: &HorizontalPodAutoscalerSpec) -> impl Iterator<Item = Reference<'_>> {
    let metrics = list(&spec.metrics).iter();
    let metrics = metrics.filter(|metric| metric.type_ == "Object");
    let objects = metrics.filter_map(|metric| metric.object.as_ref());
    objects.map(|object| (&object.described_object).into())
}

/// Checks one metric: exactly the source that its type names, sound by its own rules. An object that is measured has such a
/// version.
pub(super) fn validate(metric: &MetricSpec, versions: Versions, path: &Path) -> ErrorList {
    let sort = metric.type_.as_str();
    let mut errors = ErrorList::new();
    if sort.is_empty() {
        errors.push(field::required(
            path.child("type"),
            "must specify a metric source type",
        ));
    }
    errors.extend(supported(sort, TYPES, path.child("type")));
    let sources = [
        (metric.object.is_some(), "object", "Object"),
        (metric.external.is_some(), "external", "External"),
        (metric.pods.is_some(), "pods", "Pods"),
        (metric.resource.is_some(), "resource", "Resource"),
        (
            metric.container_resource.is_some(),
            "containerResource",
            "ContainerResource",
        ),
    ];
    if let Some((_, first, _)) = sources.iter().find(|(set, ..)| *set) {
        errors.extend(source(metric, first, versions, &path.child(first)));
    }
    match sources.iter().find(|(_, _, of)| *of == sort) {
        Some((false, name, _)) => errors.push(field::required(
            path.child(name),
            "must populate information for the given metric source",
        )),
        Some(_) => {}
        // Once as a type, and once as the type of a source.
        None => errors.extend(supported(sort, TYPES, path.child("type"))),
    }
    if sources.iter().filter(|(set, ..)| *set).count() != 1 {
        for (_, name, _) in sources.iter().filter(|(set, _, of)| *set && *of != sort) {
            errors.push(field::forbidden(
                path.child(name),
                "must populate the given metric source only",
            ));
        }
    }
    errors
}

fn source(metric: &MetricSpec, name: &str, versions: Versions, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let at = path.child("target");
    let average = at.child("averageValue");
    match name {
        "object" => {
            let Some(object) = &metric.object else {
                return errors;
            };
            let described = (&object.described_object).into();
            let place = path.child("describedObject");
            errors.extend(references::validate(described, versions, &place));
            errors.extend(identifier(&object.metric, &path.child("metric")));
            errors.extend(target(&object.target, &at));
            if object.target.value.is_none() && object.target.average_value.is_none() {
                errors.push(field::required(
                    average,
                    "must set either a target value or averageValue",
                ));
            }
        }
        "external" => {
            let Some(external) = &metric.external else {
                return errors;
            };
            errors.extend(identifier(&external.metric, &path.child("metric")));
            errors.extend(target(&external.target, &at));
            match (&external.target.value, &external.target.average_value) {
                (None, None) => errors.push(field::required(
                    average,
                    "must set either a target value for metric or a per-pod target",
                )),
                (Some(_), Some(_)) => errors.push(field::forbidden(
                    at.child("value"),
                    "may not set both a target value for metric and a per-pod target",
                )),
                _ => {}
            }
        }
        "pods" => {
            let Some(pods) = &metric.pods else {
                return errors;
            };
            errors.extend(identifier(&pods.metric, &path.child("metric")));
            errors.extend(target(&pods.target, &at));
            if pods.target.average_value.is_none() {
                errors.push(field::required(
                    average,
                    "must specify a positive target averageValue",
                ));
            }
        }
        "resource" => {
            let Some(resource) = &metric.resource else {
                return errors;
            };
            if resource.name.is_empty() {
                errors.push(no_resource_name(path));
            }
            errors.extend(target(&resource.target, &at));
            errors.extend(raw_or_share(&resource.target, &at));
        }
        _ => {
            let Some(resource) = &metric.container_resource else {
                return errors;
            };
            if resource.name.is_empty() {
                errors.push(no_resource_name(path));
            } else {
                errors.extend(quantities::container_resource_name(
                    &resource.name,
                    &path.child("name"),
                ));
            }
            let container = path.child("container");
            if resource.container.is_empty() {
                errors.push(field::required(container, "must specify a container"));
            } else {
                errors.extend(dns_label(&resource.container, container));
            }
            errors.extend(target(&resource.target, &at));
            errors.extend(raw_or_share(&resource.target, &at));
        }
    }
    errors
}

fn no_resource_name(path: &Path) -> field::Error {
    field::required(path.child("name"), "must specify a resource name")
}

fn identifier(metric: &MetricIdentifier, path: &Path) -> ErrorList {
    let name = metric.name.as_str();
    if name.is_empty() {
        vec![field::required(
            path.child("name"),
            "must specify a metric name",
        )]
    } else {
        messages(&path.child("name"), name, names::path_segment(name, false))
    }
}

fn target(target: &MetricTarget, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let sort = target.type_.as_str();
    if sort.is_empty() {
        errors.push(field::required(
            path.child("type"),
            "must specify a metric target type",
        ));
    }
    if !matches!(sort, "Utilization" | "Value" | "AverageValue") {
        errors.push(field::invalid(
            path.child("type"),
            sort,
            "must be either Utilization, Value, or AverageValue",
        ));
    }
    let mut positive = |value: &Option<Quantity>, name: &str| {
        let sound =
            |value: &Quantity| quantities::parse(value).is_some_and(|amount| amount.signum() > 0);
        if let Some(value) = value.as_ref().filter(|value| !sound(value)) {
            errors.push(field::invalid(
                path.child(name),
                value.0.as_str(),
                "must be positive",
            ));
        }
    };
    positive(&target.value, "value");
    positive(&target.average_value, "averageValue");
    if let Some(share) = target.average_utilization.filter(|share| *share < 1) {
        errors.push(field::invalid(
            path.child("averageUtilization"),
            share,
            "must be greater than 0",
        ));
    }
    errors
}

/// Either a raw value, or a share of what was requested.
fn raw_or_share(target: &MetricTarget, path: &Path) -> ErrorList {
    match (&target.average_utilization, &target.average_value) {
        (None, None) => vec![field::required(
            path.child("averageUtilization"),
            "must set either a target raw value or a target utilization",
        )],
        (Some(_), Some(_)) => vec![field::forbidden(
            path.child("averageValue"),
            "may not set both a target raw value and a target utilization",
        )],
        _ => ErrorList::new(),
    }
}
