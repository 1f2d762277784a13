//! VolumeAttributesClasses stay while a claim or a volume names them (KEP-3751).

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::VolumeAttributesClass,
};
use kube::{Api, Client, Resource};

use super::finalizer::{self, Due};
use crate::{
    Error,
    common::context::Context,
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The controller's name, and that of its identity.
pub(crate) const NAME: &str = "volumeattributesclass-protection-controller";
/// The finalizer.
const FINALIZER: &str = "kubernetes.io/vac-protection";
/// Volumes and claims by the classes that they name.
const BY_CLASS: &str = "volume-attributes-class";

pub(crate) struct Classes {
    client: Client,
    classes: Informer<VolumeAttributesClass>,
    volumes: Informer<PersistentVolume>,
    claims: Informer<PersistentVolumeClaim>,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Classes> {
    let classes = context.informers.informer::<VolumeAttributesClass>();
    let volumes = context.informers.informer::<PersistentVolume>();
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let queue = WorkQueue::new();
    let adds = queue.clone();
    classes.add_handler(move |change| {
        let meta = &change.object().metadata;
        if !matches!(change, Change::Deleted(_)) && finalizer::due(meta, FINALIZER).is_some() {
            adds.add(ObjectKey::of(meta));
        }
    });
    watch(&volumes, &queue, of_volume);
    watch(&claims, &queue, of_claim);
    let ready = (classes.synced(), volumes.synced(), claims.synced());
    let reconciler = Classes {
        client: context.client.clone(),
        classes,
        volumes,
        claims,
    };
    Controller::new(NAME, reconciler, queue)
        .with_workers(1)
        .wait_for(ready.0)
        .wait_for(ready.1)
        .wait_for(ready.2)
}

/// Files objects by the classes that they name, and queues classes that one names no more.
fn watch<K: Resource + Send + Sync + 'static>(
    informer: &Informer<K>,
    queue: &WorkQueue<ObjectKey>,
    names: fn(&K) -> Vec<String>,
) {
    informer.add_index(BY_CLASS, names);
    let queue = queue.clone();
    informer.add_handler(move |change| {
        let (before, now) = match change {
            Change::Added(_) => return,
            Change::Updated { old, new } => (names(old), names(new)),
            Change::Deleted(object) => (names(object), Vec::new()),
        };
        for freed in before.iter().filter(|name| !now.contains(name)) {
            queue.add(ObjectKey::new("", freed));
        }
    });
}

/// The class that a volume has.
fn of_volume(volume: &PersistentVolume) -> Vec<String> {
    let spec = volume.spec.as_ref();
    let name = spec.and_then(|spec| spec.volume_attributes_class_name.clone());
    name.filter(|name| !name.is_empty()).into_iter().collect()
}

/// The classes that a claim wants, has, and is about to get.
fn of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let wanted = spec.and_then(|spec| spec.volume_attributes_class_name.clone());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let modified = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = modified.and_then(|modified| modified.target_volume_attributes_class_name.clone());
    let named = [wanted, current, target].into_iter().flatten();
    let mut names: Vec<String> = named.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Reconciler for Classes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(class) = self.classes.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let in_use = || {
            !self.volumes.by_index(BY_CLASS, key.name()).is_empty()
                || !self.claims.by_index(BY_CLASS, key.name()).is_empty()
        };
        match finalizer::due(&class.metadata, FINALIZER) {
            None => {}
            Some(Due::RemoveIfUnused) if in_use() => {}
            Some(due) => {
                let api = Api::all(self.client.clone());
                finalizer::write(&api, &*class, FINALIZER, due).await?;
            }
        }
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
