//! The group `resource.k8s.io`: devices, and who claims them.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{
    DeviceClass, DeviceClassSpec, DeviceConstraint, DeviceRequest, DeviceSelector, ResourceClaim,
    ResourceClaimSpec, ResourceClaimTemplate, ResourceClaimTemplateSpec, ResourceSlice,
};

use super::{
    checks::{
        IMMUTABLE, Slot, blank, conditions, dns_label, dns_subdomain, fill, immutable, json, list,
        messages, same, slot, slot_mut, text,
    },
    typed::KindRules,
};
use crate::{
    cel::{Dialect, Program, Scope},
    field::{self, ErrorList, Path},
    names,
};

/// Upstream's bounds.
const REQUESTS: usize = 32;
const CONSTRAINTS: usize = 32;
const SELECTORS: usize = 32;
const ALTERNATIVES: usize = 8;
const RESERVED: usize = 256;
const DEVICES: usize = 128;
const CONDITIONS: usize = 8;
const DRIVER_NAME: usize = 63;
const POOL_NAME: usize = 253;

fn too_many(path: Path, count: usize, most: usize) -> ErrorList {
    match count > most {
        true => vec![field::too_many(path, count, most)],
        false => ErrorList::new(),
    }
}

/// The rules of DeviceClasses.
pub(crate) struct DeviceClassRules;

impl KindRules for DeviceClassRules {
    type Kind = DeviceClass;

    const GENERATION: bool = true;

    fn spec_changed(&self, new: &DeviceClass, old: &DeviceClass) -> bool {
        new.spec != old.spec
    }

    fn validate(&self, class: &DeviceClass) -> ErrorList {
        let spec: Option<&DeviceClassSpec> = slot(&class.spec);
        let Some(spec) = spec else {
            return ErrorList::new();
        };
        let path = Path::new("spec");
        let mut out = selectors(list(&spec.selectors), &path.child("selectors"));
        for (i, config) in list(&spec.config).iter().enumerate() {
            if let Some(opaque) = &config.opaque {
                let path = path.child("config").index(i).child("opaque");
                out.extend(driver(&opaque.driver, path.child("driver")));
            }
        }
        out
    }
}

/// A driver's name: a short subdomain.
fn driver(name: &str, path: Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path, "")];
    }
    let mut out = ErrorList::new();
    if name.len() > DRIVER_NAME {
        out.push(field::too_long(path.clone(), DRIVER_NAME));
    }
    out.extend(dns_subdomain(&name.to_lowercase(), path));
    out
}

fn selectors(all: &[DeviceSelector], path: &Path) -> ErrorList {
    let mut out = too_many(path.clone(), all.len(), SELECTORS);
    for (i, selector) in all.iter().enumerate() {
        let path = path.index(i).child("cel");
        match &selector.cel {
            None => out.push(field::required(path, "")),
            Some(cel) if cel.expression.is_empty() => {
                out.push(field::required(path.child("expression"), ""));
            }
            Some(cel) => {
                if let Err(text) = check(&cel.expression) {
                    let path = path.child("expression");
                    out.push(field::invalid(path, cel.expression.as_str(), text));
                }
            }
        }
    }
    out
}

/// Whether an expression can say of a device whether it is selected.
fn check(expression: &str) -> Result<(), String> {
    let failed = |error: String| format!("compilation failed: {error}");
    let program = Program::parse_as(expression, Dialect::Devices)
        .map_err(|error| failed(error.to_string()))?;
    let estimate = program
        .check(&Scope::new().with("device", None))
        .map_err(failed)?;
    match estimate.result {
        "bool" | "dyn" => Ok(()),
        other => Err(format!(
            "must evaluate to bool or the unknown type, not {other}"
        )),
    }
}

/// The rules of ResourceClaims.
pub(crate) struct ResourceClaimRules;

impl KindRules for ResourceClaimRules {
    type Kind = ResourceClaim;

    fn default(&self, claim: &mut ResourceClaim) {
        defaults(slot_mut(&mut claim.spec));
    }

    fn prepare_for_create(&self, claim: &mut ResourceClaim) {
        claim.status = None;
    }

    fn validate(&self, claim: &ResourceClaim) -> ErrorList {
        claim_spec(slot(&claim.spec), &Path::new("spec"))
    }

    fn prepare_for_update(&self, new: &mut ResourceClaim, old: &ResourceClaim) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &ResourceClaim, old: &ResourceClaim) -> ErrorList {
        // What is there was checked before; and nothing of it may change.
        immutable(&new.spec, &old.spec, Path::new("spec"))
    }

    fn prepare_for_status_update(&self, new: &mut ResourceClaim, old: &ResourceClaim) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &ResourceClaim, old: &ResourceClaim) -> ErrorList {
        let path = Path::new("status");
        let mut out = ErrorList::new();
        let Some(status) = &new.status else {
            return out;
        };
        let reserved = list(&status.reserved_for);
        let path_reserved = path.child("reservedFor");
        out.extend(too_many(path_reserved.clone(), reserved.len(), RESERVED));
        let mut seen = BTreeSet::new();
        for (i, consumer) in reserved.iter().enumerate() {
            let path = path_reserved.index(i);
            for (name, value) in [
                ("resource", &consumer.resource),
                ("name", &consumer.name),
                ("uid", &consumer.uid),
            ] {
                if value.is_empty() {
                    out.push(field::required(path.child(name), ""));
                }
            }
            if !seen.insert(&consumer.uid) {
                out.push(field::duplicate(path, consumer.uid.as_str()));
            }
        }
        if !reserved.is_empty() && status.allocation.is_none() {
            let text = "may not be specified when `allocated` is not set";
            out.push(field::forbidden(path_reserved.clone(), text));
        }
        let before = old.status.as_ref();
        if let Some(before) = before.and_then(|status| status.allocation.as_ref())
            && let Some(now) = &status.allocation
            && now != before
        {
            let path = path.child("allocation");
            out.push(field::invalid(path, json(now), IMMUTABLE));
        }
        for (i, device) in list(&status.devices).iter().enumerate() {
            let (said, path) = (list(&device.conditions), path.child("devices").index(i));
            let path = path.child("conditions");
            out.extend(too_many(path.clone(), said.len(), CONDITIONS));
            out.extend(conditions(said, &path));
        }
        // What is on its way out, or not allocated, is for nobody new.
        let known: BTreeSet<&String> = before
            .map(|status| list(&status.reserved_for))
            .unwrap_or_default()
            .iter()
            .map(|consumer| &consumer.uid)
            .collect();
        let more = reserved
            .iter()
            .any(|consumer| !known.contains(&consumer.uid));
        if more && new.metadata.deletion_timestamp.is_some() {
            let text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            out.push(field::forbidden(path_reserved, text));
        }
        out
    }
}

fn defaults(spec: Option<&mut ResourceClaimSpec>) {
    let requests = spec.and_then(|spec| spec.devices.as_mut()?.requests.as_mut());
    let set = |mode: &mut Option<String>, count: &mut Option<i64>| {
        fill(mode, "ExactCount");
        if text(mode) == "ExactCount" && count.unwrap_or(0) == 0 {
            *count = Some(1);
        }
    };
    for request in requests.into_iter().flatten() {
        if let Some(exactly) = &mut request.exactly {
            set(&mut exactly.allocation_mode, &mut exactly.count);
        }
        for request in request.first_available.iter_mut().flatten() {
            set(&mut request.allocation_mode, &mut request.count);
        }
    }
}

fn claim_spec(spec: Option<&ResourceClaimSpec>, path: &Path) -> ErrorList {
    let Some(devices) = spec.and_then(|spec| spec.devices.as_ref()) else {
        return ErrorList::new();
    };
    let path = path.child("devices");
    let requests = list(&devices.requests);
    let at = path.child("requests");
    let mut out = too_many(at.clone(), requests.len(), REQUESTS);
    let mut seen = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        let path = at.index(i);
        out.extend(device_request(request, &path));
        if !request.name.is_empty() && !seen.insert(request.name.as_str()) {
            out.push(field::duplicate(path.child("name"), request.name.as_str()));
        }
    }
    // Alternatives are named after the request that they are for.
    let known: BTreeSet<String> = requests
        .iter()
        .flat_map(|request| {
            let parts = list(&request.first_available).iter();
            let parts = parts.map(|part| format!("{}/{}", request.name, part.name));
            std::iter::once(request.name.clone()).chain(parts)
        })
        .collect();
    let check = |names: &Option<Vec<String>>, path: &Path| -> ErrorList {
        let unknown = list(names).iter().enumerate();
        let unknown = unknown.filter(|(_, name)| !known.contains(*name));
        let text = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        unknown
            .map(|(i, name)| field::invalid(path.index(i), name.as_str(), text))
            .collect()
    };
    let constraints = list(&devices.constraints);
    let at = path.child("constraints");
    out.extend(too_many(at.clone(), constraints.len(), CONSTRAINTS));
    for (i, constraint) in constraints.iter().enumerate() {
        let path = at.index(i);
        out.extend(check(&constraint.requests, &path.child("requests")));
        out.extend(device_constraint(constraint, &path));
    }
    let at = path.child("config");
    for (i, config) in list(&devices.config).iter().enumerate() {
        let path = at.index(i);
        out.extend(check(&config.requests, &path.child("requests")));
        match &config.opaque {
            Some(opaque) => {
                let path = path.child("opaque").child("driver");
                out.extend(driver(&opaque.driver, path));
            }
            None => out.push(field::required(path.child("opaque"), "")),
        }
    }
    out
}

fn device_constraint(constraint: &DeviceConstraint, path: &Path) -> ErrorList {
    let named = [&constraint.match_attribute, &constraint.distinct_attribute];
    match named.iter().filter(|name| !blank(name)).count() {
        1 => ErrorList::new(),
        0 => vec![field::required(path.child("matchAttribute"), "")],
        _ => vec![field::invalid(
            path.clone(),
            json(constraint),
            "exactly one of matchAttribute and distinctAttribute is allowed",
        )],
    }
}

fn device_request(request: &DeviceRequest, path: &Path) -> ErrorList {
    let mut out = request_name(&request.name, path.child("name"));
    let alternatives = list(&request.first_available);
    match (&request.exactly, alternatives) {
        (None, []) => out.push(field::required(
            path.clone(),
            "exactly one of `exactly` or `firstAvailable` is required",
        )),
        (Some(_), [_, ..]) => out.push(field::invalid(
            path.clone(),
            serde_json::Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        _ => {}
    }
    if let Some(exactly) = &request.exactly {
        let path = path.child("exactly");
        out.extend(wanted(
            &exactly.device_class_name,
            &exactly.allocation_mode,
            exactly.count,
            &path,
        ));
        out.extend(selectors(
            list(&exactly.selectors),
            &path.child("selectors"),
        ));
    }
    let at = path.child("firstAvailable");
    out.extend(too_many(at.clone(), alternatives.len(), ALTERNATIVES));
    let mut seen = BTreeSet::new();
    for (i, part) in alternatives.iter().enumerate() {
        let path = at.index(i);
        out.extend(request_name(&part.name, path.child("name")));
        if !part.name.is_empty() && !seen.insert(part.name.as_str()) {
            out.push(field::duplicate(path.child("name"), part.name.as_str()));
        }
        out.extend(wanted(
            &part.device_class_name,
            &part.allocation_mode,
            part.count,
            &path,
        ));
        out.extend(selectors(list(&part.selectors), &path.child("selectors")));
    }
    out
}

fn request_name(name: &str, path: Path) -> ErrorList {
    match name.is_empty() {
        true => vec![field::required(path, "")],
        false => dns_label(name, path),
    }
}

/// Which devices are wanted, and how many.
fn wanted(class: &str, mode: &Option<String>, count: Option<i64>, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let at = path.child("deviceClassName");
    match class.is_empty() {
        true => out.push(field::required(at, "")),
        false => out.extend(dns_subdomain(class, at)),
    }
    let (mode, count) = (text(mode), count.unwrap_or(0));
    let at = path.child("count");
    match mode {
        "All" if count != 0 => {
            let text = format!("must not be specified when allocationMode is '{mode}'");
            out.push(field::invalid(at, count, text));
        }
        "ExactCount" if count <= 0 => {
            out.push(field::invalid(at, count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        _ => out.push(field::not_supported(
            path.child("allocationMode"),
            mode,
            &["All", "ExactCount"],
        )),
    }
    out
}

/// The rules of ResourceClaimTemplates.
pub(crate) struct ResourceClaimTemplateRules;

fn inner<S>(spec: &S) -> Option<&ResourceClaimSpec>
where
    S: Slot<ResourceClaimTemplateSpec>,
{
    slot(&slot(spec)?.spec)
}

impl KindRules for ResourceClaimTemplateRules {
    type Kind = ResourceClaimTemplate;

    fn default(&self, template: &mut ResourceClaimTemplate) {
        let spec: Option<&mut ResourceClaimTemplateSpec> = slot_mut(&mut template.spec);
        if let Some(spec) = spec {
            defaults(slot_mut(&mut spec.spec));
        }
    }

    fn validate(&self, template: &ResourceClaimTemplate) -> ErrorList {
        claim_spec(inner(&template.spec), &Path::new("spec").child("spec"))
    }

    fn validate_update(
        &self,
        new: &ResourceClaimTemplate,
        old: &ResourceClaimTemplate,
    ) -> ErrorList {
        immutable(&new.spec, &old.spec, Path::new("spec"))
    }
}

/// The rules of ResourceSlices.
pub(crate) struct ResourceSliceRules;

impl KindRules for ResourceSliceRules {
    type Kind = ResourceSlice;

    const GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["spec.driver", "spec.nodeName"];

    fn spec_changed(&self, new: &ResourceSlice, old: &ResourceSlice) -> bool {
        new.spec != old.spec
    }

    fn selectable(&self, slice: &ResourceSlice) -> Vec<String> {
        vec![
            slice.spec.driver.clone(),
            slice.spec.node_name.clone().unwrap_or_default(),
        ]
    }

    fn validate(&self, slice: &ResourceSlice) -> ErrorList {
        let (spec, path) = (&slice.spec, Path::new("spec"));
        let mut out = driver(&spec.driver, path.child("driver"));
        let pool = path.child("pool");
        let name = pool.child("name");
        if spec.pool.name.is_empty() {
            out.push(field::required(name, ""));
        } else {
            if spec.pool.name.len() > POOL_NAME {
                out.push(field::too_long(name.clone(), POOL_NAME));
            }
            for part in spec.pool.name.split('/') {
                out.extend(messages(&name, part, names::dns_subdomain(part, false)));
            }
        }
        if spec.pool.resource_slice_count <= 0 {
            let text = "must be greater than zero";
            let at = pool.child("resourceSliceCount");
            out.push(field::invalid(at, spec.pool.resource_slice_count, text));
        }
        if spec.pool.generation < 0 {
            let text = "must be greater than or equal to zero";
            let at = pool.child("generation");
            out.push(field::invalid(at, spec.pool.generation, text));
        }
        let places = [
            !blank(&spec.node_name),
            spec.node_selector.is_some(),
            spec.all_nodes == Some(true),
            spec.per_device_node_selection == Some(true),
        ];
        let kinds = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        match places.iter().filter(|set| **set).count() {
            1 => {}
            0 => out.push(field::required(path.clone(), kinds)),
            _ => {
                let text = format!("{kinds}, but multiple fields are set");
                out.push(field::invalid(path.clone(), serde_json::Value::Null, text));
            }
        }
        let devices = list(&spec.devices);
        let at = path.child("devices");
        out.extend(too_many(at.clone(), devices.len(), DEVICES));
        let mut seen = BTreeSet::new();
        for (i, device) in devices.iter().enumerate() {
            let path = at.index(i).child("name");
            out.extend(request_name(&device.name, path.clone()));
            if !device.name.is_empty() && !seen.insert(device.name.as_str()) {
                out.push(field::duplicate(path, device.name.as_str()));
            }
        }
        out
    }

    fn validate_update(&self, new: &ResourceSlice, old: &ResourceSlice) -> ErrorList {
        let mut out = self.validate(new);
        let path = Path::new("spec");
        out.extend(immutable(
            &new.spec.driver,
            &old.spec.driver,
            path.child("driver"),
        ));
        out.extend(immutable(
            &new.spec.pool.name,
            &old.spec.pool.name,
            path.child("pool").child("name"),
        ));
        if !same(&new.spec.node_name, &old.spec.node_name) {
            let value = text(&new.spec.node_name);
            out.push(field::invalid(path.child("nodeName"), value, IMMUTABLE));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(request: Value) -> Vec<String> {
        let claim =
            json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}});
        let mut claim: ResourceClaim = serde_json::from_value(claim).unwrap();
        ResourceClaimRules.default(&mut claim);
        let found = ResourceClaimRules.validate(&claim);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_says_which_devices_it_wants_and_how_many() {
        assert_eq!(
            claim(json!({"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}})),
            [""; 0]
        );
        assert_eq!(
            claim(json!({"name": "gpu"})),
            [
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"
            ]
        );
        assert_eq!(
            claim(json!({"name": "Gpu", "exactly": {"allocationMode": "Some"}})).len(),
            3
        );
        assert_eq!(
            claim(
                json!({"name": "gpu", "exactly": {"deviceClassName": "a", "allocationMode": "All", "count": 2}})
            ),
            [
                "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"
            ]
        );
    }

    #[test]
    fn an_expression_says_of_a_device_whether_it_is_selected() {
        let select = |expression: &str| {
            let selectors = json!([{"cel": {"expression": expression}}]);
            let exactly = json!({"deviceClassName": "a", "selectors": selectors});
            claim(json!({"name": "r", "exactly": exactly}))
        };
        for good in [
            "device.driver == 'd'",
            "device.attributes['d'].b",
            "device.capacity['d'].m.compareTo(quantity('1Gi')) >= 0",
        ] {
            assert_eq!(select(good), [""; 0], "{good}");
        }
        for (bad, why) in [
            ("1", "must evaluate to bool or the unknown type, not int"),
            ("devices.a", "undeclared reference to 'devices'"),
            ("device.", "compilation failed: "),
        ] {
            let found = select(bad);
            assert!(found.len() == 1 && found[0].contains(why), "{found:?}");
        }
    }

    #[test]
    fn a_claim_never_changes_and_its_allocation_stays() {
        let claim = |status: Value| -> ResourceClaim {
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {}, "status": status}))
                .unwrap()
        };
        let old = claim(json!({"allocation": {}}));
        let moved = claim(json!({"allocation": {"nodeSelector": {"nodeSelectorTerms": []}}}));
        let found = ResourceClaimRules.validate_status_update(&moved, &old);
        assert_eq!(found.len(), 1, "{found:?}");
        let early = claim(json!({"reservedFor": [{"resource": "pods", "name": "a", "uid": "1"}]}));
        let found = ResourceClaimRules.validate_status_update(&early, &claim(json!({})));
        assert!(
            found[0]
                .to_string()
                .contains("may not be specified when `allocated` is not set")
        );
    }
}
