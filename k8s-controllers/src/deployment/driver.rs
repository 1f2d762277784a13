//! The driver: informers in, requests out.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    core::{Selector, SelectorExt},
};

use super::{
    limits,
    plan::{self, Observed, Plan, Write},
    progress, template,
};
use crate::{
    Error,
    common::{claim, compat, context::Context, owner, pod},
    error::{
        is_already_exists, is_conflict, is_namespace_terminating, is_not_found, server_message,
    },
    runtime::{
        Change, Clock, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler,
        Requeue, WorkQueue, truncate,
    },
};

/// ReplicaSets by namespace that have no controller.
const ORPHANS: &str = "orphans";

pub(crate) struct Deployments {
    client: Client,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    events: EventRecorder,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Deployments> {
    let reconciler = Deployments {
        client: context.client.clone(),
        deployments: context.informers.informer(),
        sets: context.informers.informer(),
        pods: context.informers.informer(),
        events: context.events.clone(),
        clock: context.clock,
    };
    let queue = WorkQueue::new();
    reconciler.sets.add_index(ORPHANS, |set: &ReplicaSet| {
        match owner::controller_of(&set.metadata) {
            None => vec![owner::namespace(&set.metadata).to_owned()],
            Some(_) => Vec::new(),
        }
    });
    reconciler.watch(&queue);
    let ready = [reconciler.deployments.synced()];
    let controller = Controller::new("deployment-controller", reconciler, queue);
    let controller = ready.into_iter().fold(controller, Controller::wait_for);
    controller
        .wait_for(context.informers.informer::<ReplicaSet>().synced())
        .wait_for(context.informers.informer::<Pod>().synced())
}

/// The Deployment that a ReplicaSet says controls it.
fn deployment_of(set: &ReplicaSet) -> Option<ObjectKey> {
    let controller = owner::controller_of(&set.metadata)?;
    let is_ours = controller.kind == "Deployment" && controller.api_version == "apps/v1";
    is_ours.then(|| ObjectKey::new(owner::namespace(&set.metadata), &controller.name))
}

fn selector(deployment: &Deployment) -> Result<Selector, Error> {
    let selector = compat::deployment_spec(deployment)
        .map(|spec| spec.selector.clone())
        .unwrap_or_default();
    Ok(selector.try_into()?)
}

impl Deployments {
    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let adds = queue.clone();
        self.deployments
            .add_handler(move |change| adds.add(ObjectKey::of(&change.object().metadata)));

        let (deployments, adds) = (self.deployments.clone(), queue.clone());
        self.sets.add_handler(move |change| {
            let set = change.object();
            let deployment = deployment_of(set);
            if let Change::Updated { old, .. } = change {
                let before = deployment_of(old);
                if before != deployment
                    && let Some(before) = before
                {
                    adds.add(before);
                }
            }
            match deployment {
                Some(deployment) => adds.add(deployment),
                None if owner::controller_of(&set.metadata).is_none()
                    && !matches!(change, Change::Deleted(_)) =>
                {
                    let labels = set.metadata.labels.clone().unwrap_or_default();
                    for deployment in deployments.list_namespace(owner::namespace(&set.metadata)) {
                        if selector(&deployment)
                            .is_ok_and(|selector| !labels.is_empty() && selector.matches(&labels))
                        {
                            adds.add(ObjectKey::of(&deployment.metadata));
                        }
                    }
                }
                None => {}
            }
        });

        // `Recreate` waits for the last old pod to be gone.
        let (deployments, sets, adds) =
            (self.deployments.clone(), self.sets.clone(), queue.clone());
        self.pods.add_handler(move |change| {
            let Change::Deleted(pod) = change else { return };
            let Some(controller) =
                owner::controller_of(&pod.metadata).filter(|c| c.kind == "ReplicaSet")
            else {
                return;
            };
            let set = sets.find(owner::namespace(&pod.metadata), &controller.name);
            let Some(key) = set.and_then(|set| deployment_of(&set)) else {
                return;
            };
            if deployments
                .get(&key)
                .is_some_and(|deployment| !limits::is_rolling(&deployment))
            {
                adds.add(key);
            }
        });
    }
}

impl Reconciler for Deployments {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(deployment) = self.deployments.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let selector = selector(&deployment)?;
        if selector.selects_all() {
            return self.refuse(&deployment).await;
        }
        let sets = self.claim(&deployment, &selector).await?;
        let running: HashSet<String> = sets
            .iter()
            .map(|set| owner::uid(&set.metadata))
            .filter(|uid| {
                self.pods
                    .owned_by(uid)
                    .iter()
                    .any(|pod| !pod::is_terminal(pod))
            })
            .map(str::to_owned)
            .collect();
        let plan = plan::plan(Observed {
            deployment: &deployment,
            sets,
            running,
            now: self.clock.now(),
        });
        self.carry_out(&deployment, plan).await
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl Deployments {
    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), owner::namespace(&deployment.metadata))
    }

    /// A selector that selects everything is a mistake that must not cost pods.
    async fn refuse(&self, deployment: &Deployment) -> Result<Requeue, Error> {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        self.events
            .record(deployment, EventType::Warning, "SelectingAll", message);
        let seen = deployment
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            .unwrap_or(0);
        if seen < deployment.metadata.generation.unwrap_or(0) {
            let mut changed = deployment.clone();
            changed.status.get_or_insert_default().observed_generation =
                deployment.metadata.generation;
            self.replace_status(&changed).await?;
        }
        Ok(Requeue::OnChange)
    }

    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &Selector,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let namespace = owner::namespace(&deployment.metadata);
        let owned = self.sets.owned_by(owner::uid(&deployment.metadata));
        let orphans = self.sets.by_index(ORPHANS, namespace);
        let claimed = claim::claim(
            &deployment.metadata,
            selector,
            owned.into_iter().chain(orphans),
        );
        let mut sets = claimed.owned;
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), namespace);
        if !claimed.adopt.is_empty() {
            claim::can_adopt(&self.api(deployment), &deployment.metadata).await?;
            let controller = owner::controller_ref(deployment);
            for set in claimed.adopt {
                sets.extend(claim::adopt(&api, &*set, &controller).await?);
            }
        }
        for set in claimed.release {
            claim::release(&api, &*set, owner::uid(&deployment.metadata)).await?;
        }
        Ok(sets)
    }

    async fn carry_out(&self, deployment: &Deployment, plan: Plan) -> Result<Requeue, Error> {
        let api = Api::<ReplicaSet>::namespaced(
            self.client.clone(),
            owner::namespace(&deployment.metadata),
        );
        for write in &plan.writes {
            match write {
                Write::Create(set) => {
                    if !self.create(&api, deployment, set).await? {
                        return Ok(Requeue::OnChange);
                    }
                }
                Write::Update { set, from } => {
                    let name = owner::name(&set.metadata);
                    api.replace(name, &PostParams::default(), set).await?;
                    self.tell_scaled(deployment, name, *from, plan::replicas(set));
                }
                Write::Delete(set) => {
                    let preconditions = Preconditions {
                        uid: set.metadata.uid.clone(),
                        resource_version: None,
                    };
                    let params = DeleteParams::background().preconditions(preconditions);
                    match api.delete(owner::name(&set.metadata), &params).await {
                        Err(error) if !is_not_found(&error) && !is_conflict(&error) => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
            }
        }
        let revision = |deployment: &Deployment| {
            deployment
                .metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(super::REVISION).cloned())
        };
        if plan.deployment.status != deployment.status
            || revision(&plan.deployment) != revision(deployment)
        {
            self.replace_status(&plan.deployment).await?;
        }
        Ok(plan.requeue.map_or(Requeue::OnChange, Requeue::After))
    }

    /// Creates the ReplicaSet for the present template. Says whether the step may go on; if not,
    /// nothing more can be done until something changes.
    async fn create(
        &self,
        api: &Api<ReplicaSet>,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<bool, Error> {
        let name = owner::name(&set.metadata);
        let error = match api.create(&PostParams::default(), set).await {
            Ok(_) => {
                self.tell_scaled(deployment, name, 0, plan::replicas(set));
                return Ok(true);
            }
            Err(error) => error,
        };
        if is_namespace_terminating(&error) {
            return Ok(false);
        }
        if is_already_exists(&error) {
            // Either our own, which the informer does not show yet, or another template with the
            // same hash.
            let known = api.get(name).await?;
            let uid = owner::uid(&deployment.metadata);
            let known_template = compat::replica_set_spec(&known)
                .and_then(|spec| spec.template.clone())
                .unwrap_or_default();
            if owner::is_controlled_by(&known.metadata, uid)
                && template::same(&known_template, &template::of(deployment))
            {
                return Ok(true);
            }
            let mut changed = deployment.clone();
            let count = &mut changed.status.get_or_insert_default().collision_count;
            *count = Some(count.unwrap_or(0) + 1);
            self.replace_status(&changed).await?;
            return Err(error.into());
        }
        let message = format!(
            "Failed to create new replica set {name:?}: {}",
            server_message(&error)
        );
        self.events.record(
            deployment,
            EventType::Warning,
            "ReplicaSetCreateError",
            &message,
        );
        if progress::has_deadline(deployment) {
            let mut changed = deployment.clone();
            let now = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                truncate(self.clock.now()),
            ));
            let condition = k8s_openapi::api::apps::v1::DeploymentCondition {
                type_: compat::set(progress::PROGRESSING.to_owned()),
                status: compat::set("False".to_owned()),
                reason: Some("ReplicaSetCreateError".to_owned()),
                message: Some(message),
                last_update_time: now.clone(),
                last_transition_time: now,
            };
            progress::set(changed.status.get_or_insert_default(), condition);
            if changed.status != deployment.status {
                // The failure to create is the one to report.
                let _ = self.replace_status(&changed).await;
            }
        }
        Err(error.into())
    }

    fn tell_scaled(&self, deployment: &Deployment, name: &str, from: i32, to: i32) {
        if from != to {
            let direction = if from < to { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} to {to} from {from}");
            self.events
                .record(deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
    }

    async fn replace_status(&self, deployment: &Deployment) -> Result<(), Error> {
        let name = owner::name(&deployment.metadata);
        self.api(deployment)
            .replace_status(name, &PostParams::default(), deployment)
            .await?;
        Ok(())
    }
}
