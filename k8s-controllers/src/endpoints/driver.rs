//! The driver: informers in, requests out.

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};

use super::subsets;
use crate::{
    Error,
    common::{context::Context, owner, service},
    error::{is_namespace_terminating, server_message, unless_outdated},
    runtime::{
        Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler, Requeue, WorkQueue,
    },
};

pub(crate) struct EndpointsController {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    events: EventRecorder,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<EndpointsController> {
    let reconciler = EndpointsController {
        client: context.client.clone(),
        services: context.informers.informer(),
        pods: context.informers.informer(),
        endpoints: context.informers.informer(),
        events: context.events.clone(),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler
        .services
        .add_handler(move |change| adds.add(ObjectKey::of(&change.object().metadata)));
    // The first list also finds what a Service that went while nobody looked has left behind. Later, Endpoints without a
    // Service are somebody's own, who may be about to make the Service.
    let (adds, services) = (queue.clone(), reconciler.services.clone());
    let endpoints = reconciler.endpoints.clone();
    reconciler.endpoints.add_handler(move |change| {
        let key = ObjectKey::of(&change.object().metadata);
        if !endpoints.has_synced() || services.get(&key).is_some() {
            adds.add(key);
        }
    });
    service::watch_pods(&reconciler.pods, &reconciler.services, &queue);
    let ready = [
        Box::pin(reconciler.services.synced()) as futures::future::BoxFuture<'static, ()>,
        Box::pin(reconciler.pods.synced()),
        Box::pin(reconciler.endpoints.synced()),
    ];
    let controller = Controller::new("endpoint-controller", reconciler, queue);
    ready.into_iter().fold(controller, Controller::wait_for)
}

impl Reconciler for EndpointsController {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let api = Api::<Endpoints>::namespaced(self.client.clone(), key.namespace());
        let current = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key) else {
            if let Some(left) = current.filter(|endpoints| !is_election_record(endpoints)) {
                self.remove_unless_served(&key, &left).await?;
            }
            return Ok(Requeue::OnChange);
        };
        if service
            .spec
            .as_ref()
            .is_none_or(|spec| spec.selector.as_ref().is_none_or(|s| s.is_empty()))
        {
            return Ok(Requeue::OnChange);
        }
        let pods: Vec<_> = self
            .pods
            .list_namespace(key.namespace())
            .into_iter()
            .filter(|pod| service::selects(&service, pod))
            .collect();
        let Some(wanted) = subsets::reconcile(&service, &pods, current.as_deref()) else {
            return Ok(Requeue::OnChange);
        };
        let name = format!("{}/{}", key.namespace(), owner::name(&service.metadata));
        let (written, reason, what) = if current.is_none() {
            let created = api.create(&PostParams::default(), &wanted).await;
            (
                created,
                "FailedToCreateEndpoint",
                format!("Failed to create endpoint for service {name}"),
            )
        } else {
            let replaced = api
                .replace(key.name(), &PostParams::default(), &wanted)
                .await;
            (
                replaced,
                "FailedToUpdateEndpoint",
                format!("Failed to update endpoint {name}"),
            )
        };
        match written {
            Ok(_) => Ok(Requeue::OnChange),
            Err(error) if is_namespace_terminating(&error) => Ok(Requeue::OnChange),
            Err(error) => {
                let text = server_message(&error);
                let error = Error::from(error);
                if !error.is_expected() {
                    self.events.record(
                        &wanted,
                        EventType::Warning,
                        reason,
                        format!("{what}: {text}"),
                    );
                }
                Err(error)
            }
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl EndpointsController {
    /// Deletes Endpoints whose Service is gone: the informers are not of one moment, so the server is asked.
    async fn remove_unless_served(&self, key: &ObjectKey, left: &Endpoints) -> Result<(), Error> {
        let services = Api::<Service>::namespaced(self.client.clone(), key.namespace());
        if services.get_metadata_opt(key.name()).await?.is_some() {
            // The informer will show it.
            return Ok(());
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: left.metadata.uid.clone(),
            resource_version: None,
        });
        let api = Api::<Endpoints>::namespaced(self.client.clone(), key.namespace());
        unless_outdated(api.delete(key.name(), &params).await)
    }
}

/// Old leader election kept its record in an Endpoints object without a Service.
fn is_election_record(endpoints: &Endpoints) -> bool {
    let annotations = endpoints.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| {
        annotations.contains_key("control-plane.alpha.kubernetes.io/leader")
    })
}
