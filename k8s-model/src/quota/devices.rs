//! What claims to devices count as.

use std::collections::BTreeMap;

use super::{Amounts, ONE, add};
use crate::{
    kinds::checks::{list, slot},
    quantity::{Amount, Format},
};

k8s_openapi::k8s_if_ge_1_34! {
    use k8s_openapi::api::resource::v1::ResourceClaimSpec;
    pub use k8s_openapi::api::resource::v1::ResourceClaim;
}
k8s_openapi::k8s_if_le_1_33! {
    use k8s_openapi::api::resource::v1beta2::ResourceClaimSpec;
    pub use k8s_openapi::api::resource::v1beta2::ResourceClaim;
}

const COUNT: &str = "count/resourceclaims.resource.k8s.io";
const OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// As many devices as a claim gets at most: upstream's `AllocationResultsMaxSize`.
const ALL: i64 = 32;

/// Whether a quota's resource is the devices of a class.
pub(super) fn is_of_class(name: &str) -> bool {
    name.ends_with(OF_CLASS)
}

pub(super) fn measures(name: &str) -> bool {
    name == COUNT || is_of_class(name)
}

/// Of alternatives the largest counts, class by class: which one it will be is not known. Administrators' claims count
/// as well.
pub(super) fn usage(claim: &ResourceClaim) -> Amounts {
    let mut out = Amounts::from([(COUNT.to_owned(), ONE)]);
    let devices = slot(&claim.spec).and_then(|spec: &ResourceClaimSpec| spec.devices.as_ref());
    let requests = devices.map(|devices| list(&devices.requests));
    for request in requests.unwrap_or_default() {
        let mut most: BTreeMap<&str, i64> = BTreeMap::new();
        let exactly = request.exactly.iter().map(|exactly| {
            let class = exactly.device_class_name.as_str();
            (
                class,
                number(exactly.allocation_mode.as_deref(), exactly.count),
            )
        });
        let first_available = list(&request.first_available).iter().map(|one| {
            let class = one.device_class_name.as_str();
            (class, number(one.allocation_mode.as_deref(), one.count))
        });
        for (class, number) in exactly.chain(first_available) {
            let most = most.entry(class).or_default();
            *most = number.max(*most);
        }
        let amount = |number| Amount::new(number, Format::DecimalSi);
        let charged = most
            .into_iter()
            .map(|(class, number)| (format!("{class}{OF_CLASS}"), amount(number)));
        add(&mut out, &charged.collect());
    }
    out
}

/// How many devices are asked for. Modes of later versions count for nothing, as upstream.
fn number(mode: Option<&str>, count: Option<i64>) -> i64 {
    match mode {
        None | Some("ExactCount") => count.unwrap_or(1),
        Some("All") => ALL,
        Some(_) => 0,
    }
}
