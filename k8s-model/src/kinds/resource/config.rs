//! What drivers are told: configuration in a form of their own.

use k8s_openapi::{
    api::resource::v1::OpaqueDeviceConfiguration, apimachinery::pkg::runtime::RawExtension,
};
use serde_json::Value;

use super::names;
use crate::field::{self, ErrorList, Path};

pub(super) const CONFIGS: usize = 32;
/// How long parameters, or what a driver tells of a device, are at most, in bytes.
const LENGTH: usize = 10 << 10;

/// What is wrong with a configuration. The length of one that is `stored` already has no bound.
pub(super) fn configuration(
    opaque: Option<&OpaqueDeviceConfiguration>,
    stored: bool,
    path: &Path,
) -> ErrorList {
    let path = path.child("opaque");
    let Some(opaque) = opaque else {
        return vec![field::required(path, "")];
    };
    let mut out = names::declared_driver(&opaque.driver, &path.child("driver"));
    out.extend(raw(&opaque.parameters, stored, path.child("parameters")));
    out
}

/// What is wrong with an object whose form the API server does not know.
pub(super) fn raw(RawExtension(value): &RawExtension, stored: bool, path: Path) -> ErrorList {
    let is_long = || serde_json::to_vec(value).is_ok_and(|text| text.len() > LENGTH);
    match value {
        Value::Null => vec![field::required(path, "")],
        _ if !stored && is_long() => vec![field::too_long(path, LENGTH)],
        Value::Object(_) => ErrorList::new(),
        _ => vec![field::invalid(path, "<value omitted>", "must be a valid JSON object")],
    }
}
