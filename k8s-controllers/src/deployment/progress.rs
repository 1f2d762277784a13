//! The status: counts, and the conditions `Available`, `Progressing` and `ReplicaFailure`.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition,
};

use super::{
    limits,
    plan::{Set, Step},
};
use crate::{
    common::{compat, owner},
    runtime::since,
};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The condition of that type.
pub(super) fn find<'a>(
    status: &'a Option<DeploymentStatus>,
    kind: &str,
) -> Option<&'a DeploymentCondition> {
    status.as_ref().and_then(|status| find_in(status, kind))
}

fn find_in<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| compat::text(&condition.type_) == kind)
}

/// Sets a condition. One of the same status and reason stays as it is; one of the same status
/// keeps its transition time.
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let kind = compat::text(&condition.type_).to_owned();
    if let Some(current) = find_in(status, &kind) {
        let same_status = compat::text(&current.status) == compat::text(&condition.status);
        if same_status && current.reason == condition.reason {
            return;
        }
        if same_status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| compat::text(&condition.type_) != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds =
        compat::deployment_spec(deployment).and_then(|spec| spec.progress_deadline_seconds)?;
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Whether a lack of progress is to be reported at all.
pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deadline(deployment).is_some()
}

impl Step {
    pub(super) fn set_condition(
        &mut self,
        kind: &str,
        status: &str,
        reason: &str,
        message: String,
    ) {
        let condition = self.condition(kind, status, reason, message);
        set(self.deployment.status.get_or_insert_default(), condition);
    }

    /// A paused Deployment makes no progress, which is nothing to report.
    pub(super) fn sync_paused_condition(&mut self) {
        if !has_deadline(&self.deployment) || self.deployment.metadata.deletion_timestamp.is_some()
        {
            return;
        }
        let reason = find(&self.deployment.status, PROGRESSING)
            .and_then(|condition| condition.reason.clone());
        if reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason.as_deref() == Some(PAUSED);
        let paused = compat::deployment_spec(&self.deployment)
            .and_then(|spec| spec.paused)
            .unwrap_or(false);
        match (paused, was_paused) {
            (true, false) => self.set_condition(
                PROGRESSING,
                "Unknown",
                PAUSED,
                "Deployment is paused".to_owned(),
            ),
            (false, true) => {
                self.set_condition(
                    PROGRESSING,
                    "Unknown",
                    "DeploymentResumed",
                    "Deployment is resumed".to_owned(),
                );
            }
            _ => {}
        }
    }

    /// Whether a status says that all wanted pods have the present template and serve.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.wanted();
        status.updated_replicas.unwrap_or(0) == wanted
            && status.replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
            && status.observed_generation.unwrap_or(0)
                >= self.deployment.metadata.generation.unwrap_or(0)
    }

    /// The status as it should be now. Progress is judged during a rollout only, not while scaling
    /// or paused.
    pub(super) fn status(&self, rollout: bool) -> DeploymentStatus {
        let mut status = self.counts();
        let enough = self.wanted() - limits::max_unavailable(&self.deployment);
        let available = if status.available_replicas.unwrap_or(0) >= enough {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        set(
            &mut status,
            self.condition(AVAILABLE, available.0, available.1, available.2.to_owned()),
        );
        if rollout {
            self.judge_progress(&mut status);
            match self.replica_failure() {
                Some(failure) => set(&mut status, failure),
                None => remove(&mut status, REPLICA_FAILURE),
            }
        }
        status
    }

    fn counts(&self) -> DeploymentStatus {
        let nonzero = |count: i32| (count != 0).then_some(count);
        let sum = |count: fn(&Set) -> i32| self.sets.iter().map(count).sum::<i32>();
        let ready = |set: &Set| {
            set.object
                .status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
        };
        let terminating = |set: &Set| {
            set.object
                .status
                .as_ref()
                .and_then(|status| status.terminating_replicas)
                .unwrap_or(0)
        };
        let available = sum(Set::available);
        let current = self.deployment.status.clone().unwrap_or_default();
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: nonzero(sum(Set::actual)),
            updated_replicas: nonzero(self.new_set().map_or(0, Set::actual)),
            ready_replicas: nonzero(sum(ready)),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((self.total() - available).max(0)),
            terminating_replicas: Some(sum(terminating)),
            collision_count: current.collision_count,
            conditions: current.conditions,
        }
    }

    fn judge_progress(&self, status: &mut DeploymentStatus) {
        if !has_deadline(&self.deployment) {
            return remove(status, PROGRESSING);
        }
        let current = find(&self.deployment.status, PROGRESSING).cloned();
        let was_complete = current
            .as_ref()
            .is_some_and(|c| c.reason.as_deref() == Some(NEW_SET_AVAILABLE));
        if was_complete && status.replicas == status.updated_replicas {
            return;
        }
        let subject = match self.new_set() {
            Some(set) => format!("ReplicaSet {:?}", set.name()),
            None => format!("Deployment {:?}", owner::name(&self.deployment.metadata)),
        };
        if self.is_complete(status) {
            let message = format!("{subject} has successfully progressed.");
            set(
                status,
                self.condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message),
            );
        } else if self.has_progressed(status) {
            let message = format!("{subject} is progressing.");
            let mut condition = self.condition(PROGRESSING, "True", "ReplicaSetUpdated", message);
            // Even with the same reason, progress renews the update time.
            if let Some(current) = current {
                if compat::text(&current.status) == "True" {
                    condition.last_transition_time = current.last_transition_time;
                }
                remove(status, PROGRESSING);
            }
            set(status, condition);
        } else if self.has_timed_out(status) {
            let message = format!("{subject} has timed out progressing.");
            set(
                status,
                self.condition(PROGRESSING, "False", TIMED_OUT, message),
            );
        }
    }

    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let count = |count: Option<i32>| count.unwrap_or(0);
        let old =
            |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
        let before = &self.before;
        count(status.updated_replicas) > count(before.updated_replicas)
            || old(status) < old(before)
            || count(status.ready_replicas) > count(before.ready_replicas)
            || count(status.available_replicas) > count(before.available_replicas)
    }

    fn has_timed_out(&self, status: &DeploymentStatus) -> bool {
        let Some(condition) = find_in(status, PROGRESSING) else {
            return false;
        };
        match condition.reason.as_deref() {
            Some(NEW_SET_AVAILABLE) => return false,
            Some(TIMED_OUT) => return true,
            _ => {}
        }
        let (Some(deadline), Some(updated)) =
            (deadline(&self.deployment), &condition.last_update_time)
        else {
            return false;
        };
        since(self.now, updated.0) > deadline
    }

    /// The first failure that a ReplicaSet reports, the new one's before all others.
    fn replica_failure(&self) -> Option<DeploymentCondition> {
        let failure = |set: &Set| {
            let conditions = set.object.status.as_ref()?.conditions.as_ref()?;
            conditions
                .iter()
                .find(|condition| compat::text(&condition.type_) == REPLICA_FAILURE)
                .map(promote)
        };
        self.new_set()
            .and_then(failure)
            .or_else(|| self.sets.iter().find_map(failure))
    }

    /// When to see whether the deadline has passed, if nothing else happens until then.
    pub(super) fn progress_check(&self, status: &DeploymentStatus) -> Option<Duration> {
        let deadline = deadline(&self.deployment)?;
        let condition = find_in(status, PROGRESSING)?;
        if self.is_complete(status) || condition.reason.as_deref() == Some(TIMED_OUT) {
            return None;
        }
        let passed = since(self.now, condition.last_update_time.as_ref()?.0);
        // A second more, because timestamps have no fractions.
        Some(deadline.saturating_sub(passed) + Duration::from_secs(1))
    }
}

fn promote(condition: &ReplicaSetCondition) -> DeploymentCondition {
    DeploymentCondition {
        type_: compat::set(REPLICA_FAILURE.to_owned()),
        status: compat::set(compat::text(&condition.status).to_owned()),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_update_time: condition.last_transition_time.clone(),
        last_transition_time: condition.last_transition_time.clone(),
    }
}
