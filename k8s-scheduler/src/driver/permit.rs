//! Permit, and the pods that wait for it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    act::Actor,
    asker::{Answer, Question},
    run::{Driver, Outcome, Rejection, State, Waiting},
};
use crate::{framework::Code, metrics::Point, profile::Profile, snapshot::PodInfo};

/// The longest that a Permit plugin may have a pod wait (upstream's limit).
const LONGEST_PERMIT: Duration = Duration::from_secs(15 * 60);

impl Driver {
    /// Asks the Permit plugins, and binds the pod if all of them agree.
    pub(super) async fn permit(&self, state: &mut State, actor: &Actor, mut placed: Waiting) {
        let profile = self.profile(&placed.pod).clone();
        if !profile.permit.is_empty() {
            let start = Instant::now();
            match self.ask(state, &profile, &mut placed).await {
                Answer::Allow => self.note(&profile, Point::Permit, None, start),
                Answer::Wait(time, plugin) => {
                    self.note(&profile, Point::Permit, None, start);
                    let until = Instant::now() + time.min(LONGEST_PERMIT);
                    placed.until = Some(placed.until.unwrap_or(until));
                    placed.plugin = plugin;
                    let uid = placed.pod.shared_uid().clone();
                    // A pod that was asked again and still waits is no news to the others.
                    let is_known = state.waiting.insert(uid, placed).is_some();
                    state.permits_changed |= !is_known;
                    return;
                }
                Answer::Reject(status, plugin) => {
                    self.note(&profile, Point::Permit, Some(status.code), start);
                    let rejection = Rejection::by(plugin, &status);
                    placed.plugin = plugin;
                    return self.take_back(state, actor, placed, rejection);
                }
            }
        }
        if placed.until.is_some() {
            self.metrics
                .waited_for_permit(None, placed.tried.began.elapsed());
        }
        state.waiting.remove(placed.pod.uid());
        // What was missing for those that wait may be this very pod.
        state.permits_changed = !state.waiting.is_empty();
        self.bind(state, actor, placed);
    }

    async fn ask(&self, state: &mut State, profile: &Arc<Profile>, placed: &mut Waiting) -> Answer {
        let others = state.waiting.values().map(|w| w.pod.clone());
        let question = Question {
            profile: profile.clone(),
            pod: placed.pod.clone(),
            node: placed.node.clone(),
            others: others.filter(|o| o.uid() != placed.pod.uid()).collect(),
        };
        let State {
            snapshot, asker, ..
        } = state;
        let patience = self.config.permit_patience;
        asker
            .ask(question, snapshot, &mut placed.state, patience)
            .await
    }

    fn bind(&self, state: &mut State, actor: &Actor, placed: Waiting) {
        let (actor, timeout) = (actor.clone(), self.config.bind_timeout);
        let profile = self.profile(&placed.pod).clone();
        self.metrics.binding(1);
        state.writes.spawn(async move {
            let Waiting {
                pod,
                node,
                state,
                tried,
                ..
            } = placed;
            let cycle = Arc::new(state);
            let result = actor.bind(&profile, &cycle, &pod, &node, timeout).await;
            Outcome::Bound {
                pod,
                node,
                state: cycle,
                result,
                tried,
            }
        });
    }

    /// Asks the Permit plugins again for every pod that waits for them.
    pub(super) async fn ask_waiting(&self, state: &mut State, actor: &Actor) {
        let now = Instant::now();
        while let Some(uid) = state
            .waiting
            .iter()
            .find_map(|(uid, w)| w.until.is_some_and(|at| at <= now).then(|| uid.clone()))
        {
            if let Some(waiting) = state.waiting.remove(&uid) {
                let rejection = Rejection {
                    plugin: Some(waiting.plugin),
                    reason: "Unschedulable",
                    message: "timed out waiting on permit".into(),
                };
                let outcome = Some(Code::Unschedulable);
                self.metrics
                    .waited_for_permit(outcome, waiting.tried.began.elapsed());
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
                let again = Waiting {
                    pod: waiting.pod.clone(),
                    node: waiting.node.clone(),
                    state: std::mem::take(&mut waiting.state),
                    ..*waiting
                };
                self.permit(state, actor, again).await;
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
            self.reject(state, actor, waiting.pod, rejection, waiting.tried.began);
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
}
