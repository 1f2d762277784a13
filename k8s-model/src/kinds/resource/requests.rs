//! What a claim asks for.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceSubRequest,
    DeviceToleration, ExactDeviceRequest, ResourceClaimSpec,
};
use serde_json::Value;

use super::{
    capacity,
    lists::{each, each_unique},
    names,
    selectors::selectors,
    taints,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{blank, dns_label, dns_subdomain, list, text},
};

pub(super) const REQUESTS: usize = 32;
const ALTERNATIVES: usize = 8;
const MODES: [&str; 2] = ["All", "ExactCount"];

/// The names of a claim's requests, and those of their alternatives.
pub(super) struct Requests<'c>(HashMap<&'c str, HashSet<&'c str>>);

impl<'c> Requests<'c> {
    pub(super) fn of(spec: Option<&'c ResourceClaimSpec>) -> Self {
        let devices = spec.and_then(|spec| spec.devices.as_ref());
        let requests = devices.map(|devices| list(&devices.requests));
        let requests = requests.unwrap_or_default().iter().map(|request| {
            let parts = list(&request.first_available).iter();
            let parts = parts.map(|part| part.name.as_str()).collect();
            (request.name.as_str(), parts)
        });
        Requests(requests.collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((name, part)) => self.0.get(name).is_some_and(|parts| parts.contains(part)),
        }
    }

    /// What is wrong with a name that stands for a request.
    pub(super) fn reference(&self, name: &str, path: &Path) -> ErrorList {
        let unknown = || {
            let text = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            field::invalid(path.clone(), name, text)
        };
        if name.split('/').nth(2).is_some() {
            return vec![unknown()];
        }
        let parts = name.split('/');
        let mut out: ErrorList = parts.flat_map(|part| dns_label(part, path.clone())).collect();
        if !self.has(name) {
            out.push(unknown());
        }
        out
    }

    /// What is wrong with names that stand for requests, each for another.
    pub(super) fn references(&self, all: &[String], path: &Path) -> ErrorList {
        let check = |name: &String, path: &Path| self.reference(name, path);
        each_unique(all, REQUESTS, path, String::as_str, check)
    }
}

/// What a request or one of its alternatives says of the devices that it wants.
struct Wanted<'r> {
    class: &'r str,
    selectors: &'r [DeviceSelector],
    mode: &'r Option<String>,
    count: Option<i64>,
    tolerations: &'r [DeviceToleration],
    capacity: Option<&'r CapacityRequirements>,
}

impl<'r> From<&'r ExactDeviceRequest> for Wanted<'r> {
    fn from(request: &'r ExactDeviceRequest) -> Self {
        Wanted {
            class: &request.device_class_name,
            selectors: list(&request.selectors),
            mode: &request.allocation_mode,
            count: request.count,
            tolerations: list(&request.tolerations),
            capacity: request.capacity.as_ref(),
        }
    }
}

impl<'r> From<&'r DeviceSubRequest> for Wanted<'r> {
    fn from(request: &'r DeviceSubRequest) -> Self {
        Wanted {
            class: &request.device_class_name,
            selectors: list(&request.selectors),
            mode: &request.allocation_mode,
            count: request.count,
            tolerations: list(&request.tolerations),
            capacity: request.capacity.as_ref(),
        }
    }
}

/// What is wrong with a request.
pub(super) fn request(request: &DeviceRequest, path: &Path) -> ErrorList {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    let mut out = dns_label(&request.name, path.child("name"));
    match (&request.exactly, list(&request.first_available)) {
        (None, []) => out.push(field::required(path.clone(), ONE)),
        (Some(_), [_, ..]) => {
            let text = format!("{ONE}, but multiple fields are set");
            out.push(field::invalid(path.clone(), Value::Null, text));
        }
        (Some(exactly), []) => out.extend(wanted(&exactly.into(), &path.child("exactly"))),
        (None, parts) => {
            let path = path.child("firstAvailable");
            let check = |part: &DeviceSubRequest, path: &Path| {
                let mut out = dns_label(&part.name, path.child("name"));
                out.extend(wanted(&part.into(), path));
                out
            };
            out.extend(each_unique(parts, ALTERNATIVES, &path, |part| &part.name, check));
        }
    }
    out
}

fn wanted(wanted: &Wanted<'_>, path: &Path) -> ErrorList {
    let at = path.child("deviceClassName");
    let mut out = match wanted.class {
        "" => vec![field::required(at, "")],
        class => dns_subdomain(class, at),
    };
    out.extend(selectors(wanted.selectors, false, &path.child("selectors")));
    out.extend(mode(wanted, path));
    let path_tolerations = path.child("tolerations");
    out.extend(taints::tolerations(wanted.tolerations, &path_tolerations));
    if let Some(amounts) = wanted.capacity.and_then(|capacity| capacity.requests.as_ref()) {
        let path = path.child("capacity").child("requests");
        for (name, amount) in amounts {
            out.extend(capacity::well_formed(amount, || path.key(name)));
        }
    }
    out
}

/// Whether it is said how many devices are wanted.
fn mode(wanted: &Wanted<'_>, path: &Path) -> ErrorList {
    let (mode, count) = (text(wanted.mode), wanted.count.unwrap_or(0));
    let at = path.child("count");
    match mode {
        "All" if count != 0 => {
            let text = format!("must not be specified when allocationMode is '{mode}'");
            vec![field::invalid(at, count, text)]
        }
        "ExactCount" if count <= 0 => {
            vec![field::invalid(at, count, "must be greater than zero")]
        }
        "All" | "ExactCount" => ErrorList::new(),
        _ => vec![field::not_supported(path.child("allocationMode"), mode, &MODES)],
    }
}

/// What is wrong with what devices must have in common, or not.
pub(super) fn constraint(
    constraint: &DeviceConstraint,
    requests: &Requests<'_>,
    path: &Path,
) -> ErrorList {
    let mut out = requests.references(list(&constraint.requests), &path.child("requests"));
    let named = [
        ("matchAttribute", &constraint.match_attribute),
        ("distinctAttribute", &constraint.distinct_attribute),
    ];
    for (field, name) in named {
        if let Some(name) = name {
            out.extend(names::fully_qualified(name, &path.child(field)));
        }
    }
    if named.iter().all(|(_, name)| name.is_none()) {
        let text = r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#;
        out.push(field::required(path.clone(), text));
    }
    out
}

/// Fills in how many devices are wanted, and what taints are tolerated.
pub(super) fn default(request: &mut DeviceRequest) {
    let set = |mode: &mut Option<String>, count: &mut Option<i64>| {
        if blank(mode) {
            *mode = Some("ExactCount".to_owned());
        }
        if text(mode) == "ExactCount" && count.unwrap_or(0) == 0 {
            *count = Some(1);
        }
    };
    if let Some(exactly) = &mut request.exactly {
        set(&mut exactly.allocation_mode, &mut exactly.count);
        taints::default_tolerations(&mut exactly.tolerations);
        capacity::normalize_requests(&mut exactly.capacity);
    }
    for part in request.first_available.iter_mut().flatten() {
        set(&mut part.allocation_mode, &mut part.count);
        taints::default_tolerations(&mut part.tolerations);
        capacity::normalize_requests(&mut part.capacity);
    }
}

/// What is wrong with all requests of a claim.
pub(super) fn requests(all: &[DeviceRequest], path: &Path) -> ErrorList {
    each_unique(all, REQUESTS, path, |one| &one.name, request)
}

/// What is wrong with all constraints of a claim.
pub(super) fn constraints(
    all: &[DeviceConstraint],
    requests: &Requests<'_>,
    path: &Path,
) -> ErrorList {
    const CONSTRAINTS: usize = 32;
    each(all, CONSTRAINTS, path, |one, path| constraint(one, requests, path))
}
