//! The claims of a pod.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};

use crate::snapshot::{Devices, PodInfo, ResourceClaim};

/// What a pod says of its claims.
pub(super) fn named(pod: &PodInfo) -> &[PodResourceClaim] {
    let spec = pod.pod().and_then(|pod| pod.spec.as_ref());
    let claims = spec.and_then(|spec| spec.resource_claims.as_deref());
    claims.unwrap_or_default()
}

/// The name of a claim, and whether it was made for the pod; `None` if there need not be one.
///
/// # Errors
///
/// If it is not made yet, or is none that is known here.
fn name<'a>(
    info: &PodInfo,
    pod: &'a Pod,
    claim: &'a PodResourceClaim,
) -> Result<Option<(&'a str, bool)>, String> {
    if let Some(name) = &claim.resource_claim_name {
        return Ok(Some((name, false)));
    }
    if claim.resource_claim_template_name.is_none() {
        return Err(format!(
            "pod {:?}, spec.resourceClaim {:?}: none of the supported fields are set",
            info.key(),
            claim.name
        ));
    }
    let statuses = pod.status.as_ref();
    let statuses = statuses.and_then(|s| s.resource_claim_statuses.as_deref());
    let mut statuses = statuses.unwrap_or_default().iter();
    match statuses.find(|status| status.name == claim.name) {
        Some(status) => Ok(status
            .resource_claim_name
            .as_deref()
            .map(|name| (name, true))),
        None => Err(format!(
            "pod {:?}: ResourceClaim not created yet",
            info.key()
        )),
    }
}

/// Whether all claims that are made for a pod are made.
pub(super) fn are_made(pod: &PodInfo) -> bool {
    let Some(object) = pod.pod() else {
        return true;
    };
    let mut claims = named(pod).iter();
    claims.all(|claim| {
        claim.resource_claim_template_name.is_none() || name(pod, object, claim).is_ok()
    })
}

/// Whether a pod has a claim of that name.
pub(super) fn uses(pod: &PodInfo, namespace: &str, claim: &str) -> bool {
    let Some(object) = pod.pod() else {
        return true;
    };
    pod.namespace() == namespace
        && named(pod)
            .iter()
            .any(|c| matches!(name(pod, object, c), Ok(Some((name, _))) if name == claim))
}

/// The claims of a pod.
///
/// # Errors
///
/// With upstream's text if one is not there, on its way out, or another's.
pub(super) fn of(pod: &PodInfo, devices: &Devices) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let Some(object) = pod.pod() else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Arc<ResourceClaim>> = Vec::new();
    for claim in named(pod) {
        let Some((name, is_generated)) = name(pod, object, claim)? else {
            continue;
        };
        let claim = devices
            .claim(pod.namespace(), name)
            .ok_or_else(|| format!("resourceclaim.resource.k8s.io {name:?} not found"))?;
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim {name:?} is being deleted"));
        }
        if is_generated && !is_for(claim, pod) {
            return Err(format!(
                "ResourceClaim {} was not created for Pod {} (Pod is not owner)",
                claim.key(),
                pod.key()
            ));
        }
        // Several names may stand for one claim.
        if !found.iter().any(|known| Arc::ptr_eq(known, claim)) {
            found.push(claim.clone());
        }
    }
    Ok(found)
}

fn is_for(claim: &ResourceClaim, pod: &PodInfo) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.into_iter().filter(|o| o.controller == Some(true));
    controllers.any(|owner| owner.uid == pod.uid())
}
