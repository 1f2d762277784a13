//! Adoption and release: which objects a controller owns, by selector and controller reference.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::owner;
use crate::{
    Error,
    error::{is_not_found, server_message},
};

/// What a controller has, wants and no longer wants.
#[derive(Debug)]
pub(crate) struct Claim<K> {
    /// Controlled by it and selected.
    pub(crate) owned: Vec<Arc<K>>,
    /// Selected and controlled by nobody: to be adopted.
    pub(crate) adopt: Vec<Arc<K>>,
    /// Controlled by it and no longer selected: to be released.
    pub(crate) release: Vec<Arc<K>>,
}

/// Sorts `objects` out by upstream's rules (`BaseControllerRefManager.ClaimObject`): a controller
/// that is being deleted neither adopts nor releases, and an object that is being deleted is not
/// adopted.
pub(crate) fn claim<K: Resource>(
    claimant: &ObjectMeta,
    selector: &Selector,
    objects: impl IntoIterator<Item = Arc<K>>,
) -> Claim<K> {
    let mut claim = Claim {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    let empty = Default::default();
    let deleting = claimant.deletion_timestamp.is_some();
    for object in objects {
        let meta = object.meta();
        let selected = selector.matches(meta.labels.as_ref().unwrap_or(&empty));
        match owner::controller_of(meta) {
            Some(controller) if controller.uid != owner::uid(claimant) => {}
            Some(_) if selected => claim.owned.push(object),
            Some(_) if !deleting => claim.release.push(object),
            None if selected && !deleting && meta.deletion_timestamp.is_none() => {
                claim.adopt.push(object)
            }
            _ => {}
        }
    }
    claim
}

/// Makes `claimant` the controller of `object`. Gives the object back as it then is, or nothing
/// if it has gone meanwhile. The patch names the object's UID, so that a namesake is not adopted.
pub(crate) async fn adopt<K>(
    api: &Api<K>,
    object: &K,
    claimant: &OwnerReference,
) -> Result<Option<Arc<K>>, Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({"metadata": {"ownerReferences": [claimant], "uid": object.meta().uid}});
    match api
        .patch(
            owner::name(object.meta()),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await
    {
        Ok(adopted) => Ok(Some(Arc::new(adopted))),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes the owner reference to `claimant` off `object`.
pub(crate) async fn release<K>(api: &Api<K>, object: &K, claimant: &str) -> Result<(), Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({"metadata": {
        "ownerReferences": [{"$patch": "delete", "uid": claimant}],
        "uid": object.meta().uid,
    }});
    match api
        .patch(
            owner::name(object.meta()),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        // Either it has no owner references any more, or it is another object of that name.
        Err(kube::Error::Api(status)) if status.is_invalid() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the server, not the informer, whether `claimant` still exists and is not being deleted:
/// the last check before an adoption, which garbage collection could not undo.
pub(crate) async fn can_adopt<K>(api: &Api<K>, claimant: &ObjectMeta) -> Result<(), Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = owner::name(claimant);
    let fresh = api
        .get_metadata(name)
        .await
        .map_err(|error| match is_not_found(&error) {
            true => Error::NotYet(format!("{name} is gone: {}", server_message(&error))),
            false => error.into(),
        })?;
    if fresh.metadata.uid != claimant.uid {
        return Err(Error::NotYet(format!(
            "original {name} is gone: got another of that name"
        )));
    }
    if fresh.metadata.deletion_timestamp.is_some() {
        return Err(Error::NotYet(format!("{name} has just been deleted")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::fixture;

    fn names(pods: &[Arc<k8s_openapi::api::core::v1::Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| owner::name(&pod.metadata)).collect()
    }

    #[test]
    fn selected_orphans_are_adopted_and_strays_released() {
        let selector = Selector::from_iter([("app", "web")]);
        let mut claimant = ObjectMeta {
            uid: Some("me".to_owned()),
            ..Default::default()
        };
        let pods = || {
            [
                fixture::pod("d", "mine")
                    .label("app", "web")
                    .controlled_by("me"),
                fixture::pod("d", "stray")
                    .label("app", "other")
                    .controlled_by("me"),
                fixture::pod("d", "orphan").label("app", "web"),
                fixture::pod("d", "dying").label("app", "web").deleting(),
                fixture::pod("d", "theirs")
                    .label("app", "web")
                    .controlled_by("them"),
                fixture::pod("d", "unrelated").label("app", "other"),
            ]
            .map(|pod| Arc::new(pod.build()))
        };
        let claimed = claim(&claimant, &selector, pods());
        assert_eq!(names(&claimed.owned), ["mine"]);
        assert_eq!(names(&claimed.adopt), ["orphan"]);
        assert_eq!(names(&claimed.release), ["stray"]);
        claimant.deletion_timestamp = Some(fixture::time("2026-01-01T00:00:00Z"));
        let claimed = claim(&claimant, &selector, pods());
        assert_eq!(names(&claimed.owned), ["mine"]);
        assert!(claimed.adopt.is_empty() && claimed.release.is_empty());
    }
}
