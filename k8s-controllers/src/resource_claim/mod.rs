//! ResourceClaims: made for pods from templates, and freed when nobody uses them any more.
//!
//! Mirrors upstream's `pkg/controller/resourceclaim`. See [KEP-4381](https://kep.k8s.io/4381) and
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>.

mod decide;

use std::{collections::HashMap, fmt, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim},
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::decide::{FINALIZER, Named};
use crate::{
    Error,
    common::{context::Context, owner, pod},
    error::{unless_gone, server_message},
    runtime::{
        Change, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler, Requeue,
        WorkQueue,
    },
};

/// The controller's account.
pub(crate) const NAME: &str = "resource-claim-controller";
/// Who its events are from.
pub(crate) const COMPONENT: &str = "resource_claim";
/// The manager of what it writes to pods.
const MANAGER: &str = "ResourceClaimController";
/// Pods by the claims that they have.
const INDEX: &str = "resource-claim";

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Pod(ObjectKey),
    Claim(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Pod(key) => write!(f, "pod:{key}"),
            Key::Claim(key) => write!(f, "claim:{key}"),
        }
    }
}

/// The UID of a pod and the name that it has for a claim.
type MadeFor = (String, String);

pub(crate) struct Claims {
    client: Client,
    events: EventRecorder,
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    templates: Informer<ResourceClaimTemplate>,
    /// The names of claims that were made and that the informer does not show yet: none is made twice.
    made: Mutex<HashMap<MadeFor, String>>,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<Arc<Claims>> {
    let reconciler = Arc::new(Claims {
        client: context.client.clone(),
        events: context.events.clone(),
        pods: context.informers.informer(),
        claims: context.informers.informer(),
        templates: context.informers.informer(),
        made: Mutex::default(),
    });
    reconciler.pods.add_index(INDEX, |pod: &Pod| {
        let namespace = owner::namespace(&pod.metadata);
        let names = decide::claim_names(pod).into_iter();
        names.map(|name| format!("{namespace}/{name}")).collect()
    });
    let queue = WorkQueue::new();
    // Each of the informers tells the other: neither may keep both alive.
    let (adds, own) = (queue.clone(), Arc::downgrade(&reconciler));
    reconciler.pods.add_handler(move |change| {
        let Some(own) = own.upgrade() else { return };
        let is_gone = matches!(change, Change::Deleted(_));
        own.pod_changed(&adds, change.object(), is_gone);
    });
    let (adds, own) = (queue.clone(), Arc::downgrade(&reconciler));
    reconciler.claims.add_handler(move |change| {
        let Some(own) = own.upgrade() else { return };
        let meta = &change.object().metadata;
        let key = ObjectKey::of(meta);
        if !matches!(change, Change::Deleted(_)) {
            if let (Some((_, uid)), Some(name)) =
                (decide::owning_pod(meta), decide::pod_claim(meta))
            {
                let made_for = (uid.to_owned(), name.to_owned());
                own.made.lock().remove(&made_for);
            }
            // At the start, and whenever somebody notes a pod that may be gone already.
            adds.add(Key::Claim(key.clone()));
        }
        for pod in own.pods.by_index(INDEX, key.as_str()) {
            own.pod_changed(&adds, &pod, false);
        }
    });
    let ready = (
        reconciler.pods.synced(),
        reconciler.claims.synced(),
        reconciler.templates.synced(),
    );
    Controller::new(NAME, reconciler, queue)
        .wait_for(ready.0)
        .wait_for(ready.1)
        .wait_for(ready.2)
}

impl Reconciler for Arc<Claims> {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: Key) -> Result<Requeue, Error> {
        match key {
            Key::Pod(key) => self.look_at_pod(&key).await?,
            Key::Claim(key) => self.look_at_claim(&key).await?,
        }
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

/// A patch for this very state of a claim.
fn patch(claim: &ResourceClaim, mut fields: Value) -> Patch<Value> {
    fields["metadata"]["uid"] = json!(claim.metadata.uid);
    fields["metadata"]["resourceVersion"] = json!(claim.metadata.resource_version);
    Patch::Merge(fields)
}

fn reserved(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    let status = claim.status.as_ref();
    let reserved = status.and_then(|status| status.reserved_for.as_deref());
    reserved.unwrap_or_default()
}

fn has_devices(claim: &ResourceClaim) -> bool {
    let status = claim.status.as_ref();
    status.is_some_and(|status| status.allocation.is_some())
}

fn is_protected(claim: &ResourceClaim) -> bool {
    let mut finalizers = claim.metadata.finalizers.iter().flatten();
    finalizers.any(|finalizer| finalizer == FINALIZER)
}

impl Claims {
    fn pod_changed(&self, queue: &WorkQueue<Key>, pod: &Pod, is_gone: bool) {
        if decide::claims(pod).is_empty() {
            return;
        }
        let namespace = owner::namespace(&pod.metadata);
        if is_gone {
            let uid = owner::uid(&pod.metadata);
            self.made.lock().retain(|(of, _), _| of != uid);
        }
        if is_gone || decide::is_done(pod) {
            for name in decide::claim_names(pod) {
                queue.add(Key::Claim(ObjectKey::new(namespace, name)));
            }
        }
        let claim = |name: &str| self.claims.find(namespace, name);
        if !is_gone && decide::needs_work(pod, claim) {
            queue.add(Key::Pod(ObjectKey::of(&pod.metadata)));
        }
    }

    fn api(&self, claim: &ResourceClaim) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), owner::namespace(&claim.metadata))
    }

    /// Makes the claims that a pod lacks, and notes a pod that was placed by hand on its claims.
    async fn look_at_pod(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(());
        };
        if pod.metadata.deletion_timestamp.is_some() || pod::is_terminal(&pod) {
            return Ok(());
        }
        let mut made = Vec::new();
        for claim in decide::claims(&pod) {
            match self.ensure(&pod, claim).await {
                Ok(None) => {}
                Ok(Some(name)) => made.push((claim.name.as_str(), name)),
                Err(error) => {
                    let why = match &error {
                        Error::Api(error) => {
                            format!("create ResourceClaim : {}", server_message(error))
                        }
                        other => other.to_string(),
                    };
                    let text = format!("PodResourceClaim {}: {why}", claim.name);
                    let reason = "FailedResourceClaimCreation";
                    self.events
                        .record(&*pod, EventType::Warning, reason, text);
                    return Err(error);
                }
            }
        }
        if !made.is_empty() {
            self.note(&pod, &made).await?;
        }
        if !decide::is_bound(&pod) {
            // Whoever places it sees to the rest.
            return Ok(());
        }
        for name in decide::claim_names(&pod) {
            let Some(claim) = self.claims.find(key.namespace(), name) else {
                return Ok(());
            };
            if decide::is_unreserved(&claim, &pod) {
                self.reserve(&claim, &pod).await?;
            }
        }
        Ok(())
    }

    /// Sees to it that there is the claim that a pod has a name for. Gives its name if the pod does not know it.
    async fn ensure(&self, pod: &Pod, named: &PodResourceClaim) -> Result<Option<String>, Error> {
        let namespace = owner::namespace(&pod.metadata);
        if let Named::Needless | Named::Given(_) = decide::name(pod, named) {
            return Ok(None);
        }
        if let Named::Generated(name) = decide::name(pod, named)
            && let Some(claim) = self.claims.find(namespace, name)
            && decide::is_for(&claim, pod)
        {
            return Ok(None);
        }
        let Some(template) = &named.resource_claim_template_name else {
            return Ok(None);
        };
        // One that was made before, by somebody who did not come to say so.
        let uid = owner::uid(&pod.metadata);
        let owned = self.claims.owned_by(uid);
        let mut owned = owned.iter().filter(|claim| decide::is_for(claim, pod));
        if let Some(claim) = owned.find(|claim| decide::is_named(&claim.metadata, &named.name)) {
            return Ok(Some(owner::name(&claim.metadata).to_owned()));
        }
        let made_for = (uid.to_owned(), named.name.clone());
        if let Some(name) = self.made.lock().get(&made_for) {
            return Ok(Some(name.clone()));
        }
        let Some(found) = self.templates.find(namespace, template) else {
            return Err(Error::NotYet(format!(
                "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
            )));
        };
        let claim = decide::generate(pod, &named.name, &found);
        let params = PostParams::default();
        let claim = self.api(&claim).create(&params, &claim).await?;
        let name = owner::name(&claim.metadata).to_owned();
        // The informer may have been quicker.
        let mut made = self.made.lock();
        if self.claims.find(namespace, &name).is_none() {
            made.insert(made_for, name.clone());
        }
        Ok(Some(name))
    }

    /// Tells a pod the names of the claims that were made for it.
    async fn note(&self, pod: &Pod, made: &[(&str, String)]) -> Result<(), Error> {
        let known = decide::statuses(pod).iter();
        // All of them: what is not applied again would go.
        let mut statuses: Vec<Value> = known
            .filter(|status| made.iter().all(|(name, _)| *name != status.name))
            .map(|status| json!(status))
            .collect();
        let new = made.iter();
        statuses.extend(new.map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})));
        let name = owner::name(&pod.metadata);
        let status = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid},
            "status": {"resourceClaimStatuses": statuses},
        });
        let api = Api::<Pod>::namespaced(self.client.clone(), owner::namespace(&pod.metadata));
        let params = PatchParams::apply(MANAGER).force();
        api.patch_status(name, &params, &Patch::Apply(status))
            .await?;
        Ok(())
    }

    async fn reserve(&self, claim: &ResourceClaim, pod: &Pod) -> Result<(), Error> {
        let mut consumers = reserved(claim).to_vec();
        consumers.push(ResourceClaimConsumerReference {
            resource: "pods".to_owned(),
            name: owner::name(&pod.metadata).to_owned(),
            uid: owner::uid(&pod.metadata).to_owned(),
            ..Default::default()
        });
        let fields = json!({"status": {"reservedFor": consumers}});
        self.write_status(claim, fields).await?;
        Ok(())
    }

    async fn write_status(
        &self,
        claim: &ResourceClaim,
        fields: Value,
    ) -> Result<ResourceClaim, Error> {
        let name = owner::name(&claim.metadata);
        let (api, params) = (self.api(claim), PatchParams::default());
        let patch = patch(claim, fields);
        Ok(api.patch_status(name, &params, &patch).await?)
    }

    /// Whether a pod may still use a claim that lists it.
    async fn is_used_by(
        &self,
        namespace: &str,
        consumer: &ResourceClaimConsumerReference,
    ) -> Result<bool, Error> {
        let is_it = |pod: &Arc<Pod>| owner::uid(&pod.metadata) == consumer.uid;
        if let Some(pod) = self.pods.find(namespace, &consumer.name).filter(is_it) {
            return Ok(!decide::is_done(&pod));
        }
        // It may not be shown yet, nor that another one of its name is gone: only the server knows for sure.
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let pod = api.get_metadata_opt(&consumer.name).await?;
        Ok(pod.is_some_and(|pod| owner::uid(&pod.metadata) == consumer.uid))
    }

    /// Takes pods off a claim that do not use it any more; after the last one, its devices; and then the claim itself, if it
    /// was made for a pod that is done.
    async fn look_at_claim(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key) else {
            return Ok(());
        };
        let mut left = Vec::new();
        for consumer in reserved(&claim) {
            let group = consumer.api_group.as_deref().unwrap_or_default();
            if !group.is_empty() || consumer.resource != "pods" {
                return Err(Error::NotYet(format!(
                    "unsupported ReservedFor entry: {group}/{} {}",
                    consumer.resource, consumer.name
                )));
            }
            if self.is_used_by(key.namespace(), consumer).await? {
                left.push(consumer);
            }
        }
        if left.len() < reserved(&claim).len() {
            let mut fields = json!({"status": {"reservedFor": left}});
            if left.is_empty() && is_protected(&claim) {
                fields["status"]["allocation"] = Value::Null;
                fields["status"]["devices"] = Value::Null;
            }
            let written = self.write_status(&claim, fields).await?;
            if !has_devices(&written) {
                self.unprotect(&written).await?;
            }
        } else if claim.metadata.deletion_timestamp.is_some() && left.is_empty() {
            if has_devices(&claim) {
                let fields = json!({"status": {"allocation": null, "devices": null}});
                let written = self.write_status(&claim, fields).await?;
                self.unprotect(&written).await?;
            } else {
                self.unprotect(&claim).await?;
            }
        }
        if left.is_empty() {
            self.remove_unneeded(&claim).await?;
        }
        Ok(())
    }

    /// Lets a claim go whose devices are free.
    async fn unprotect(&self, claim: &ResourceClaim) -> Result<(), Error> {
        if !is_protected(claim) {
            return Ok(());
        }
        let finalizers = claim.metadata.finalizers.iter().flatten();
        let finalizers: Vec<&String> = finalizers.filter(|f| *f != FINALIZER).collect();
        let fields = json!({"metadata": {"finalizers": finalizers}});
        let name = owner::name(&claim.metadata);
        let (api, params) = (self.api(claim), PatchParams::default());
        unless_gone(api.patch(name, &params, &patch(claim, fields)).await)
    }

    /// Deletes a claim that was made for a pod which is done, but may be there for a while.
    async fn remove_unneeded(&self, claim: &ResourceClaim) -> Result<(), Error> {
        let Some((pod, uid)) = decide::owning_pod(&claim.metadata) else {
            return Ok(());
        };
        // The garbage collector sees to the claims of a pod that is gone.
        let pod = self.pods.find(owner::namespace(&claim.metadata), pod);
        let is_needed = |pod: &Pod| owner::uid(&pod.metadata) == uid && !decide::is_done(pod);
        if pod.is_none_or(|pod| is_needed(&pod)) || claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: claim.metadata.uid.clone(),
            resource_version: None,
        });
        let api = self.api(claim);
        unless_gone(api.delete(owner::name(&claim.metadata), &params).await)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use kube::{client::Body, runtime::watcher};

    use super::*;
    use crate::runtime::Clock;

    #[tokio::test]
    async fn a_pod_that_took_the_place_of_one_still_shown_uses_its_claim() {
        // The server has the new pod; the informer still shows the old one.
        let service = tower::service_fn(|request: http::Request<Body>| async move {
            assert!(request.uri().path().ends_with("/pods/p"));
            let pod = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "p", "namespace": "n", "uid": "new"}});
            let body = Body::from(pod.to_string().into_bytes());
            Ok::<_, kube::Error>(http::Response::new(body))
        });
        let client = Client::new(service, "n");
        let (events, _sink) = EventRecorder::new(client.clone(), "test", Clock::system());
        let claims = Claims {
            client,
            events,
            pods: Informer::default(),
            claims: Informer::default(),
            templates: Informer::default(),
            made: Mutex::default(),
        };
        let old: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "old"},
            "status": {"phase": "Succeeded"},
        }))
        .unwrap();
        let shown = [
            watcher::Event::Init,
            watcher::Event::InitApply(old),
            watcher::Event::InitDone,
        ];
        claims.pods.run(stream::iter(shown.map(Ok))).await;
        let consumer = |uid: &str| ResourceClaimConsumerReference {
            name: "p".to_owned(),
            resource: "pods".to_owned(),
            uid: uid.to_owned(),
            ..Default::default()
        };
        assert!(claims.is_used_by("n", &consumer("new")).await.unwrap());
        assert!(!claims.is_used_by("n", &consumer("old")).await.unwrap());
    }
}
