//! One scheduling cycle, and what follows from it.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    act::Actor,
    decide::{Decision, decide, decide_apart},
    run::{Driver, Outcome, Rejection, State, Tried, Waiting},
};
use crate::{
    framework::{Code, Nominated, Status},
    metrics::{Outcome as Attempt, Point},
    profile::Profile,
    queue::QueuedPod,
    schedule::{FitError, Placement, guarded},
    snapshot::PodInfo,
};

impl Driver {
    pub(super) fn profile(&self, pod: &PodInfo) -> &Arc<Profile> {
        let named = self.profiles.get(&pod.shape().scheduler_name);
        named.unwrap_or_else(|| self.profiles.first())
    }

    /// Counts a run of an extension point.
    pub(super) fn note(
        &self,
        profile: &Profile,
        point: Point,
        outcome: Option<Code>,
        start: Instant,
    ) {
        if let Some(metrics) = self.metrics.profile(profile.scheduler_name()) {
            metrics.point(point, outcome, start.elapsed());
        }
    }

    /// One scheduling cycle.
    pub(super) async fn cycle(&self, state: &mut State, actor: &Actor, queued: QueuedPod) {
        let span = tracing::debug_span!(
            "scheduling cycle",
            object.ref = queued.pod.key(),
            attempt = queued.attempts
        );
        let pod = queued.pod;
        let scheduler = self.schedulers.get(&pod.shape().scheduler_name);
        let Some(scheduler) = scheduler.filter(|_| !pod.is_terminating()) else {
            state.queue.forget(pod.uid());
            return;
        };
        let tried = Tried {
            began: Instant::now(),
            attempts: queued.attempts,
            since: queued.since,
        };
        let seed = state.random.u64(..);
        let decision = if scheduler.is_extended(&pod) {
            let decision = decide_apart(scheduler, &mut state.snapshot, &pod, seed);
            decision.instrument(span.clone()).await
        } else {
            span.in_scope(|| decide(scheduler, &state.snapshot, &pod, seed))
        };
        match decision {
            Decision::Fail(panic) => {
                self.reject(state, actor, pod, Rejection::error(panic), tried.began);
            }
            Decision::Place(placement) => {
                let assumed = self.assume(state, actor, pod, placement, tried);
                assumed.instrument(span).await;
            }
            Decision::Refuse(error, room) => {
                self.unschedulable(state, actor, pod, &error, room, tried.began);
            }
        }
    }

    /// Takes the place on the node, before the API knows of it.
    async fn assume(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        placement: Placement,
        tried: Tried,
    ) {
        let (node, mut cycle) = (placement.node, placement.state);
        let Some(info) = state.snapshot.shared_node(&node) else {
            let rejection = Rejection::error(format!("node {node:?} is gone"));
            return self.reject(state, actor, pod, rejection, tried.began);
        };
        let start = Instant::now();
        let profile = self.profile(&pod);
        for plugin in &profile.reserve {
            let begun = Instant::now();
            let reserved = guarded(|| plugin.reserve(&mut cycle, &pod, &info));
            let reserved = reserved.unwrap_or_else(|panic| Err(Status::error(panic)));
            if cycle.is_sampled {
                let outcome = reserved.as_ref().err().map(|status| status.code);
                let time = begun.elapsed();
                self.metrics
                    .plugin(Point::Reserve, plugin.name(), outcome, time);
            }
            if let Err(status) = reserved {
                self.note(profile, Point::Reserve, Some(status.code), start);
                self.unreserve(&cycle, &pod, &node);
                let rejection = Rejection::by(plugin.name(), &status);
                return self.reject(state, actor, pod, rejection, tried.began);
            }
        }
        self.note(profile, Point::Reserve, None, start);
        // Held on to, the node would be copied when the pod is placed on it.
        drop(info);
        state.snapshot.place(Arc::new(pod.without_pod()), &node);
        state.snapshot.forget_nomination(pod.uid());
        state.assumed.insert(pod.shared_uid().clone());
        let placed = Waiting {
            pod,
            node,
            state: cycle,
            until: None,
            plugin: "",
            tried,
        };
        self.permit(state, actor, placed).await;
    }

    /// No node fits: makes room if it can, and says so on the pod.
    fn unschedulable(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        error: &FitError,
        room: Option<Result<Nominated, Status>>,
        began: Instant,
    ) {
        let mut message = error.to_string();
        let (reason, mut plugins) = match error {
            FitError::Unschedulable { .. } => ("Unschedulable", error.plugins()),
            _ => ("SchedulerError", BTreeSet::new()),
        };
        // Without any node there is no plugin to blame; a node that comes helps.
        if plugins.is_empty() && reason == "Unschedulable" {
            plugins.insert("NodeName");
        }
        let mut pod = pod;
        let mut nominated = None;
        match room {
            Some(Ok(room)) => {
                self.metrics.tried_to_preempt();
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
            Some(Err(status)) => {
                self.metrics.tried_to_preempt();
                message = format!("{message} {}", status.reasons.join(", "));
            }
            None => {}
        }
        let outcome = if reason == "Unschedulable" {
            Attempt::Unschedulable
        } else {
            Attempt::Error
        };
        let profile = &pod.shape().scheduler_name;
        self.metrics.attempt(profile, outcome, began.elapsed());
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
    fn make_room(&self, state: &mut State, actor: &Actor, pod: &Arc<PodInfo>, room: Nominated) {
        let uid = pod.shared_uid().clone();
        for claim in room.deallocate {
            let actor = actor.clone();
            state.writes.spawn(async move {
                actor.deallocate(&claim).await;
                Outcome::Said
            });
        }
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
        self.metrics.preempted(victims.len());
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
}
