//! What the driver writes: bindings, conditions, evictions and events.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Client,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions, Request},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::events::{Events, Remark, reference};
use crate::{
    framework::{ClaimRef, Code, CycleState, Extender, Status},
    metrics::{Metrics, Point},
    profile::Profile,
    snapshot::PodInfo,
};

/// How long one request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request is sent again to a server that has too much to do (upstream's number).
const MOST_RETRIES: usize = 10;

/// How long to wait before a pod is read again, at first and at most.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Writes on behalf of one scheduler.
#[derive(Clone)]
pub(super) struct Actor {
    client: Client,
    events: Events,
    extenders: Arc<[Arc<dyn Extender>]>,
    metrics: Arc<Metrics>,
}

/// Sends a request whose answer tells nothing but whether it was done. A server that has too much to do is
/// asked again when it says, as upstream's client does.
pub(super) async fn ignore_answer(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<(), kube::Error> {
    for _ in 0..MOST_RETRIES {
        match client.request::<IgnoredAny>(request.clone()).await {
            Err(kube::Error::Api(status)) if status.code == 429 => {
                let details = status.details.as_ref();
                let seconds = details.map_or(1, |d| d.retry_after_seconds.max(1));
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            }
            result => return result.map(|_| ()),
        }
    }
    client.request::<IgnoredAny>(request).await.map(|_| ())
}

/// Why a request was not done.
enum Failure {
    Refused(kube::Error),
    TimedOut,
}

impl Failure {
    fn is(&self, codes: &[u16]) -> bool {
        matches!(self, Failure::Refused(kube::Error::Api(status)) if codes.contains(&status.code))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused(error) => error.fmt(f),
            Failure::TimedOut => f.write_str("request timed out"),
        }
    }
}

/// Of a pod, where it is.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    metadata: FoundMetadata,
    #[serde(default)]
    spec: FoundSpec,
}

#[derive(Default, Deserialize)]
struct FoundMetadata {
    uid: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSpec {
    node_name: Option<String>,
}

fn pods(pod: &PodInfo) -> Request {
    Request::new(format!("/api/v1/namespaces/{}/pods", pod.namespace()))
}

impl Actor {
    pub(super) fn new(
        client: &Client,
        events: Events,
        extenders: &[Arc<dyn Extender>],
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            client: client.clone(),
            events,
            extenders: extenders.into(),
            metrics: metrics.clone(),
        }
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(), Failure> {
        let request = request.map_err(|e| Failure::Refused(kube::Error::BuildRequest(e)))?;
        match tokio::time::timeout(REQUEST_TIMEOUT, ignore_answer(&self.client, request)).await {
            Ok(result) => result.map_err(Failure::Refused),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    /// Binds a pod through an extender, the profile's plugins, or through the API if none of them does.
    pub(super) async fn bind(
        &self,
        profile: &Profile,
        state: &CycleState,
        pod: &Arc<PodInfo>,
        node: &str,
        timeout: Duration,
    ) -> Result<(), String> {
        let text = |status: Status| status.reasons.join(", ");
        let note = |point: Point, start: Instant, is_done: bool| {
            if let Some(metrics) = self.metrics.profile(profile.scheduler_name()) {
                let outcome = (!is_done).then_some(Code::Error);
                metrics.point(point, outcome, start.elapsed());
            }
        };
        let all = async {
            if !profile.pre_bind.is_empty() {
                let start = Instant::now();
                for plugin in &profile.pre_bind {
                    let begun = Instant::now();
                    let done = plugin.pre_bind(&self.client, state, pod, node).await;
                    if state.is_sampled {
                        let outcome = done.as_ref().err().map(|status| status.code);
                        let time = begun.elapsed();
                        self.metrics
                            .plugin(Point::PreBind, plugin.name(), outcome, time);
                    }
                    if let Err(status) = done {
                        note(Point::PreBind, start, false);
                        return Err(text(status));
                    }
                }
                note(Point::PreBind, start, true);
            }
            let start = Instant::now();
            let bound = match self.bind_now(profile, state, pod, node).await {
                Ok(()) => Ok(()),
                Err(text) => self.look_whether_bound(pod, node, text).await,
            };
            note(Point::Bind, start, bound.is_ok());
            bound
        };
        match tokio::time::timeout(timeout, AssertUnwindSafe(all).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("a plugin panicked".into()),
            Err(_) => Err("binding took too long".into()),
        }
    }

    async fn bind_now(
        &self,
        profile: &Profile,
        state: &CycleState,
        pod: &Arc<PodInfo>,
        node: &str,
    ) -> Result<(), String> {
        let mut extenders = self.extenders.iter();
        if let Some(extender) = extenders.find(|e| e.binds() && e.is_interested(pod)) {
            let (extender, pod, node) = (extender.clone(), pod.clone(), node.to_owned());
            let bound = tokio::task::spawn_blocking(move || extender.bind(&pod, &node)).await;
            return bound.unwrap_or_else(|error| Err(error.to_string()));
        }
        for plugin in &profile.bind {
            let begun = Instant::now();
            let bound = plugin.bind(&self.client, state, pod, node).await;
            if state.is_sampled {
                let outcome = bound.as_ref().err().map(|status| status.code);
                let time = begun.elapsed();
                self.metrics
                    .plugin(Point::Bind, plugin.name(), outcome, time);
            }
            if bound.map_err(|status| status.reasons.join(", "))? {
                return Ok(());
            }
        }
        let begun = Instant::now();
        let bound = self.bind_by_api(pod, node).await;
        if state.is_sampled {
            let outcome = bound.is_err().then_some(Code::Error);
            let time = begun.elapsed();
            self.metrics
                .plugin(Point::Bind, "DefaultBinder", outcome, time);
        }
        bound
    }

    /// A binding that failed may have taken effect all the same: only its answer was lost. The pod itself
    /// tells. Until it does, its place is kept.
    async fn look_whether_bound(
        &self,
        pod: &PodInfo,
        node: &str,
        error: String,
    ) -> Result<(), String> {
        let mut wait = SHORTEST_WAIT;
        loop {
            let request = pods(pod).get(pod.name(), &GetParams::default());
            let request = request.map_err(|_| error.clone())?;
            let found = self.client.request::<Found>(request);
            match tokio::time::timeout(REQUEST_TIMEOUT, found).await {
                Ok(Ok(found)) => {
                    let is_there = found.metadata.uid.as_deref() == Some(pod.uid())
                        && found.spec.node_name.as_deref() == Some(node);
                    return if is_there { Ok(()) } else { Err(error) };
                }
                Ok(Err(kube::Error::Api(status)))
                    if (400..500).contains(&status.code) && status.code != 429 =>
                {
                    return Err(error);
                }
                Ok(Err(_)) | Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn bind_by_api(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "target": {"kind": "Node", "name": node},
        });
        let body = binding.to_string().into_bytes();
        let params = PostParams::default();
        let request = pods(pod).create_subresource("binding", pod.name(), &params, body);
        self.send(request).await.map_err(|f| f.to_string())
    }

    /// Says on the pod that it was bound.
    pub(super) fn scheduled(&self, pod: &PodInfo, node: &str) {
        self.events.say(Remark {
            scheduler: pod.shape().scheduler_name.clone(),
            about: reference(pod),
            related: None,
            is_warning: false,
            reason: "Scheduled",
            action: "Binding",
            note: format!("Successfully assigned {} to {node}", pod.key()),
        });
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
        self.events.say(Remark {
            scheduler: pod.shape().scheduler_name.clone(),
            about: reference(pod),
            related: None,
            is_warning: true,
            reason: "FailedScheduling",
            action: "Scheduling",
            note: message,
        });
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
        match self.send(pods(victim).delete(victim.name(), &params)).await {
            Ok(()) => {}
            // It is gone already, or another one by now.
            Err(failure) if failure.is(&[404, 409]) => {}
            Err(failure) => {
                let error = failure.to_string();
                tracing::warn!(error, object.ref = victim.key(), "victim not evicted");
                return false;
            }
        }
        self.events.say(Remark {
            scheduler: scheduler.clone(),
            about: reference(victim),
            related: Some(reference(pod)),
            is_warning: false,
            reason: "Preempted",
            action: "Preempting",
            note: format!("Preempted by pod {} on node {node}", pod.uid()),
        });
        true
    }

    /// Takes a claim's devices back, unless it has changed.
    pub(super) async fn deallocate(&self, claim: &ClaimRef) {
        let patch = Patch::Merge(json!({
            "metadata": {"uid": claim.uid, "resourceVersion": claim.resource_version},
            "status": {"allocation": null, "reservedFor": null},
        }));
        let path = format!(
            "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims",
            claim.namespace
        );
        let params = PatchParams::default();
        let request = Request::new(path).patch_subresource("status", &claim.name, &params, &patch);
        if let Err(failure) = self.send(request).await {
            let (error, name) = (failure.to_string(), &claim.name);
            tracing::warn!(error, claim = name, "claim not deallocated");
        }
    }

    /// Whether the pod is still there.
    async fn patch_status(&self, pod: &PodInfo, status: Value) -> bool {
        // With the UID, so that another pod of that name is left alone.
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let patch = Patch::Strategic(patch);
        let params = PatchParams::default();
        let request = pods(pod).patch_subresource("status", pod.name(), &params, &patch);
        match self.send(request).await {
            Ok(()) => true,
            Err(failure) if failure.is(&[404, 409]) => false,
            Err(failure) => {
                let error = failure.to_string();
                tracing::warn!(error, object.ref = pod.key(), "pod status not written");
                true
            }
        }
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
