//! [`EventRecorder`]: tells users what a controller did, as API events.

mod correlator;

use std::{
    fmt::{self, Display},
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::correlator::{Correlator, Outcome};
use super::Clock;
use crate::error::is_not_found;

/// How many events may wait to be sent. More are dropped, as client-go's broadcaster does: events
/// must never slow a controller down.
const WAITING: usize = 1000;

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Something went as planned.
    Normal,
    /// Something may need a person's attention.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Tells users what a controller did, as API events. Clones share one sender.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    component: &'static str,
    clock: Clock,
    sender: mpsc::Sender<Event>,
}

/// Sends what an [`EventRecorder`] records: run it on a task.
pub struct EventSink {
    client: Client,
    receiver: mpsc::Receiver<Event>,
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSink").finish_non_exhaustive()
    }
}

impl EventRecorder {
    /// A recorder that signs as `component`, and the sink to run for it.
    pub fn new(
        client: Client,
        component: &'static str,
        clock: Clock,
    ) -> (EventRecorder, EventSink) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (
            EventRecorder {
                component,
                clock,
                sender,
            },
            EventSink { client, receiver },
        )
    }

    /// Records that something happened to `object`. Never blocks; drops the event when too many
    /// wait.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        event_type: EventType,
        reason: &str,
        message: impl Display,
    ) {
        self.record_ref(object.object_ref(&()), event_type, reason, message);
    }

    /// Records that something happened to the object of this reference.
    pub fn record_ref(
        &self,
        object: ObjectReference,
        event_type: EventType,
        reason: &str,
        message: impl Display,
    ) {
        let now = self.clock.now();
        let namespace = object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let mut event = Event {
            involved_object: object,
            type_: Some(event_type.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_string()),
            count: Some(1),
            first_timestamp: Some(self.clock.time()),
            last_timestamp: Some(self.clock.time()),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                ..Default::default()
            }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            ..Default::default()
        };
        let involved = event.involved_object.name.as_deref().unwrap_or_default();
        event.metadata.name = Some(format!("{involved}.{:x}", now.as_nanosecond()));
        event.metadata.namespace = Some(namespace);
        if self.sender.try_send(event).is_err() {
            debug!(reason, "event dropped: too many wait to be sent");
        }
    }
}

impl EventSink {
    /// Sends events until `stop` is cancelled or the last recorder is gone. What waits at a stop is
    /// still tried once.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut correlator = Correlator::default();
        loop {
            let event = tokio::select! {
                event = self.receiver.recv() => event,
                () = stop.cancelled() => {
                    self.receiver.close();
                    while let Some(Some(event)) = self.receiver.recv().now_or_never() {
                        let sent = self.send(&mut correlator, event, 1);
                        if tokio::time::timeout(Duration::from_secs(1), sent).await.is_err() {
                            return;
                        }
                    }
                    return;
                }
            };
            let Some(event) = event else { return };
            tokio::select! {
                () = self.send(&mut correlator, event, 5) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn send(&self, correlator: &mut Correlator, event: Event, tries: u32) {
        let (event, known) = match correlator.correlate(event, tokio::time::Instant::now()) {
            Outcome::Drop => return,
            Outcome::Create(event) => (*event, false),
            Outcome::Update(event) => (*event, true),
        };
        for attempt in 1..=tries {
            match self.write(&event, known).await {
                Ok(written) => return correlator.written(&written),
                // An answer is final; only a server that cannot be reached is tried again.
                Err(kube::Error::Api(status)) if status.code < 500 && status.code != 429 => {
                    debug!(error = %status.message, "event refused");
                    return;
                }
                Err(error) => {
                    debug!(error = %error, attempt, "event not sent");
                    tokio::time::sleep(Duration::from_millis(200) * 2u32.pow(attempt)).await;
                }
            }
        }
    }

    async fn write(&self, event: &Event, known: bool) -> Result<Event, kube::Error> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if known {
            let patch = json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            });
            let name = event.metadata.name.as_deref().unwrap_or_default();
            match api
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                // It has expired meanwhile: tell it anew.
                Err(error) if is_not_found(&error) => {}
                done => return done,
            }
        }
        let mut fresh = event.clone();
        fresh.metadata.resource_version = None;
        api.create(&PostParams::default(), &fresh).await
    }
}
