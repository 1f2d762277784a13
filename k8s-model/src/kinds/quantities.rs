//! Resource lists: their canonical form and their checks.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{
    field::{self, ErrorList, Path},
    names,
    quantity::Amount,
};

/// Amounts of resources, by name.
pub(crate) type ResourceList = BTreeMap<String, Quantity>;

/// Brings a list into canonical form, rounded up to thousandths. What is malformed stays, for
/// validation to find.
pub(crate) fn normalize(list: &mut Option<ResourceList>) {
    for quantity in list.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Some(amount) = parse(quantity) {
            *quantity = amount.round_up(-3).to_quantity();
        }
    }
}

/// Brings one quantity into canonical form.
pub(crate) fn normalize_one(quantity: &mut Quantity) {
    if let Some(amount) = parse(quantity) {
        *quantity = amount.to_quantity();
    }
}

/// A quantity's amount, if it is well formed.
pub(crate) fn parse(quantity: &Quantity) -> Option<Amount> {
    Amount::try_from(quantity).ok()
}

/// An amount in a list; zero if it is not there.
pub(crate) fn amount(list: Option<&ResourceList>, name: &str) -> Amount {
    list.and_then(|list| list.get(name))
        .and_then(parse)
        .unwrap_or_default()
}

/// The finding for a quantity that is not one.
pub(crate) fn malformed(quantity: &Quantity, path: Path) -> field::Error {
    field::invalid(
        path,
        quantity.0.as_str(),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    )
}

/// Not negative, and whole where the resource cannot be divided.
pub(crate) fn resource_value(name: &str, quantity: &Quantity, path: Path) -> ErrorList {
    let mut errors = non_negative(quantity, path.clone());
    if let Some(amount) = parse(quantity)
        && is_integer_resource(name)
        && amount.milli_value() % 1000 != 0
    {
        errors.push(field::invalid(
            path,
            quantity.0.as_str(),
            "must be an integer",
        ));
    }
    errors
}

/// Well formed and not negative.
pub(crate) fn non_negative(quantity: &Quantity, path: Path) -> ErrorList {
    match parse(quantity) {
        None => vec![malformed(quantity, path)],
        Some(amount) if amount.signum() < 0 => vec![field::invalid(
            path,
            quantity.0.as_str(),
            "must be greater than or equal to 0",
        )],
        Some(_) => ErrorList::new(),
    }
}

/// Well formed and above zero.
pub(crate) fn positive(quantity: &Quantity, path: Path) -> ErrorList {
    match parse(quantity) {
        None => vec![malformed(quantity, path)],
        Some(amount) if amount.signum() <= 0 => vec![field::invalid(
            path,
            quantity.0.as_str(),
            "must be greater than zero",
        )],
        Some(_) => ErrorList::new(),
    }
}

/// Whether a resource is huge pages of some size.
pub(crate) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Huge pages come whole: an amount of them is a multiple of their size.
pub(crate) fn whole_pages(name: &str, quantity: &Quantity, path: Path) -> ErrorList {
    let Some(size) = name.strip_prefix("hugepages-") else {
        return ErrorList::new();
    };
    let size = parse(&Quantity(size.to_owned())).map_or(0, |size| size.value());
    let amount = parse(quantity).map_or(0, |amount| amount.value());
    if size > 0 && amount % size == 0 {
        return ErrorList::new();
    }
    let text = quantity.0.as_str();
    vec![field::invalid(
        path,
        text,
        format!("{text} is not positive integer multiple of {name}"),
    )]
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a resource is a device or the like: named with a domain of its own, counted in whole.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of a resource may be promised than there is.
pub(crate) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_integer_resource(name: &str) -> bool {
    const COUNTS: &[&str] = &[
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    COUNTS.contains(&name) || is_extended(name) || name.starts_with("count/")
}

fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(name)
}

/// Whether a quota may count a resource.
pub(crate) fn is_standard_for_quota(name: &str) -> bool {
    const MORE: &[&str] = &[
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    ];
    MORE.contains(&name) || is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

fn is_standard(name: &str) -> bool {
    is_standard_for_quota(name) || name == "storage" || name == "requests.storage"
}

/// A resource's name.
pub(crate) fn resource_name(name: &str, path: &Path) -> ErrorList {
    let errors: ErrorList = names::qualified_name(name)
        .into_iter()
        .map(|text| field::invalid(path.clone(), name, text))
        .collect();
    if errors.is_empty() && !name.contains('/') && !is_standard(name) {
        return vec![field::invalid(
            path.clone(),
            name,
            "must be a standard resource type or fully qualified",
        )];
    }
    errors
}

/// The name of a resource that a container can ask for.
pub(crate) fn container_resource_name(name: &str, path: &Path) -> ErrorList {
    let mut errors = resource_name(name, path);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            errors.push(field::invalid(
                path.clone(),
                name,
                "must be a standard resource for containers",
            ));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(field::invalid(
            path.clone(),
            name,
            "doesn't follow extended resource name standard",
        ));
    }
    errors
}

/// Advice on quantities of bytes that are no whole ones.
pub(crate) fn fractions(
    list: Option<&ResourceList>,
    names: &[&str],
    path: &Path,
    out: &mut Vec<String>,
) {
    for name in names {
        let Some(quantity) = list.and_then(|list| list.get(*name)) else {
            continue;
        };
        if parse(quantity).is_some_and(|amount| amount.milli_value() % 1000 != 0) {
            out.push(format!(
                "{}: fractional byte value {:?} is invalid, must be an integer",
                path.key(name),
                quantity.0,
            ));
        }
    }
}
