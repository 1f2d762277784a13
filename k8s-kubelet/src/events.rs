//! Events about pods and the node.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio::sync::mpsc;
use tracing::debug;

use crate::pod::{ContainerKind, PodView};

/// How many events may wait to be written. Events beyond are dropped, as upstream drops them.
const QUEUE: usize = 1000;
/// An object's first events are all written, later ones at this rate.
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 1.0 / 300.0;

/// Whether an event is news or a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

#[derive(Clone, Debug)]
struct Occurrence {
    object: ObjectReference,
    kind: Kind,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Records events; one that happened before is counted, not repeated.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// A recorder and the task that writes what it is told.
    pub(crate) fn new(client: Client, node: &str) -> (Self, impl Future<Output = ()> + use<>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            node: node.to_owned(),
            seen: HashMap::new(),
            budget: HashMap::new(),
        };
        (Self { sender }, writer.run(receiver))
    }

    /// Records an event about a pod or, where it is named, one of its containers.
    pub(crate) fn pod(
        &self,
        pod: &PodView,
        container: Option<&str>,
        kind: Kind,
        reason: &str,
        message: impl Into<String>,
    ) {
        let field = container.and_then(|name| {
            let list = match pod.find(name)?.0 {
                ContainerKind::Init | ContainerKind::Sidecar => "initContainers",
                ContainerKind::Main => "containers",
                ContainerKind::Ephemeral => "ephemeralContainers",
            };
            Some(format!("spec.{list}{{{name}}}"))
        });
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name().to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            uid: Some(pod.uid().to_owned()),
            resource_version: pod.object.metadata.resource_version.clone(),
            field_path: field,
        };
        self.send(object, kind, reason, message.into());
    }

    /// Records an event about the node.
    pub(crate) fn node(&self, name: &str, kind: Kind, reason: &str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..Default::default()
        };
        self.send(object, kind, reason, message.into());
    }

    fn send(&self, object: ObjectReference, kind: Kind, reason: &str, message: String) {
        let occurrence = Occurrence {
            object,
            kind,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        if self.sender.try_send(occurrence).is_err() {
            debug!("event dropped");
        }
    }
}

type Key = (String, String, String, String, String, bool);

fn key(o: &Occurrence) -> Key {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let kind = o.kind == Kind::Warning;
    (
        text(&o.object.uid),
        text(&o.object.name),
        text(&o.object.field_path),
        o.reason.clone(),
        o.message.clone(),
        kind,
    )
}

struct Writer {
    client: Client,
    node: String,
    /// Name and count of the Event object of each occurrence seen.
    seen: HashMap<Key, (String, i32)>,
    budget: HashMap<String, (f64, Timestamp)>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = receiver.recv().await {
            if self.seen.len() > 4096 {
                self.seen.clear();
                self.budget.clear();
            }
            if self.spend(&occurrence) {
                self.write(occurrence).await;
            }
        }
    }

    fn spend(&mut self, o: &Occurrence) -> bool {
        let uid = o.object.uid.clone().unwrap_or_default();
        let (left, since) = self.budget.entry(uid).or_insert((BURST, o.at));
        let passed = o.at.duration_since(*since).as_secs_f64().max(0.0);
        *left = (*left + passed * PER_SECOND).min(BURST);
        *since = o.at;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }

    async fn write(&mut self, o: Occurrence) {
        let namespace = o
            .object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let key = key(&o);
        let now = Time(crate::time::whole_second(o.at));
        if let Some((name, count)) = self.seen.get_mut(&key) {
            *count += 1;
            let patch = serde_json::json!({
                "count": *count, "lastTimestamp": now,
                "metadata": {"resourceVersion": null},
            });
            match api
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(_) => return,
                Err(error) if is_not_found(&error) => {}
                Err(error) => return debug!(%error, "event not updated"),
            }
        }
        let object_name = o.object.name.clone().unwrap_or_default();
        let name = format!("{object_name}.{:x}", o.at.as_nanosecond());
        let mut event = Event {
            involved_object: o.object,
            reason: Some(o.reason),
            message: Some(o.message),
            type_: Some(
                if o.kind == Kind::Normal {
                    "Normal"
                } else {
                    "Warning"
                }
                .to_owned(),
            ),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Default::default()
        };
        event.metadata.name = Some(name.clone());
        event.metadata.namespace = Some(namespace);
        for delay in [100, 1000, 5000] {
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => {
                    self.seen.insert(key, (name, 1));
                    return;
                }
                // The API has decided: a terminating namespace, a name that can't be.
                Err(kube::Error::Api(status)) => return debug!(%status, "event refused"),
                Err(error) => {
                    debug!(%error, "event not written");
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
            }
        }
    }
}

pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
