//! PersistentVolumeClaims stay while a pod on a node uses them.
//!
//! The unit of work is a namespace: however many of its claims are to go, its pods are listed once.

use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, Client, api::ListParams};

use super::finalizer::{self, Due};
use crate::{
    Error,
    common::{context::Context, ephemeral, owner, pod},
    runtime::{Change, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The finalizer.
const FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Claims by namespace that something is to be done about.
const DUE: &str = "pvc-protection";
/// How many claims of a namespace are written at a time.
const WRITES: usize = 8;

pub(crate) struct Claims {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    pods: Informer<Pod>,
}

/// The controller, its handlers in place. Keys are namespaces.
pub(crate) fn controller(context: &Context) -> Controller<Claims> {
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let pods = context.informers.informer::<Pod>();
    claims.add_index(DUE, |claim: &PersistentVolumeClaim| {
        match finalizer::due(&claim.metadata, FINALIZER) {
            Some(_) => vec![owner::namespace(&claim.metadata).to_owned()],
            None => Vec::new(),
        }
    });
    ephemeral::index_by_claim(&pods);
    let queue = WorkQueue::new();
    let adds = queue.clone();
    claims.add_handler(move |change| {
        let claim = change.object();
        if !matches!(change, Change::Deleted(_))
            && finalizer::due(&claim.metadata, FINALIZER).is_some()
        {
            adds.add(ObjectKey::new("", owner::namespace(&claim.metadata)));
        }
    });
    let adds = queue.clone();
    pods.add_handler(move |change| {
        let pod = change.object();
        let may_free = matches!(change, Change::Deleted(_)) || !is_running(pod);
        if may_free && ephemeral::claims_of(pod).next().is_some() {
            adds.add(ObjectKey::new("", owner::namespace(&pod.metadata)));
        }
    });
    let reconciler = Claims {
        client: context.client.clone(),
        claims: claims.clone(),
        pods: pods.clone(),
    };
    Controller::new("pvc-protection-controller", reconciler, queue)
        .wait_for(claims.synced())
        .wait_for(pods.synced())
}

/// Whether the pod is on a node and not over: then its claims cannot become free.
fn is_running(pod: &Pod) -> bool {
    is_on_node(pod) && !pod::is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn is_on_node(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
}

/// Whether the pod uses the claim. Only one on a node does: the kubelet starts no pod whose claim is to go.
///
/// A claim that was made for the pod itself is free once the pod is shut down, though it may wait for finalizers, of
/// which one may wait for the claim.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if !is_on_node(pod) {
        return false;
    }
    let name = owner::name(&claim.metadata);
    let shut_down = pod.metadata.deletion_timestamp.is_some()
        && pod.metadata.deletion_grace_period_seconds == Some(0);
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| {
        let named = volume.persistent_volume_claim.as_ref();
        named.is_some_and(|source| source.claim_name == name)
            || (!shut_down
                && volume.ephemeral.is_some()
                && ephemeral::claim_name(pod, volume) == name
                && ephemeral::is_for(claim, pod))
    })
}

impl Claims {
    /// The claims among these that no pod uses: asks the informer, and then, since that may lag behind, the server.
    async fn unused(
        &self,
        namespace: &str,
        mut claims: Vec<Arc<PersistentVolumeClaim>>,
    ) -> Result<Vec<Arc<PersistentVolumeClaim>>, Error> {
        claims.retain(|claim| {
            let key = ObjectKey::of(&claim.metadata);
            let pods = ephemeral::users_of(&self.pods, &key);
            !pods.iter().any(|pod| uses(pod, claim))
        });
        if claims.is_empty() {
            return Ok(claims);
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default()).await?;
        claims.retain(|claim| !pods.items.iter().any(|pod| uses(pod, claim)));
        Ok(claims)
    }
}

impl Reconciler for Claims {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let namespace = key.name();
        let (mut writes, mut going) = (Vec::new(), Vec::new());
        for claim in self.claims.by_index(DUE, namespace) {
            match finalizer::due(&claim.metadata, FINALIZER) {
                Some(Due::Add) => writes.push((claim, Due::Add)),
                Some(Due::RemoveIfUnused) => going.push(claim),
                None => {}
            }
        }
        if !going.is_empty() {
            let unused = self.unused(namespace, going).await?;
            writes.extend(unused.into_iter().map(|claim| (claim, Due::RemoveIfUnused)));
        }
        let api = Api::namespaced(self.client.clone(), namespace);
        let results = stream::iter(writes)
            .map(|(claim, due)| {
                let api = api.clone();
                async move { finalizer::write(&api, &*claim, FINALIZER, due).await }
            })
            .buffer_unordered(WRITES)
            .collect::<Vec<_>>()
            .await;
        Error::all(results.into_iter().filter_map(Result::err).collect())?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        pod.metadata = crate::common::fixture::pod("n", "p").build().metadata;
        pod
    }

    fn claim(name: &str) -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.name = Some(name.to_owned());
        claim.metadata.namespace = Some("n".to_owned());
        claim
    }

    #[test]
    fn only_a_pod_on_a_node_uses_a_claim_though_it_be_over() {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let mut user = pod(json!({"containers": [], "volumes": volumes}));
        assert!(!uses(&user, &claim("c")));
        user.spec.as_mut().unwrap().node_name = Some("node".to_owned());
        assert!(uses(&user, &claim("c")));
        assert!(!uses(&user, &claim("d")));
        user.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
        assert!(uses(&user, &claim("c")));
    }

    #[test]
    fn a_pods_own_claim_is_free_once_the_pod_is_shut_down() {
        let template = json!({"volumeClaimTemplate": {"spec": {}}});
        let volumes = json!([{"name": "v", "ephemeral": template}]);
        let mut user = pod(json!({"containers": [], "nodeName": "node", "volumes": volumes}));
        let mut own = claim("p-v");
        assert!(!uses(&user, &own), "made for nobody");
        own.metadata.owner_references = Some(vec![owner::controller_ref(&user)]);
        assert!(uses(&user, &own));
        user.metadata.deletion_timestamp =
            Some(crate::common::fixture::time("2026-01-01T00:00:00Z"));
        user.metadata.deletion_grace_period_seconds = Some(30);
        assert!(uses(&user, &own));
        user.metadata.deletion_grace_period_seconds = Some(0);
        assert!(!uses(&user, &own));
    }
}
