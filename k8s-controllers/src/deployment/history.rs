//! Revisions: numbering them, remembering them, forgetting the oldest.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::{
    DESIRED_REPLICAS, MAX_REPLICAS, REVISION, REVISION_HISTORY, limits,
    plan::{Set, Step},
    progress, template,
};
use crate::common::{compat, owner};

/// How long the list of former revisions may grow; upstream's `maxRevHistoryLengthInChars`.
const HISTORY_LENGTH: usize = 2000;

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

impl Step {
    /// Gives the set with the present template the highest revision, and the Deployment the same.
    pub(super) fn sync_revision(&mut self) {
        let Some(index) = self.new else { return };
        let next = self.next_revision();
        let mut annotations = self.sets[index]
            .object
            .metadata
            .annotations
            .clone()
            .unwrap_or_default();
        let annotated = annotate(&mut annotations, &self.deployment, next, true);
        let ready_seconds = compat::deployment_spec(&self.deployment)
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0);
        let has = compat::replica_set_spec(&self.sets[index].object)
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0);
        if annotated || has != ready_seconds {
            let set = self.edit(index);
            set.metadata.annotations = Some(annotations);
            if let Some(spec) = compat::replica_set_spec_mut(set) {
                spec.min_ready_seconds = Some(ready_seconds).filter(|seconds| *seconds != 0);
            }
        }
        let revision = self.sets[index]
            .annotation(REVISION)
            .unwrap_or_default()
            .to_owned();
        set_revision(&mut self.deployment, revision);
        let has_condition =
            progress::find(&self.deployment.status, progress::PROGRESSING).is_some();
        if progress::has_deadline(&self.deployment) && !has_condition {
            let message = format!("Found new replica set {:?}", self.sets[index].name());
            self.set_condition(progress::PROGRESSING, "True", "FoundNewReplicaSet", message);
        }
    }

    /// Makes the set for the present template, with as many pods as the limits allow at once.
    pub(super) fn create_new(&mut self) {
        let mut set =
            template::new_replica_set(&self.deployment, owner::controller_ref(&self.deployment));
        let revision = self.next_revision();
        let mut annotations = BTreeMap::new();
        annotate(&mut annotations, &self.deployment, revision, false);
        set.metadata.annotations = Some(annotations);
        let message = format!("Created new replica set {:?}", owner::name(&set.metadata));
        self.push_new(set);
        if let Some(index) = self.new {
            let count = self.new_replicas(index);
            set_replicas(self.edit(index), count);
        }
        set_revision(&mut self.deployment, revision.to_string());
        if progress::has_deadline(&self.deployment) {
            self.set_condition(
                progress::PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                message,
            );
        }
    }

    fn next_revision(&self) -> i64 {
        self.old()
            .into_iter()
            .map(|index| revision(&self.sets[index]))
            .max()
            .unwrap_or(0)
            .max(0)
            + 1
    }

    /// Deletes the oldest revisions that are over the history limit and have no pods.
    pub(super) fn clean_up(&mut self) {
        let limit =
            compat::deployment_spec(&self.deployment).and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let mut old = self.old();
        old.retain(|index| {
            self.sets[*index]
                .object
                .metadata
                .deletion_timestamp
                .is_none()
        });
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|index| revision(&self.sets[*index]));
        for index in old.into_iter().take(surplus) {
            let set = &self.sets[index];
            let seen = set
                .object
                .status
                .as_ref()
                .and_then(|status| status.observed_generation)
                .unwrap_or(0);
            if set.actual() == 0
                && set.replicas() == 0
                && set.object.metadata.generation.unwrap_or(0) <= seen
            {
                self.delete(index);
            }
        }
    }
}

fn revision(set: &Set) -> i64 {
    set.annotation(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn set_revision(deployment: &mut Deployment, revision: String) {
    deployment
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(REVISION.to_owned(), revision);
}

/// Sets a ReplicaSet's wanted number of pods.
pub(super) fn set_replicas(set: &mut ReplicaSet, replicas: i32) {
    if let Some(spec) = compat::replica_set_spec_mut(set) {
        spec.replicas = Some(replicas);
    }
}

/// Sets the annotations that tell how large the Deployment was when the set was last scaled. Says
/// whether that changed anything.
pub(super) fn annotate_size(
    annotations: &mut BTreeMap<String, String>,
    deployment: &Deployment,
) -> bool {
    let desired = limits::replicas(deployment);
    let max = desired + limits::max_surge(deployment);
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, max)] {
        let value = value.to_string();
        changed |= annotations.insert(key.to_owned(), value.clone()) != Some(value);
    }
    changed
}

/// Upstream's `SetNewReplicaSetAnnotations`: inherits the Deployment's annotations, raises the
/// revision, and keeps the number that this replaces in the history.
fn annotate(
    annotations: &mut BTreeMap<String, String>,
    deployment: &Deployment,
    next: i64,
    exists: bool,
) -> bool {
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let former = annotations.get(REVISION).cloned();
    let former_number = match former.as_deref() {
        None | Some("") => Some(0),
        Some(text) => text.parse::<i64>().ok(),
    };
    let Some(former_number) = former_number else {
        return false;
    };
    if former_number < next {
        annotations.insert(REVISION.to_owned(), next.to_string());
        changed = true;
        if let Some(former) = former.filter(|former| !former.is_empty()) {
            remember(annotations, &former);
        }
    }
    if !exists {
        changed |= annotate_size(annotations, deployment);
    }
    changed
}

fn remember(annotations: &mut BTreeMap<String, String>, former: &str) {
    let history = annotations
        .get(REVISION_HISTORY)
        .cloned()
        .unwrap_or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|text| !text.is_empty()).collect();
    revisions.push(former);
    let length = |revisions: &[&str]| {
        revisions
            .iter()
            .map(|text| text.len() + 1)
            .sum::<usize>()
            .saturating_sub(1)
    };
    let mut start = 0;
    while length(&revisions[start..]) > HISTORY_LENGTH && start + 1 < revisions.len() {
        start += 1;
    }
    annotations.insert(REVISION_HISTORY.to_owned(), revisions[start..].join(","));
}
