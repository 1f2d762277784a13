//! [`ReplicaOwner`]: what ReplicaSet and ReplicationController have in common.

use std::fmt::Debug;

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{
            PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
            ReplicationControllerStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Resource, core::Selector};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, common::compat};

/// The `ReplicaFailure` condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) since: Option<Time>,
}

/// A status of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    /// Only ReplicaSets tell.
    pub(crate) terminating: i32,
    pub(crate) observed_generation: i64,
    pub(crate) failure: Option<Failure>,
}

/// What ReplicaSet and ReplicationController have in common.
pub(crate) trait ReplicaOwner:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The controller's name.
    const CONTROLLER: &'static str;

    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn selector(&self) -> Result<Selector, Error>;
    fn status(&self) -> Status;
    fn set_status(&mut self, status: &Status);
}

/// Zero is left out on the wire, as upstream does.
fn count(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

const FAILURE: &str = "ReplicaFailure";

impl ReplicaOwner for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn replicas(&self) -> i32 {
        compat::replica_set_spec(self)
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        compat::replica_set_spec(self)
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        compat::replica_set_spec(self)?.template.as_ref()
    }

    fn selector(&self) -> Result<Selector, Error> {
        let selector = compat::replica_set_spec(self)
            .map(|spec| spec.selector.clone())
            .unwrap_or_default();
        Ok(selector.try_into()?)
    }

    fn status(&self) -> Status {
        let Some(status) = &self.status else {
            return Status::default();
        };
        let failure = status
            .conditions
            .iter()
            .flatten()
            .find(|c| compat::text(&c.type_) == FAILURE && compat::text(&c.status) == "True");
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas.unwrap_or(0),
            observed_generation: status.observed_generation.unwrap_or(0),
            failure: failure.map(|c| Failure {
                reason: c.reason.clone().unwrap_or_default(),
                message: c.message.clone().unwrap_or_default(),
                since: c.last_transition_time.clone(),
            }),
        }
    }

    fn set_status(&mut self, new: &Status) {
        let status = self.status.get_or_insert_with(ReplicaSetStatus::default);
        status.replicas = new.replicas;
        status.fully_labeled_replicas = count(new.fully_labeled);
        status.ready_replicas = count(new.ready);
        status.available_replicas = count(new.available);
        status.terminating_replicas = Some(new.terminating);
        status.observed_generation = Some(new.observed_generation);
        let mut conditions = status.conditions.take().unwrap_or_default();
        conditions.retain(|c| compat::text(&c.type_) != FAILURE);
        if let Some(failure) = &new.failure {
            conditions.push(ReplicaSetCondition {
                type_: compat::set(FAILURE.to_owned()),
                status: compat::set("True".to_owned()),
                reason: Some(failure.reason.clone()),
                message: Some(failure.message.clone()),
                last_transition_time: failure.since.clone(),
            });
        }
        status.conditions = (!conditions.is_empty()).then_some(conditions);
    }
}

impl ReplicaOwner for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn replicas(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selector(&self) -> Result<Selector, Error> {
        let selector = self
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.clone())
            .unwrap_or_default();
        Ok(selector.into_iter().collect())
    }

    fn status(&self) -> Status {
        let Some(status) = &self.status else {
            return Status::default();
        };
        let failure = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == FAILURE && c.status == "True");
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: 0,
            observed_generation: status.observed_generation.unwrap_or(0),
            failure: failure.map(|c| Failure {
                reason: c.reason.clone().unwrap_or_default(),
                message: c.message.clone().unwrap_or_default(),
                since: c.last_transition_time.clone(),
            }),
        }
    }

    fn set_status(&mut self, new: &Status) {
        let status = self
            .status
            .get_or_insert_with(ReplicationControllerStatus::default);
        status.replicas = new.replicas;
        status.fully_labeled_replicas = count(new.fully_labeled);
        status.ready_replicas = count(new.ready);
        status.available_replicas = count(new.available);
        status.observed_generation = Some(new.observed_generation);
        let mut conditions = status.conditions.take().unwrap_or_default();
        conditions.retain(|c| c.type_ != FAILURE);
        if let Some(failure) = &new.failure {
            conditions.push(ReplicationControllerCondition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(failure.reason.clone()),
                message: Some(failure.message.clone()),
                last_transition_time: failure.since.clone(),
            });
        }
        status.conditions = (!conditions.is_empty()).then_some(conditions);
    }
}
