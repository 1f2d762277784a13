//! The driver of the node lifecycle: one key per node.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, ObjectReference, Pod},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use super::{
    health::{self, Health},
    pace::Pace,
    taints,
    zones::{self, Evict},
};
use crate::{
    Error,
    common::{conditions::patch_status, context::Context, owner, pod, status::write_status},
    runtime::{
        Change, Clock, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler,
        Requeue, WorkQueue,
    },
};

/// Where kubelets keep their leases.
const LEASES: &str = "kube-node-lease";
/// Pods by the node that they are on.
pub(super) const BY_NODE: &str = "node";

/// Files pods by node.
pub(super) fn index_pods(pods: &Informer<Pod>) {
    pods.add_index(BY_NODE, |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .filter(|node| !node.is_empty())
            .into_iter()
            .collect()
    });
}

pub(crate) struct Nodes {
    client: Client,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    health: Mutex<HashMap<ObjectKey, Health>>,
    pace: Mutex<Pace>,
    queue: WorkQueue<ObjectKey>,
    events: EventRecorder,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Nodes> {
    let queue = WorkQueue::new();
    let reconciler = Nodes {
        client: context.client.clone(),
        nodes: context.informers.informer(),
        leases: context.informers.informer(),
        pods: context.informers.informer(),
        health: Mutex::default(),
        pace: Mutex::default(),
        queue: queue.clone(),
        events: context.events.clone(),
        clock: context.clock,
    };
    index_pods(&reconciler.pods);
    let (adds, nodes) = (queue.clone(), reconciler.nodes.clone());
    reconciler.nodes.add_handler(move |change| {
        // When the only node that was ready goes, or the first comes, it matters to all.
        let ready = |node: &Node| health::state(node, "Ready") == "True";
        let turned = match &change {
            Change::Updated { old, new } => ready(old) != ready(new),
            Change::Added(_) | Change::Deleted(_) => true,
        };
        if turned {
            nodes
                .list()
                .iter()
                .for_each(|node| adds.add(ObjectKey::of(&node.metadata)));
        }
        adds.add(ObjectKey::of(&change.object().metadata));
    });
    let adds = queue.clone();
    reconciler.leases.add_handler(move |change| {
        let meta = &change.object().metadata;
        if owner::namespace(meta) == LEASES {
            adds.add(ObjectKey::new("", owner::name(meta)));
        }
    });
    let ready = [
        Box::pin(reconciler.nodes.synced()) as futures::future::BoxFuture<'static, ()>,
        Box::pin(reconciler.leases.synced()),
        Box::pin(reconciler.pods.synced()),
    ];
    let controller = Controller::new("node-lifecycle-controller", reconciler, queue);
    ready.into_iter().fold(controller, Controller::wait_for)
}

/// A node as events refer to it: upstream uses the name as UID, and tools select by that.
pub(crate) fn node_reference(node: &Node) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: node.metadata.name.clone(),
        uid: node.metadata.uid.clone(),
        ..Default::default()
    }
}

impl Reconciler for Nodes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(node) = self.nodes.get(&key) else {
            self.health.lock().remove(&key);
            return Ok(Requeue::OnChange);
        };
        let now = self.clock.now();
        let lease = self.leases.find(LEASES, key.name());
        let renewed = lease
            .as_ref()
            .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        let (left, first) = {
            let mut all = self.health.lock();
            if all.get(&key).is_some_and(|health| !health.is_of(&node)) {
                all.remove(&key);
            }
            let first = !all.contains_key(&key);
            let health = all
                .entry(key.clone())
                .or_insert_with(|| Health::first(&node, renewed, now));
            health.look(&node, renewed, now);
            if health::state(&node, "Ready") == "True" {
                health.told = false;
            }
            (health.left(&node, now), first)
        };
        if first {
            let message = format!(
                "Node {0} event: Registered Node {0} in Controller",
                key.name()
            );
            self.events.record_ref(
                node_reference(&node),
                EventType::Normal,
                "RegisteredNode",
                message,
            );
        }
        let api = Api::<Node>::all(self.client.clone());
        if left.is_none()
            && let Some(conditions) = health::lose(&node, now)
        {
            write_status(&api, &*node, |node| {
                node.status.get_or_insert_default().conditions = Some(conditions.clone());
            })
            .await?;
            // The change comes back as an event, and what follows from it then.
            return Ok(Requeue::OnChange);
        }
        let (evict, wait) = self.evict(&node, now);
        if let Some(taints) = taints::wanted(&node, evict, now) {
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version, "uid": node.metadata.uid},
                "spec": {"taints": taints},
            });
            api.patch(key.name(), &PatchParams::default(), &Patch::Merge(patch))
                .await?;
        }
        if matches!(health::state(&node, "Ready"), "False" | "Unknown") {
            self.tell_pods(&key, &node).await?;
        }
        let next = left.into_iter().chain(wait).min();
        Ok(next.map_or(Requeue::OnChange, Requeue::After))
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl Nodes {
    /// Whether pods may be driven off the node, and how long it has to wait for that if it is not its turn yet.
    fn evict(&self, node: &Node, now: Timestamp) -> (Evict, Option<Duration>) {
        if !matches!(health::state(node, "Ready"), "False" | "Unknown") {
            return (Evict::Yes, None);
        }
        let evict = zones::evict(node, &self.nodes.list());
        if taints::drives_off(node) {
            return (evict, None);
        }
        match self.pace.lock().turn(node, evict, now) {
            Ok(()) => (evict, None),
            Err(left) => (Evict::NoMore, Some(left)),
        }
    }

    /// The pods of a node that has just stopped being ready are not ready either; the kubelet may
    /// be unable to say so.
    async fn tell_pods(&self, key: &ObjectKey, node: &Node) -> Result<(), Error> {
        let told = self.health.lock().get(key).is_none_or(|health| health.told);
        if told {
            return Ok(());
        }
        self.events.record_ref(
            node_reference(node),
            EventType::Normal,
            "NodeNotReady",
            format!("Node {} status is now: NodeNotReady", key.name()),
        );
        let mut errors = Vec::new();
        for pod in self.pods.by_index(BY_NODE, key.name()) {
            if !pod::is_ready(&pod) {
                continue;
            }
            let api = Api::<Pod>::namespaced(self.client.clone(), owner::namespace(&pod.metadata));
            let status = json!({"conditions": [{
                "type": "Ready",
                "status": "False",
                "lastTransitionTime": self.clock.time(),
            }]});
            match patch_status(&api, &pod, status).await {
                Ok(()) => self.events.record(
                    &*pod,
                    EventType::Warning,
                    "NodeNotReady",
                    "Node is not ready",
                ),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)?;
        if let Some(health) = self.health.lock().get_mut(key) {
            health.told = true;
        }
        // Taints are looked at once more, on the state as it is then.
        self.queue.add(key.clone());
        Ok(())
    }
}
