//! What the driver writes: bindings, conditions and events.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::json;

use crate::{framework::Status, profile::Profile, snapshot::PodInfo};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes on behalf of one scheduler.
#[derive(Clone)]
pub(super) struct Actor {
    client: Client,
    profile: Arc<Profile>,
    recorder: Recorder,
}

impl Actor {
    pub(super) fn new(client: Client, profile: Arc<Profile>) -> Self {
        let reporter = Reporter {
            controller: profile.scheduler_name().to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            profile,
            recorder,
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(
            self.client.clone(),
            pod.metadata.namespace.as_deref().unwrap_or("default"),
        )
    }

    /// Binds a pod through the profile's plugins, or through the API if none of them does.
    pub(super) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let text = |status: Status| status.reasons.join(", ");
        for plugin in &self.profile.pre_bind {
            plugin.pre_bind(pod, node).await.map_err(text)?;
        }
        for plugin in &self.profile.bind {
            if plugin.bind(pod, node).await.map_err(text)? {
                return Ok(());
            }
        }
        let name = pod.pod.metadata.name.clone().unwrap_or_default();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: pod.pod.metadata.namespace.clone(),
                uid: pod.pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let request = self.api(&pod.pod);
        let params = PostParams::default();
        let sent =
            request.create_subresource::<_, serde_json::Value>("binding", &name, &params, &binding);
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("binding request timed out".into()),
        }
    }

    /// Says on the pod that it was bound.
    pub(super) async fn scheduled(&self, pod: &PodInfo, node: &str) {
        let note = format!("Successfully assigned {} to {node}", pod.key());
        self.publish(pod, EventType::Normal, "Scheduled", note, "Binding")
            .await;
    }

    /// Says on the pod that it has no node, and why.
    pub(super) async fn failed(&self, pod: &PodInfo, reason: &str, message: String) {
        let condition = pod
            .pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_ref())
            .and_then(|c| c.iter().find(|c| c.type_ == "PodScheduled"));
        let known = condition.is_some_and(|c| {
            c.status == "False"
                && c.reason.as_deref() == Some(reason)
                && c.message.as_deref() == Some(&message)
        });
        if !known {
            let since = match condition {
                Some(c) if c.status == "False" => c.last_transition_time.as_ref().map(|t| t.0),
                _ => None,
            };
            let patch = json!({"status": {"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
                "lastProbeTime": null, "lastTransitionTime": whole_seconds(since.unwrap_or_else(Timestamp::now)),
            }]}});
            let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
            let patch = Patch::Strategic(patch);
            let api = self.api(&pod.pod);
            let params = PatchParams::default();
            let sent = api.patch_status(name, &params, &patch);
            match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
                Ok(Ok(_)) => {}
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, object.ref = pod.key(), "pod condition not written")
                }
                Err(_) => {
                    tracing::warn!(object.ref = pod.key(), "pod condition not written in time")
                }
            }
        }
        self.publish(
            pod,
            EventType::Warning,
            "FailedScheduling",
            message,
            "Scheduling",
        )
        .await;
    }

    async fn publish(
        &self,
        pod: &PodInfo,
        type_: EventType,
        reason: &str,
        note: String,
        action: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        let reference = pod.pod.object_ref(&());
        let sent = self.recorder.publish(&event, &reference);
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, object.ref = pod.key(), "event not written"),
            Err(_) => tracing::debug!(object.ref = pod.key(), "event not written in time"),
        }
    }
}

fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}
