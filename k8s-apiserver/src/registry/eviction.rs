//! Eviction: a pod is deleted if its disruption budget allows it, and the budget is charged.
//!
//! As upstream's `pkg/registry/core/pod/storage/eviction.go`.

use k8s_model::labels::Selector;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodCondition},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

use super::{
    Outcome, Registry, Target, delete::check_preconditions, key, not_found, ownership,
    update::Rules,
};
use crate::{Error, Result, compat, http::options::DeleteOptions};

/// How many evictions the disruption controller may not yet have seen.
const MOST_DISRUPTED: usize = 2000;
/// How often a pod that changes all the time is tried to be deleted.
const ATTEMPTS: usize = 20;
const CONFLICT: u16 = 409;

impl Registry {
    /// Deletes a pod if its disruption budget allows it, and charges the budget.
    pub(crate) async fn evict(&self, target: &Target<'_>, options: &DeleteOptions) -> Result<()> {
        let pinned = options.preconditions.resource_version.is_some();
        for attempt in 1..=ATTEMPTS {
            let pod = self.pod(target).await?;
            if !can_ignore_budget(&pod) {
                return self.evict_running(target, options, &pod).await;
            }
            // One that is neither over nor on its way out could become ready meanwhile.
            let waits = phase(&pod) == "Pending" && pod.metadata.deletion_timestamp.is_none();
            let exact = if waits && !pinned {
                as_it_is(options, &pod)
            } else {
                options.clone()
            };
            match self.mark_and_delete(target, &exact).await {
                Err(error) if error.code() == CONFLICT && !pinned && attempt < ATTEMPTS => {}
                done => return done,
            }
        }
        Ok(())
    }

    async fn evict_running(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
        pod: &Pod,
    ) -> Result<()> {
        let mut budgets = self.budgets_of(target, pod).await?;
        if budgets.len() > 1 {
            return Err(Error::unknown(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let Some(budget) = budgets.pop() else {
            return self.mark_and_delete(target, options).await;
        };
        let name = budget.metadata.name.as_deref().unwrap_or_default();
        if !is_free(&budget, pod) {
            self.charge(target, name).await?;
            return self.mark_and_delete(target, options).await;
        }
        // It may go because it is not ready: if it is so still.
        let exact = as_it_is(options, pod);
        match self.mark_and_delete(target, &exact).await {
            Err(error)
                if error.code() == CONFLICT && options.preconditions.resource_version.is_none() =>
            {
                Err(still_processed(name))
            }
            done => done,
        }
    }

    async fn pod(&self, target: &Target<'_>) -> Result<Pod> {
        let entry = self.read(target).await?.ok_or_else(|| not_found(target))?;
        let object = target.row.decode_entry(&entry)?;
        let pod = object.downcast_ref::<Pod>();
        pod.cloned().ok_or_else(|| Error::internal("not a Pod"))
    }

    /// The budgets that are about a pod.
    async fn budgets_of(&self, target: &Target<'_>, pod: &Pod) -> Result<Vec<PodDisruptionBudget>> {
        let Some(row) = self.row("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Vec::new());
        };
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let prefix = key::namespace_prefix(&row.prefix, &row.resource, target.namespace);
        let page = self
            .store
            .list(k8s_store::List {
                prefix,
                ..Default::default()
            })
            .await?;
        let mut budgets = Vec::new();
        for entry in &page.entries {
            let object = row.decode_entry(entry)?;
            // An empty selector is about all pods, as its documentation says; upstream lets those go uncharged.
            if let Some(budget) = object.downcast_ref::<PodDisruptionBudget>()
                && let Some(selector) = budget.spec.as_ref().and_then(|s| s.selector.as_ref())
                && Selector::try_from(selector).is_ok_and(|s| s.matches(&labels))
            {
                budgets.push(budget.clone());
            }
        }
        Ok(budgets)
    }

    /// Takes an eviction off what a budget allows.
    async fn charge(&self, target: &Target<'_>, name: &str) -> Result<()> {
        let row = self
            .row("policy", "v1", "poddisruptionbudgets")
            .ok_or_else(Error::no_such_path)?;
        let budget = Target {
            row: &row,
            name,
            subresource: "status",
            manager: Some(ownership::SERVER),
            internal: true,
            ..*target
        };
        let now = self.now();
        self.update(&budget, Rules::Status, |old| {
            let mut new = old.boxed_clone();
            let budget = new
                .downcast_mut::<PodDisruptionBudget>()
                .ok_or_else(|| Error::internal("not a PodDisruptionBudget"))?;
            charge(budget, target.name, Time(now))?;
            Ok(new)
        })
        .await
        .map(|_| ())
    }

    /// Says on the pod why it goes, and deletes it. Plugins have been asked about the eviction, and are asked no more.
    async fn mark_and_delete(&self, target: &Target<'_>, options: &DeleteOptions) -> Result<()> {
        let target = &Target {
            internal: true,
            ..*target
        };
        let mut options = options.clone();
        if !target.dry_run {
            let now = Time(k8s_model::metadata::to_second(self.now()).0);
            let marked = self
                .update(target, Rules::None, |old| {
                    check_preconditions(target, &options, old.metadata(), false)?;
                    let mut new = old.boxed_clone();
                    let pod = new
                        .downcast_mut::<Pod>()
                        .ok_or_else(|| Error::internal("not a Pod"))?;
                    mark(pod, now.clone());
                    Ok(new)
                })
                .await?;
            if options.preconditions.resource_version.is_some() {
                options.preconditions.resource_version = version_of(&marked);
            }
        }
        self.delete(target, &options).await.map(|_| ())
    }
}

fn version_of(outcome: &Outcome) -> Option<String> {
    outcome.object.metadata().resource_version.clone()
}

/// The options for this state of the pod and no other.
fn as_it_is(options: &DeleteOptions, pod: &Pod) -> DeleteOptions {
    let mut exact = options.clone();
    exact
        .preconditions
        .resource_version
        .clone_from(&pod.metadata.resource_version);
    exact
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// A pod that does not run counts for no budget.
fn can_ignore_budget(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed" | "Pending")
        || pod.metadata.deletion_timestamp.is_some()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
    let conditions = conditions.unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether the pod is evicted without a charge: it is not ready, and the budget lets such pods go always, or while
/// enough others are healthy.
fn is_free(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    if is_ready(pod) {
        return false;
    }
    let spec = budget.spec.as_ref();
    let policy = spec.and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    if policy == Some("AlwaysAllow") {
        return true;
    }
    budget.status.as_ref().is_some_and(|status| {
        let desired: i32 = compat::value(status.desired_healthy);
        desired > 0 && compat::value::<i32>(status.current_healthy) >= desired
    })
}

/// Takes the eviction of a pod off what a budget allows, and tells the disruption controller of it.
fn charge(budget: &mut PodDisruptionBudget, pod: &str, now: Time) -> Result<()> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or(0) < generation {
        return Err(still_processed(&name));
    }
    let allowed: i32 = compat::value(status.disruptions_allowed);
    let forbidden = |text| {
        Err(Error::forbidden(
            "policy",
            "poddisruptionbudget",
            &name,
            text,
        ))
    };
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let disrupted = status.disrupted_pods.get_or_insert_default();
    if disrupted.len() > MOST_DISRUPTED {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if allowed == 0 {
        let cause = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            compat::value::<i32>(status.desired_healthy),
            compat::value::<i32>(status.current_healthy),
        );
        return Err(Error::disruption_budget(&cause, 0));
    }
    disrupted.insert(pod.to_owned(), now.clone());
    status.disruptions_allowed = compat::field(allowed - 1);
    if allowed == 1 {
        say_exhausted(status, now);
    }
    Ok(())
}

/// Says that nothing more is allowed.
fn say_exhausted(status: &mut PodDisruptionBudgetStatus, now: Time) {
    let conditions = status.conditions.get_or_insert_default();
    let mut condition = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: "False".to_owned(),
        reason: "InsufficientPods".to_owned(),
        message: String::new(),
        observed_generation: status.observed_generation,
        last_transition_time: Time(k8s_model::metadata::to_second(now.0).0),
    };
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(found) => {
            if found.status == condition.status {
                condition.last_transition_time = found.last_transition_time.clone();
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
}

/// Says why the pod goes.
fn mark(pod: &mut Pod, now: Time) {
    let generation = pod.metadata.generation;
    let status = pod.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        observed_generation: generation,
        last_transition_time: Some(now),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(found) => {
            if found.status == condition.status {
                condition
                    .last_transition_time
                    .clone_from(&found.last_transition_time);
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
}

/// The budget, or the pod, is not yet as the controller should have counted it: ask again in ten seconds.
fn still_processed(budget: &str) -> Error {
    let cause = format!("The disruption budget {budget} is still being processed by the server.");
    Error::disruption_budget(&cause, 10)
}
