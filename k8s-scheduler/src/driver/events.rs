//! [`Events`]: what is said of pods, written by and by.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Client,
    api::{Patch, PatchParams, PostParams, Request},
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use super::act::{REQUEST_TIMEOUT, ignore_answer};
use crate::{metrics::Metrics, snapshot::PodInfo};

/// The longest note that an event may have, in bytes.
const LONGEST_NOTE: usize = 1024;
/// How many events may wait to be written; further ones are dropped.
const WAITING: usize = 4096;
/// How many events are remembered, to be counted when they come again.
const REMEMBERED: usize = 4096;
/// An event that has not come again for so long is over (upstream's time).
const OVER: Duration = Duration::from_secs(6 * 60);
/// An event that comes again and again is written anew after so long (upstream's time).
const REFRESH: Duration = Duration::from_secs(30 * 60);

/// How many events a driver writes: at first as many as `burst`, and `per_second` on. Those that it
/// can't write yet wait, and no pod waits for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventLimits {
    /// How many a second; 50 by default, as upstream's client.
    pub per_second: f64,
    /// How many at once; 100 by default, as upstream's client.
    pub burst: u32,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            per_second: 50.0,
            burst: 100,
        }
    }
}

/// Something to be said of a pod.
#[derive(Debug)]
pub(super) struct Remark {
    /// Who says it.
    pub(super) scheduler: String,
    pub(super) about: ObjectReference,
    pub(super) related: Option<ObjectReference>,
    pub(super) is_warning: bool,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    pub(super) note: String,
}

/// Where remarks go.
#[derive(Clone, Debug)]
pub(super) struct Events {
    sender: mpsc::Sender<Remark>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// The sending end, and the work of writing, which ends when all senders are gone.
    pub(super) fn new(
        client: Client,
        limits: EventLimits,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = Writer {
            client,
            allowance: Allowance::new(limits),
            known: HashMap::new(),
            order: VecDeque::new(),
        };
        (Self { sender, metrics }, writer.run(receiver))
    }

    pub(super) fn say(&self, remark: Remark) {
        if self.sender.try_send(remark).is_err() {
            self.metrics.dropped_event();
        }
    }
}

/// A bucket of tokens.
#[derive(Debug)]
struct Allowance {
    limits: EventLimits,
    tokens: f64,
    at: Instant,
}

impl Allowance {
    fn new(limits: EventLimits) -> Self {
        Self {
            limits,
            tokens: f64::from(limits.burst.max(1)),
            at: Instant::now(),
        }
    }

    async fn take(&mut self) {
        let rate = self.limits.per_second.max(0.001);
        let now = Instant::now();
        let most = f64::from(self.limits.burst.max(1));
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * rate).min(most);
        self.at = now;
        if self.tokens < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.tokens) / rate);
            tokio::time::sleep(wait).await;
            self.tokens = 1.0;
            self.at = Instant::now();
        }
        self.tokens -= 1.0;
    }
}

/// What makes two remarks one that came twice: all but the note.
type Key = (
    String,
    &'static str,
    &'static str,
    bool,
    String,
    String,
    String,
);

fn key(remark: &Remark) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (
        remark.scheduler.clone(),
        remark.reason,
        remark.action,
        remark.is_warning,
        text(&remark.about.uid),
        text(&remark.about.name),
        remark
            .related
            .as_ref()
            .map(|r| text(&r.uid))
            .unwrap_or_default(),
    )
}

/// An event that was written.
#[derive(Debug)]
struct Known {
    namespace: String,
    name: String,
    count: i32,
    last: Instant,
    written: Instant,
    /// The count that was written.
    told: i32,
}

struct Writer {
    client: Client,
    allowance: Allowance,
    known: HashMap<Key, Known>,
    /// The keys of `known`, the oldest first.
    order: VecDeque<Key>,
}

impl Writer {
    async fn run(mut self, mut remarks: mpsc::Receiver<Remark>) {
        while let Some(remark) = remarks.recv().await {
            let result = self.write(remark).await;
            if let Err(error) = result {
                tracing::debug!(%error, "event not written");
            }
        }
    }

    async fn write(&mut self, remark: Remark) -> Result<(), kube::Error> {
        let key = key(&remark);
        let now = Instant::now();
        if let Some(known) = self.known.get_mut(&key)
            && now - known.last < OVER
        {
            known.last = now;
            known.count = known.count.saturating_add(1);
            // Written when it is a series, and then now and then.
            if known.told > 1 && now - known.written < REFRESH {
                return Ok(());
            }
            self.allowance.take().await;
            let Some(known) = self.known.get_mut(&key) else {
                return Ok(());
            };
            (known.told, known.written) = (known.count, now);
            let patch = Patch::Merge(json!({"series": EventSeries {
                count: known.count,
                last_observed_time: MicroTime(Timestamp::now()),
            }}));
            let request = Request::new(path(&known.namespace)).patch(
                &known.name,
                &PatchParams::default(),
                &patch,
            );
            return send(&self.client, request).await;
        }
        self.allowance.take().await;
        let event = event(remark);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let body = serde_json::to_vec(&event).map_err(kube::Error::SerdeError)?;
        let request = Request::new(path(&namespace)).create(&PostParams::default(), body);
        send(&self.client, request).await?;
        self.remember(key, namespace, event.metadata.name.unwrap_or_default(), now);
        Ok(())
    }

    fn remember(&mut self, key: Key, namespace: String, name: String, now: Instant) {
        let known = Known {
            namespace,
            name,
            count: 1,
            last: now,
            written: now,
            told: 1,
        };
        if self.known.insert(key.clone(), known).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

fn path(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

async fn send(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<(), kube::Error> {
    let request = request.map_err(kube::Error::BuildRequest)?;
    match tokio::time::timeout(REQUEST_TIMEOUT, ignore_answer(client, request)).await {
        Ok(result) => result,
        Err(_) => Ok(()),
    }
}

fn event(remark: Remark) -> Event {
    let now = Timestamp::now();
    let namespace = remark.about.namespace.clone();
    let about = remark.about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", now.as_nanosecond())),
            namespace: namespace
                .filter(|n| !n.is_empty())
                .or(Some("default".into())),
            ..ObjectMeta::default()
        },
        action: Some(remark.action.into()),
        reason: Some(remark.reason.into()),
        note: Some(shortened(remark.note)),
        type_: Some(
            if remark.is_warning {
                "Warning"
            } else {
                "Normal"
            }
            .into(),
        ),
        event_time: Some(MicroTime(now)),
        regarding: Some(remark.about),
        related: remark.related,
        reporting_instance: Some(remark.scheduler.clone()),
        reporting_controller: Some(remark.scheduler),
        ..Event::default()
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE - 3)
            .rev()
            .find(|i| note.is_char_boundary(*i));
        note.truncate(end.unwrap_or(0));
        note.push_str("...");
    }
    note
}

pub(super) fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name().to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        uid: Some(pod.uid().to_owned()),
        ..ObjectReference::default()
    }
}
