//! What the demo shows, and how it finds out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Service},
};
use kube::{
    Api, Client, ResourceExt,
    api::{
        AttachParams, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch,
        PatchParams, PostParams,
    },
    discovery::{Discovery, Scope},
    runtime::wait::{Condition, await_condition, conditions},
};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::{cluster::Cluster, traffic};

const NAMESPACE: &str = "demo";
const REPLICAS: usize = 3;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The table at the end.
#[derive(Default)]
pub(crate) struct Proofs(Vec<(String, Result<String, String>)>);

impl Proofs {
    fn add(&mut self, what: &str, result: anyhow::Result<String>) {
        self.0
            .push((what.to_owned(), result.map_err(|e| format!("{e:#}"))));
    }

    pub(crate) fn all_hold(&self) -> bool {
        self.0.iter().all(|(_, result)| result.is_ok())
    }
}

impl fmt::Display for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        for (what, result) in &self.0 {
            let (mark, text) = match result {
                Ok(text) => ("ok  ", text),
                Err(text) => ("FAIL", text),
            };
            let mut lines = text.lines();
            writeln!(
                f,
                "{mark}  {what:width$}  {}",
                lines.next().unwrap_or_default()
            )?;
            for line in lines {
                writeln!(f, "      {:width$}  {line}", "")?;
            }
        }
        Ok(())
    }
}

/// The things that most proofs look at.
struct Scene<'a> {
    cluster: &'a Cluster,
    client: Client,
    pods: Api<Pod>,
    deployments: Api<Deployment>,
    progress: &'a ProgressBar,
}

pub(crate) async fn gather(
    cluster: &Cluster,
    manifest: &Path,
    progress: &ProgressBar,
) -> anyhow::Result<Proofs> {
    let client = cluster.client().await?;
    let scene = Scene {
        cluster,
        pods: Api::namespaced(client.clone(), NAMESPACE),
        deployments: Api::namespaced(client.clone(), NAMESPACE),
        client,
        progress,
    };
    let mut proofs = Proofs::default();
    let started = Instant::now();
    scene.say("applying the manifest");
    scene.apply(manifest).await?;
    scene.rolled_out("rolling out").await?;
    proofs.add("pods Running and Ready", scene.pods_ready(started).await);
    proofs.add("runc containers behind them", scene.containers().await);
    let cluster_ip = scene.cluster_ip().await?;
    proofs.add("HTTP through the ClusterIP", scene.http(cluster_ip).await);
    proofs.add("HTTP through the NodePort", scene.node_port().await);
    proofs.add("HTTP by DNS name from a pod", scene.by_name().await);
    proofs.add("logs", scene.logs().await);
    proofs.add("exec", scene.exec_hostname().await);
    scene.say("killing a container");
    proofs.add(
        "a killed container is restarted",
        scene.kill_container().await,
    );
    scene.say("deleting a pod");
    proofs.add("a deleted pod is replaced", scene.delete_pod().await);
    scene.say("rolling update under load");
    proofs.add(
        "rolling update, no failed request",
        scene.rolling_update(cluster_ip).await,
    );
    Ok(proofs)
}

impl Scene<'_> {
    fn say(&self, what: &str) {
        self.progress.set_message(what.to_owned());
    }

    /// Creates what the manifest has, each document as what its kind is served as.
    async fn apply(&self, manifest: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let discovery = Discovery::new(self.client.clone()).run().await?;
        let objects: Vec<DynamicObject> =
            serde_saphyr::from_multiple(&text).context("the manifest is no Kubernetes manifest")?;
        for object in objects {
            let types = object.types.as_ref().context("a document has no kind")?;
            let kind = GroupVersionKind::try_from(types)?;
            let (resource, capabilities) = discovery
                .resolve_gvk(&kind)
                .with_context(|| format!("{} is not served", types.kind))?;
            let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
                (Scope::Namespaced, Some(namespace)) => {
                    Api::namespaced_with(self.client.clone(), &namespace, &resource)
                }
                _ => Api::all_with(self.client.clone(), &resource),
            };
            api.create(&PostParams::default(), &object)
                .await
                .with_context(|| format!("cannot create {} {}", types.kind, object.name_any()))?;
        }
        Ok(())
    }

    async fn ready_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let pods = self
            .pods
            .list(&ListParams::default().labels("app=web"))
            .await?;
        Ok(pods
            .items
            .into_iter()
            .filter(|p| p.metadata.deletion_timestamp.is_none() && is_ready(p))
            .collect())
    }

    async fn a_pod(&self) -> anyhow::Result<Pod> {
        self.ready_pods()
            .await?
            .into_iter()
            .next()
            .context("no pod is ready")
    }

    /// Waits until the newest version of the Deployment is all there is.
    async fn rolled_out(&self, what: &str) -> anyhow::Result<()> {
        let condition = |deployment: Option<&Deployment>| {
            let Some(deployment) = deployment else {
                return false;
            };
            let status = deployment.status.clone().unwrap_or_default();
            let want = i32::try_from(REPLICAS).unwrap_or(i32::MAX);
            self.progress.set_message(format!(
                "{what}: {} of {want} ready",
                status.ready_replicas.unwrap_or(0)
            ));
            status.observed_generation >= deployment.metadata.generation
                && status.updated_replicas == Some(want)
                && status.ready_replicas == Some(want)
                && status.replicas == Some(want)
        };
        let waited = tokio::time::timeout(
            PATIENCE,
            await_condition(self.deployments.clone(), "web", condition),
        )
        .await;
        waited.with_context(|| format!("{what} took more than {PATIENCE:?}"))??;
        Ok(())
    }

    async fn pods_ready(&self, since: Instant) -> anyhow::Result<String> {
        let took = since.elapsed();
        let pods = self.ready_pods().await?;
        if pods.len() != REPLICAS {
            bail!("{} of {REPLICAS}", pods.len());
        }
        let lines: Vec<String> = pods
            .iter()
            .map(|p| format!("{}  {}", p.name_any(), pod_ip(p)))
            .collect();
        Ok(format!(
            "{REPLICAS} in {:.2} s\n{}",
            took.as_secs_f64(),
            lines.join("\n")
        ))
    }

    /// The process of each pod's container, which the kernel must have.
    async fn containers(&self) -> anyhow::Result<String> {
        let running = runc_list(&self.cluster.data_dir())?;
        let mut lines = Vec::new();
        for pod in self.ready_pods().await? {
            let id = container_id(&pod).context("a ready pod has no container ID")?;
            let pid = running
                .iter()
                .find(|c| c.id == id)
                .with_context(|| format!("runc does not know the container of {}", pod.name_any()))?
                .pid;
            lines.push(format!("{}  pid {pid}", &id[..id.len().min(12)]));
        }
        Ok(lines.join("\n"))
    }

    async fn cluster_ip(&self) -> anyhow::Result<SocketAddr> {
        let service: Service = Api::namespaced(self.client.clone(), NAMESPACE)
            .get("web")
            .await?;
        let ip: IpAddr = service
            .spec
            .and_then(|s| s.cluster_ip)
            .context("the Service has no cluster IP")?
            .parse()?;
        Ok(SocketAddr::new(ip, 80))
    }

    async fn http(&self, address: SocketAddr) -> anyhow::Result<String> {
        // Readiness and the rules that follow from it are a moment apart.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match traffic::get(address).await {
                Ok(body) => return Ok(format!("{address}: {body:?}")),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn node_port(&self) -> anyhow::Result<String> {
        let nodes: Vec<Node> = Api::all(self.client.clone())
            .list(&ListParams::default())
            .await?
            .items;
        let ip: IpAddr = nodes
            .iter()
            .flat_map(|n| n.status.iter().flat_map(|s| s.addresses.iter().flatten()))
            .find(|a| a.type_ == "InternalIP")
            .context("the node has no address")?
            .address
            .parse()?;
        let service: Service = Api::namespaced(self.client.clone(), NAMESPACE)
            .get("web-node-port")
            .await?;
        let port = service
            .spec
            .and_then(|s| s.ports)
            .and_then(|p| p.first().and_then(|p| p.node_port))
            .context("the Service has no node port")?;
        self.http(SocketAddr::new(ip, u16::try_from(port)?)).await
    }

    async fn exec(&self, pod: &Pod, command: &[&str]) -> anyhow::Result<String> {
        let params = AttachParams::default().stderr(false);
        let run = async {
            let mut process = self
                .pods
                .exec(&pod.name_any(), command.iter().copied(), &params)
                .await?;
            let mut output = String::new();
            if let Some(mut stdout) = process.stdout() {
                stdout.read_to_string(&mut output).await?;
            }
            let status = process.take_status().context("no status")?.await;
            process.join().await?;
            match status.and_then(|s| s.status).as_deref() {
                Some("Success") => Ok(output.trim().to_owned()),
                _ => bail!("{command:?} failed: {output}"),
            }
        };
        tokio::time::timeout(PATIENCE, run)
            .await
            .context("exec did not end")?
    }

    async fn by_name(&self) -> anyhow::Result<String> {
        let url = "http://web.demo.svc.cluster.local/index.html";
        let body = self
            .exec(&self.a_pod().await?, &["wget", "-q", "-O", "-", url])
            .await?;
        Ok(format!("web.demo.svc.cluster.local: {body:?}"))
    }

    async fn logs(&self) -> anyhow::Result<String> {
        let pod = self.a_pod().await?;
        let log = self
            .pods
            .logs(&pod.name_any(), &LogParams::default())
            .await?;
        let line = log.lines().next().context("the log is empty")?;
        if !line.contains(&pod.name_any()) {
            bail!("unexpected log line {line:?}");
        }
        Ok(format!("{line:?}"))
    }

    async fn exec_hostname(&self) -> anyhow::Result<String> {
        let pod = self.a_pod().await?;
        let name = self.exec(&pod, &["hostname"]).await?;
        if name != pod.name_any() {
            bail!("the host name of {} is {name}", pod.name_any());
        }
        Ok(format!("hostname: {name}"))
    }

    async fn wait(
        &self,
        pod: &str,
        what: &str,
        condition: impl Condition<Pod>,
    ) -> anyhow::Result<Option<Pod>> {
        let waited =
            tokio::time::timeout(PATIENCE, await_condition(self.pods.clone(), pod, condition))
                .await;
        Ok(waited.with_context(|| format!("{what} took more than {PATIENCE:?}"))??)
    }

    async fn kill_container(&self) -> anyhow::Result<String> {
        let pod = self.a_pod().await?;
        let id = container_id(&pod).context("no container ID")?;
        let running = runc_list(&self.cluster.data_dir())?;
        let pid = running
            .iter()
            .find(|c| c.id == id)
            .context("runc does not know the container")?
            .pid;
        let before = restarts(&pod);
        let started = Instant::now();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        )?;
        let restarted =
            move |pod: Option<&Pod>| pod.is_some_and(|p| restarts(p) > before && is_ready(p));
        self.wait(&pod.name_any(), "the restart", restarted).await?;
        Ok(format!(
            "{} Ready again after {:.2} s",
            pod.name_any(),
            started.elapsed().as_secs_f64()
        ))
    }

    async fn delete_pod(&self) -> anyhow::Result<String> {
        let before: Vec<String> = self
            .ready_pods()
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        let pod = self.a_pod().await?;
        let started = Instant::now();
        self.pods
            .delete(&pod.name_any(), &DeleteParams::default())
            .await?;
        let uid = pod.uid().unwrap_or_default();
        self.wait(
            &pod.name_any(),
            "the deletion",
            conditions::is_deleted(&uid),
        )
        .await?;
        self.rolled_out("replacing the deleted pod").await?;
        let new = self
            .ready_pods()
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .find(|name| !before.contains(name))
            .context("no new pod")?;
        Ok(format!(
            "{new} in its place after {:.2} s",
            started.elapsed().as_secs_f64()
        ))
    }

    async fn rolling_update(&self, address: SocketAddr) -> anyhow::Result<String> {
        let load = traffic::Load::start(address);
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web", "env": [{"name": "VERSION", "value": "2"}]}
        ]}}}});
        let started = Instant::now();
        let result = async {
            self.deployments
                .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
                .await?;
            self.rolled_out("rolling update under load").await
        }
        .await;
        let took = started.elapsed();
        let (answered, failed) = load.finish().await?;
        result?;
        if let Some(first) = failed.first() {
            bail!(
                "{} of {} requests failed; the first: {first}",
                failed.len(),
                failed.len() + answered
            );
        }
        Ok(format!(
            "{answered} requests answered in {:.1} s",
            took.as_secs_f64()
        ))
    }
}

fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|s| s.restart_count).sum()
}

fn pod_ip(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.pod_ip.as_deref())
        .unwrap_or("no address")
}

fn container_id(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(
        status
            .container_id
            .as_deref()?
            .split_once("://")?
            .1
            .to_owned(),
    )
}

/// A container as runc lists it.
#[derive(Deserialize)]
struct Listed {
    id: String,
    pid: i32,
}

/// The containers of the cluster, as runc itself tells.
fn runc_list(data_dir: &Path) -> anyhow::Result<Vec<Listed>> {
    let root = examples::cluster::runc_root(data_dir, 0);
    let output = Command::new("runc")
        .arg("--root")
        .arg(root)
        .args(["list", "--format", "json"])
        .output()?;
    if !output.status.success() {
        bail!(
            "runc list failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(serde_json::from_slice::<Option<Vec<Listed>>>(&output.stdout)?.unwrap_or_default())
}
