//! Generic ephemeral volumes (KEP-1698): makes the claims that pods bring along.
//!
//! Mirrors upstream's `pkg/controller/volume/ephemeral`. The pod owns its claims, so they go with it.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use kube::{Api, Client, api::PostParams};

use crate::{
    Error,
    common::{context::Context, ephemeral, owner},
    error::{is_namespace_terminating, server_message},
    runtime::{
        Change, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler, Requeue,
        WorkQueue,
    },
};

/// The name of the controller's identity.
pub(crate) const NAME: &str = "ephemeral-volume-controller";
/// As whom the controller signs its events.
pub(crate) const COMPONENT: &str = "ephemeral_volume";

pub(crate) struct EphemeralVolumes {
    client: Client,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    events: EventRecorder,
}

/// The controller, its handlers in place. Keys are pods.
pub(crate) fn controller(context: &Context) -> Controller<EphemeralVolumes> {
    let pods = context.informers.informer::<Pod>();
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    ephemeral::index_by_claim(&pods);
    let queue = WorkQueue::new();
    let adds = queue.clone();
    // What a pod brings along never changes, and its claims go with it.
    pods.add_handler(move |change| {
        if let Change::Added(pod) = change
            && wants_claims(pod)
        {
            adds.add(ObjectKey::of(&pod.metadata));
        }
    });
    let (adds, users) = (queue.clone(), pods.clone());
    claims.add_handler(move |change| {
        if let Change::Deleted(claim) = change {
            let key = ObjectKey::of(&claim.metadata);
            for pod in ephemeral::users_of(&users, &key) {
                if wants_claims(&pod) {
                    adds.add(ObjectKey::of(&pod.metadata));
                }
            }
        }
    });
    let ready = (pods.synced(), claims.synced());
    let reconciler = EphemeralVolumes {
        client: context.client.clone(),
        pods,
        claims,
        events: context.events.clone(),
    };
    Controller::new(NAME, reconciler, queue)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

/// Whether the pod stays and brings claims along.
fn wants_claims(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && volumes(pod).next().is_some()
}

/// The volumes for which the pod brings a claim along.
fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let volumes = volumes.into_iter().flatten();
    volumes.filter(|volume| volume.ephemeral.is_some())
}

/// The claim that a pod brings along for a volume.
fn new_claim(pod: &Pod, volume: &Volume) -> PersistentVolumeClaim {
    let mut claim = PersistentVolumeClaim::default();
    let source = volume.ephemeral.as_ref();
    if let Some(template) = source.and_then(|source| source.volume_claim_template.as_ref()) {
        claim.spec = Some(template.spec.clone());
        if let Some(meta) = template.metadata.as_ref() {
            claim.metadata.labels.clone_from(&meta.labels);
            claim.metadata.annotations.clone_from(&meta.annotations);
        }
    }
    claim.metadata.name = Some(ephemeral::claim_name(pod, volume));
    claim.metadata.owner_references = Some(vec![owner::controller_ref(pod)]);
    claim
}

impl EphemeralVolumes {
    /// Makes the claim if there is none. One that is not the pod's own is an error: its name is taken.
    async fn ensure(&self, pod: &Pod, volume: &Volume) -> Result<(), Error> {
        let namespace = owner::namespace(&pod.metadata);
        let name = ephemeral::claim_name(pod, volume);
        if let Some(claim) = self.claims.find(namespace, &name) {
            if ephemeral::is_for(&claim, pod) {
                return Ok(());
            }
            let pod = ObjectKey::of(&pod.metadata);
            return Err(Error::NotYet(format!(
                "PVC {namespace}/{name} was not created for pod {pod} (pod is not owner)"
            )));
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let claim = new_claim(pod, volume);
        match api.create(&PostParams::default(), &claim).await {
            Ok(_) => Ok(()),
            Err(error) if is_namespace_terminating(&error) => Ok(()),
            Err(error) => Err(Error::NotYet(format!(
                "create PVC {name}: {}",
                server_message(&error)
            ))),
        }
    }
}

impl Reconciler for EphemeralVolumes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let pod = self.pods.get(&key).filter(|pod| wants_claims(pod));
        let Some(pod) = pod else {
            return Ok(Requeue::OnChange);
        };
        for volume in volumes(&pod) {
            if let Err(error) = self.ensure(&pod, volume).await {
                let message = format!("ephemeral volume {}: {error}", volume.name);
                self.events
                    .record(&*pod, EventType::Warning, "FailedBinding", &message);
                return Err(Error::NotYet(format!("pod {key}, {message}")));
            }
        }
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
