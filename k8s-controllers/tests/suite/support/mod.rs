//! A control plane in this process: the real API server with the default authorization and
//! admission, all controllers under their own identities, and a kubelet that only pretends.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt;
use k8s_apiserver::{ApiServer, auth::Identity};
use k8s_controllers::{ClusterCidr, ControllerManager};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Node, Pod},
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails. No test passes because of it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    /// May do everything.
    pub(crate) client: Client,
    pub(crate) stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// The client for a controller's name.
pub(crate) fn client_for(server: &ApiServer, name: &str) -> Client {
    server.client(if name == ControllerManager::SHARED {
        Identity::user("system:kube-controller-manager").group("system:authenticated")
    } else {
        Identity::service_account("kube-system", name, "")
    })
}

impl Cluster {
    /// The API server alone.
    pub(crate) async fn bare() -> Self {
        // Shown by the test runner when a test fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let server = ApiServer::builder().build().await.unwrap();
        let client = server.client(Identity::system_masters());
        Cluster {
            server,
            client,
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// With all controllers.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::bare().await;
        let server = cluster.server.clone();
        let manager = ControllerManager::builder(move |name| client_for(&server, name))
            .root_ca("PEM")
            .cluster_cidr(ClusterCidr {
                range: "10.244.0.0/16".parse().unwrap(),
                node_mask: 24,
            })
            .build();
        let stop = cluster.stop.clone();
        cluster.tasks.spawn(async move {
            manager.run(stop).await;
        });
        // Pods need it.
        let accounts = cluster.api::<k8s_openapi::api::core::v1::ServiceAccount>("default");
        until(&accounts, "default", |account| account.is_some()).await;
        cluster
    }

    /// With all controllers and a node on which pods run.
    pub(crate) async fn with_kubelet() -> Self {
        let mut cluster = Self::start().await;
        cluster.add_node("n1", true).await;
        cluster.tasks.spawn(kubelet(cluster.client.clone()));
        cluster
    }

    pub(crate) async fn add_node(&self, name: &str, ready: bool) {
        let nodes = Api::<Node>::all(self.client.clone());
        nodes
            .create(
                &PostParams::default(),
                &from(json!({"metadata": {"name": name}})),
            )
            .await
            .unwrap();
        if ready {
            self.heartbeat(name).await;
        }
    }

    pub(crate) async fn heartbeat(&self, name: &str) {
        // Each one differs from the last in the whole seconds that the API keeps, also where the
        // clock is paused and many fit into one.
        static BEATS: std::sync::atomic::AtomicI64 =
            std::sync::atomic::AtomicI64::new(1_800_000_000);
        let second = BEATS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let now = k8s_openapi::jiff::Timestamp::from_second(second)
            .unwrap()
            .to_string();
        let status = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now},
        ]}});
        let nodes = Api::<Node>::all(self.client.clone());
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
            .await
            .unwrap();
    }

    pub(crate) async fn namespace(&self, name: &str) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .create(
                &PostParams::default(),
                &from(json!({"metadata": {"name": name}})),
            )
            .await
            .unwrap();
        let accounts = self.api::<k8s_openapi::api::core::v1::ServiceAccount>(name);
        until(&accounts, "default", |account| account.is_some()).await;
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + k8s_openapi::serde::Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        self.api::<K>(namespace)
            .create(&PostParams::default(), &from(object))
            .await
            .unwrap()
    }

    pub(crate) async fn shut_down(mut self) {
        self.stop.cancel();
        // The kubelet watches for ever.
        let left = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(500), left)
            .await
            .is_err()
        {
            self.tasks.shutdown().await;
        }
        self.server.shutdown().await;
    }
}

pub(crate) fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Waits until one object, or its absence, is as it should be.
pub(crate) async fn until<K>(
    api: &Api<K>,
    name: &str,
    condition: impl Fn(Option<&K>) -> bool + Send + Sync,
) -> Option<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = kube::runtime::watcher::watch_object(api.clone(), name);
    let mut events = std::pin::pin!(events);
    let mut last = None;
    let wait = async {
        while let Some(event) = events.next().await {
            let Ok(object) = event else { continue };
            if condition(object.as_ref()) {
                return object;
            }
            last = object;
        }
        panic!("the watch ended");
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(object) => object,
        Err(_) => panic!("waited in vain; {name} is {last:#?}"),
    }
}

/// Waits until all objects of a kind together are as they should be.
pub(crate) async fn until_all<K>(api: &Api<K>, condition: impl Fn(&[K]) -> bool) -> Vec<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(watcher::watcher(api.clone(), watcher::Config::default()));
    let mut all: std::collections::BTreeMap<String, K> = Default::default();
    let mut listed = false;
    let wait = async {
        while let Some(event) = events.next().await {
            let name = |object: &K| object.meta().name.clone().unwrap();
            match event {
                Ok(Event::Init) => all.clear(),
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    all.insert(name(&object), object);
                }
                Ok(Event::Delete(object)) => {
                    all.remove(&name(&object));
                }
                Ok(Event::InitDone) => listed = true,
                Err(_) => continue,
            }
            let now: Vec<K> = all.values().cloned().collect();
            if listed && condition(&now) {
                return now;
            }
        }
        panic!("the watch ended");
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(all) => all,
        Err(_) => panic!("waited in vain; there is {all:#?}"),
    }
}

/// Binds every pod to `n1`, says at once that it runs and is ready, and finishes its deletion.
/// A pod labelled `broken` never gets ready.
async fn kubelet(client: Client) {
    let pods = Api::<Pod>::all(client.clone());
    let mut events = std::pin::pin!(watcher::watcher(pods, watcher::Config::default()));
    let mut number = 0u32;
    while let Some(event) = events.next().await {
        let Ok(Event::InitApply(pod) | Event::Apply(pod)) = event else {
            continue;
        };
        let api =
            Api::<Pod>::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
        let name = pod.metadata.name.clone().unwrap();
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api
                .delete(&name, &DeleteParams::default().grace_period(0))
                .await;
            continue;
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase == Some("Running") {
            continue;
        }
        if pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_ref())
            .is_none()
        {
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
            });
            let binding: k8s_openapi::api::core::v1::Binding = from(binding);
            let bound: Result<Value, _> = api
                .create_subresource("binding", &name, &PostParams::default(), &binding)
                .await;
            if bound.is_err() {
                continue;
            }
        }
        number += 1;
        let ip = format!("10.244.{}.{}", number / 250, number % 250 + 1);
        let broken = pod
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key("broken"));
        let status = json!({"status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{
                "type": "Ready",
                "status": if broken { "False" } else { "True" },
                "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().to_string(),
            }],
        }});
        let _ = api
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(status))
            .await;
    }
}

/// A Deployment of so many replicas of an image.
pub(crate) fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}
