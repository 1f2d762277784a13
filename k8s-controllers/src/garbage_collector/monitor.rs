//! Feeds the graph from a metadata watch of every deletable resource.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event},
};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tracing::{debug, warn};

use super::graph::{Graph, Identity, Reaction, Work};
use crate::{
    common::discovery::{self, Discovery},
    runtime::{Backoff, EventRecorder, EventType, WatchMode, WorkQueue, watch_stream},
};

/// How long the first pass waits for all watches; one that is broken must not stop collection
/// for ever.
const FIRST_SYNC: Duration = Duration::from_secs(30);

/// What monitors and workers share.
pub(super) struct Shared {
    pub(super) graph: Mutex<Graph>,
    pub(super) queue: WorkQueue<Work>,
    pub(super) discovery: RwLock<Discovery>,
    pub(super) events: EventRecorder,
    /// The served resources may have changed.
    rediscover: Notify,
}

impl Shared {
    pub(super) fn new(queue: WorkQueue<Work>, events: EventRecorder) -> Self {
        Shared {
            graph: Mutex::default(),
            queue,
            discovery: RwLock::default(),
            events,
            rediscover: Notify::new(),
        }
    }

    /// Does what a change of the graph calls for.
    pub(super) fn react(&self, reaction: Reaction) {
        for work in reaction.work {
            self.queue.add(work);
        }
        for (object, named) in reaction.invalid {
            let message = format!(
                "ownerRef {named} does not exist in namespace {:?}",
                object.namespace
            );
            self.events.record_ref(
                reference(&object),
                EventType::Warning,
                "OwnerRefInvalidNamespace",
                message,
            );
        }
    }
}

fn reference(identity: &Identity) -> ObjectReference {
    ObjectReference {
        api_version: Some(identity.api_version.clone()),
        kind: Some(identity.kind.clone()),
        namespace: Some(identity.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: Some(identity.name.clone()),
        uid: Some(identity.uid.clone()),
        ..Default::default()
    }
}

/// Watches every deletable resource, for ever; follows what the server serves as custom resources
/// come and go. Sends `true` on `synced` when the first lists are complete.
pub(super) async fn run(client: Client, shared: Arc<Shared>, synced: watch::Sender<bool>) {
    let mode = Arc::<WatchMode>::default();
    let mut monitors: HashMap<(String, String), Monitor> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut backoff = Backoff::default();
    loop {
        let discovered = match discovery::discover(&client).await {
            Ok(discovered) => discovered,
            Err(error) => {
                debug!(error = %error, "the served resources are not known yet");
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        };
        let complete = discovered.failed.is_empty();
        let mut waiting = Vec::new();
        let mut wanted = Vec::new();
        for served in &discovered.preferred {
            let watchable = ["delete", "list", "watch"]
                .iter()
                .all(|verb| served.supports(verb));
            if !watchable || served.resource.plural == "events" {
                continue;
            }
            let slot = (
                served.resource.api_version.clone(),
                served.resource.plural.clone(),
            );
            wanted.push(slot.clone());
            if monitors.get(&slot).is_some_and(Monitor::goes_on) {
                continue;
            }
            let (sender, receiver) = watch::channel(false);
            waiting.push(receiver);
            let service = Arc::new(Mutex::new(Service::Served));
            let task = tasks.spawn(monitor(
                client.clone(),
                mode.clone(),
                shared.clone(),
                served.resource.clone(),
                service.clone(),
                sender,
            ));
            monitors.insert(slot, Monitor { service, task });
        }
        // A group that did not answer keeps its watches.
        if complete {
            monitors.retain(|slot, monitor| wanted.contains(slot) || monitor.is_left());
        }
        for (group_version, reason) in &discovered.failed {
            debug!(group_version, reason, "group not discovered");
        }
        *shared.discovery.write() = discovered;
        let all = async {
            for mut receiver in waiting {
                // A monitor that is gone has nothing to wait for.
                let _ = receiver.wait_for(|done| *done).await;
            }
        };
        if tokio::time::timeout(FIRST_SYNC, all).await.is_err() {
            warn!("some resources cannot be watched; collecting without them");
        }
        synced.send_replace(true);
        if complete {
            backoff.reset();
            shared.rediscover.notified().await;
            // Several changes often come together.
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            let delay = backoff.next_delay();
            tokio::select! {
                () = shared.rediscover.notified() => {}
                () = tokio::time::sleep(delay.max(Duration::from_secs(1))) => {}
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

/// Whether a resource is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Served,
    /// Not any more. The watch goes on until the server ends it, for what it has to tell until then.
    Gone,
    /// Not any more, and the watch has ended.
    Ended,
}

/// The watch of one resource.
struct Monitor {
    service: Arc<Mutex<Service>>,
    task: tokio::task::AbortHandle,
}

impl Monitor {
    /// The resource is served; whether its watch is one that goes on.
    fn goes_on(&self) -> bool {
        let mut service = self.service.lock();
        if *service == Service::Ended || self.task.is_finished() {
            return false;
        }
        *service = Service::Served;
        true
    }

    /// The resource is not served any more; whether there is a watch left of it.
    fn is_left(&self) -> bool {
        let mut service = self.service.lock();
        if *service == Service::Served {
            *service = Service::Gone;
        }
        *service != Service::Ended && !self.task.is_finished()
    }
}

/// Watches one resource, until it is not served any more. Nothing is made of the end of the program: that the objects
/// are not watched says nothing about them.
async fn monitor(
    client: Client,
    mode: Arc<WatchMode>,
    shared: Arc<Shared>,
    resource: ApiResource,
    service: Arc<Mutex<Service>>,
    synced: watch::Sender<bool>,
) {
    // The UIDs that the watch has shown, with the list that showed them.
    let mut known: HashMap<String, u64> = HashMap::new();
    let decides_resources = matches!(
        resource.plural.as_str(),
        "customresourcedefinitions" | "apiservices"
    );
    let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &resource);
    let mut events = std::pin::pin!(watch_stream(client, mode, api, watcher::Config::default()));
    let mut backoff = Backoff::default();
    let mut round = 0u64;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => round += 1,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let uid = object.metadata.uid.clone().unwrap_or_default();
                known.insert(uid, round);
                let reaction = shared.graph.lock().observe(
                    &resource.api_version,
                    &resource.kind,
                    &object.metadata,
                );
                shared.react(reaction);
                if decides_resources {
                    shared.rediscover.notify_one();
                }
            }
            Ok(Event::Delete(object)) => {
                let uid = object.metadata.uid.unwrap_or_default();
                known.remove(&uid);
                let reaction = shared.graph.lock().remove(&uid);
                shared.react(reaction);
                if decides_resources {
                    shared.rediscover.notify_one();
                }
            }
            Ok(Event::InitDone) => {
                let gone: Vec<String> = known
                    .iter()
                    .filter(|(_, seen)| **seen != round)
                    .map(|(uid, _)| uid.clone())
                    .collect();
                for uid in gone {
                    known.remove(&uid);
                    let reaction = shared.graph.lock().remove(&uid);
                    shared.react(reaction);
                }
                synced.send_replace(true);
            }
            Err(error) => {
                if end(&service, &shared, &known) {
                    return;
                }
                let delay = backoff.next_delay();
                debug!(error = %error, ?delay, resource = resource.plural, "metadata watch interrupted");
                tokio::time::sleep(delay).await;
                continue;
            }
        }
        backoff.reset();
    }
}

/// Ends a watch if its resource is not served any more; whether it is not. Its objects leave the graph with it.
fn end(service: &Mutex<Service>, shared: &Shared, known: &HashMap<String, u64>) -> bool {
    let mut service = service.lock();
    if *service == Service::Served {
        return false;
    }
    for uid in known.keys() {
        let reaction = shared.graph.lock().forget(uid);
        shared.react(reaction);
    }
    *service = Service::Ended;
    true
}

#[cfg(test)]
mod tests {
    use k8s_apiserver::{ApiServer, auth};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Resource, api::PostParams};
    use serde_json::json;

    use super::*;
    use crate::runtime::Clock;

    #[tokio::test]
    async fn the_end_of_the_watches_says_nothing_of_what_they_have_shown() {
        let server = ApiServer::builder().build().await.unwrap();
        let client = server.client(auth::Identity::system_masters());
        let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
        let mut owner = None;
        for name in ["owner", "owned"] {
            let map =
                json!({"metadata": {"name": name, "ownerReferences": owner.map(|owner| [owner])}});
            let map: ConfigMap = serde_json::from_value(map).unwrap();
            let made = maps.create(&PostParams::default(), &map).await.unwrap();
            owner = made.owner_ref(&());
        }
        let uid = maps.get("owner").await.unwrap().metadata.uid.unwrap();

        let (events, _sink) = EventRecorder::new(client.clone(), "test", Clock::system());
        let shared = Arc::new(Shared::new(WorkQueue::new(), events));
        let (sender, mut synced) = watch::channel(false);
        let mut watches = Box::pin(run(client, shared.clone(), sender));
        tokio::select! {
            () = &mut watches => unreachable!("they go on for ever"),
            done = synced.wait_for(|done| *done) => assert!(done.is_ok()),
        }
        drop(watches);
        // The tasks end when the runtime comes to them.
        while Arc::strong_count(&shared) > 1 {
            tokio::task::yield_now().await;
        }
        let graph = shared.graph.lock();
        let owner = graph.view(&uid).unwrap();
        assert_eq!(owner.dependents.len(), 1);
        assert!(!graph.is_absent(&owner.identity));
    }
}
