//! One row of a table: objects, a pod, and what must come of it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, LogParams, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, wait::await_condition, watcher},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::support::part;

/// How long a pod may take; ten times what it takes on a quiet machine, and more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The name of every case's pod.
pub(crate) const POD: &str = "it";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The requirement, as upstream names it.
    pub(crate) name: String,
    #[serde(default)]
    objects: Vec<Value>,
    /// The pod's spec. Restart policy Never, no grace period and an image are filled in.
    pod: Value,
    expect: Expect,
}

/// What must come to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    /// Succeeded if not said.
    phase: Option<String>,
    /// Texts in the first container's log. `{/a/b}` is the value at that pointer in the pod.
    log: Vec<String>,
    /// Texts that are not in it.
    absent: Vec<String>,
    /// Texts that are not in another container's log.
    absent_in: BTreeMap<String, Vec<String>>,
    /// A part of the pod's status; null stands for what is not there.
    status: Value,
    conditions: BTreeMap<String, String>,
    /// The reason of an event.
    event: Option<String>,
    /// The pod is refused, with these texts.
    rejected: Vec<String>,
}

pub(crate) fn parse(text: &str) -> Vec<Case> {
    text.split("\n---\n")
        .map(|case| serde_saphyr::from_str(case).unwrap_or_else(|e| panic!("{e}:\n{case}")))
        .collect()
}

impl Case {
    pub(crate) async fn run(&self, client: &Client, namespace: &str) -> anyhow::Result<()> {
        prepare(client, namespace).await?;
        for object in &self.objects {
            create(client, namespace, object.clone()).await?;
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let made = pods
            .create(&PostParams::default(), &pod(self.pod.clone())?)
            .await;
        if !self.expect.rejected.is_empty() {
            let error = made.err().context("the pod was let in")?.to_string();
            for text in &self.expect.rejected {
                ensure!(
                    error.contains(text),
                    "refused, but without {text:?}: {error}"
                );
            }
            return Ok(());
        }
        made?;
        let pod = becomes(&pods, |pod| self.expect.met(pod)).await?;
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        if let Some(reason) = &self.expect.event {
            happens(&events, reason).await?;
        }
        self.expect.check_logs(&pods, &pod).await?;
        pods.delete(POD, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Makes a namespace that is ready for pods.
pub(crate) async fn prepare(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &object)
        .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let there = |account: Option<&ServiceAccount>| account.is_some();
    tokio::time::timeout(PATIENCE, await_condition(accounts, "default", there)).await??;
    Ok(())
}

/// Creates an object of any kind.
pub(crate) async fn create(client: &Client, namespace: &str, object: Value) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.as_ref().context("an object without a kind")?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// A pod of the test's name with this spec.
pub(crate) fn pod(mut spec: Value) -> anyhow::Result<Pod> {
    for containers in ["initContainers", "containers"] {
        for container in spec[containers].as_array_mut().into_iter().flatten() {
            if container["image"].is_null() {
                container["image"] = super::IMAGE.into();
            }
        }
    }
    for (field, value) in [
        ("restartPolicy", json!("Never")),
        ("terminationGracePeriodSeconds", json!(0)),
    ] {
        if spec[field].is_null() {
            spec[field] = value;
        }
    }
    let object = json!({"metadata": {"name": POD}, "spec": spec});
    Ok(serde_json::from_value(object)?)
}

/// Waits until the pod is as a condition wants it.
pub(crate) async fn becomes(
    pods: &Api<Pod>,
    condition: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let mut last = Value::Null;
    let config = watcher::Config::default().fields(&format!("metadata.name={POD}"));
    let stream = watcher(pods.clone(), config).applied_objects();
    let mut stream = std::pin::pin!(stream);
    let waiting = async {
        while let Some(pod) = stream.try_next().await? {
            last = serde_json::to_value(&pod)?;
            if condition(&last) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let result = tokio::time::timeout(PATIENCE, waiting).await;
    match result {
        Ok(result) => result.map(|()| last),
        Err(_) => bail!("the pod stays at {}", last["status"]),
    }
}

/// Waits until a pod is ready.
pub(crate) async fn ready(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let running = tokio::time::timeout(
        PATIENCE,
        await_condition(pods.clone(), name, |pod: Option<&Pod>| {
            let conditions = pod.and_then(|p| p.status.as_ref()?.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|c| c.type_ == "Ready" && c.status == "True")
        }),
    );
    running
        .await
        .with_context(|| format!("{name} does not get ready"))??;
    Ok(())
}

/// Waits until there is an event with a reason.
async fn happens(events: &Api<Event>, reason: &str) -> anyhow::Result<()> {
    let stream = watcher(events.clone(), watcher::Config::default()).applied_objects();
    let mut stream = std::pin::pin!(stream);
    let waiting = async {
        while let Some(event) = stream.try_next().await? {
            if event.reason.as_deref() == Some(reason) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .with_context(|| format!("no event {reason}"))?
}

/// The log of a container.
pub(crate) async fn log(pods: &Api<Pod>, container: &str) -> anyhow::Result<String> {
    let params = LogParams {
        container: Some(container.to_owned()),
        ..LogParams::default()
    };
    Ok(pods.logs(POD, &params).await?)
}

impl Expect {
    fn met(&self, pod: &Value) -> bool {
        let phase = self.phase.as_deref().unwrap_or("Succeeded");
        let conditions = pod["status"]["conditions"].as_array();
        let holds = |kind: &str, status: &str| {
            conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == *kind && c["status"] == *status)
        };
        pod["status"]["phase"] == *phase
            && part(&self.status, &pod["status"])
            && self
                .conditions
                .iter()
                .all(|(kind, status)| holds(kind, status))
    }

    async fn check_logs(&self, pods: &Api<Pod>, pod: &Value) -> anyhow::Result<()> {
        if !self.log.is_empty() || !self.absent.is_empty() {
            let name = pod["spec"]["containers"][0]["name"].as_str();
            let log = log(pods, name.unwrap_or_default()).await?;
            for text in &self.log {
                let text = filled_in(text, pod);
                ensure!(log.contains(&text), "{text:?} is not in the log {log:?}");
            }
            for text in &self.absent {
                ensure!(!log.contains(text), "{text:?} is in the log {log:?}");
            }
        }
        for (container, texts) in &self.absent_in {
            let log = log(pods, container).await?;
            for text in texts {
                ensure!(!log.contains(text), "{text:?} is in the log {log:?}");
            }
        }
        Ok(())
    }
}

/// Puts the pod's values where `{/…}` stands.
fn filled_in(text: &str, pod: &Value) -> String {
    let Some((before, (pointer, after))) = text
        .split_once("{/")
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return text.to_owned();
    };
    let value = pod.pointer(&format!("/{pointer}"));
    let value = value.and_then(Value::as_str).unwrap_or("nothing");
    format!("{before}{value}{after}")
}
