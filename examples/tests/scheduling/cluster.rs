//! A cluster in this process: there is no node agent, nodes are objects.

use std::{sync::Arc, time::Duration};

use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_scheduler::{Driver, DriverConfig, Metrics, Profile, Profiles, plugins::GangScheduling};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::wait::{Condition, await_condition},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// An API server, a scheduler and two nodes.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) metrics: Arc<Metrics>,
    _server: ApiServer,
    _stop: tokio_util::sync::DropGuard,
}

impl Cluster {
    /// Two nodes, of 2 CPUs each.
    pub(crate) async fn up() -> Self {
        let profile = Profile::default().with_permit(Arc::new(GangScheduling::default()));
        Self::with(profile, DriverConfig::default()).await
    }

    /// The same, with a scheduler of one's own.
    pub(crate) async fn with(profile: impl Into<Profiles>, config: DriverConfig) -> Self {
        let server = ApiServer::builder()
            .build()
            .await
            .expect("a server in memory needs nothing");
        let client = server.client(Identity::system_masters());
        let account: ServiceAccount = from(json!({"metadata": {"name": "default"}}));
        let accounts = Api::<ServiceAccount>::default_namespaced(client.clone());
        accounts
            .create(&PostParams::default(), &account)
            .await
            .expect("an account");
        let stop = CancellationToken::new();
        let scheduler = server.client(Identity::user("system:kube-scheduler"));
        let driver = Driver::new(scheduler, profile, config);
        let metrics = driver.metrics();
        tokio::spawn(driver.run(stop.clone()));
        let cluster = Self {
            client,
            metrics,
            _server: server,
            _stop: stop.drop_guard(),
        };
        for name in ["one", "two"] {
            cluster.node(name).await;
        }
        cluster
    }

    pub(crate) async fn node(&self, name: &str) {
        let node: Node = from(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
                       "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"}},
        }));
        let nodes = Api::<Node>::all(self.client.clone());
        nodes
            .create(&PostParams::default(), &node)
            .await
            .expect("a node");
        // A new node is tainted as not ready; whoever watches over nodes would take that away.
        let ready = Patch::Merge(json!({"spec": {"taints": null}}));
        nodes
            .patch(name, &PatchParams::default(), &ready)
            .await
            .expect("no taint");
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) async fn pod(&self, name: &str, spec: Value) {
        let mut pod = json!({
            "metadata": {"name": name, "labels": spec["labels"]},
            "spec": {"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                     "containers": [{"name": "c", "image": "example.com/pause"}]},
        });
        for (key, value) in spec
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| *k != "labels")
        {
            pod["spec"][key] = value.clone();
        }
        self.pods()
            .create(&PostParams::default(), &from(pod))
            .await
            .expect("a pod");
    }

    pub(crate) async fn wait(&self, name: &str, condition: impl Condition<Pod>) -> Option<Pod> {
        let waiting = await_condition(self.pods(), name, condition);
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        waited
            .unwrap_or_else(|_| panic!("{name} in time"))
            .expect("a watch")
    }

    /// The node that a pod gets.
    pub(crate) async fn place_of(&self, name: &str) -> String {
        let pod = self
            .wait(name, |pod: Option<&Pod>| node_of(pod).is_some())
            .await;
        node_of(pod.as_ref()).expect("it has a node")
    }

    /// What the pod's condition says of why it has no node.
    pub(crate) async fn refusal_of(&self, name: &str) -> String {
        let pod = self
            .wait(name, |pod: Option<&Pod>| refusal(pod).is_some())
            .await;
        refusal(pod.as_ref()).expect("it has a condition")
    }
}

pub(crate) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it is well formed")
}

pub(crate) fn node_of(pod: Option<&Pod>) -> Option<String> {
    pod?.spec.as_ref()?.node_name.clone()
}

pub(crate) fn refusal(pod: Option<&Pod>) -> Option<String> {
    let conditions = pod?.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    scheduled.message.clone()
}

pub(crate) fn cpu(amount: &str) -> Value {
    json!([{"name": "c", "image": "example.com/pause", "resources": {"requests": {"cpu": amount}}}])
}
