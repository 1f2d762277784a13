//! What became of what was sent, and how placements are given back.

use std::sync::Arc;

use tokio::{task::JoinError, time::Instant};

use super::{
    act::Actor,
    run::{Driver, Outcome, Rejection, State, Tried},
};
use crate::{
    framework::{ClusterEvent, CycleState},
    metrics::{Outcome as Attempt, Point},
    schedule::guarded,
    snapshot::PodInfo,
};

/// What became of a binding.
struct Bound {
    pod: Arc<PodInfo>,
    node: String,
    cycle: Arc<CycleState>,
    result: Result<(), String>,
    tried: Tried,
}

impl Driver {
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
                tried,
            }) => {
                let bound = Bound {
                    pod,
                    node,
                    cycle,
                    result,
                    tried,
                };
                self.bound(state, actor, bound);
            }
        }
    }

    fn bound(&self, state: &mut State, actor: &Actor, bound: Bound) {
        let Bound {
            pod,
            node,
            cycle,
            result,
            tried,
        } = bound;
        self.metrics.binding(-1);
        match result {
            // An answer that was lost, of a binding that the API shows: it is there.
            Err(_)
                if !state.assumed.contains(pod.uid())
                    && state.snapshot.node_of(pod.uid()) == Some(&node) => {}
            Ok(()) => {
                let scheduler = &pod.shape().scheduler_name;
                let metrics = &self.metrics;
                metrics.attempt(scheduler, Attempt::Scheduled, tried.began.elapsed());
                metrics.scheduled(tried.attempts, tried.since.elapsed());
                state.queue.forget(pod.uid());
                state.nominations.remove(pod.uid());
                let profile = self.profile(&pod);
                if !profile.post_bind.is_empty() {
                    let start = Instant::now();
                    for plugin in &profile.post_bind {
                        let begun = Instant::now();
                        let told = guarded(|| plugin.post_bind(&pod, &node));
                        if cycle.is_sampled {
                            let time = begun.elapsed();
                            metrics.plugin(Point::PostBind, plugin.name(), None, time);
                        }
                        if let Err(panic) = told {
                            let plugin = plugin.name();
                            tracing::error!(panic, plugin, "a PostBind plugin failed");
                        }
                    }
                    self.note(profile, Point::PostBind, None, start);
                }
                actor.scheduled(&pod, &node);
            }
            Err(message) => {
                tracing::warn!(object.ref = pod.key(), node, error = message, "pod not bound");
                // If the binding took effect all the same, the API shows the pod on its node and
                // the watch puts it back there.
                self.give_back(state, &cycle, &pod, &node);
                let message = format!("binding rejected: {message}");
                self.reject(state, actor, pod, Rejection::error(message), tried.began);
            }
        }
    }

    pub(super) fn unreserve(&self, cycle: &CycleState, pod: &PodInfo, node: &str) {
        for plugin in self.profile(pod).reserve.iter().rev() {
            if let Err(panic) = guarded(|| plugin.unreserve(cycle, pod, node)) {
                tracing::error!(panic, plugin = plugin.name(), "a Reserve plugin failed");
            }
        }
    }

    pub(super) fn give_back(
        &self,
        state: &mut State,
        cycle: &CycleState,
        pod: &Arc<PodInfo>,
        node: &str,
    ) {
        self.unreserve(cycle, pod, node);
        if state.assumed.remove(pod.uid()) {
            state.snapshot.remove_pod(pod.uid());
            let event = ClusterEvent::AssignedPodDelete(pod);
            state.queue.event(&event, Instant::now());
        }
    }

    pub(super) fn reject(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        rejection: Rejection,
        began: Instant,
    ) {
        let Rejection {
            plugin,
            reason,
            message,
        } = rejection;
        tracing::debug!(object.ref = pod.key(), object.reason = reason, message, "pod not scheduled");
        let outcome = if reason == "Unschedulable" {
            Attempt::Unschedulable
        } else {
            Attempt::Error
        };
        let profile = &pod.shape().scheduler_name;
        self.metrics.attempt(profile, outcome, began.elapsed());
        let plugins = plugin.into_iter().collect();
        state.queue.failed(pod.uid(), plugins, Instant::now());
        let actor = actor.clone();
        state.writes.spawn(async move {
            actor.failed(&pod, reason, message, None).await;
            Outcome::Said
        });
    }
}
