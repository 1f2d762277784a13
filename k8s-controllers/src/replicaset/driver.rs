//! The driver: informers in, requests out.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    core::{Selector, SelectorExt},
};
use parking_lot::Mutex;

use super::{
    ReplicaOwner,
    decide::{self, Action, Outcome},
};
use crate::{
    Error,
    common::{batch::slow_start, claim, context::Context, owner, pod, status::write_status},
    error::{is_conflict, is_namespace_terminating, is_not_found, server_message},
    runtime::{
        Change, Clock, Controller, EventRecorder, EventType, Expectations, Informer, ObjectKey,
        Reconciler, Requeue, WorkQueue,
    },
};

/// Pods by namespace that have no controller.
const ORPHANS: &str = "orphans";

pub(crate) struct ReplicaSets<K> {
    client: Client,
    sets: Informer<K>,
    pods: Informer<Pod>,
    expectations: Arc<Expectations>,
    events: EventRecorder,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller<K: ReplicaOwner>(context: &Context) -> Controller<ReplicaSets<K>> {
    let sets = context.informers.informer::<K>();
    let pods = context.informers.informer::<Pod>();
    let queue = WorkQueue::new();
    let expectations = Arc::new(Expectations::new());
    pods.add_index(ORPHANS, |pod: &Pod| {
        match owner::controller_of(&pod.metadata) {
            None => vec![owner::namespace(&pod.metadata).to_owned()],
            Some(_) => Vec::new(),
        }
    });
    watch_sets(&sets, &queue, &expectations);
    watch_pods(&sets, &pods, &queue, &expectations);
    let reconciler = ReplicaSets {
        client: context.client.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
        expectations,
        events: context.events.clone(),
        clock: context.clock,
    };
    Controller::new(K::CONTROLLER, reconciler, queue)
        .wait_for(sets.synced())
        .wait_for(pods.synced())
}

fn watch_sets<K: ReplicaOwner>(
    sets: &Informer<K>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
) {
    let (queue, expectations) = (queue.clone(), expectations.clone());
    sets.add_handler(move |change| {
        let key = ObjectKey::of(change.object().meta());
        if let Change::Deleted(_) = change {
            expectations.forget(&key);
        }
        queue.add(key);
    });
}

/// Strikes out what was expected and queues the sets whose pods these are, were, or could be.
fn watch_pods<K: ReplicaOwner>(
    sets: &Informer<K>,
    pods: &Informer<Pod>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
) {
    let (sets, queue, expectations) = (sets.clone(), queue.clone(), expectations.clone());
    pods.add_handler(move |change| {
        let pod = change.object();
        let set_of = |pod: &Pod| set_of(&sets, pod);
        let set = set_of(pod);
        let uid = owner::uid(&pod.metadata);
        match change {
            Change::Deleted(_) => {
                if let Some(set) = set {
                    expectations.deletion_observed(&set, uid);
                    queue.add(set);
                }
                return;
            }
            Change::Added(_) if pod.metadata.deletion_timestamp.is_none() => {
                if let Some(set) = &set {
                    expectations.creation_observed(set);
                }
            }
            Change::Updated { old, .. } => {
                let before = set_of(old);
                if before != set
                    && let Some(before) = before
                {
                    queue.add(before);
                }
            }
            Change::Added(_) => {}
        }
        match set {
            Some(set) => {
                if pod.metadata.deletion_timestamp.is_some() {
                    expectations.deletion_observed(&set, uid);
                }
                queue.add(set);
            }
            None if owner::controller_of(&pod.metadata).is_none() => {
                let labels = pod.metadata.labels.clone().unwrap_or_default();
                for set in sets.list_namespace(owner::namespace(&pod.metadata)) {
                    if set
                        .selector()
                        .is_ok_and(|selector| !labels.is_empty() && selector.matches(&labels))
                    {
                        queue.add(ObjectKey::of(set.meta()));
                    }
                }
            }
            None => {}
        }
    });
}

/// The set of this kind that a pod says controls it. Pods of one that had its name before are none of its.
fn set_of<K: ReplicaOwner>(sets: &Informer<K>, pod: &Pod) -> Option<ObjectKey> {
    let controller = owner::controller_of(&pod.metadata)?;
    let is_ours = controller.kind == K::kind(&()) && controller.api_version == K::api_version(&());
    let key = ObjectKey::new(owner::namespace(&pod.metadata), &controller.name);
    let set = sets.get(&key).filter(|_| is_ours)?;
    (owner::uid(set.meta()) == controller.uid).then_some(key)
}

impl<K: ReplicaOwner> Reconciler for ReplicaSets<K> {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Requeue::OnChange);
        };
        // Asked before the pods are listed: what arrives in between can only make the list newer.
        let settled = self.expectations.satisfied(&key);
        let selector = set.selector()?;
        let (active, terminating) = self.claim(&*set, &selector).await?;
        let mut failed = None;
        let mut outcome = Outcome::Fine;
        if settled && set.meta().deletion_timestamp.is_none() {
            match decide::decide(
                &*set,
                &active,
                &self.related(&*set, &active),
                self.clock.now(),
            ) {
                Action::Nothing => {}
                Action::Create(count) => {
                    if let Err((message, error)) = self.create(&key, &set, count).await {
                        outcome = Outcome::CreateFailed(message);
                        failed = Some(error);
                    }
                }
                Action::Delete(pods) => {
                    if let Err((message, error)) = self.delete(&key, &set, pods).await {
                        outcome = Outcome::DeleteFailed(message);
                        failed = Some(error);
                    }
                }
            }
        }
        let (status, next) =
            decide::status(&*set, &active, terminating, &outcome, self.clock.now());
        if status != set.status() {
            let api = Api::<K>::namespaced(self.client.clone(), key.namespace());
            write_status(&api, &*set, |set| set.set_status(&status)).await?;
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(next.map_or(Requeue::OnChange, Requeue::After)),
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl<K: ReplicaOwner> ReplicaSets<K> {
    /// Adopts and releases pods; gives the active ones and the number of those that are being
    /// deleted.
    async fn claim(&self, set: &K, selector: &Selector) -> Result<(Vec<Arc<Pod>>, usize), Error> {
        let namespace = owner::namespace(set.meta());
        let owned = self.pods.owned_by(owner::uid(set.meta()));
        let terminating = owned
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pod::is_terminal(pod))
            .filter(|pod| owner::is_controlled_by(&pod.metadata, owner::uid(set.meta())))
            .count();
        let orphans = self.pods.by_index(ORPHANS, namespace);
        let candidates = owned
            .into_iter()
            .chain(orphans)
            .filter(|pod| pod::is_active(pod));
        let claimed = claim::claim(set.meta(), selector, candidates);
        let mut active = claimed.owned;
        if claimed.adopt.is_empty() && claimed.release.is_empty() {
            return Ok((active, terminating));
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let mut errors = Vec::new();
        if !claimed.adopt.is_empty() {
            claim::can_adopt(
                &Api::<K>::namespaced(self.client.clone(), namespace),
                set.meta(),
            )
            .await?;
            let controller = owner::controller_ref(set);
            for pod in claimed.adopt {
                match claim::adopt(&api, &*pod, &controller).await {
                    Ok(adopted) => active.extend(adopted),
                    Err(error) => errors.push(error),
                }
            }
        }
        for pod in claimed.release {
            if let Err(error) = claim::release(&api, &*pod, owner::uid(set.meta())).await {
                errors.push(error);
            }
        }
        Error::all(errors)?;
        Ok((active, terminating))
    }

    /// The active pods of all sets that share this set's controller.
    fn related(&self, set: &K, active: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        if active.len() <= usize::try_from(set.replicas()).unwrap_or(0) {
            return Vec::new();
        }
        let Some(controller) = owner::controller_of(set.meta()) else {
            return active.to_vec();
        };
        let siblings = self.sets.owned_by(&controller.uid);
        let mut seen = HashSet::new();
        siblings
            .iter()
            .filter(|sibling| owner::is_controlled_by(sibling.meta(), &controller.uid))
            .flat_map(|sibling| self.pods.owned_by(owner::uid(sibling.meta())))
            .filter(|pod| pod::is_active(pod) && seen.insert(ObjectKey::of(&pod.metadata)))
            .collect()
    }

    async fn create(&self, key: &ObjectKey, set: &K, count: usize) -> Result<(), (String, Error)> {
        self.expectations.expect_creations(key, count);
        let api = Api::<Pod>::namespaced(self.client.clone(), key.namespace());
        let pod = decide::new_pod(set, owner::controller_ref(set));
        let params = PostParams::default();
        let (created, errors) = slow_start(count, || async {
            match api.create(&params, &pod).await {
                Ok(pod) => {
                    let message = format!("Created pod: {}", owner::name(&pod.metadata));
                    self.events
                        .record(set, EventType::Normal, "SuccessfulCreate", message);
                    Ok(())
                }
                Err(error) if is_namespace_terminating(&error) => Err(None),
                Err(error) => {
                    let message = format!("Error creating: {}", server_message(&error));
                    self.events
                        .record(set, EventType::Warning, "FailedCreate", message);
                    Err(Some(error))
                }
            }
        })
        .await;
        for _ in created..count {
            self.expectations.creation_observed(key);
        }
        match errors.into_iter().flatten().next() {
            None => Ok(()),
            Some(error) => Err((server_message(&error), error.into())),
        }
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        set: &K,
        pods: Vec<Arc<Pod>>,
    ) -> Result<(), (String, Error)> {
        self.expectations.expect_deletions(
            key,
            pods.iter().map(|pod| owner::uid(&pod.metadata).to_owned()),
        );
        let api = Api::<Pod>::namespaced(self.client.clone(), key.namespace());
        let errors = Mutex::new(Vec::new());
        futures::future::join_all(pods.iter().map(|pod| async {
            let name = owner::name(&pod.metadata);
            let preconditions = Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            };
            match api
                .delete(name, &DeleteParams::default().preconditions(preconditions))
                .await
            {
                Ok(_) => {
                    let message = format!("Deleted pod: {name}");
                    self.events
                        .record(set, EventType::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.expectations
                        .deletion_observed(key, owner::uid(&pod.metadata));
                    // Gone, or replaced by a namesake: either way no longer ours to delete.
                    if !is_not_found(&error) && !is_conflict(&error) {
                        let message = format!("Error deleting: {}", server_message(&error));
                        self.events
                            .record(set, EventType::Warning, "FailedDelete", message);
                        errors.lock().push(error);
                    }
                }
            }
        }))
        .await;
        match errors.into_inner().into_iter().next() {
            None => Ok(()),
            Some(error) => Err((server_message(&error), error.into())),
        }
    }
}
