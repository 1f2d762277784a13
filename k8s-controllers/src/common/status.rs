//! Writing an object's status.

use kube::{Api, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

use super::owner;
use crate::{Error, error::is_conflict};

/// Writes the status of `object` after `change` has been made to it. When the object has changed
/// since it was read, reads it again and tries once more, as upstream does: the status depends on
/// other objects more than on this one. Nothing is written to a namesake.
pub(crate) async fn write_status<K>(
    api: &Api<K>,
    object: &K,
    change: impl Fn(&mut K),
) -> Result<K, Error>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let name = owner::name(object.meta());
    let mut changed = object.clone();
    change(&mut changed);
    match api
        .replace_status(name, &PostParams::default(), &changed)
        .await
    {
        Err(error) if is_conflict(&error) => {}
        done => return Ok(done?),
    }
    let mut fresh = api.get(name).await?;
    if fresh.meta().uid != object.meta().uid {
        return Err(Error::NotYet(format!("{name} is another object now")));
    }
    change(&mut fresh);
    Ok(api
        .replace_status(name, &PostParams::default(), &fresh)
        .await?)
}
