//! What ResourceQuotas count and refuse.

use serde_json::{Value, json};

use crate::{
    Entry,
    fixture::Fixture,
    rest::{Rest, STRATEGIC},
    support::part,
};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated.",
        the_status_is_calculated,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap.",
        config_maps_are_counted,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret.",
        secrets_are_counted,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set.",
        replica_sets_are_counted,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller.",
        replication_controllers_are_counted,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service.",
        services_are_counted_by_type,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod.",
        pods_are_counted_with_what_they_request,
    ),
    (
        "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes.",
        scopes_tell_pods_with_a_deadline,
    ),
    (
        "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope.",
        scopes_tell_pods_without_requests,
    ),
    (
        "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota.",
        a_quota_is_updated_and_deleted,
    ),
    (
        "[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota",
        quotas_are_listed_patched_and_deleted_together,
    ),
    (
        "[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status",
        the_status_is_changed_by_itself,
    ),
];

const NAMESPACE: &str = "/api/v1/namespaces/default";
const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const EXTENDED: &str = "requests.example.com/dongle";

fn at(name: &str) -> String {
    format!("{QUOTAS}/{name}")
}

fn quota(name: &str, hard: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard}})
}

/// One of everything that is counted.
fn everything() -> Value {
    json!({
        "pods": "5", "services": "10", "services.nodeports": "1", "services.loadbalancers": "1",
        "replicationcontrollers": "10", "resourcequotas": "1", "cpu": "1", "memory": "500Mi",
        "configmaps": "10", "secrets": "10", "persistentvolumeclaims": "10",
        "requests.storage": "10Gi", "ephemeral-storage": "50Gi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
        "gold.storageclass.storage.k8s.io/requests.storage": "10Gi",
        "count/replicasets.apps": "5", EXTENDED: "3",
    })
}

/// Makes the quota of everything, and waits until all of it is calculated.
async fn everything_is_counted(api: &Rest) {
    api.create(QUOTAS, quota("all", &everything())).await;
    let mut wanted = nothing_of(&everything());
    // The certificate authority's, the Service of the API, and the quota itself.
    for key in ["configmaps", "services", "resourcequotas"] {
        wanted[key] = "1".into();
    }
    used(api, "all", wanted).await;
}

/// The same resources, and none of them.
fn nothing_of(hard: &Value) -> Value {
    let keys = hard.as_object().expect("a map").keys();
    keys.map(|key| (key.clone(), json!("0"))).collect()
}

/// Waits until a quota says that so much is used, and all its hard limits.
async fn used(api: &Rest, name: &str, used: Value) {
    api.until(&at(name), |quota| {
        part(&used, &quota["status"]["used"]) && quota["status"]["hard"] == quota["spec"]["hard"]
    })
    .await;
}

/// Sees an object counted when it is made, and no more when it is deleted.
async fn is_counted(path: &str, object: Value, key: &str, before: usize) {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    everything_is_counted(api).await;
    let count = |count: usize| json!({key: count.to_string()});
    used(api, "all", count(before)).await;
    api.create(path, object).await;
    used(api, "all", count(before + 1)).await;
    api.delete_now(&format!("{path}/it")).await;
    used(api, "all", count(before)).await;
}

#[tokio::test]
async fn the_status_is_calculated() {
    let cluster = Fixture::server().await;
    everything_is_counted(&cluster.api).await;
}

#[tokio::test]
async fn config_maps_are_counted() {
    let map = json!({"metadata": {"name": "it"}, "data": {"a": "b"}});
    is_counted(&format!("{NAMESPACE}/configmaps"), map, "configmaps", 1).await;
}

#[tokio::test]
async fn secrets_are_counted() {
    let secret = json!({"metadata": {"name": "it"}, "data": {"a": "dmFsdWU="}});
    is_counted(&format!("{NAMESPACE}/secrets"), secret, "secrets", 0).await;
}

fn replicas(selector: Value) -> Value {
    json!({"metadata": {"name": "it"}, "spec": {"replicas": 0, "selector": selector, "template": {
        "metadata": {"labels": {"app": "it"}},
        "spec": {"containers": [{"name": "c", "image": "example.com/web:1"}]},
    }}})
}

#[tokio::test]
async fn replica_sets_are_counted() {
    let set = replicas(json!({"matchLabels": {"app": "it"}}));
    let path = "/apis/apps/v1/namespaces/default/replicasets";
    is_counted(path, set, "count/replicasets.apps", 0).await;
}

#[tokio::test]
async fn replication_controllers_are_counted() {
    let controller = replicas(json!({"app": "it"}));
    let path = format!("{NAMESPACE}/replicationcontrollers");
    is_counted(&path, controller, "replicationcontrollers", 0).await;
}

#[tokio::test]
async fn services_are_counted_by_type() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let services = format!("{NAMESPACE}/services");
    let service = |name: &str, kind: &str| {
        json!({
            "metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]},
        })
    };
    let counts = |services: usize, ports: usize, balancers: usize| {
        json!({
            "services": services.to_string(), "services.nodeports": ports.to_string(),
            "services.loadbalancers": balancers.to_string(),
        })
    };
    everything_is_counted(api).await;
    api.create(&services, service("cluster", "ClusterIP")).await;
    api.create(&services, service("port", "NodePort")).await;
    used(api, "all", counts(3, 1, 0)).await;
    let status = api
        .refused("POST", &services, service("balancer", "LoadBalancer"))
        .await;
    assert_eq!(status["code"], 403);
    let message = status["message"].as_str().expect("a message");
    for part in [
        "exceeded quota: all",
        "requested: services.nodeports=1",
        "limited: services.nodeports=1",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let mut balancer = service("balancer", "LoadBalancer");
    balancer["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    api.create(&services, balancer).await;
    used(api, "all", counts(4, 1, 1)).await;
    for name in ["cluster", "port", "balancer"] {
        api.delete(&format!("{services}/{name}")).await;
    }
    used(api, "all", counts(1, 0, 0)).await;
}

/// A pod that fits no node.
fn pod(name: &str, requests: Value, limits: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "nodeSelector": {"no": "node"},
        "containers": [{
            "name": "c", "image": "example.com/web:1",
            "resources": {"requests": requests, "limits": limits},
        }],
    }})
}

#[tokio::test]
async fn pods_are_counted_with_what_they_request() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    everything_is_counted(api).await;
    let dongles = json!({"example.com/dongle": "2"});
    let requests = |cpu: &str, memory: &str| {
        json!({
            "cpu": cpu, "memory": memory, "ephemeral-storage": "30Gi", "example.com/dongle": "2",
        })
    };
    let mut made = api
        .create(PODS, pod("it", requests("500m", "252Mi"), dongles.clone()))
        .await;
    let counted = json!({
        "pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", EXTENDED: "2",
    });
    used(api, "all", counted.clone()).await;

    let greedy = json!({"cpu": "600m", "memory": "100Mi"});
    for pod in [
        pod("greedy", greedy, json!({})),
        pod("dongles", requests("500m", "100Mi"), dongles),
    ] {
        let status = api.refused("POST", PODS, pod).await;
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&json!(403), &json!("Forbidden"))
        );
        let message = status["message"].as_str().expect("a message");
        assert!(
            message.contains("exceeded quota: all, requested: "),
            "{message}"
        );
    }
    let resources = &mut made["spec"]["containers"][0]["resources"];
    resources["requests"] = json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "10Gi"});
    // Whoever writes its status meanwhile is no concern of this.
    made["metadata"]["resourceVersion"].take();
    let status = api.refused("PUT", &format!("{PODS}/it"), made).await;
    assert_eq!(status["code"], 422);
    used(api, "all", counted.clone()).await;

    api.delete_now(&format!("{PODS}/it")).await;
    used(api, "all", nothing_of(&counted)).await;
}

async fn scoped(api: &Rest, name: &str, scope: &str, hard: Value) {
    let mut quota = quota(name, &hard);
    quota["spec"]["scopes"] = json!([scope]);
    api.create(QUOTAS, quota).await;
    used(api, name, nothing_of(&hard)).await;
}

/// Makes a pod that the first quota counts and the second does not, and deletes it.
async fn is_counted_by_one(api: &Rest, pod: Value, yes: &str, no: &str, counted: Value) {
    let nothing = nothing_of(&counted);
    let path = format!(
        "{PODS}/{}",
        pod["metadata"]["name"].as_str().expect("a name")
    );
    api.create(PODS, pod).await;
    used(api, yes, counted).await;
    used(api, no, nothing.clone()).await;
    api.delete_now(&path).await;
    used(api, yes, nothing).await;
}

#[tokio::test]
async fn scopes_tell_pods_with_a_deadline() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let hard = json!({
        "pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2",
        "limits.memory": "1Gi",
    });
    scoped(api, "ends", "Terminating", hard.clone()).await;
    scoped(api, "stays", "NotTerminating", hard).await;
    let counted = json!({
        "pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1",
        "limits.memory": "400Mi",
    });
    let requests = json!({"cpu": "500m", "memory": "200Mi"});
    let mut pod = pod("it", requests, json!({"cpu": "1", "memory": "400Mi"}));
    is_counted_by_one(api, pod.clone(), "stays", "ends", counted.clone()).await;
    pod["spec"]["activeDeadlineSeconds"] = 3600.into();
    is_counted_by_one(api, pod, "ends", "stays", counted).await;
}

#[tokio::test]
async fn scopes_tell_pods_without_requests() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let hard = json!({"pods": "5"});
    scoped(api, "best-effort", "BestEffort", hard.clone()).await;
    scoped(api, "other", "NotBestEffort", hard).await;
    let counted = json!({"pods": "1"});
    let idle = pod("idle", json!({}), json!({}));
    is_counted_by_one(api, idle, "best-effort", "other", counted.clone()).await;
    let amount = json!({"cpu": "500m", "memory": "200Mi"});
    let busy = pod("busy", amount.clone(), amount);
    is_counted_by_one(api, busy, "other", "best-effort", counted).await;
}

#[tokio::test]
async fn a_quota_is_updated_and_deleted() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let made = api
        .create(QUOTAS, quota("it", &json!({"cpu": "1", "memory": "500Mi"})))
        .await;
    assert_eq!(made["spec"]["hard"], json!({"cpu": "1", "memory": "500Mi"}));
    let wanted = json!({"cpu": "2", "memory": "1Gi"});
    let updated = api
        .change(&at("it"), |quota| quota["spec"]["hard"] = wanted.clone())
        .await;
    assert_eq!(updated["spec"]["hard"], wanted);
    assert_eq!(api.get(&at("it")).await["spec"]["hard"], wanted);
    api.delete(&at("it")).await;
    let status = api.refused("GET", &at("it"), Value::Null).await;
    assert_eq!(status["reason"], "NotFound");
}

#[tokio::test]
async fn quotas_are_listed_patched_and_deleted_together() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let hard = json!({"cpu": "500m", "memory": "500Mi"});
    let mut object = quota("it", &hard);
    object["metadata"]["labels"] = json!({"test": "quota"});
    api.create(QUOTAS, object).await;
    api.create(QUOTAS, quota("other", &hard)).await;
    let everywhere = "/api/v1/resourcequotas?labelSelector=test%3Dquota";
    let found = api.list(everywhere).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["spec"]["hard"], hard);
    let patch = json!({
        "metadata": {"labels": {"it": "patched"}},
        "spec": {"hard": {"memory": "750Mi"}},
    });
    let patched = api.patch(&at("it"), STRATEGIC, patch).await;
    assert_eq!(patched["metadata"]["labels"]["it"], "patched");
    assert_eq!(
        patched["spec"]["hard"],
        json!({"cpu": "500m", "memory": "750Mi"})
    );
    assert_eq!(api.get(&at("it")).await["spec"], patched["spec"]);
    api.delete(&format!("{QUOTAS}?labelSelector=it%3Dpatched"))
        .await;
    assert_eq!(api.list(everywhere).await, Vec::<Value>::new());
    assert_eq!(api.list(QUOTAS).await.len(), 1, "the other stays");
}

#[tokio::test]
async fn the_status_is_changed_by_itself() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let path = at("it");
    let status = format!("{path}/status");
    let first = json!({"cpu": "500m", "memory": "500Mi"});
    let second = json!({"cpu": "1", "memory": "1Gi"});
    let third = json!({"cpu": "2", "memory": "2Gi"});
    let has = |hard: &Value| {
        let hard = hard.clone();
        move |quota: &Value| quota["status"]["hard"] == hard
    };
    api.create(QUOTAS, quota("it", &first)).await;
    api.until(&path, has(&first)).await;
    // The controller puts a status right at its next round, minutes later.
    let hard = json!({"hard": third});
    let updated = api
        .change(&status, |quota| quota["status"] = hard.clone())
        .await;
    assert_eq!(updated["status"]["hard"], third);
    assert_eq!(api.get(&path).await["status"]["hard"], third);
    let hard = json!({"hard": first});
    api.change(&status, |quota| quota["status"] = hard.clone())
        .await;
    assert_eq!(api.until(&path, has(&first)).await["spec"]["hard"], first);

    let patched = api
        .patch(&path, STRATEGIC, json!({"spec": {"hard": second}}))
        .await;
    assert_eq!(patched["spec"]["hard"], second);
    api.patch(&status, STRATEGIC, json!({"status": {"hard": second}}))
        .await;
    assert_eq!(api.until(&path, has(&second)).await["spec"]["hard"], second);
    assert_eq!(api.get(&status).await["status"]["hard"], second);

    // Only the status.
    let patch = json!({"status": {"hard": third}, "spec": {"hard": third}});
    let repatched = api.patch(&status, STRATEGIC, patch).await;
    assert_eq!(repatched["status"]["hard"], third);
    assert_eq!(repatched["spec"]["hard"], second);
    assert_eq!(api.get(&path).await["spec"]["hard"], second);
}
