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
    let mut monitors: HashMap<(String, String), tokio::task::AbortHandle> = HashMap::new();
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
            monitors.entry(slot).or_insert_with(|| {
                let (sender, receiver) = watch::channel(false);
                waiting.push(receiver);
                tasks.spawn(monitor(
                    client.clone(),
                    mode.clone(),
                    shared.clone(),
                    served.resource.clone(),
                    sender,
                ))
            });
        }
        // A group that did not answer keeps its watches.
        if complete {
            monitors.retain(|slot, task| {
                let keep = wanted.contains(slot);
                if !keep {
                    task.abort();
                }
                keep
            });
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

/// Watches one resource. Its objects leave the graph with it.
async fn monitor(
    client: Client,
    mode: Arc<WatchMode>,
    shared: Arc<Shared>,
    resource: ApiResource,
    synced: watch::Sender<bool>,
) {
    let mut known = Known {
        shared: shared.clone(),
        uids: HashMap::new(),
    };
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
                known.uids.insert(uid, round);
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
                known.uids.remove(&uid);
                let reaction = shared.graph.lock().remove(&uid);
                shared.react(reaction);
                if decides_resources {
                    shared.rediscover.notify_one();
                }
            }
            Ok(Event::InitDone) => {
                let gone: Vec<String> = known
                    .uids
                    .iter()
                    .filter(|(_, seen)| **seen != round)
                    .map(|(uid, _)| uid.clone())
                    .collect();
                for uid in gone {
                    known.uids.remove(&uid);
                    let reaction = shared.graph.lock().remove(&uid);
                    shared.react(reaction);
                }
                synced.send_replace(true);
            }
            Err(error) => {
                let delay = backoff.next_delay();
                debug!(error = %error, ?delay, resource = resource.plural, "metadata watch interrupted");
                tokio::time::sleep(delay).await;
                continue;
            }
        }
        backoff.reset();
    }
}

/// The UIDs that a watch has shown, with the list that showed them.
struct Known {
    shared: Arc<Shared>,
    uids: HashMap<String, u64>,
}

impl Drop for Known {
    fn drop(&mut self) {
        for uid in self.uids.keys() {
            let reaction = self.shared.graph.lock().remove(uid);
            self.shared.react(reaction);
        }
    }
}
