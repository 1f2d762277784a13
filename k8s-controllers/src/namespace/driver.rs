//! The driver: asks what is served, deletes, and reports.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
    core::{DynamicObject, PartialObjectMeta, Request},
};

use super::conditions::{self, Findings};
use crate::{
    Error,
    common::{
        context::Context,
        discovery::{self, Served},
        owner, pod,
        status::write_status,
    },
    error::{is_not_found, server_message, unless_gone},
    runtime::{
        Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue, since,
    },
};

/// What holds a namespace until it is empty.
const FINALIZER: &str = "kubernetes";
/// How long objects with finalizers are given before the next look; upstream's
/// `finalizerEstimateSeconds`.
const FINALIZER_ESTIMATE: Duration = Duration::from_secs(15);
/// The longest pause between two looks at a namespace that still has content.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How many resources are emptied at once.
const AT_ONCE: usize = 8;

pub(crate) struct Namespaces {
    client: Client,
    namespaces: Informer<Namespace>,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Namespaces> {
    let namespaces: Informer<Namespace> = context.informers.informer();
    let pods: Informer<Pod> = context.informers.informer();
    let queue = WorkQueue::new();
    let adds = queue.clone();
    namespaces.add_handler(move |change| {
        let namespace = change.object();
        if !matches!(change, Change::Deleted(_)) && namespace.metadata.deletion_timestamp.is_some()
        {
            adds.add(ObjectKey::of(&namespace.metadata));
        }
    });
    // Pods take the longest; when one is gone the rest may go.
    let (adds, known) = (queue.clone(), namespaces.clone());
    pods.add_handler(move |change| {
        let Change::Deleted(pod) = change else { return };
        let key = ObjectKey::new("", owner::namespace(&pod.metadata));
        if known
            .get(&key)
            .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
        {
            adds.add(key);
        }
    });
    let ready = (namespaces.synced(), pods.synced());
    let reconciler = Namespaces {
        client: context.client.clone(),
        namespaces,
        clock: context.clock,
    };
    Controller::new("namespace-controller", reconciler, queue)
        .with_workers(10)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

impl Reconciler for Namespaces {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        if self
            .namespaces
            .get(&key)
            .is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_none())
        {
            return Ok(Requeue::OnChange);
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let Some(mut namespace) = api.get_opt(key.name()).await? else {
            return Ok(Requeue::OnChange);
        };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(Requeue::OnChange);
        }
        let phase = namespace
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase != Some("Terminating") {
            namespace = write_status(&api, &namespace, |namespace| {
                namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            })
            .await?;
        }
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.as_deref())
            .unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(Requeue::OnChange);
        }
        let (findings, estimate) = self.empty(&namespace).await?;
        let now = self.clock.time();
        let mut status = namespace.status.clone().unwrap_or_default();
        if conditions::update(&mut status, &findings, &now) {
            namespace = write_status(&api, &namespace, |namespace| {
                conditions::update(namespace.status.get_or_insert_default(), &findings, &now);
            })
            .await?;
        }
        if !findings.failures.is_empty() || !findings.undiscovered.is_empty() {
            let texts = findings
                .failures
                .iter()
                .chain(&findings.undiscovered)
                .cloned()
                .collect::<Vec<_>>();
            return Err(Error::NotYet(texts.join(", ")));
        }
        if !estimate.is_zero() {
            return Ok(Requeue::After(
                (estimate / 2 + Duration::from_secs(1)).min(LONGEST_PAUSE),
            ));
        }
        if let Some(spec) = namespace.spec.as_mut() {
            spec.finalizers
                .get_or_insert_default()
                .retain(|finalizer| finalizer != FINALIZER);
        }
        unless_gone(
            api.replace_subresource::<Namespace>(
                "finalize",
                key.name(),
                &PostParams::default(),
                &namespace,
            )
            .await,
        )?;
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

/// What is left of one resource.
#[derive(Default)]
struct Left {
    count: usize,
    finalizers: Vec<String>,
    estimate: Duration,
    failure: Option<String>,
}

impl Namespaces {
    /// Deletes all that is in a namespace. Gives what was found, and how long what is left may
    /// take; zero means that nothing is left.
    async fn empty(&self, namespace: &Namespace) -> Result<(Findings, Duration), Error> {
        let name = owner::name(&namespace.metadata);
        let discovered = discovery::discover(&self.client).await?;
        let mut findings = Findings {
            undiscovered: discovered
                .failed
                .iter()
                .map(|(group, reason)| format!("{group}: {reason}"))
                .collect(),
            ..Findings::default()
        };
        let deletable: Vec<Served> = discovered
            .preferred
            .into_iter()
            .filter(|served| {
                served.namespaced && served.supports("delete") && served.supports("list")
            })
            .collect();
        let is_pods =
            |served: &Served| served.resource.group.is_empty() && served.resource.plural == "pods";
        let (pods, others): (Vec<_>, Vec<_>) = deletable.into_iter().partition(is_pods);
        let mut longest = Duration::ZERO;
        // Pods first: what they use while they stop must still be there.
        for stage in [pods, others] {
            let left: Vec<(Served, Left)> = stream::iter(stage)
                .map(|served| async move {
                    let left = self.empty_resource(namespace, name, &served).await;
                    (served, left)
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for (served, left) in left {
                longest = longest.max(left.estimate);
                findings.failures.extend(left.failure);
                if left.count > 0 {
                    findings
                        .remaining
                        .insert(served.group_resource(), left.count);
                }
                for finalizer in left.finalizers {
                    *findings.finalizers.entry(finalizer).or_default() += 1;
                }
            }
            if !findings.remaining.is_empty() && !longest.is_zero() {
                return Ok((findings, longest));
            }
        }
        Ok((findings, longest))
    }

    async fn empty_resource(&self, namespace: &Namespace, name: &str, served: &Served) -> Left {
        let result = self.try_empty_resource(namespace, name, served).await;
        result.unwrap_or_else(|error| Left {
            failure: Some(server_message(&error)),
            ..Left::default()
        })
    }

    async fn try_empty_resource(
        &self,
        namespace: &Namespace,
        name: &str,
        served: &Served,
    ) -> Result<Left, kube::Error> {
        let api = Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(
            self.client.clone(),
            name,
            &served.resource,
        );
        let before = match api.list(&ListParams::default()).await {
            Ok(before) => before,
            // Gone since it was discovered, or not to be listed after all.
            Err(error) if is_not_found(&error) || is_not_supported(&error) => {
                return Ok(Left::default());
            }
            Err(error) => return Err(error),
        };
        if before.items.is_empty() {
            return Ok(Left::default());
        }
        let estimate = match served.resource.plural.as_str() {
            "pods" if served.resource.group.is_empty() => {
                self.pods_estimate(namespace, name).await?
            }
            _ => Duration::ZERO,
        };
        let params = DeleteParams::background();
        if served.supports("deletecollection") {
            let request = Request::new(api.resource_url())
                .delete_collection(&params, &ListParams::default())
                .map_err(kube::Error::BuildRequest)?;
            match self.client.request_text(request).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        } else {
            let each =
                Api::<DynamicObject>::namespaced_with(self.client.clone(), name, &served.resource);
            for object in &before.items {
                match each.delete(owner::name(&object.metadata), &params).await {
                    Err(error) if !is_not_found(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        let after = api.list(&ListParams::default()).await?;
        let mut left = Left {
            count: after.items.len(),
            estimate,
            ..Left::default()
        };
        if after.items.is_empty() {
            left.estimate = Duration::ZERO;
            return Ok(left);
        }
        left.finalizers = after
            .items
            .into_iter()
            .flat_map(|object| object.metadata.finalizers.unwrap_or_default())
            .collect();
        if left.estimate.is_zero() {
            if left.finalizers.is_empty() {
                let resource = format!(
                    "{}, Resource={}",
                    served.resource.api_version, served.resource.plural
                );
                left.failure = Some(format!(
                    "unexpected items still remain in namespace: {name} for gvr: {resource}"
                ));
            } else {
                left.estimate = FINALIZER_ESTIMATE;
            }
        }
        Ok(left)
    }

    /// The longest grace period of the pods that still run, as long as it is not over.
    async fn pods_estimate(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Result<Duration, kube::Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), name)
            .list(&ListParams::default())
            .await?;
        let grace = pods
            .items
            .iter()
            .filter(|pod| !pod::is_terminal(pod))
            .filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds)
            .max()
            .unwrap_or(0);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let deleted = namespace
            .metadata
            .deletion_timestamp
            .as_ref()
            .map_or_else(|| self.clock.now(), |time| time.0);
        Ok(if since(self.clock.now(), deleted) >= grace {
            Duration::ZERO
        } else {
            grace
        })
    }
}

fn is_not_supported(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 405)
}
