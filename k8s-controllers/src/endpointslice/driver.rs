//! The driver: informers in, requests out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    CONTROLLER, MANAGED_BY, SERVICE_NAME,
    slices::{self, Observed},
};
use crate::{
    Error,
    common::{context::Context, owner, service},
    error::{is_namespace_terminating, is_not_found, server_message},
    runtime::{
        Change, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler, Requeue,
        WorkQueue,
    },
};

/// Slices by the key of their Service, for those that this controller keeps.
const BY_SERVICE: &str = "service";
/// How long a slice that was created may be missing from the informer.
const STALE: Duration = Duration::from_secs(60);

pub(crate) struct EndpointSlices {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    events: EventRecorder,
    /// Slices that were created and that the informer has not shown, by Service and UID. Their
    /// names are generated, so creating on a stale view would make too many.
    created: Arc<Mutex<HashMap<ObjectKey, HashMap<String, Instant>>>>,
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).is_some_and(|by| by == CONTROLLER);
    let service = labels.get(SERVICE_NAME)?;
    ours.then(|| ObjectKey::new(owner::namespace(&slice.metadata), service))
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<EndpointSlices> {
    let reconciler = EndpointSlices {
        client: context.client.clone(),
        services: context.informers.informer(),
        pods: context.informers.informer(),
        nodes: context.informers.informer(),
        slices: context.informers.informer(),
        events: context.events.clone(),
        created: Arc::default(),
    };
    let queue = WorkQueue::new();
    reconciler.slices.add_index(BY_SERVICE, |slice| {
        service_of(slice).iter().map(ToString::to_string).collect()
    });

    let (adds, created) = (queue.clone(), reconciler.created.clone());
    reconciler.services.add_handler(move |change| {
        let key = ObjectKey::of(&change.object().metadata);
        if let Change::Deleted(_) = change {
            created.lock().remove(&key);
        }
        adds.add(key);
    });
    let (adds, created) = (queue.clone(), reconciler.created.clone());
    reconciler.slices.add_handler(move |change| {
        let slice = change.object();
        if let Change::Updated { old, .. } = &change
            && let Some(before) = service_of(old)
        {
            adds.add(before);
        }
        if let Some(key) = service_of(slice) {
            if let Some(uids) = created.lock().get_mut(&key) {
                uids.remove(owner::uid(&slice.metadata));
            }
            adds.add(key);
        }
    });
    service::watch_pods(&reconciler.pods, &reconciler.services, &queue);
    let (pods, services, adds) = (
        reconciler.pods.clone(),
        reconciler.services.clone(),
        queue.clone(),
    );
    let queue_for_nodes = adds;
    reconciler.nodes.add_handler(move |change| {
        // A node that comes late, or that is moved to another zone.
        let relevant = match &change {
            Change::Added(_) => true,
            Change::Updated { old, new } => zone(old) != zone(new),
            Change::Deleted(_) => false,
        };
        if !relevant {
            return;
        }
        let node = owner::name(&change.object().metadata);
        for pod in pods.list() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(node) {
                continue;
            }
            for service in services.list_namespace(owner::namespace(&pod.metadata)) {
                if service::selects(&service, &pod) {
                    queue_for_nodes.add(ObjectKey::of(&service.metadata));
                }
            }
        }
    });
    let ready = [
        Box::pin(reconciler.services.synced()) as futures::future::BoxFuture<'static, ()>,
        Box::pin(reconciler.pods.synced()),
        Box::pin(reconciler.nodes.synced()),
        Box::pin(reconciler.slices.synced()),
    ];
    let controller = Controller::new("endpointslice-controller", reconciler, queue);
    ready.into_iter().fold(controller, Controller::wait_for)
}

fn zone(node: &Node) -> Option<String> {
    node.metadata
        .labels
        .as_ref()?
        .get("topology.kubernetes.io/zone")
        .filter(|zone| !zone.is_empty())
        .cloned()
}

impl Reconciler for EndpointSlices {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        // Slices of a Service that is gone are garbage collected.
        let Some(service) = self.services.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        if service
            .spec
            .as_ref()
            .is_none_or(|spec| spec.selector.as_ref().is_none_or(|s| s.is_empty()))
        {
            return Ok(Requeue::OnChange);
        }
        if self.is_stale(&key) {
            // The slice's own event brings the key back.
            return Ok(Requeue::After(Duration::from_secs(1)));
        }
        let existing = self.slices.by_index(BY_SERVICE, key.as_str());
        let existing = existing
            .into_iter()
            .filter(|slice| slice.metadata.deletion_timestamp.is_none())
            .collect();
        let pods: Vec<_> = self
            .pods
            .list_namespace(key.namespace())
            .into_iter()
            .filter(|pod| service::selects(&service, pod))
            .collect();
        let known_zone = |name: &str| self.nodes.find("", name).map(|node| zone(&node));
        let changes = slices::reconcile(Observed {
            service: &service,
            pods: &pods,
            slices: existing,
            zone: &known_zone,
        });
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), key.namespace());
        let mut errors = Vec::new();
        for slice in &changes.create {
            match api.create(&PostParams::default(), slice).await {
                Ok(slice) => self.expect(&key, &slice),
                Err(error) if is_namespace_terminating(&error) => return Ok(Requeue::OnChange),
                Err(error) => {
                    errors.push(self.report(&service, "FailedToCreateEndpointSlices", error))
                }
            }
        }
        for slice in &changes.update {
            if let Err(error) = api
                .replace(owner::name(&slice.metadata), &PostParams::default(), slice)
                .await
            {
                errors.push(self.report(&service, "FailedToUpdateEndpointSlices", error));
            }
        }
        for slice in &changes.delete {
            match api
                .delete(owner::name(&slice.metadata), &DeleteParams::default())
                .await
            {
                Err(error) if !is_not_found(&error) => errors.push(error.into()),
                _ => {}
            }
        }
        errors.extend(changes.skipped.into_iter().map(Error::NotYet));
        Error::all(errors)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl EndpointSlices {
    fn is_stale(&self, key: &ObjectKey) -> bool {
        let mut created = self.created.lock();
        let Some(uids) = created.get_mut(key) else {
            return false;
        };
        uids.retain(|_, since| since.elapsed() < STALE);
        !uids.is_empty()
    }

    /// Notes a slice that was created, unless its event was faster than the answer.
    fn expect(&self, key: &ObjectKey, slice: &EndpointSlice) {
        let mut created = self.created.lock();
        if self.slices.get(&ObjectKey::of(&slice.metadata)).is_none() {
            let uid = owner::uid(&slice.metadata).to_owned();
            created
                .entry(key.clone())
                .or_default()
                .insert(uid, Instant::now());
        }
    }

    fn report(&self, service: &Service, reason: &str, error: kube::Error) -> Error {
        let error = Error::from(error);
        if !error.is_expected() {
            let verb = if reason.contains("Create") {
                "create"
            } else {
                "update"
            };
            let text = match &error {
                Error::Api(error) => server_message(error),
                other => other.to_string(),
            };
            let message = format!(
                "Error updating Endpoint Slices for Service {}/{}: failed to {verb} EndpointSlice for Service {}: {text}",
                owner::namespace(&service.metadata),
                owner::name(&service.metadata),
                owner::name(&service.metadata),
            );
            self.events.record(
                service,
                EventType::Warning,
                "FailedToUpdateEndpointSlices",
                message,
            );
        }
        error
    }
}
