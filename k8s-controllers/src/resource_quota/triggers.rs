//! [`Triggers`]: tells when an object of a counted resource is gone.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures::StreamExt;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event},
};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{
    common::discovery::{self, Discovery},
    runtime::{Backoff, ObjectKey, WatchMode, watch_stream},
};

/// Group and plural name.
pub(super) type Counted = (String, String);
/// Is told the resource and the namespace.
type Tell = Arc<dyn Fn(&Counted, &str) + Send + Sync>;

/// Watches the resources whose objects some quota counts, and tells in which namespace one is
/// gone.
pub(super) struct Triggers {
    client: Client,
    mode: Arc<WatchMode>,
    tell: Tell,
    discovery: tokio::sync::Mutex<Option<Discovery>>,
    watched: Mutex<HashMap<Counted, (ApiResource, AbortOnDropHandle<()>)>>,
}

impl Triggers {
    pub(super) fn new(
        client: Client,
        tell: impl Fn(&Counted, &str) + Send + Sync + 'static,
    ) -> Self {
        Triggers {
            client,
            mode: Arc::default(),
            tell: Arc::new(tell),
            discovery: tokio::sync::Mutex::default(),
            watched: Mutex::default(),
        }
    }

    /// Watches the resource from now on, if it is served: then this is how.
    pub(super) async fn watch(
        &self,
        counted: &Counted,
    ) -> Result<Option<ApiResource>, kube::Error> {
        let known = {
            let watched = self.watched.lock();
            let known = watched.get(counted);
            known.map(|(resource, task)| (resource.clone(), task.is_finished()))
        };
        match known {
            None => {}
            Some((resource, false)) => return Ok(Some(resource)),
            // It was not served any more.
            Some((_, true)) => self.forget(counted).await,
        }
        let Some(resource) = self.find(counted).await? else {
            return Ok(None);
        };
        let task = tokio::spawn(watch(
            self.client.clone(),
            self.mode.clone(),
            resource.clone(),
            counted.clone(),
            self.tell.clone(),
        ));
        self.watched.lock().insert(
            counted.clone(),
            (resource.clone(), AbortOnDropHandle::new(task)),
        );
        Ok(Some(resource))
    }

    /// What is known of the resource does not hold any more.
    pub(super) async fn forget(&self, counted: &Counted) {
        self.watched.lock().remove(counted);
        *self.discovery.lock().await = None;
    }

    async fn find(&self, (group, plural): &Counted) -> Result<Option<ApiResource>, kube::Error> {
        let find = |discovery: &Discovery| {
            let found = discovery.preferred.iter().find(|served| {
                served.resource.group == *group
                    && served.resource.plural == *plural
                    && served.namespaced
                    && ["list", "watch"].iter().all(|verb| served.supports(verb))
            });
            found.map(|served| served.resource.clone())
        };
        let mut known = self.discovery.lock().await;
        if let Some(found) = known.as_ref().and_then(find) {
            return Ok(Some(found));
        }
        let discovery = discovery::discover(&self.client).await?;
        let found = find(&discovery);
        *known = Some(discovery);
        Ok(found)
    }
}

/// Ends when the resource is not served any more.
async fn watch(
    client: Client,
    mode: Arc<WatchMode>,
    resource: ApiResource,
    counted: Counted,
    tell: Tell,
) {
    let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &resource);
    let mut events = std::pin::pin!(watch_stream(client, mode, api, watcher::Config::default()));
    let mut backoff = Backoff::default();
    // What may be gone by the time of the next list, and what that list has shown.
    let mut known = BTreeSet::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(ObjectKey::of(&object.metadata));
            }
            Ok(Event::InitDone) => {
                let now = std::mem::take(&mut listed);
                for gone in known.difference(&now) {
                    tell(&counted, gone.namespace());
                }
                known = now;
            }
            Ok(Event::Apply(object)) => {
                known.insert(ObjectKey::of(&object.metadata));
            }
            Ok(Event::Delete(object)) => {
                let key = ObjectKey::of(&object.metadata);
                known.remove(&key);
                tell(&counted, key.namespace());
            }
            Err(error) => {
                let delay = backoff.next_delay();
                debug!(error = %error, ?delay, resource = resource.plural, "metadata watch interrupted");
                if is_gone(&error) {
                    return;
                }
                tokio::time::sleep(delay).await;
                continue;
            }
        }
        backoff.reset();
    }
}

/// Whether the resource is not there any more.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            crate::error::is_nowhere(error)
        }
        _ => false,
    }
}
