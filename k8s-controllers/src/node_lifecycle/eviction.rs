//! The driver of taint-based eviction: one key per pod.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use parking_lot::Mutex;

use super::{
    driver::{BY_NODE, index_pods},
    tolerate::{Stay, stay},
};
use crate::{
    Error,
    common::{conditions::mark_disrupted, context::Context, owner},
    error::{is_conflict, is_not_found},
    runtime::{
        Change, Clock, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler,
        Requeue, WorkQueue, since,
    },
};

pub(crate) struct Evictions {
    client: Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// Since when pods are doomed, by UID.
    doomed: Mutex<HashMap<ObjectKey, (String, Timestamp)>>,
    events: EventRecorder,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Evictions> {
    let queue = WorkQueue::new();
    let reconciler = Evictions {
        client: context.client.clone(),
        nodes: context.informers.informer(),
        pods: context.informers.informer(),
        doomed: Mutex::default(),
        events: context.events.clone(),
        clock: context.clock,
    };
    index_pods(&reconciler.pods);
    let (adds, pods) = (queue.clone(), reconciler.pods.clone());
    reconciler.nodes.add_handler(move |change| {
        let evicts = |node: &Node| {
            let taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default();
            taints
                .iter()
                .filter(|taint| taint.effect == "NoExecute")
                .cloned()
                .collect::<Vec<_>>()
        };
        let relevant = match &change {
            Change::Added(node) => !evicts(node).is_empty(),
            Change::Updated { old, new } => evicts(old) != evicts(new),
            Change::Deleted(_) => false,
        };
        if relevant {
            for pod in pods.by_index(BY_NODE, owner::name(&change.object().metadata)) {
                adds.add(ObjectKey::of(&pod.metadata));
            }
        }
    });
    let adds = queue.clone();
    reconciler.pods.add_handler(move |change| {
        let fate = |pod: &Pod| {
            pod.spec
                .as_ref()
                .map(|spec| (spec.node_name.clone(), spec.tolerations.clone()))
        };
        let relevant = match &change {
            Change::Updated { old, new } => fate(old) != fate(new),
            Change::Added(_) | Change::Deleted(_) => true,
        };
        if relevant {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let ready = (reconciler.nodes.synced(), reconciler.pods.synced());
    Controller::new("taint-eviction-controller", reconciler, queue)
        .with_workers(8)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

impl Reconciler for Evictions {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(pod) = self
            .pods
            .get(&key)
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        else {
            self.doomed.lock().remove(&key);
            return Ok(Requeue::OnChange);
        };
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        let node = self.nodes.find("", node);
        let taints = node
            .as_ref()
            .and_then(|node| node.spec.as_ref()?.taints.as_deref())
            .unwrap_or_default();
        match stay(&pod, taints) {
            Stay::Forever => {
                if self.doomed.lock().remove(&key).is_some() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events
                        .record(&*pod, EventType::Normal, "TaintManagerEviction", message);
                }
                Ok(Requeue::OnChange)
            }
            Stay::For(patience) => {
                let left = patience.saturating_sub(self.doomed_for(&key, &pod));
                if left.is_zero() {
                    self.evict(&key, &pod).await
                } else {
                    Ok(Requeue::After(left))
                }
            }
            Stay::No => self.evict(&key, &pod).await,
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl Evictions {
    fn doomed_for(&self, key: &ObjectKey, pod: &Pod) -> Duration {
        let now = self.clock.now();
        let uid = owner::uid(&pod.metadata);
        let mut doomed = self.doomed.lock();
        let entry = doomed
            .entry(key.clone())
            .or_insert_with(|| (uid.to_owned(), now));
        if entry.0 != uid {
            *entry = (uid.to_owned(), now);
        }
        since(now, entry.1)
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<Requeue, Error> {
        let message = format!("Marking for deletion Pod {key}");
        self.events
            .record(pod, EventType::Normal, "TaintManagerEviction", message);
        let api = Api::<Pod>::namespaced(self.client.clone(), key.namespace());
        let why = "Taint manager: deleting due to NoExecute taint";
        mark_disrupted(
            &api,
            pod,
            "DeletionByTaintManager",
            why,
            false,
            self.clock.time(),
        )
        .await?;
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        match api
            .delete(
                key.name(),
                &DeleteParams::default().preconditions(preconditions),
            )
            .await
        {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => return Err(error.into()),
            _ => {}
        }
        self.doomed.lock().remove(key);
        Ok(Requeue::OnChange)
    }
}
