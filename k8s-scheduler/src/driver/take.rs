//! Takes in what the API says.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::{
    act::Actor,
    run::{Driver, Outcome, Rejection, State},
    watch::Input,
};
use crate::{
    framework::ClusterEvent,
    snapshot::{NodeInfo, Object, PodInfo, Snapshot},
};

impl Driver {
    pub(super) fn take(&self, state: &mut State, actor: &Actor, input: Input) {
        match input {
            Input::Pod(Event::Apply(pod)) => self.pod(state, actor, pod),
            Input::Pod(Event::Delete(pod)) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                self.pod_gone(state, actor, uid);
            }
            Input::Pod(Event::Init) => state.fresh_pods = Some(HashSet::new()),
            Input::Pod(Event::InitApply(pod)) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                state.fresh_pods.get_or_insert_default().insert(uid);
                self.pod(state, actor, pod);
            }
            Input::Pod(Event::InitDone) => self.pods_listed(state, actor),
            Input::Node(Event::Apply(node)) => self.node(state, node),
            Input::Node(Event::Delete(node)) => {
                self.node_gone(state, node.metadata.name.as_deref().unwrap_or_default());
            }
            Input::Node(Event::Init) => state.fresh_nodes = Some(HashSet::new()),
            Input::Node(Event::InitApply(node)) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                state.fresh_nodes.get_or_insert_default().insert(name);
                self.node(state, node);
            }
            Input::Node(Event::InitDone) => {
                let fresh = state.fresh_nodes.take().unwrap_or_default();
                let nodes = state.snapshot.nodes().map(|n| n.name().to_owned());
                let gone: Vec<String> = nodes.filter(|name| !fresh.contains(name)).collect();
                for name in gone {
                    self.node_gone(state, &name);
                }
                if !std::mem::replace(&mut state.knows_nodes, true) {
                    self.synced(state);
                }
            }
            Input::Set(object) => {
                if let Some(event) = set(&state.snapshot, &object) {
                    state.queue.event(&event, Instant::now());
                }
                state.snapshot.set(object);
            }
            Input::Unset(object) => {
                let event = unset(&state.snapshot, &object);
                state.queue.event(&event, Instant::now());
                state.snapshot.unset(&object);
            }
            Input::Synced => self.synced(state),
        }
    }

    fn synced(&self, state: &mut State) {
        state.missing = state.missing.saturating_sub(1);
    }

    fn pods_listed(&self, state: &mut State, actor: &Actor) {
        let fresh = state.fresh_pods.take().unwrap_or_default();
        let placed = state.snapshot.pods().map(|p| p.shared_uid().clone());
        let waiting = state.queue.uids().into_iter();
        let gone: Vec<Arc<str>> = placed
            .chain(waiting)
            .filter(|uid| !fresh.contains(&**uid))
            .collect();
        for uid in gone {
            self.pod_gone(state, actor, &uid);
        }
        if !std::mem::replace(&mut state.knows_pods, true) {
            self.synced(state);
        }
    }

    fn pod(&self, state: &mut State, actor: &Actor, pod: Pod) {
        let mut info = PodInfo::from(pod);
        if info.is_terminal() {
            return self.pod_gone(state, actor, info.uid());
        }
        if let Some(node) = info.node_name().map(str::to_owned) {
            return self.placed(state, info, &node);
        }
        let uid = info.shared_uid().clone();
        let ours = self.profiles.get(&info.shape().scheduler_name).is_some();
        // What was placed here a moment ago, and is not shown there yet, is not to be placed again.
        if !ours || state.assumed.contains(&uid) {
            if info.is_terminating() && state.waiting.contains_key(&uid) {
                self.pod_gone(state, actor, &uid);
            }
            return;
        }
        if info.is_terminating() {
            state.queue.forget(&uid);
            return self.forget_nomination(state, &uid);
        }
        // The API may not show yet what was decided here.
        match (
            state.nominations.get(&uid).cloned(),
            info.nominated_node().map(str::to_owned),
        ) {
            (Some(known), shown) if shown.as_ref() != Some(&known) => {
                info = info.with_nominated_node(Some(&known));
            }
            (None, Some(shown)) if state.queue.pod(&uid).is_none() => {
                state.nominations.insert(uid.clone(), shown);
            }
            _ => {}
        }
        let info = Arc::new(info);
        if let Some(node) = state.nominations.get(&uid) {
            state.snapshot.nominate(info.clone(), node);
        }
        let is_new = state.queue.pod(&uid).is_none();
        state.queue.set(info.clone(), Instant::now());
        let gate = state.queue.gate(&info).filter(|_| is_new);
        if let Some(status) = gate.filter(|status| !status.reasons.is_empty()) {
            // Why a pod does not even enter the queue is said once, on itself.
            let actor = actor.clone();
            let message = status.reasons.join(", ");
            state.writes.spawn(async move {
                actor.gated(&info, message).await;
                Outcome::Said
            });
        }
    }

    /// A pod that has its node.
    fn placed(&self, state: &mut State, info: PodInfo, node: &str) {
        let uid = info.shared_uid().clone();
        state.queue.forget(&uid);
        self.forget_nomination(state, &uid);
        let was_assumed = state.assumed.remove(&uid);
        if let Some(waiting) = state.waiting.remove(&uid) {
            // Somebody else bound it.
            self.unreserve(&waiting.state, &waiting.pod, &waiting.node);
        }
        let before = state.snapshot.pod(&uid).cloned();
        let info = Arc::new(info.without_pod());
        state.snapshot.place(info.clone(), node);
        let event = match &before {
            Some(before) if !was_assumed => {
                let is_alike = before.shape() == info.shape()
                    && before.is_terminating() == info.is_terminating();
                if is_alike {
                    return;
                }
                ClusterEvent::AssignedPodUpdate(&info)
            }
            _ => ClusterEvent::AssignedPodAdd(&info),
        };
        state.queue.event(&event, Instant::now());
    }

    fn forget_nomination(&self, state: &mut State, uid: &str) {
        if state.nominations.remove(uid).is_some() {
            state.snapshot.forget_nomination(uid);
        }
    }

    fn pod_gone(&self, state: &mut State, actor: &Actor, uid: &str) {
        state.queue.forget(uid);
        let nominated = state.nominations.contains_key(uid);
        self.forget_nomination(state, uid);
        state.assumed.remove(uid);
        let waiting = state.waiting.remove(uid);
        let gone = state.snapshot.remove_pod(uid);
        if let Some(pod) = gone {
            state
                .queue
                .event(&ClusterEvent::AssignedPodDelete(&pod), Instant::now());
        } else if nominated {
            // The room that was kept for it is free for others.
            for uid in state.queue.uids() {
                state.queue.wake_up(&uid, Instant::now());
            }
        }
        if let Some(waiting) = waiting {
            let rejection = Rejection {
                plugin: Some(waiting.plugin),
                reason: "Unschedulable",
                message: "a pod that it waited with is gone".into(),
            };
            self.take_back(state, actor, waiting, rejection);
        }
    }

    fn node_gone(&self, state: &mut State, name: &str) {
        if let Some(node) = state.snapshot.node(name).cloned() {
            state.snapshot.remove_node(name);
            state
                .queue
                .event(&ClusterEvent::NodeDelete(&node), Instant::now());
        }
    }

    fn node(&self, state: &mut State, node: Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let before = state.snapshot.node(&name).and_then(NodeInfo::to_node);
        let before = before.as_ref().map(essence);
        let after = essence(&node);
        let (is_new, changed) = (before.is_none(), before.as_ref() != Some(&after));
        state.snapshot.set_node(Arc::new(node));
        let State {
            snapshot, queue, ..
        } = state;
        if let Some(info) = snapshot.node(&name).filter(|_| changed) {
            let event = if is_new {
                ClusterEvent::NodeAdd(info)
            } else {
                ClusterEvent::NodeUpdate(info)
            };
            queue.event(&event, Instant::now());
        }
    }
}

/// What a change of an object means for those that wait, if anything.
fn set<'a>(snapshot: &Snapshot, object: &'a Object) -> Option<ClusterEvent<'a>> {
    let Object::ResourceClaim(claim) = object else {
        return Some(ClusterEvent::Object(object));
    };
    let devices = snapshot.objects().devices();
    match devices.claim(claim.namespace(), claim.name()) {
        Some(before) if before.status.allocation.is_some() && claim.status.allocation.is_none() => {
            Some(ClusterEvent::DevicesFreed(claim))
        }
        // A finalizer, as comes with devices and goes with them.
        Some(before)
            if before.uid() == claim.uid()
                && before.status == claim.status
                && before.metadata.deletion_timestamp == claim.metadata.deletion_timestamp =>
        {
            None
        }
        _ => Some(ClusterEvent::Object(object)),
    }
}

/// What the end of an object means for them.
fn unset<'a>(snapshot: &Snapshot, object: &'a Object) -> ClusterEvent<'a> {
    if let Object::ResourceClaim(claim) = object {
        let devices = snapshot.objects().devices();
        let before = devices.claim(claim.namespace(), claim.name());
        if before.is_some_and(|before| before.status.allocation.is_some()) {
            return ClusterEvent::DevicesFreed(claim);
        }
    }
    ClusterEvent::ObjectDelete(object)
}

/// The parts of a node that decide what fits on it: without its heartbeats.
fn essence(node: &Node) -> impl PartialEq + use<> {
    (
        node.metadata.labels.clone(),
        node.spec.clone(),
        node.status.as_ref().and_then(|s| s.allocatable.clone()),
    )
}
