//! What the driver writes: bindings, conditions, evictions and events.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::{Value, json};

use crate::{
    framework::{CycleState, Status},
    profile::{Profile, Profiles},
    snapshot::PodInfo,
};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest note that an event may have, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Writes on behalf of one scheduler.
#[derive(Clone)]
pub(super) struct Actor {
    client: Client,
    recorders: Arc<HashMap<String, Recorder>>,
}

impl Actor {
    pub(super) fn new(client: &Client, profiles: &Profiles) -> Self {
        let recorder = |profile: &Arc<Profile>| {
            let name = profile.scheduler_name().to_owned();
            let reporter = Reporter {
                controller: name.clone(),
                instance: None,
            };
            (name, Recorder::new(client.clone(), reporter))
        };
        Self {
            client: client.clone(),
            recorders: Arc::new(profiles.iter().map(recorder).collect()),
        }
    }

    fn api(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.namespace())
    }

    /// Binds a pod through the profile's plugins, or through the API if none of them does.
    pub(super) async fn bind(
        &self,
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
        timeout: Duration,
    ) -> Result<(), String> {
        let text = |status: Status| status.reasons.join(", ");
        let all = async {
            for plugin in &profile.pre_bind {
                plugin
                    .pre_bind(&self.client, state, pod, node)
                    .await
                    .map_err(text)?;
            }
            for plugin in &profile.bind {
                if plugin
                    .bind(&self.client, state, pod, node)
                    .await
                    .map_err(text)?
                {
                    return Ok(());
                }
            }
            self.bind_by_api(pod, node).await
        };
        match tokio::time::timeout(timeout, AssertUnwindSafe(all).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("a plugin panicked".into()),
            Err(_) => Err("binding took too long".into()),
        }
    }

    async fn bind_by_api(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let name = pod.name().to_owned();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(pod.namespace().to_owned()),
                uid: Some(pod.uid().to_owned()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api = self.api(pod);
        let params = PostParams::default();
        let sent = api.create_subresource::<_, Value>("binding", &name, &params, &binding);
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("binding request timed out".into()),
        }
    }

    /// Says on the pod that it was bound.
    pub(super) async fn scheduled(&self, pod: &PodInfo, node: &str) {
        let note = format!("Successfully assigned {} to {node}", pod.key());
        let event = event(EventType::Normal, "Scheduled", "Binding", note);
        self.publish(pod, pod, event).await;
    }

    /// Says on the pod that it has no node, and why; and the node where room is made for it, if that is new.
    pub(super) async fn failed(
        &self,
        pod: &PodInfo,
        reason: &str,
        message: String,
        nominated: Option<Option<String>>,
    ) {
        let mut status = json!({});
        if let Some(condition) = changed_condition(pod, reason, &message) {
            status["conditions"] = json!([condition]);
        }
        if let Some(node) = nominated {
            status["nominatedNodeName"] = node.into();
        }
        if status != json!({}) && !self.patch_status(pod, status).await {
            return;
        }
        let event = event(
            EventType::Warning,
            "FailedScheduling",
            "Scheduling",
            message,
        );
        self.publish(pod, pod, event).await;
    }

    /// Says on the pod why it is not even tried.
    pub(super) async fn gated(&self, pod: &PodInfo, message: String) {
        if let Some(condition) = changed_condition(pod, "SchedulingGated", &message) {
            self.patch_status(pod, json!({"conditions": [condition]}))
                .await;
        }
    }

    /// Writes where room is made for a pod, or that it is not any more.
    pub(super) async fn nominate(&self, pod: &PodInfo, node: Option<&str>) {
        self.patch_status(pod, json!({"nominatedNodeName": node}))
            .await;
    }

    /// Has a pod go to make room for another; whether it goes.
    pub(super) async fn evict(&self, victim: &PodInfo, pod: &PodInfo, node: &str) -> bool {
        let scheduler = &pod.shape().scheduler_name;
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastProbeTime": null, "lastTransitionTime": whole_seconds(Timestamp::now()),
        });
        self.patch_status(victim, json!({"conditions": [condition]}))
            .await;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid().to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.api(victim);
        let sent = api.delete(victim.name(), &params);
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, object.ref = victim.key(), "victim not evicted");
                return false;
            }
            Err(_) => {
                tracing::warn!(object.ref = victim.key(), "victim not evicted in time");
                return false;
            }
        }
        let note = format!("Preempted by pod {} on node {node}", pod.uid());
        let mut event = event(EventType::Normal, "Preempted", "Preempting", note);
        event.secondary = Some(reference(pod));
        self.publish(pod, victim, event).await;
        true
    }

    /// Whether the pod is still there.
    async fn patch_status(&self, pod: &PodInfo, status: Value) -> bool {
        let patch = Patch::Strategic(json!({"status": status}));
        let api = self.api(pod);
        let params = PatchParams::default();
        let sent = api.patch_status(pod.name(), &params, &patch);
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return false,
            Ok(Err(error)) => {
                tracing::warn!(%error, object.ref = pod.key(), "pod status not written");
            }
            Err(_) => tracing::warn!(object.ref = pod.key(), "pod status not written in time"),
        }
        true
    }

    async fn publish(&self, by: &PodInfo, about: &PodInfo, event: Event) {
        let Some(recorder) = self.recorders.get(&by.shape().scheduler_name) else {
            return;
        };
        let reference = reference(about);
        let sent = recorder.publish(&event, &reference);
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, object.ref = about.key(), "event not written");
            }
            Err(_) => tracing::debug!(object.ref = about.key(), "event not written in time"),
        }
    }
}

fn event(type_: EventType, reason: &str, action: &str, mut note: String) -> Event {
    if note.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE - 3)
            .rev()
            .find(|i| note.is_char_boundary(*i));
        note.truncate(end.unwrap_or(0));
        note.push_str("...");
    }
    Event {
        type_,
        reason: reason.into(),
        note: Some(note),
        action: action.into(),
        secondary: None,
    }
}

fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name().to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        uid: Some(pod.uid().to_owned()),
        ..ObjectReference::default()
    }
}

/// The PodScheduled condition that says so; `None` if the pod has it already.
fn changed_condition(pod: &PodInfo, reason: &str, message: &str) -> Option<Value> {
    let conditions = pod
        .pod()
        .and_then(|p| p.status.as_ref()?.conditions.as_ref());
    let condition = conditions.and_then(|c| c.iter().find(|c| c.type_ == "PodScheduled"));
    let is_false = |c: &&k8s_openapi::api::core::v1::PodCondition| c.status == "False";
    let before = condition.filter(is_false);
    let known = before.is_some_and(|c| {
        c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    });
    let since = before
        .and_then(|c| c.last_transition_time.as_ref())
        .map(|t| t.0);
    (!known).then(|| {
        json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": whole_seconds(since.unwrap_or_else(Timestamp::now)),
        })
    })
}

fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}
