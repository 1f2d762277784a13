//! What a ReplicaSet needs: the pure core.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};

use super::set::{Failure, ReplicaOwner, Status};
use crate::common::{
    owner,
    pod::{self, Availability},
    rank,
};

/// The most pods that one reconcile creates or deletes; upstream's `BurstReplicas`.
pub(crate) const BURST: usize = 500;

/// What to do to the pods.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// There are as many as there should be.
    Nothing,
    /// So many more are needed.
    Create(usize),
    /// These are too many.
    Delete(Vec<Arc<Pod>>),
}

/// Compares the active pods with what the set asks for. `related` are all active pods whose
/// controllers have this set's controller; they say which nodes are crowded.
pub(crate) fn decide<K: ReplicaOwner>(
    set: &K,
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    now: Timestamp,
) -> Action {
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if active.len() < wanted {
        return Action::Create((wanted - active.len()).min(BURST));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Action::Nothing;
    }
    let mut pods = active.to_vec();
    if surplus < pods.len() {
        let mut crowd: HashMap<&str, usize> = HashMap::new();
        for pod in related {
            if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
                *crowd.entry(node).or_default() += 1;
            }
        }
        rank::sort_by_deletion_order(&mut pods, &crowd, now);
        pods.truncate(surplus);
    }
    Action::Delete(pods)
}

/// How the last attempt to change the pods ended, for the `ReplicaFailure` condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Outcome {
    /// Nothing failed, or nothing was tried.
    #[default]
    Fine,
    /// A creation failed.
    CreateFailed(String),
    /// A deletion failed.
    DeleteFailed(String),
}

/// The status that the set should have, and when a pod becomes available without anything else
/// changing.
pub(crate) fn status<K: ReplicaOwner>(
    set: &K,
    active: &[Arc<Pod>],
    terminating: usize,
    outcome: &Outcome,
    now: Timestamp,
) -> (Status, Option<Duration>) {
    let old = set.status();
    let mut status = Status {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        observed_generation: set.meta().generation.unwrap_or(0),
        terminating: i32::try_from(terminating).unwrap_or(i32::MAX),
        ..Status::default()
    };
    let template = set
        .template()
        .and_then(|template| template.metadata.as_ref());
    let template_labels = template
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let mut next: Option<Duration> = None;
    for pod in active {
        let labels = pod.metadata.labels.as_ref();
        if template_labels
            .iter()
            .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
        {
            status.fully_labeled += 1;
        }
        if pod::is_ready(pod) {
            status.ready += 1;
        }
        match pod::availability(pod, set.min_ready_seconds(), now) {
            Availability::Now => status.available += 1,
            Availability::In(left) => next = Some(next.map_or(left, |next| next.min(left))),
            Availability::No => {}
        }
    }
    status.failure = match outcome {
        Outcome::Fine => None,
        // A failure that is already reported stays as it is.
        _ if old.failure.is_some() => old.failure,
        Outcome::CreateFailed(message) => Some(failure("FailedCreate", message, now)),
        Outcome::DeleteFailed(message) => Some(failure("FailedDelete", message, now)),
    };
    (status, next)
}

fn failure(reason: &str, message: &str, now: Timestamp) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: Some(Time(crate::runtime::truncate(now))),
    }
}

/// The pod that the set's template describes; upstream's `GetPodFromTemplate`.
pub(crate) fn new_pod<K: ReplicaOwner>(set: &K, controller: OwnerReference) -> Pod {
    let template = set.template().cloned().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut pod = Pod {
        spec: template.spec,
        ..Default::default()
    };
    pod.metadata.labels = metadata.labels;
    pod.metadata.annotations = metadata.annotations;
    pod.metadata.finalizers = metadata.finalizers;
    pod.metadata.generate_name = Some(format!("{}-", owner::name(set.meta())));
    pod.metadata.namespace = set.meta().namespace.clone();
    pod.metadata.owner_references = Some(vec![controller]);
    pod
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};

    use super::*;
    use crate::common::{compat, fixture};

    fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
        let mut set = ReplicaSet {
            spec: compat::set(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(min_ready_seconds),
                ..Default::default()
            }),
            ..Default::default()
        };
        set.metadata.generation = Some(3);
        set
    }

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn ready(name: &str, since: &str) -> Arc<Pod> {
        Arc::new(fixture::pod("default", name).on("n").ready(since).build())
    }

    fn pending(name: &str) -> Arc<Pod> {
        Arc::new(fixture::pod("default", name).build())
    }

    #[test]
    fn creates_what_is_missing_and_at_most_a_burst() {
        assert_eq!(
            decide(&set(3, 0), &[pending("a")], &[], now()),
            Action::Create(2)
        );
        assert_eq!(
            decide(&set(10_000, 0), &[], &[], now()),
            Action::Create(BURST)
        );
        assert_eq!(
            decide(&set(1, 0), &[pending("a")], &[], now()),
            Action::Nothing
        );
        assert_eq!(decide(&set(-1, 0), &[], &[], now()), Action::Nothing);
    }

    #[test]
    fn deletes_the_surplus_least_useful_first() {
        let pods = [
            ready("a", "2026-01-01T00:00:00Z"),
            pending("b"),
            ready("c", "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(
            decide(&set(2, 0), &pods, &pods, now()),
            Action::Delete(vec![pods[1].clone()])
        );
        assert_eq!(
            decide(&set(0, 0), &pods, &pods, now()),
            Action::Delete(pods.to_vec())
        );
    }

    #[test]
    fn a_pod_is_available_after_min_ready_seconds() {
        let pods = [
            ready("a", "2026-01-01T11:59:00Z"),
            ready("b", "2026-01-01T11:59:50Z"),
            pending("c"),
        ];
        let (status, next) = status(&set(3, 30), &pods, 1, &Outcome::Fine, now());
        assert_eq!(
            (
                status.replicas,
                status.ready,
                status.available,
                status.terminating
            ),
            (3, 2, 1, 1)
        );
        assert_eq!(status.observed_generation, 3);
        assert_eq!(next, Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_failure_is_reported_once_and_cleared() {
        let mut set = set(1, 0);
        let failed = Outcome::CreateFailed("quota".to_owned());
        let (first, _) = status(&set, &[], 0, &failed, now());
        assert_eq!(first.failure.as_ref().unwrap().reason, "FailedCreate");
        set.set_status(&first);
        let later = now() + Duration::from_secs(60);
        let (second, _) = status(
            &set,
            &[],
            0,
            &Outcome::CreateFailed("other words".to_owned()),
            later,
        );
        assert_eq!(second.failure, first.failure);
        let (third, _) = status(&set, &[], 0, &Outcome::Fine, later);
        assert_eq!(third.failure, None);
    }
}
