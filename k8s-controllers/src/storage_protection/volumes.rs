//! PersistentVolumes stay while they are bound to a claim.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{Api, Client};

use super::finalizer::{self, Due};
use crate::{
    Error,
    common::context::Context,
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The finalizer.
const FINALIZER: &str = "kubernetes.io/pv-protection";

pub(crate) struct Volumes {
    client: Client,
    volumes: Informer<PersistentVolume>,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Volumes> {
    let volumes = context.informers.informer::<PersistentVolume>();
    let queue = WorkQueue::new();
    let adds = queue.clone();
    volumes.add_handler(move |change| {
        let meta = &change.object().metadata;
        if !matches!(change, Change::Deleted(_)) && finalizer::due(meta, FINALIZER).is_some() {
            adds.add(ObjectKey::of(meta));
        }
    });
    let ready = volumes.synced();
    let reconciler = Volumes {
        client: context.client.clone(),
        volumes,
    };
    Controller::new("pv-protection-controller", reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

/// What is to be done: the pure core. Who binds volumes to claims says in the status that one is bound.
fn decide(volume: &PersistentVolume) -> Option<Due> {
    let status = volume.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    finalizer::due(&volume.metadata, FINALIZER).filter(|due| *due == Due::Add || !bound)
}

impl Reconciler for Volumes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        if let Some(volume) = self.volumes.get(&key)
            && let Some(due) = decide(&volume)
        {
            let api = Api::all(self.client.clone());
            finalizer::write(&api, &*volume, FINALIZER, due).await?;
        }
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_volume_keeps_its_finalizer() {
        let mut volume = PersistentVolume::default();
        volume.status.get_or_insert_default().phase = Some("Bound".to_owned());
        assert_eq!(decide(&volume), Some(Due::Add));
        volume.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        volume.metadata.deletion_timestamp =
            Some(crate::common::fixture::time("2026-01-01T00:00:00Z"));
        assert_eq!(decide(&volume), None);
        volume.status.get_or_insert_default().phase = Some("Released".to_owned());
        assert_eq!(decide(&volume), Some(Due::RemoveIfUnused));
    }
}
