//! What a Deployment needs: the pure core. One call is one step of a rollout.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{DESIRED_REPLICAS, limits, template};
use crate::common::{compat, owner};

/// What the core sees.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub(crate) sets: Vec<Arc<ReplicaSet>>,
    /// The UIDs of those of them that have pods which are not over.
    pub(crate) running: HashSet<String>,
    pub(crate) now: Timestamp,
}

/// One request about a ReplicaSet.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Create it.
    Create(Arc<ReplicaSet>),
    /// Replace it; it had so many replicas before.
    Update { set: Arc<ReplicaSet>, from: i32 },
    /// Delete it.
    Delete(Arc<ReplicaSet>),
}

/// What is to be done, in this order: the writes, the status, the requeue.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    /// The Deployment with the status and revision that it should have.
    pub(crate) deployment: Deployment,
    /// When to look again if nothing happens.
    pub(crate) requeue: Option<Duration>,
}

/// Decides the next step.
pub(crate) fn plan(observed: Observed<'_>) -> Plan {
    let mut step = Step::new(observed);
    step.sync_revision();
    step.sync_paused_condition();
    let rollout = if step.deployment.metadata.deletion_timestamp.is_some() {
        false
    } else if is_paused(&step.deployment) {
        step.scale();
        step.clean_up();
        false
    } else if step.is_scaling_event() {
        step.scale();
        false
    } else if limits::is_rolling(&step.deployment) {
        step.roll();
        true
    } else {
        step.recreate();
        true
    };
    step.finish(rollout)
}

fn is_paused(deployment: &Deployment) -> bool {
    compat::deployment_spec(deployment)
        .and_then(|spec| spec.paused)
        .unwrap_or(false)
}

/// A ReplicaSet and what this step does to it.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) object: Arc<ReplicaSet>,
    /// Its replicas when the step began.
    from: i32,
    pub(super) changed: bool,
    created: bool,
    deleted: bool,
}

impl Set {
    pub(super) fn replicas(&self) -> i32 {
        replicas(&self.object)
    }

    pub(super) fn available(&self) -> i32 {
        self.object
            .status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
    }

    pub(super) fn actual(&self) -> i32 {
        self.object
            .status
            .as_ref()
            .map_or(0, |status| status.replicas)
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.object
            .metadata
            .annotations
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    pub(super) fn name(&self) -> &str {
        owner::name(&self.object.metadata)
    }
}

/// A ReplicaSet's wanted number of pods.
pub(crate) fn replicas(set: &ReplicaSet) -> i32 {
    compat::replica_set_spec(set)
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// One step in the making: the state as it will be, and what was done to get there.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) deployment: Deployment,
    /// The status when the step began; progress is measured against it.
    pub(super) before: DeploymentStatus,
    /// Oldest first.
    pub(super) sets: Vec<Set>,
    /// Which of them has the Deployment's template.
    pub(super) new: Option<usize>,
    pub(super) running: HashSet<String>,
    pub(super) now: Timestamp,
}

impl Step {
    fn new(observed: Observed<'_>) -> Self {
        let mut sets = observed.sets;
        sets.sort_by(|a, b| {
            let created =
                |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
            created(a)
                .cmp(&created(b))
                .then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        let wanted = template::of(observed.deployment);
        let has_template = |set: &Arc<ReplicaSet>| {
            let template = compat::replica_set_spec(set).and_then(|spec| spec.template.as_ref());
            template.is_some_and(|template| template::same(template, &wanted))
        };
        let new = sets.iter().position(has_template);
        let set = |object: Arc<ReplicaSet>| Set {
            from: replicas(&object),
            object,
            changed: false,
            created: false,
            deleted: false,
        };
        Step {
            deployment: observed.deployment.clone(),
            before: observed.deployment.status.clone().unwrap_or_default(),
            sets: sets.into_iter().map(set).collect(),
            new,
            running: observed.running,
            now: observed.now,
        }
    }

    pub(super) fn wanted(&self) -> i32 {
        limits::replicas(&self.deployment)
    }

    pub(super) fn new_set(&self) -> Option<&Set> {
        self.new.map(|index| &self.sets[index])
    }

    /// The indexes of the sets with another template, oldest first.
    pub(super) fn old(&self) -> Vec<usize> {
        (0..self.sets.len())
            .filter(|index| Some(*index) != self.new)
            .collect()
    }

    /// The indexes of all sets that should have pods, oldest first.
    pub(super) fn active(&self) -> Vec<usize> {
        (0..self.sets.len())
            .filter(|index| self.sets[*index].replicas() > 0)
            .collect()
    }

    /// The wanted pods of all sets together.
    pub(super) fn total(&self) -> i32 {
        self.sets.iter().map(Set::replicas).sum()
    }

    /// A set, to change.
    pub(super) fn edit(&mut self, index: usize) -> &mut ReplicaSet {
        let set = &mut self.sets[index];
        set.changed = true;
        Arc::make_mut(&mut set.object)
    }

    /// Adds the set for the present template.
    pub(super) fn push_new(&mut self, set: ReplicaSet) {
        self.sets.push(Set {
            object: Arc::new(set),
            from: 0,
            changed: true,
            created: true,
            deleted: false,
        });
        self.new = Some(self.sets.len() - 1);
    }

    pub(super) fn delete(&mut self, index: usize) {
        self.sets[index].deleted = true;
    }

    /// Whether the Deployment was scaled since the sets were: their annotations still tell the
    /// former number.
    fn is_scaling_event(&self) -> bool {
        self.active().into_iter().any(|index| {
            let desired = self.sets[index]
                .annotation(DESIRED_REPLICAS)
                .and_then(|text| text.parse::<i32>().ok());
            desired.is_some_and(|desired| desired != self.wanted())
        })
    }

    fn finish(mut self, rollout: bool) -> Plan {
        let status = self.status(rollout);
        let requeue = if rollout {
            self.progress_check(&status)
        } else {
            None
        };
        self.deployment.status = Some(status);
        let mut writes = Vec::new();
        for set in self.sets {
            match set {
                Set {
                    deleted: true,
                    object,
                    ..
                } => writes.push(Write::Delete(object)),
                Set {
                    created: true,
                    object,
                    ..
                } => writes.push(Write::Create(object)),
                Set {
                    changed: true,
                    object,
                    from,
                    ..
                } => writes.push(Write::Update { set: object, from }),
                _ => {}
            }
        }
        Plan {
            writes,
            deployment: self.deployment,
            requeue,
        }
    }

    /// A condition that begins now.
    pub(super) fn condition(
        &self,
        kind: &str,
        status: &str,
        reason: &str,
        message: String,
    ) -> DeploymentCondition {
        let now = Some(Time(crate::runtime::truncate(self.now)));
        DeploymentCondition {
            type_: compat::set(kind.to_owned()),
            status: compat::set(status.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: now.clone(),
            last_transition_time: now,
        }
    }
}
