//! One scheduling cycle, and what follows from it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{task::JoinError, time::Instant};

use super::{
    act::Actor,
    run::{Driver, Outcome, Rejection, State, Waiting},
};
use crate::{
    framework::{ClusterEvent, CycleState, PermitDecision, Status},
    profile::Profile,
    queue::QueuedPod,
    schedule::{FitError, guarded},
    snapshot::PodInfo,
};

/// The longest that a Permit plugin may have a pod wait (upstream's limit).
const LONGEST_PERMIT: Duration = Duration::from_secs(15 * 60);

impl Driver {
    fn profile(&self, pod: &PodInfo) -> &Arc<Profile> {
        let named = self.profiles.get(&pod.shape().scheduler_name);
        named.unwrap_or_else(|| self.profiles.first())
    }

    /// One scheduling cycle.
    pub(super) fn cycle(&self, state: &mut State, actor: &Actor, queued: QueuedPod) {
        let span = tracing::debug_span!(
            "scheduling cycle",
            object.ref = queued.pod.key(),
            attempt = queued.attempts
        );
        let _entered = span.enter();
        let pod = queued.pod;
        let scheduler = self.schedulers.get(&pod.shape().scheduler_name);
        let Some(scheduler) = scheduler.filter(|_| !pod.is_terminating()) else {
            state.queue.forget(pod.uid());
            return;
        };
        let seed = state.random.u64(..);
        let snapshot = &state.snapshot;
        match guarded(|| scheduler.schedule(snapshot, &pod, seed)) {
            Err(panic) => self.reject(state, actor, pod, Rejection::error(panic)),
            Ok(Ok(placement)) => {
                self.assume(state, actor, pod, placement.node, placement.state);
            }
            Ok(Err(error)) => self.unschedulable(state, actor, pod, &error, seed),
        }
    }

    /// Takes the place on the node, before the API knows of it.
    fn assume(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        node: String,
        cycle: CycleState,
    ) {
        let mut cycle = cycle;
        let Some(info) = state.snapshot.shared_node(&node) else {
            let rejection = Rejection::error(format!("node {node:?} is gone"));
            return self.reject(state, actor, pod, rejection);
        };
        for plugin in &self.profile(&pod).reserve {
            let reserved = guarded(|| plugin.reserve(&mut cycle, &pod, &info));
            if let Err(status) = reserved.unwrap_or_else(|panic| Err(Status::error(panic))) {
                self.unreserve(&cycle, &pod, &node);
                let rejection = Rejection::by(plugin.name(), &status);
                return self.reject(state, actor, pod, rejection);
            }
        }
        // Held on to, the node would be copied when the pod is placed on it.
        drop(info);
        state.snapshot.place(Arc::new(pod.without_pod()), &node);
        state.snapshot.forget_nomination(pod.uid());
        state.assumed.insert(pod.shared_uid().clone());
        self.permit(state, actor, pod, node, cycle, None);
    }

    /// No node fits: makes room if it can, and says so on the pod.
    fn unschedulable(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        error: &FitError,
        seed: u64,
    ) {
        let mut message = error.to_string();
        let (reason, mut plugins) = match error {
            FitError::Unschedulable { .. } => ("Unschedulable", error.plugins()),
            FitError::Plugin { .. } => ("SchedulerError", BTreeSet::new()),
        };
        // Without any node there is no plugin to blame; a node that comes helps.
        if plugins.is_empty() && reason == "Unschedulable" {
            plugins.insert("NodeName");
        }
        let mut pod = pod;
        let mut nominated = None;
        if let Some(scheduler) = self.schedulers.get(&pod.shape().scheduler_name) {
            let snapshot = &state.snapshot;
            match guarded(|| scheduler.make_room(snapshot, &pod, error, seed)) {
                Ok(Ok(room)) => {
                    if let Some(text) = &room.message {
                        message = format!("{message} {text}");
                    }
                    let before = pod.nominated_node().map(str::to_owned);
                    if before != room.node {
                        let node = room.node.clone();
                        pod = Arc::new(PodInfo::clone(&pod).with_nominated_node(node.as_deref()));
                        nominated = Some(node);
                    }
                    self.make_room(state, actor, &pod, room);
                }
                Ok(Err(Some(status))) => {
                    message = format!("{message} {}", status.reasons.join(", "));
                }
                Ok(Err(None)) => {}
                Err(panic) => tracing::error!(panic, "a PostFilter plugin failed"),
            }
        }
        tracing::debug!(object.ref = pod.key(), object.reason = reason, message, "pod not scheduled");
        state.queue.note_pod(pod.clone());
        state.queue.failed(pod.uid(), plugins, Instant::now());
        let actor = actor.clone();
        state.writes.spawn(async move {
            actor.failed(&pod, reason, message, nominated).await;
            Outcome::Said
        });
    }

    /// Evicts the victims, and notes whom the room is for.
    fn make_room(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: &Arc<PodInfo>,
        room: crate::framework::Nominated,
    ) {
        let uid = pod.shared_uid().clone();
        let Some(node) = room.node else {
            state.nominations.remove(&uid);
            state.snapshot.forget_nomination(&uid);
            return;
        };
        state.snapshot.nominate(pod.clone(), &node);
        state.nominations.insert(uid, node.clone());
        for displaced in room.displaced {
            state.nominations.remove(displaced.uid());
            state.snapshot.forget_nomination(displaced.uid());
            if let Some(waiting) = state.queue.pod(displaced.uid()).cloned() {
                let without = PodInfo::clone(&waiting).with_nominated_node(None);
                state.queue.note_pod(Arc::new(without));
                state.queue.wake_up(displaced.uid(), Instant::now());
            }
            let actor = actor.clone();
            state.writes.spawn(async move {
                actor.nominate(&displaced, None).await;
                Outcome::Said
            });
        }
        let mut victims = Vec::new();
        for victim in room.victims {
            match state.waiting.remove(victim.uid()) {
                Some(waiting) => {
                    let rejection = Rejection {
                        plugin: Some("DefaultPreemption"),
                        reason: "Unschedulable",
                        message: "preempted".into(),
                    };
                    self.take_back(state, actor, waiting, rejection);
                }
                None => victims.push(victim),
            }
        }
        if victims.is_empty() {
            return;
        }
        let (actor, pod) = (actor.clone(), pod.clone());
        state.writes.spawn(async move {
            let evictions = victims
                .iter()
                .map(|victim| actor.evict(victim, &pod, &node));
            let done = futures::future::join_all(evictions).await;
            if done.into_iter().all(|evicted| evicted) {
                Outcome::Said
            } else {
                Outcome::NoRoom(pod)
            }
        });
    }

    fn permit(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        node: String,
        cycle: CycleState,
        until: Option<Instant>,
    ) {
        let mut wait: Option<(Instant, &'static str)> = None;
        let profile = self.profile(&pod);
        if !profile.permit.is_empty() {
            let others = state.waiting.values().map(|w| w.pod.clone());
            let others: Vec<Arc<PodInfo>> = others.filter(|o| o.uid() != pod.uid()).collect();
            for plugin in &profile.permit {
                let snapshot = &state.snapshot;
                let decision = guarded(|| plugin.permit(&cycle, &pod, &node, snapshot, &others));
                let decision =
                    decision.unwrap_or_else(|panic| PermitDecision::Reject(Status::error(panic)));
                match decision {
                    PermitDecision::Allow => {}
                    PermitDecision::Wait(timeout) => {
                        let timeout = timeout.min(LONGEST_PERMIT);
                        let at = until.unwrap_or_else(|| Instant::now() + timeout);
                        if wait.is_none_or(|(first, _)| at < first) {
                            wait = Some((at, plugin.name()));
                        }
                    }
                    PermitDecision::Reject(status) => {
                        let waiting = Waiting {
                            pod,
                            node,
                            state: cycle,
                            until: Instant::now(),
                            plugin: plugin.name(),
                        };
                        let rejection = Rejection::by(plugin.name(), &status);
                        return self.take_back(state, actor, waiting, rejection);
                    }
                }
            }
        }
        if let Some((until, plugin)) = wait {
            let waiting = Waiting {
                pod,
                node,
                state: cycle,
                until,
                plugin,
            };
            let uid = waiting.pod.shared_uid().clone();
            // A pod that was asked again and still waits is no news to the others.
            let is_known = state.waiting.insert(uid, waiting).is_some();
            state.permits_changed |= !is_known;
            return;
        }
        state.waiting.remove(pod.uid());
        // What was missing for those that wait may be this very pod.
        state.permits_changed = !state.waiting.is_empty();
        self.bind(state, actor, pod, node, cycle);
    }

    fn bind(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        node: String,
        cycle: CycleState,
    ) {
        let (actor, timeout) = (actor.clone(), self.config.bind_timeout);
        let profile = self.profile(&pod).clone();
        state.writes.spawn(async move {
            let cycle = Arc::new(cycle);
            let result = actor.bind(&profile, &cycle, &pod, &node, timeout).await;
            Outcome::Bound {
                pod,
                node,
                state: cycle,
                result,
            }
        });
    }

    /// Asks the Permit plugins again for every pod that waits for them.
    pub(super) fn ask_waiting(&self, state: &mut State, actor: &Actor) {
        let now = Instant::now();
        while let Some(uid) = state
            .waiting
            .iter()
            .find_map(|(uid, w)| (w.until <= now).then(|| uid.clone()))
        {
            if let Some(waiting) = state.waiting.remove(&uid) {
                let rejection = Rejection {
                    plugin: Some(waiting.plugin),
                    reason: "Unschedulable",
                    message: "timed out waiting on permit".into(),
                };
                self.take_back(state, actor, waiting, rejection);
            }
        }
        while std::mem::take(&mut state.permits_changed) {
            let uids: Vec<Arc<str>> = state.waiting.keys().cloned().collect();
            for uid in uids {
                // It stays listed while it is asked: others count on it.
                let Some(waiting) = state.waiting.get_mut(&uid) else {
                    continue;
                };
                let (pod, node, until) = (waiting.pod.clone(), waiting.node.clone(), waiting.until);
                let cycle = std::mem::take(&mut waiting.state);
                self.permit(state, actor, pod, node, cycle, Some(until));
            }
        }
    }

    /// Gives the place of a pod back, and of those that fall with it.
    pub(super) fn take_back(
        &self,
        state: &mut State,
        actor: &Actor,
        waiting: Waiting,
        rejection: Rejection,
    ) {
        state.waiting.remove(waiting.pod.uid());
        let fallen = self.fallen_with(state, &waiting.pod);
        let message = rejection.message.clone();
        for (waiting, rejection) in
            std::iter::once((waiting, rejection)).chain(fallen.into_iter().map(|w| {
                let rejection = Rejection {
                    plugin: Some(w.plugin),
                    reason: "Unschedulable",
                    message: message.clone(),
                };
                (w, rejection)
            }))
        {
            self.give_back(state, &waiting.state, &waiting.pod, &waiting.node);
            self.reject(state, actor, waiting.pod, rejection);
        }
        state.permits_changed = true;
    }

    fn fallen_with(&self, state: &mut State, rejected: &PodInfo) -> Vec<Waiting> {
        let falls = |waiting: &Waiting| {
            let mut plugins = self.profile(&waiting.pod).permit.iter();
            plugins.any(|p| p.falls_with(&waiting.pod, rejected))
        };
        let uids: Vec<Arc<str>> = state
            .waiting
            .iter()
            .filter(|(_, w)| falls(w))
            .map(|(uid, _)| uid.clone())
            .collect();
        uids.iter()
            .filter_map(|uid| state.waiting.remove(uid))
            .collect()
    }

    pub(super) fn finish(
        &self,
        state: &mut State,
        actor: &Actor,
        outcome: Result<Outcome, JoinError>,
    ) {
        match outcome {
            Ok(Outcome::Said) => {}
            Err(error) => tracing::error!(%error, "a request's task failed"),
            Ok(Outcome::NoRoom(pod)) => state.queue.wake_up(pod.uid(), Instant::now()),
            Ok(Outcome::Bound {
                pod,
                node,
                state: cycle,
                result,
            }) => match result {
                // An answer that was lost, of a binding that the API shows: it is there.
                Err(_)
                    if !state.assumed.contains(pod.uid())
                        && state.snapshot.node_of(pod.uid()) == Some(&node) => {}
                Ok(()) => {
                    state.queue.forget(pod.uid());
                    state.nominations.remove(pod.uid());
                    for plugin in &self.profile(&pod).post_bind {
                        if let Err(panic) = guarded(|| plugin.post_bind(&pod, &node)) {
                            tracing::error!(
                                panic,
                                plugin = plugin.name(),
                                "a PostBind plugin failed"
                            );
                        }
                    }
                    let actor = actor.clone();
                    state.writes.spawn(async move {
                        actor.scheduled(&pod, &node).await;
                        Outcome::Said
                    });
                }
                Err(message) => {
                    tracing::warn!(object.ref = pod.key(), node, error = message, "pod not bound");
                    // If the binding took effect all the same, the API shows the pod on its node and
                    // the watch puts it back there.
                    self.give_back(state, &cycle, &pod, &node);
                    let message = format!("binding rejected: {message}");
                    self.reject(state, actor, pod, Rejection::error(message));
                }
            },
        }
    }

    pub(super) fn unreserve(&self, cycle: &CycleState, pod: &PodInfo, node: &str) {
        for plugin in self.profile(pod).reserve.iter().rev() {
            if let Err(panic) = guarded(|| plugin.unreserve(cycle, pod, node)) {
                tracing::error!(panic, plugin = plugin.name(), "a Reserve plugin failed");
            }
        }
    }

    fn give_back(&self, state: &mut State, cycle: &CycleState, pod: &Arc<PodInfo>, node: &str) {
        self.unreserve(cycle, pod, node);
        if state.assumed.remove(pod.uid()) {
            state.snapshot.remove_pod(pod.uid());
            let event = ClusterEvent::AssignedPodDelete(pod);
            state.queue.event(&event, Instant::now());
        }
    }

    fn reject(&self, state: &mut State, actor: &Actor, pod: Arc<PodInfo>, rejection: Rejection) {
        let Rejection {
            plugin,
            reason,
            message,
        } = rejection;
        tracing::debug!(object.ref = pod.key(), object.reason = reason, message, "pod not scheduled");
        let plugins = plugin.into_iter().collect();
        state.queue.failed(pod.uid(), plugins, Instant::now());
        let actor = actor.clone();
        state.writes.spawn(async move {
            actor.failed(&pod, reason, message, None).await;
            Outcome::Said
        });
    }
}
