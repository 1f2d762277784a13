//! Names that are reserved for what a server reads from manifests at its start (KEP-5793).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::text,
    schema::MINOR,
};

const SUFFIX: &str = ".static.k8s.io";
const WHY: &str = "names ending with \".static.k8s.io\" are reserved for static manifest-based configurations and cannot be managed via the API";

/// Since this minor version of the API, new objects are refused such names. The one before it warned.
const REFUSED_SINCE: u32 = 37;

fn is_reserved(meta: &ObjectMeta) -> bool {
    text(&meta.name).ends_with(SUFFIX)
}

/// What is wrong with the name of a new object.
pub(super) fn refusals(meta: &ObjectMeta) -> ErrorList {
    if MINOR < REFUSED_SINCE || !is_reserved(meta) {
        return ErrorList::new();
    }
    let path = Path::new("metadata").child("name");
    vec![field::invalid(path, text(&meta.name), WHY)]
}

/// What is said of the name of a new object that may have it.
pub(super) fn advice(meta: &ObjectMeta) -> Vec<String> {
    if MINOR + 1 != REFUSED_SINCE {
        return Vec::new();
    }
    update_advice(meta)
}

/// What is said of the name of an object that is there.
pub(super) fn update_advice(meta: &ObjectMeta) -> Vec<String> {
    let is_said = MINOR + 1 >= REFUSED_SINCE && is_reserved(meta);
    let said = is_said.then(|| format!("metadata.name: {WHY}"));
    said.into_iter().collect()
}
