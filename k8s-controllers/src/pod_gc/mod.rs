//! Pod garbage collection: pods that nobody else will ever remove.
//!
//! Mirrors upstream's `pkg/controller/podgc`, driven by events instead of a 20 s poll.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Error,
    common::{
        conditions::{mark_disrupted, patch_status},
        context::Context,
        owner, pod,
    },
    error::unless_outdated,
    runtime::{Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// How long a node may be missing before its pods are; upstream's `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How many pods that are over are kept; upstream's `--terminated-pod-gc-threshold`.
const KEPT: usize = 12_500;
/// How often that is looked at, at most; upstream's `gcCheckPeriod`.
const PERIOD: Duration = Duration::from_secs(20);

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// One pod.
    Pod(ObjectKey),
    /// The number of pods that are over.
    Terminated,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Pod(key) => key.fmt(f),
            Key::Terminated => f.write_str("terminated pods"),
        }
    }
}

/// Why a pod is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Its node may be gone.
    Orphaned,
    /// It is being deleted and was never on a node, so that no kubelet will finish it.
    Unscheduled,
    /// It is being deleted, and its node has been declared out of service.
    OutOfService,
}

/// Whether a pod is to go: the pure core.
fn judge(pod: &Pod, node: Option<&Node>) -> Option<Reason> {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    let deleting = pod.metadata.deletion_timestamp.is_some();
    match node {
        _ if name.is_empty() => deleting.then_some(Reason::Unscheduled),
        None => Some(Reason::Orphaned),
        Some(node) => {
            let taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default();
            let out = taints
                .iter()
                .any(|taint| taint.key == "node.kubernetes.io/out-of-service");
            let conditions = node
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_deref())
                .unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            (deleting && out && !ready).then_some(Reason::OutOfService)
        }
    }
}

pub(crate) struct PodGc {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    /// Since when nodes are missing.
    missing: Arc<Mutex<HashMap<String, Instant>>>,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<PodGc> {
    let reconciler = PodGc {
        client: context.client.clone(),
        pods: context.informers.informer(),
        nodes: context.informers.informer(),
        missing: Arc::default(),
        clock: context.clock,
    };
    let queue = WorkQueue::new();
    let (adds, nodes) = (queue.clone(), reconciler.nodes.clone());
    reconciler.pods.add_handler(move |change| {
        let (new, old) = match &change {
            Change::Deleted(_) => return,
            Change::Added(pod) => (*pod, None),
            Change::Updated { old, new } => (*new, Some(*old)),
        };
        if pod::is_terminal(new) && old.is_none_or(|old| !pod::is_terminal(old)) {
            adds.add_after(Key::Terminated, PERIOD);
        }
        let node = new
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        if judge(new, nodes.find("", node).as_deref()).is_some() {
            adds.add(Key::Pod(ObjectKey::of(&new.metadata)));
        }
    });
    let (adds, pods) = (queue.clone(), reconciler.pods.clone());
    let missing = reconciler.missing.clone();
    reconciler.nodes.add_handler(move |change| {
        // However long it was away before: it may come back each time.
        missing
            .lock()
            .remove(owner::name(&change.object().metadata));
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let relevant = match &change {
            Change::Added(_) => false,
            Change::Updated { old, new } => taints(old) != taints(new),
            Change::Deleted(_) => true,
        };
        if !relevant {
            return;
        }
        let name = owner::name(&change.object().metadata);
        for pod in pods.list() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(name) {
                adds.add(Key::Pod(ObjectKey::of(&pod.metadata)));
            }
        }
    });
    let ready = (reconciler.pods.synced(), reconciler.nodes.synced());
    Controller::new("pod-garbage-collector-controller", reconciler, queue)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

impl Reconciler for PodGc {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: Key) -> Result<Requeue, Error> {
        match key {
            Key::Terminated => self.thin_out().await.map(|()| Requeue::OnChange),
            Key::Pod(key) => self.look_at(&key).await,
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl PodGc {
    async fn look_at(&self, key: &ObjectKey) -> Result<Requeue, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let name = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        let node = self.nodes.find("", name);
        match judge(&pod, node.as_deref()) {
            None => {}
            Some(Reason::Unscheduled | Reason::OutOfService) => self.remove(&pod, false).await?,
            Some(Reason::Orphaned) => {
                let since = *self
                    .missing
                    .lock()
                    .entry(name.to_owned())
                    .or_insert_with(Instant::now);
                let left = QUARANTINE.saturating_sub(since.elapsed());
                if !left.is_zero() {
                    return Ok(Requeue::After(left));
                }
                let node = Api::<Node>::all(self.client.clone())
                    .get_metadata_opt(name)
                    .await?;
                if node.is_some() {
                    // The informer will show it.
                    return Ok(Requeue::OnChange);
                }
                self.remove(&pod, true).await?;
            }
        }
        Ok(Requeue::OnChange)
    }

    /// Deletes the oldest pods that are over when there are too many.
    async fn thin_out(&self) -> Result<(), Error> {
        let mut over: Vec<Arc<Pod>> = self
            .pods
            .list()
            .into_iter()
            .filter(|pod| pod::is_terminal(pod))
            .collect();
        let surplus = over.len().saturating_sub(KEPT);
        if surplus == 0 {
            return Ok(());
        }
        over.sort_by_key(|pod| {
            (
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
                pod.metadata.name.clone(),
            )
        });
        over.truncate(surplus);
        let mut errors = Vec::new();
        for pod in over {
            errors.extend(self.remove(&pod, false).await.err());
        }
        Error::all(errors)
    }

    /// Says that a pod has failed, if nobody said how it ended, and deletes it at once.
    async fn remove(&self, pod: &Pod, disrupted: bool) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), owner::namespace(&pod.metadata));
        let failed = !pod::is_terminal(pod);
        if disrupted {
            let why = "PodGC: node no longer exists";
            mark_disrupted(&api, pod, "DeletionByPodGC", why, failed, self.clock.time()).await?;
        } else if failed {
            patch_status(&api, pod, serde_json::json!({"phase": "Failed"})).await?;
        }
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams::default()
            .grace_period(0)
            .preconditions(preconditions);
        unless_outdated(api.delete(owner::name(&pod.metadata), &params).await)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Taint;

    use super::*;
    use crate::common::fixture;

    #[test]
    fn only_pods_that_nobody_else_removes_are_collected() {
        let healthy = Node::default();
        let mut out = Node::default();
        out.spec.get_or_insert_default().taints = Some(vec![Taint {
            key: "node.kubernetes.io/out-of-service".to_owned(),
            ..Default::default()
        }]);
        let bound = || fixture::pod("default", "p").on("n");
        let free = || fixture::pod("default", "p");
        assert_eq!(judge(&free().build(), None), None);
        assert_eq!(
            judge(&free().deleting().build(), None),
            Some(Reason::Unscheduled)
        );
        assert_eq!(judge(&bound().build(), Some(&healthy)), None);
        assert_eq!(judge(&bound().deleting().build(), Some(&healthy)), None);
        assert_eq!(judge(&bound().build(), None), Some(Reason::Orphaned));
        assert_eq!(
            judge(&bound().deleting().build(), Some(&out)),
            Some(Reason::OutOfService)
        );
        assert_eq!(judge(&bound().build(), Some(&out)), None);
    }
}
