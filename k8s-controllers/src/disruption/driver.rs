//! The driver: counts a budget's pods and writes its status.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    core::{Selector, SelectorExt},
};

use super::{
    count,
    scale::{Asked, Scales},
};
use crate::{
    Error,
    common::{context::Context, owner, pod},
    error::{is_conflict, server_message, unless_gone},
    runtime::{
        Change, Clock, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler,
        Requeue, WorkQueue,
    },
};

pub(crate) struct Budgets {
    client: Client,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    scales: Scales,
    events: EventRecorder,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Budgets> {
    let budgets = context.informers.informer::<PodDisruptionBudget>();
    let pods = context.informers.informer::<Pod>();
    let queue = WorkQueue::new();
    let adds = queue.clone();
    budgets.add_handler(move |change| adds.add(ObjectKey::of(&change.object().metadata)));
    watch_pods(&pods, &budgets, &queue, context.events.clone());
    let scales = Scales::new(context);
    let ready = (budgets.synced(), pods.synced(), scales.synced());
    let reconciler = Budgets {
        client: context.client.clone(),
        budgets,
        pods,
        scales,
        events: context.events.clone(),
        clock: context.clock,
    };
    Controller::new("disruption-controller", reconciler, queue)
        .wait_for(ready.0)
        .wait_for(ready.1)
        .wait_for(ready.2)
}

/// Queues the budgets for which a pod counts or counted.
fn watch_pods(
    pods: &Informer<Pod>,
    budgets: &Informer<PodDisruptionBudget>,
    queue: &WorkQueue<ObjectKey>,
    events: EventRecorder,
) {
    let (budgets, queue) = (budgets.clone(), queue.clone());
    pods.add_handler(move |change| {
        let before = match &change {
            Change::Updated { old, new } if same(old, new) => return,
            Change::Updated { old, .. } => Some(*old),
            Change::Added(_) | Change::Deleted(_) => None,
        };
        let pod = change.object();
        let namespace = owner::namespace(&pod.metadata);
        let mut matching = Vec::new();
        for budget in budgets.list_namespace(namespace) {
            let Ok(Some(selector)) = selector(&budget) else {
                continue;
            };
            if selector.matches(pod.labels()) {
                matching.push(budget);
            } else if before.is_some_and(|before| selector.matches(before.labels())) {
                queue.add(ObjectKey::of(&budget.metadata));
            }
        }
        if let [first, _, ..] = matching.as_slice() {
            let (name, chosen) = (owner::name(&pod.metadata), owner::name(&first.metadata));
            let message = format!(
                "Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {chosen:?} arbitrarily."
            );
            let reason = "MultiplePodDisruptionBudgets";
            events.record(&**pod, EventType::Warning, reason, message);
        }
        for budget in matching {
            queue.add(ObjectKey::of(&budget.metadata));
        }
    });
}

/// Whether two states of a pod are the same to all budgets.
fn same(a: &Pod, b: &Pod) -> bool {
    let going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    a.metadata.labels == b.metadata.labels
        && a.metadata.owner_references == b.metadata.owner_references
        && going(a) == going(b)
        && pod::is_ready(a) == pod::is_ready(b)
}

/// Which pods a budget is about; none if it has no selector. An empty selector selects all.
fn selector(budget: &PodDisruptionBudget) -> Result<Option<Selector>, Error> {
    let spec = budget.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.clone());
    Ok(selector.map(Selector::try_from).transpose()?)
}

impl Budgets {
    /// Counts the pods and writes the status. Gives when to look again.
    async fn sync(&self, budget: &PodDisruptionBudget) -> Result<Option<Duration>, Error> {
        let namespace = owner::namespace(&budget.metadata);
        let pods = match selector(budget) {
            Ok(Some(selector)) => self.pods.list_matching(namespace, &selector),
            Ok(None) => Vec::new(),
            Err(error) => {
                let message = format!("Failed to get pods: {error}");
                self.tell(budget, EventType::Warning, "NoPods", message);
                return Err(error);
            }
        };
        if pods.is_empty() {
            let message = "No matching pods found".to_owned();
            self.tell(budget, EventType::Normal, "NoPods", message);
        }
        let wanted = count::wanted(budget, self.expected(budget, &pods).await?);
        let disrupted = count::disrupted(budget, &pods, self.clock.now());
        for pod in &disrupted.stayed {
            // The namespace twice, as upstream's.
            let message = format!(
                "Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't"
            );
            let reason = "NotDeleted";
            self.events
                .record(&**pod, EventType::Warning, reason, message);
        }
        let healthy = count::healthy(&pods, &disrupted);
        let now = self.clock.time();
        if let Some(updated) = count::updated(budget, wanted, healthy, &disrupted, &now) {
            self.write(&updated).await?;
        }
        Ok(disrupted.recheck)
    }

    /// How many pods there are, or should be.
    async fn expected(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
    ) -> Result<i32, Error> {
        if !count::goes_by_scale(budget) {
            return Ok(i32::try_from(pods.len()).unwrap_or(i32::MAX));
        }
        let namespace = owner::namespace(&budget.metadata);
        let asked = self.scales.asked(namespace, pods);
        match asked.await {
            Ok(Asked {
                replicas,
                unmanaged,
            }) => {
                if unmanaged {
                    self.tell_unmanaged(budget);
                }
                Ok(replicas)
            }
            Err(error) => {
                let message = format!(
                    "Failed to calculate the number of expected pods: {}",
                    text(&error)
                );
                let reason = "CalculateExpectedPodCountFailed";
                self.tell(budget, EventType::Warning, reason, message);
                Err(error)
            }
        }
    }

    fn tell_unmanaged(&self, budget: &PodDisruptionBudget) {
        let selector = selector(budget).ok().flatten();
        let selector = selector.map(|selector| selector.to_string());
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the \
             status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
             these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
            selector.unwrap_or_default()
        );
        self.tell(budget, EventType::Warning, "UnmanagedPods", message);
    }

    fn tell(
        &self,
        budget: &PodDisruptionBudget,
        event_type: EventType,
        reason: &str,
        message: String,
    ) {
        self.events.record(budget, event_type, reason, message);
    }

    /// Writes the status, if the budget is still as it was read: an eviction that was charged meanwhile counts.
    async fn write(&self, budget: &PodDisruptionBudget) -> Result<(), Error> {
        let namespace = owner::namespace(&budget.metadata);
        let api = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), namespace);
        let name = owner::name(&budget.metadata);
        unless_gone(
            api.replace_status(name, &PostParams::default(), budget)
                .await,
        )
    }
}

/// What a user is told of an error: the server's words, if they are that.
fn text(error: &Error) -> String {
    match error {
        Error::Api(error) => server_message(error),
        other => other.to_string(),
    }
}

impl Reconciler for Budgets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(budget) = self.budgets.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let error = match self.sync(&budget).await {
            Ok(recheck) => return Ok(recheck.map_or(Requeue::OnChange, Requeue::After)),
            Err(Error::Api(error)) if is_conflict(&error) => return Err(error.into()),
            Err(error) => error,
        };
        // Whatever is wrong, nothing is evicted that perhaps may not be.
        if let Some(failed) = count::failed(&budget, &text(&error), &self.clock.time()) {
            self.write(&failed).await?;
        }
        match error {
            Error::NotYet(_) | Error::Selector(_) => Ok(Requeue::OnChange),
            passing => Err(passing),
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
