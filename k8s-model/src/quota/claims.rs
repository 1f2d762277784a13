//! What claims to storage count as.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ScopedResourceSelectorRequirement};

use super::{Amounts, ONE, selects};
use crate::kinds::quantities;

const COUNT: &str = "count/persistentvolumeclaims";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

pub(super) fn measures(name: &str) -> bool {
    let plain = |name: &str| matches!(name, CLAIMS | STORAGE);
    name == COUNT
        || plain(name)
        || name
            .split_once(OF_CLASS)
            .is_some_and(|(_, resource)| plain(resource))
}

pub(super) fn usage(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.as_ref();
    let annotations = claim.metadata.annotations.as_ref();
    // As upstream, which reads the annotation that was there before the field.
    let class = annotations
        .and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"))
        .or_else(|| spec.and_then(|spec| spec.storage_class_name.as_ref()))
        .filter(|class| !class.is_empty());
    let mut out = Amounts::from([(COUNT.to_owned(), ONE), (CLAIMS.to_owned(), ONE)]);
    let requests = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let mut size = requests
        .and_then(|requests| requests.get("storage"))
        .and_then(quantities::parse);
    let allocated = claim
        .status
        .as_ref()
        .and_then(|status| status.allocated_resources.as_ref()?.get("storage"))
        .and_then(quantities::parse);
    if let (Some(asked), Some(allocated)) = (size, allocated) {
        size = Some(asked.max(allocated));
    }
    if let Some(size) = size.map(|size| size.round_up(0)) {
        out.insert(STORAGE.to_owned(), size);
        if let Some(class) = class {
            out.insert(format!("{class}{OF_CLASS}{STORAGE}"), size);
        }
    }
    if let Some(class) = class {
        out.insert(format!("{class}{OF_CLASS}{CLAIMS}"), ONE);
    }
    out
}

pub(super) fn in_scope(
    claim: &PersistentVolumeClaim,
    scope: &ScopedResourceSelectorRequirement,
) -> bool {
    if scope.scope_name != "VolumeAttributesClass" {
        return false;
    }
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|s| {
        let change = s.modify_volume_status.as_ref()?;
        change.target_volume_attributes_class_name.as_deref()
    });
    let mut names = [wanted, current, target]
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .peekable();
    if names.peek().is_none() {
        return selects(scope, None);
    }
    names.any(|name| selects(scope, Some(name)))
}
