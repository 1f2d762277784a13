//! Which devices a claim got.

use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceRequestAllocationResult,
};

use super::{
    capacity,
    config::{CONFIGS, configuration},
    device::binding_conditions,
    lists::each,
    names,
    requests::{REQUESTS, Requests},
    taints,
};
use crate::{
    field::{ErrorList, Path},
    kinds::{
        checks::{dns_label, list, one_of},
        core::pod::node_selector,
    },
};

/// What is wrong with a new allocation.
pub(super) fn allocation(
    allocation: &AllocationResult,
    requests: &Requests<'_>,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    if let Some(devices) = &allocation.devices {
        let path = path.child("devices");
        let check = |one: &_, path: &Path| result(one, requests, path);
        out.extend(each(list(&devices.results), REQUESTS, &path.child("results"), check));
        // Those of the classes, and those of the claim.
        let (most, check) = (2 * CONFIGS, |one: &_, path: &Path| config(one, requests, path));
        out.extend(each(list(&devices.config), most, &path.child("config"), check));
    }
    if let Some(selector) = &allocation.node_selector {
        out.extend(node_selector(selector, false, &path.child("nodeSelector")));
    }
    out
}

fn result(
    result: &DeviceRequestAllocationResult,
    requests: &Requests<'_>,
    path: &Path,
) -> ErrorList {
    let mut out = requests.reference(&result.request, &path.child("request"));
    out.extend(names::declared_driver(&result.driver, &path.child("driver")));
    out.extend(names::declared_pool(&result.pool, &path.child("pool")));
    out.extend(dns_label(&result.device, path.child("device")));
    let conditions = list(&result.binding_conditions);
    let failures = list(&result.binding_failure_conditions);
    out.extend(binding_conditions(conditions, failures, path));
    let tolerations = list(&result.tolerations);
    out.extend(taints::tolerations(tolerations, &path.child("tolerations")));
    if let Some(share) = &result.share_id {
        out.extend(names::share(share, &path.child("shareID")));
    }
    for (name, amount) in result.consumed_capacity.iter().flatten() {
        let path = path.child("consumedCapacity");
        out.extend(capacity::well_formed(amount, || path.key(name)));
    }
    out
}

fn config(
    config: &DeviceAllocationConfiguration,
    requests: &Requests<'_>,
    path: &Path,
) -> ErrorList {
    let mut out = one_of(&config.source, &["FromClaim", "FromClass"], path.child("source"));
    out.extend(requests.references(list(&config.requests), &path.child("requests")));
    out.extend(configuration(config.opaque.as_ref(), false, path));
    out
}
