//! Quotas, as `[sig-api-machinery] ResourceQuota` of upstream's conformance tests has them: admission
//! charges, the controller counts.

use crate::support::{Cluster, from, until};
use k8s_openapi::{
    api::apps::v1::ReplicaSet,
    api::core::v1::{ConfigMap, Pod, ReplicationController, ResourceQuota, Secret, Service},
    api::resource::v1::ResourceClaim,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{Value, json};

/// A quota, once its status says what it limits.
async fn quota(cluster: &Cluster, name: &str, spec: Value) -> ResourceQuota {
    let quota = json!({"metadata": {"name": name}, "spec": spec});
    cluster.create::<ResourceQuota>("default", quota).await;
    let hard = spec["hard"].clone();
    let quotas = quotas(cluster);
    let counted = until(&quotas, name, |quota| {
        let status = quota.and_then(|quota| quota.status.clone());
        let status = serde_json::to_value(status).unwrap();
        status["hard"] == hard
            && status["used"].as_object().map(|u| u.len()) == hard.as_object().map(|h| h.len())
    });
    counted.await.unwrap()
}

fn quotas(cluster: &Cluster) -> Api<ResourceQuota> {
    cluster.api("default")
}

/// Waits until so much is used of one of the quota's resources.
async fn used(cluster: &Cluster, name: &str, resource: &str, amount: &str) {
    until(&quotas(cluster), name, |quota| {
        let status = quota.and_then(|quota| quota.status.as_ref());
        let used = status.and_then(|status| status.used.as_ref()?.get(resource));
        used.is_some_and(|used| used.0 == amount)
    })
    .await;
}

async fn refusal(cluster: &Cluster, pod: Value) -> String {
    let pods = cluster.api::<Pod>("default");
    match pods.create(&PostParams::default(), &from(pod)).await {
        Err(kube::Error::Api(status)) => status.message,
        other => panic!("not refused: {other:?}"),
    }
}

fn pod(name: &str, resources: Value, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": resources},
    ]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

async fn remove(cluster: &Cluster, name: &str) {
    let pods = cluster.api::<Pod>("default");
    let params = DeleteParams::default().grace_period(0);
    pods.delete(name, &params).await.unwrap();
}

#[tokio::test]
async fn the_life_of_a_pod_is_captured() {
    let cluster = Cluster::start().await;
    let spec = json!({"hard": {"pods": "5", "cpu": "1", "memory": "500Mi",
        "requests.example.com/dongle": "3"}});
    quota(&cluster, "q", spec).await;
    let asks = json!({"requests": {"cpu": "500m", "memory": "252Mi", "example.com/dongle": "2"},
        "limits": {"example.com/dongle": "2"}});
    cluster
        .create::<Pod>("default", pod("a", asks, json!({})))
        .await;
    for (resource, amount) in [
        ("pods", "1"),
        ("cpu", "500m"),
        ("memory", "252Mi"),
        ("requests.example.com/dongle", "2"),
    ] {
        used(&cluster, "q", resource, amount).await;
    }
    let much = json!({"requests": {"cpu": "600m", "memory": "100Mi"}});
    assert_eq!(
        refusal(&cluster, pod("b", much, json!({}))).await,
        "pods \"b\" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1"
    );
    // A pod cannot change what it asks for.
    let pods = cluster.api::<Pod>("default");
    let change =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}});
    let change = Patch::Strategic(change);
    let by = PatchParams::default();
    assert!(pods.patch("a", &by, &change).await.is_err());
    used(&cluster, "q", "cpu", "500m").await;
    remove(&cluster, "a").await;
    for resource in ["pods", "cpu", "memory"] {
        used(&cluster, "q", resource, "0").await;
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn claims_to_devices_are_counted_by_class_and_given_back() {
    const GPUS: &str = "gpu.deviceclass.resource.k8s.io/devices";
    let cluster = Cluster::start().await;
    let claim = json!({"metadata": {"name": "a"}, "spec": {"devices": {"requests": [
        {"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}},
    ]}}});
    cluster.create::<ResourceClaim>("default", claim).await;
    // What was there before the quota.
    quota(&cluster, "q", json!({"hard": {GPUS: "4"}})).await;
    used(&cluster, "q", GPUS, "2").await;
    let claims = cluster.api::<ResourceClaim>("default");
    let params = DeleteParams::default();
    claims.delete("a", &params).await.unwrap();
    used(&cluster, "q", GPUS, "0").await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_pod_that_ended_gives_back_all_but_its_place() {
    let cluster = Cluster::start().await;
    quota(
        &cluster,
        "q",
        json!({"hard": {"pods": "1", "count/pods": "5"}}),
    )
    .await;
    cluster
        .create::<Pod>("default", pod("a", json!({}), json!({})))
        .await;
    used(&cluster, "q", "pods", "1").await;
    let pods = cluster.api::<Pod>("default");
    let status = json!({"status": {"phase": "Succeeded"}});
    pods.patch_status("a", &PatchParams::default(), &Patch::Strategic(status))
        .await
        .unwrap();
    used(&cluster, "q", "pods", "0").await;
    used(&cluster, "q", "count/pods", "1").await;
    cluster.shut_down().await;
}

/// Makes an object of which the quota counts so many, and takes it away again.
async fn counted<K>(cluster: &Cluster, resource: &str, before: &str, after: &str, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + k8s_openapi::serde::Serialize
        + k8s_openapi::serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    used(cluster, "q", resource, before).await;
    let made = cluster.create::<K>("default", object).await;
    used(cluster, "q", resource, after).await;
    let name = made.meta().name.clone().unwrap();
    let params = DeleteParams::background();
    cluster
        .api::<K>("default")
        .delete(&name, &params)
        .await
        .unwrap();
    used(cluster, "q", resource, before).await;
}

#[tokio::test]
async fn the_lives_of_other_objects_are_captured() {
    let cluster = Cluster::start().await;
    // Others than the test's may come in between.
    let maps = cluster.api::<ConfigMap>("default");
    until(&maps, "kube-root-ca.crt", |map| map.is_some()).await;
    let hard = json!({"configmaps": "9", "secrets": "9", "services": "9",
        "services.nodeports": "9", "services.loadbalancers": "9", "replicationcontrollers": "9",
        "count/replicasets.apps": "9", "resourcequotas": "9"});
    quota(&cluster, "q", json!({"hard": hard})).await;
    used(&cluster, "q", "resourcequotas", "1").await;
    let named = |name: &str| json!({"metadata": {"name": name}});
    counted::<ConfigMap>(&cluster, "configmaps", "1", "2", named("m")).await;
    counted::<Secret>(&cluster, "secrets", "0", "1", named("s")).await;
    let service = json!({"metadata": {"name": "s"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    counted::<Service>(&cluster, "services.nodeports", "0", "1", service.clone()).await;
    counted::<Service>(
        &cluster,
        "services.loadbalancers",
        "0",
        "1",
        service.clone(),
    )
    .await;
    let services = cluster
        .api::<Service>("default")
        .list(&ListParams::default())
        .await;
    let there = services.unwrap().items.len();
    let (before, after) = (there.to_string(), (there + 1).to_string());
    counted::<Service>(&cluster, "services", &before, &after, service).await;
    let template = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let controller = json!({"metadata": {"name": "rc"},
        "spec": {"replicas": 0, "selector": {"a": "b"}, "template": template}});
    counted::<ReplicationController>(&cluster, "replicationcontrollers", "0", "1", controller)
        .await;
    let set = json!({"metadata": {"name": "rs"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    counted::<ReplicaSet>(&cluster, "count/replicasets.apps", "0", "1", set).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn what_is_not_served_any_more_keeps_nothing_else_from_being_counted() {
    let cluster = Cluster::start().await;
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let name = "widgets.example.com";
    let definition = json!({
        "metadata": {"name": name},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    definitions
        .create(&PostParams::default(), &from(definition))
        .await
        .unwrap();
    let established = await_condition(definitions.clone(), name, is_crd_established());
    established.await.unwrap();
    let hard = json!({"pods": "5", "count/widgets.example.com": "5"});
    quota(&cluster, "q", json!({"hard": hard})).await;
    definitions
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    until(&definitions, name, |definition| definition.is_none()).await;
    for name in ["a", "b"] {
        cluster
            .create::<Pod>("default", pod(name, json!({}), json!({})))
            .await;
        used(&cluster, "q", "pods", "1").await;
        remove(&cluster, name).await;
        used(&cluster, "q", "pods", "0").await;
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn scopes_tell_best_effort_and_terminating_pods_from_others() {
    let cluster = Cluster::start().await;
    for scope in [
        "BestEffort",
        "NotBestEffort",
        "Terminating",
        "NotTerminating",
    ] {
        let name = scope.to_lowercase();
        quota(
            &cluster,
            &name,
            json!({"hard": {"pods": "5"}, "scopes": [scope]}),
        )
        .await;
    }
    let some = json!({"requests": {"cpu": "1"}});
    let plain = pod("a", json!({}), json!({}));
    cluster.create::<Pod>("default", plain).await;
    let ends = json!({"activeDeadlineSeconds": 3600});
    cluster.create::<Pod>("default", pod("b", some, ends)).await;
    for name in [
        "besteffort",
        "notbesteffort",
        "terminating",
        "notterminating",
    ] {
        used(&cluster, name, "pods", "1").await;
    }
    remove(&cluster, "a").await;
    for (name, amount) in [
        ("besteffort", "0"),
        ("notbesteffort", "1"),
        ("terminating", "1"),
        ("notterminating", "0"),
    ] {
        used(&cluster, name, "pods", amount).await;
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_quota_is_changed_and_deleted() {
    let cluster = Cluster::start().await;
    quota(
        &cluster,
        "q",
        json!({"hard": {"cpu": "1", "memory": "500Mi"}}),
    )
    .await;
    let api = quotas(&cluster);
    let change = json!({"spec": {"hard": {"cpu": "2", "memory": "1Gi"}}});
    let params = PatchParams::default();
    api.patch("q", &params, &Patch::Merge(change))
        .await
        .unwrap();
    until(&api, "q", |quota| {
        let status = quota.and_then(|quota| quota.status.as_ref());
        let hard = status.and_then(|status| status.hard.as_ref());
        hard.is_some_and(|hard| hard["cpu"].0 == "2" && hard["memory"].0 == "1Gi")
    })
    .await;
    // Its status is a resource of its own.
    let status = json!({"status": {"hard": {"cpu": "3", "memory": "1Gi"}}});
    let patched = api.patch_status("q", &params, &Patch::Merge(status)).await;
    assert_eq!(patched.unwrap().status.unwrap().hard.unwrap()["cpu"].0, "3");
    assert_eq!(
        api.get("q").await.unwrap().spec.unwrap().hard.unwrap()["cpu"].0,
        "2"
    );
    let labelled = json!({"metadata": {"labels": {"e2e": "yes"}}});
    api.patch("q", &params, &Patch::Merge(labelled))
        .await
        .unwrap();
    let selected = ListParams::default().labels("e2e=yes");
    assert_eq!(api.list(&selected).await.unwrap().items.len(), 1);
    api.delete_collection(&DeleteParams::default(), &selected)
        .await
        .unwrap();
    until(&api, "q", |quota| quota.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_deployment_stops_at_the_quota_and_goes_on_when_there_is_room() {
    let cluster = Cluster::with_kubelet().await;
    quota(&cluster, "q", json!({"hard": {"pods": "2"}})).await;
    let deployment = crate::support::deployment("web", 4, "i");
    cluster
        .create::<k8s_openapi::api::apps::v1::Deployment>("default", deployment)
        .await;
    used(&cluster, "q", "pods", "2").await;
    let pods = cluster.api::<Pod>("default");
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        2
    );
    let change = json!({"spec": {"hard": {"pods": "4"}}});
    quotas(&cluster)
        .patch("q", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    used(&cluster, "q", "pods", "4").await;
    cluster.shut_down().await;
}
