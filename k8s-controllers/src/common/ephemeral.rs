//! Generic ephemeral volumes (KEP-1698): claims that a pod brings along.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};

use super::owner;
use crate::runtime::{Informer, ObjectKey};

/// Pods by the key of each claim that they name or bring along.
const BY_CLAIM: &str = "claim";

/// What the claim is called that a pod brings along for one of its volumes.
pub(crate) fn claim_name(pod: &Pod, volume: &Volume) -> String {
    format!("{}-{}", owner::name(&pod.metadata), volume.name)
}

/// Whether the claim was made for this pod, and not for a namesake or by somebody else.
pub(crate) fn is_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    owner::namespace(&claim.metadata) == owner::namespace(&pod.metadata)
        && owner::is_controlled_by(&claim.metadata, owner::uid(&pod.metadata))
}

/// The names of all claims that the pod's volumes name or bring along.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = Cow<'_, str>> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| match &volume.persistent_volume_claim {
            Some(source) => Some(Cow::Borrowed(source.claim_name.as_str())),
            None => volume
                .ephemeral
                .as_ref()
                .map(|_| Cow::Owned(claim_name(pod, volume))),
        })
}

/// Lets [`users_of`] find pods.
pub(crate) fn index_by_claim(pods: &Informer<Pod>) {
    pods.add_index(BY_CLAIM, |pod: &Pod| {
        let namespace = owner::namespace(&pod.metadata);
        claims_of(pod)
            .map(|name| ObjectKey::new(namespace, &name).to_string())
            .collect()
    });
}

/// The pods that name the claim, or bring along one of its name.
pub(crate) fn users_of(pods: &Informer<Pod>, claim: &ObjectKey) -> Vec<Arc<Pod>> {
    pods.by_index(BY_CLAIM, claim.as_str())
}
