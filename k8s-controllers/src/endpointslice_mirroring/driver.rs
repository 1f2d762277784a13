//! The driver: informers in, requests out.

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};

use super::{CONTROLLER, slices};
use crate::{
    Error,
    common::{context::Context, owner},
    endpointslice::{MANAGED_BY, SERVICE_NAME},
    error::{is_namespace_terminating, is_not_found},
    runtime::{Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// Slices by the key of the Endpoints that they mirror.
const BY_ENDPOINTS: &str = "endpoints";

pub(crate) struct Mirroring {
    client: Client,
    endpoints: Informer<Endpoints>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

fn mirrored(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).is_some_and(|by| by == CONTROLLER);
    let name = labels.get(SERVICE_NAME)?;
    ours.then(|| ObjectKey::new(owner::namespace(&slice.metadata), name))
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Mirroring> {
    let reconciler = Mirroring {
        client: context.client.clone(),
        endpoints: context.informers.informer(),
        services: context.informers.informer(),
        slices: context.informers.informer(),
    };
    let queue = WorkQueue::new();
    reconciler.slices.add_index(BY_ENDPOINTS, |slice| {
        mirrored(slice).iter().map(ToString::to_string).collect()
    });
    let adds = queue.clone();
    reconciler
        .endpoints
        .add_handler(move |change| adds.add(ObjectKey::of(&change.object().metadata)));
    // A Service may come, go, or get a selector after its Endpoints were written.
    let adds = queue.clone();
    reconciler
        .services
        .add_handler(move |change| adds.add(ObjectKey::of(&change.object().metadata)));
    let adds = queue.clone();
    reconciler.slices.add_handler(move |change| {
        if let Some(key) = mirrored(change.object()) {
            adds.add(key);
        }
    });
    let ready = [
        Box::pin(reconciler.endpoints.synced()) as futures::future::BoxFuture<'static, ()>,
        Box::pin(reconciler.services.synced()),
        Box::pin(reconciler.slices.synced()),
    ];
    let controller = Controller::new("endpointslice-mirroring-controller", reconciler, queue);
    ready.into_iter().fold(controller, Controller::wait_for)
}

impl Reconciler for Mirroring {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let existing: Vec<_> = self
            .slices
            .by_index(BY_ENDPOINTS, key.as_str())
            .into_iter()
            .filter(|slice| slice.metadata.deletion_timestamp.is_none())
            .collect();
        let service = self.services.get(&key);
        let changes = match self.endpoints.get(&key) {
            Some(endpoints) if slices::is_mirrored(&endpoints, service.as_deref()) => {
                slices::reconcile(&endpoints, existing)
            }
            _ => slices::Changes {
                delete: existing,
                ..slices::Changes::default()
            },
        };
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), key.namespace());
        let mut errors = Vec::new();
        for slice in &changes.create {
            match api.create(&PostParams::default(), slice).await {
                Err(error) if is_namespace_terminating(&error) => return Ok(Requeue::OnChange),
                Err(error) => errors.push(error.into()),
                Ok(_) => {}
            }
        }
        for slice in &changes.update {
            let name = owner::name(&slice.metadata);
            if let Err(error) = api.replace(name, &PostParams::default(), slice).await {
                errors.push(error.into());
            }
        }
        for slice in &changes.delete {
            let name = owner::name(&slice.metadata);
            match api.delete(name, &DeleteParams::default()).await {
                Err(error) if !is_not_found(&error) => errors.push(error.into()),
                _ => {}
            }
        }
        Error::all(errors)?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
