//! A finalizer that keeps an object while it is in use.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, common::owner, error::unless_gone};

/// What is to be done about an object's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It stays and lacks it.
    Add,
    /// It is to go, and this holds it.
    RemoveIfUnused,
}

/// What is to be done about this object.
pub(super) fn due(meta: &ObjectMeta, finalizer: &str) -> Option<Due> {
    let has = meta.finalizers.iter().flatten().any(|f| f == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => Some(Due::Add),
        (true, true) => Some(Due::RemoveIfUnused),
        _ => None,
    }
}

/// Writes the object with the finalizer, or without. One that is gone is left alone.
pub(super) async fn write<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    due: Due,
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let mut changed = object.clone();
    let finalizers = changed.meta_mut().finalizers.get_or_insert_default();
    match due {
        Due::Add => finalizers.push(finalizer.to_owned()),
        Due::RemoveIfUnused => finalizers.retain(|f| f != finalizer),
    }
    let name = owner::name(object.meta());
    unless_gone(api.replace(name, &PostParams::default(), &changed).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::fixture::time;

    #[test]
    fn the_finalizer_is_added_to_what_stays_and_taken_off_what_goes() {
        let mut meta = ObjectMeta::default();
        assert_eq!(due(&meta, "f"), Some(Due::Add));
        meta.finalizers = Some(vec!["other".to_owned(), "f".to_owned()]);
        assert_eq!(due(&meta, "f"), None);
        meta.deletion_timestamp = Some(time("2026-01-01T00:00:00Z"));
        assert_eq!(due(&meta, "f"), Some(Due::RemoveIfUnused));
        meta.finalizers = Some(vec!["other".to_owned()]);
        assert_eq!(due(&meta, "f"), None);
    }
}
