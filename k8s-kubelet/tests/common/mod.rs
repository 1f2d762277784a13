//! A node with simulated containers on a real API server, all in this process.

#![allow(dead_code)]

mod faulty;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_kubelet::{Kubelet, KubeletBuilder, KubeletService};
use k8s_openapi::api::core::v1::{Event, Pod, ServiceAccount};
use k8s_runtime::sim::{SimImages, SimOptions, SimRuntime};
use kube::{Api, Client, api::PostParams, runtime::wait::await_condition};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) use self::faulty::Faulty;

pub(crate) const NODE: &str = "node-1";
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<SimRuntime>,
    /// What the kubelet has of it.
    pub(crate) faulty: Arc<Faulty>,
    pub(crate) service: KubeletService,
    pub(crate) dir: tempfile::TempDir,
    server: ApiServer,
    stop: CancellationToken,
    kubelet: Option<JoinHandle<Result<(), k8s_kubelet::Error>>>,
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(|b| b).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(KubeletBuilder) -> KubeletBuilder,
    ) -> Result<Self> {
        let server = ApiServer::builder().build().await?;
        let client = server.client(Identity::user("admin").group("system:masters"));
        let runtime = Arc::new(SimRuntime::new(SimOptions::new("10.1.0.0/24".parse()?))?);
        let dir = tempfile::tempdir()?;
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        match accounts.create(&PostParams::default(), &account).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other?),
        }
        let stop = CancellationToken::new();
        let faulty = Arc::new(Faulty::new(runtime.clone()));
        let images = runtime.images();
        let (service, kubelet) = start(&server, (&faulty, images), &dir, &stop, change)?;
        Ok(Self {
            client,
            runtime,
            faulty,
            service,
            dir,
            server,
            stop,
            kubelet: Some(kubelet),
        })
    }

    /// Stops the kubelet and starts another one in its place.
    pub(crate) async fn restart_kubelet(&mut self) -> Result<()> {
        self.stop_kubelet().await?;
        self.stop = CancellationToken::new();
        let runtime = (&self.faulty, self.runtime.images());
        let (service, kubelet) = start(&self.server, runtime, &self.dir, &self.stop, |b| b)?;
        (self.service, self.kubelet) = (service, Some(kubelet));
        Ok(())
    }

    pub(crate) async fn stop_kubelet(&mut self) -> Result<()> {
        self.stop.cancel();
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.await??;
        }
        Ok(())
    }

    /// Asks the kubelet's server; the status and the body of its answer.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let request = http::Request::builder().method(method).uri(path).body(())?;
        let answer = self.service.clone().oneshot(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8(body.to_vec())?))
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod that is bound to the node.
    pub(crate) async fn run(&self, name: &str, spec: Value) -> Result<Pod> {
        self.run_annotated(name, spec, json!({})).await
    }

    pub(crate) async fn run_annotated(
        &self,
        name: &str,
        mut spec: Value,
        annotations: Value,
    ) -> Result<Pod> {
        spec["nodeName"] = json!(NODE);
        if spec.get("automountServiceAccountToken").is_none() {
            spec["automountServiceAccountToken"] = json!(false);
        }
        let pod = json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec});
        Ok(self
            .pods()
            .create(&PostParams::default(), &serde_json::from_value(pod)?)
            .await?)
    }

    /// Waits until the pod is as wanted.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&Pod) -> bool,
    ) -> Result<Pod> {
        let condition = move |pod: Option<&Pod>| pod.is_some_and(&wanted);
        match tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, condition)).await {
            Ok(pod) => pod?.context("no pod"),
            Err(_) => {
                let pod = self.pods().get_opt(name).await?;
                let events = self.events(name).await?;
                bail!(
                    "waited for {what} in vain: {}\nevents: {events:#?}",
                    serde_json::to_string_pretty(&pod)?
                )
            }
        }
    }

    pub(crate) async fn until_gone(&self, name: &str) -> Result<()> {
        let gone = await_condition(self.pods(), name, |pod: Option<&Pod>| pod.is_none());
        tokio::time::timeout(PATIENCE, gone)
            .await
            .context("still there")??;
        Ok(())
    }

    /// Reasons and messages of a pod's events, in order.
    pub(crate) async fn events(&self, pod: &str) -> Result<Vec<String>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let list = api.list(&Default::default()).await?;
        let about = list
            .items
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(pod));
        let mut events: Vec<Event> = about.collect();
        events.sort_by_key(|e| e.metadata.name.clone());
        Ok(events
            .into_iter()
            .map(|e| {
                format!(
                    "{}: {}",
                    e.reason.unwrap_or_default(),
                    e.message.unwrap_or_default()
                )
            })
            .collect())
    }

    /// Waits until an event with this text has been written.
    pub(crate) async fn until_event(&self, pod: &str, text: &str) -> Result<()> {
        let wait = async {
            loop {
                if self.events(pod).await?.iter().any(|e| e.contains(text)) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(done) => done,
            Err(_) => bail!("no event {text:?} among {:#?}", self.events(pod).await?),
        }
    }
}

fn start(
    server: &ApiServer,
    (runtime, images): (&Arc<Faulty>, Arc<SimImages>),
    dir: &tempfile::TempDir,
    stop: &CancellationToken,
    change: impl FnOnce(KubeletBuilder) -> KubeletBuilder,
) -> Result<(KubeletService, JoinHandle<Result<(), k8s_kubelet::Error>>)> {
    let identity = Identity::user(format!("system:node:{NODE}")).group("system:nodes");
    let builder = Kubelet::builder(server.client(identity), runtime.clone(), images)
        .node_name(NODE)
        .node_ip("192.168.7.1".parse()?)
        .root_dir(dir.path().join("kubelet"))
        .capacity("4", "8Gi", 110);
    let kubelet = change(builder).build()?;
    let service = kubelet.service();
    Ok((service, tokio::spawn(kubelet.run(stop.clone()))))
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.abort();
        }
    }
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> &'a str {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .find(|c| c.type_ == type_)
        .map_or("", |c| c.status.as_str())
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == "True"
}

pub(crate) fn waiting_reason(pod: &Pod) -> &str {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_deref())
        .unwrap_or_default();
    let waiting = statuses
        .first()
        .and_then(|s| s.state.as_ref())
        .and_then(|s| s.waiting.as_ref());
    waiting
        .and_then(|w| w.reason.as_deref())
        .unwrap_or_default()
}

pub(crate) fn container(image: &str) -> Value {
    json!({"name": "c", "image": image})
}
