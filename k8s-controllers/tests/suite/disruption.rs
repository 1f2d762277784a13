//! Disruption budgets, as `[sig-apps] DisruptionController` of upstream's conformance tests has them, and evictions
//! that heed them.

use crate::support::{Cluster, deployment, from, until, until_all};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{ConfigMap, Event, Pod, ReplicationController},
        policy::v1::PodDisruptionBudget,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

fn budget(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn budgets(cluster: &Cluster) -> Api<PodDisruptionBudget> {
    cluster.api("default")
}

/// Waits until a budget's status has these fields, of this generation.
async fn status(cluster: &Cluster, name: &str, wanted: Value) -> Value {
    let budgets = budgets(cluster);
    let found = until(&budgets, name, |budget| {
        let Some(budget) = budget else { return false };
        let status = serde_json::to_value(&budget.status).unwrap();
        let seen = status["observedGeneration"] == json!(budget.metadata.generation);
        let same = |(key, value): (&String, &Value)| status[key] == *value;
        seen && wanted.as_object().unwrap().iter().all(same)
    });
    serde_json::to_value(found.await.unwrap().status).unwrap()
}

/// What the server says to an eviction.
async fn evict(cluster: &Cluster, pod: &str) -> Result<(), kube::core::Status> {
    let pods = cluster.api::<Pod>("default");
    match pods.evict(pod, &EvictParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("{error}"),
    }
}

async fn names(cluster: &Cluster) -> Vec<String> {
    let pods = cluster.api::<Pod>("default");
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    let staying = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying.map(|pod| pod.metadata.name.unwrap()).collect()
}

/// Waits until two pods run and are to stay.
async fn two_running(pods: &Api<Pod>) -> Vec<Pod> {
    let running = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    until_all(pods, |pods| pods.iter().filter(running).count() == 2).await
}

/// Waits for an event with this reason and message.
async fn told(cluster: &Cluster, reason: &str, message: &str) {
    let events = cluster.api::<Event>("default");
    until_all(&events, |events| {
        events.iter().any(|event| {
            let text = event.message.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some(reason) && text.contains(message)
        })
    })
    .await;
}

/// A pod of a controller, running and ready.
async fn pod_of(cluster: &Cluster, name: &str, owner: Option<Value>) {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    if let Some(owner) = owner {
        pod["metadata"]["ownerReferences"] = json!([owner]);
    }
    cluster.create::<Pod>("default", pod).await;
    let ready = json!({"status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let pods = cluster.api::<Pod>("default");
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(ready))
        .await
        .unwrap();
}

fn owner(api_version: &str, kind: &str, name: &str, uid: Option<&str>) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid.unwrap(), "controller": true})
}

fn reference<K: Resource<DynamicType = ()>>(object: &K) -> Value {
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap();
    let (version, kind) = (K::api_version(&()), K::kind(&()));
    owner(&version, &kind, name, meta.uid.as_deref())
}

#[tokio::test]
async fn the_status_follows_pods_and_budget() {
    let cluster = Cluster::with_kubelet().await;
    let none = json!({"expectedPods": 0, "currentHealthy": 0, "desiredHealthy": 1, "disruptionsAllowed": 0});
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", json!({"minAvailable": 1})))
        .await;
    status(&cluster, "b", none).await;
    told(&cluster, "NoPods", "No matching pods found").await;
    cluster
        .create::<Deployment>("default", deployment("web", 3, "v1"))
        .await;
    let all = json!({"expectedPods": 3, "currentHealthy": 3, "desiredHealthy": 1, "disruptionsAllowed": 2});
    let found = status(&cluster, "b", all).await;
    let condition = &found["conditions"][0];
    assert_eq!(condition["type"], "DisruptionAllowed");
    assert_eq!(condition["status"], "True");
    assert_eq!(condition["reason"], "SufficientPods");
    assert_eq!(condition["observedGeneration"], 1);
    let change = json!({"spec": {"minAvailable": "100%"}});
    budgets(&cluster)
        .patch("b", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    let full = json!({"expectedPods": 3, "currentHealthy": 3, "desiredHealthy": 3, "disruptionsAllowed": 0});
    let found = status(&cluster, "b", full).await;
    assert_eq!(found["conditions"][0]["reason"], "InsufficientPods");
    assert_eq!(found["conditions"].as_array().unwrap().len(), 1);
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_drain_waits_for_replacements_and_goes_on() {
    let cluster = Cluster::with_kubelet().await;
    let sets = cluster.api::<ReplicaSet>("default");
    cluster
        .create::<ReplicaSet>("default", deployment("web", 2, "v1"))
        .await;
    let spec = json!({"maxUnavailable": 1});
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", spec))
        .await;
    status(
        &cluster,
        "b",
        json!({"expectedPods": 2, "disruptionsAllowed": 1}),
    )
    .await;
    let first = names(&cluster).await;
    // From now on, what replaces a pod is not ready by itself.
    let by = PatchParams::default();
    let broken = json!({"spec": {"template": {"metadata": {"labels": {"broken": "yes"}}}}});
    sets.patch("web", &by, &Patch::Merge(broken)).await.unwrap();

    evict(&cluster, &first[0]).await.unwrap();
    let waiting = json!({"expectedPods": 2, "currentHealthy": 1, "disruptionsAllowed": 0, "disruptedPods": null});
    status(&cluster, "b", waiting).await;
    let error = evict(&cluster, &first[1]).await.unwrap_err();
    assert_eq!(error.code, 429, "{error:?}");
    assert_eq!(
        error.message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let pods = cluster.api::<Pod>("default");
    let running = two_running(&pods).await;
    let replacement = running
        .iter()
        .map(|pod| pod.metadata.name.clone().unwrap())
        .find(|name| !first.contains(name))
        .unwrap();
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status(&replacement, &by, &Patch::Strategic(ready))
        .await
        .unwrap();
    status(
        &cluster,
        "b",
        json!({"currentHealthy": 2, "disruptionsAllowed": 1}),
    )
    .await;
    evict(&cluster, &first[1]).await.unwrap();
    status(
        &cluster,
        "b",
        json!({"currentHealthy": 1, "disruptedPods": null}),
    )
    .await;
    // One that is not ready goes uncharged if the others are enough, or if the budget says so.
    let strict = json!({"spec": {"maxUnavailable": 0}});
    let api = budgets(&cluster);
    api.patch("b", &by, &Patch::Merge(strict)).await.unwrap();
    status(
        &cluster,
        "b",
        json!({"desiredHealthy": 2, "currentHealthy": 1}),
    )
    .await;
    let running = two_running(&pods).await;
    let mut running = running
        .iter()
        .map(|pod| pod.metadata.name.as_deref().unwrap());
    let unready = running.find(|name| *name != replacement).unwrap();
    assert_eq!(evict(&cluster, unready).await.unwrap_err().code, 429);
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    api.patch("b", &by, &Patch::Merge(always)).await.unwrap();
    evict(&cluster, unready).await.unwrap();
    cluster.shut_down().await;
}

#[tokio::test]
async fn an_eviction_is_blocked_until_the_budget_is_changed() {
    let cluster = Cluster::start().await;
    pod_of(&cluster, "a", None).await;
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", json!({"minAvailable": 1})))
        .await;
    let full = json!({"expectedPods": 1, "currentHealthy": 1, "disruptionsAllowed": 0});
    status(&cluster, "b", full).await;
    let error = evict(&cluster, "a").await.unwrap_err();
    let causes = &error.details.as_ref().unwrap().causes;
    assert_eq!(causes[0].reason, "DisruptionBudget");
    assert_eq!(
        causes[0].message,
        "The disruption budget b needs 1 healthy pods and has 1 currently"
    );
    let change = json!({"spec": {"minAvailable": 0}});
    budgets(&cluster)
        .patch("b", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    status(&cluster, "b", json!({"disruptionsAllowed": 1})).await;
    // A second budget about the same pod is more than the server can heed.
    cluster
        .create::<PodDisruptionBudget>("default", budget("c", json!({"minAvailable": 0})))
        .await;
    status(&cluster, "c", json!({"disruptionsAllowed": 1})).await;
    let error = evict(&cluster, "a").await.unwrap_err();
    assert_eq!(error.code, 500);
    assert_eq!(
        error.message,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    budgets(&cluster)
        .delete("c", &DeleteParams::default())
        .await
        .unwrap();
    evict(&cluster, "a").await.unwrap();
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_scale_is_found_whatever_controls_the_pods() {
    let cluster = Cluster::start().await;
    let template = json!({"metadata": {"labels": {"app": "none"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"app": "none"}});
    // There is no controller for StatefulSets; that for sets of other labels leaves this pod alone.
    let stateful: StatefulSet = cluster
        .create(
            "default",
            json!({"metadata": {"name": "s"}, "spec": {"replicas": 4, "serviceName": "s",
                "selector": selector, "template": template}}),
        )
        .await;
    pod_of(&cluster, "of-stateful", Some(reference(&stateful))).await;
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", json!({"maxUnavailable": "50%"})))
        .await;
    let counted = json!({"expectedPods": 4, "desiredHealthy": 2, "currentHealthy": 1});
    status(&cluster, "b", counted).await;

    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
    }}});
    let definition = json!({"metadata": {"name": "gangs.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "gangs", "kind": "Gang"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {
            "status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        }}],
    }});
    definitions
        .create(&PostParams::default(), &from(definition))
        .await
        .unwrap();
    let served = kube::runtime::conditions::is_crd_established();
    kube::runtime::wait::await_condition(definitions, "gangs.example.com", served)
        .await
        .unwrap();
    let kind = GroupVersionKind::gvk("example.com", "v1", "Gang");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gangs");
    let gangs = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), "default", &resource);
    let gang = json!({"apiVersion": "example.com/v1", "kind": "Gang", "metadata": {"name": "g"}, "spec": {"size": 6}});
    let gang = gangs
        .create(&PostParams::default(), &from(gang))
        .await
        .unwrap();
    let by = owner("example.com/v1", "Gang", "g", gang.metadata.uid.as_deref());
    pod_of(&cluster, "of-gang", Some(by)).await;
    let counted = json!({"expectedPods": 10, "desiredHealthy": 5, "currentHealthy": 2});
    status(&cluster, "b", counted).await;

    // This one makes its pod itself.
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let controller = json!({"metadata": {"name": "rc"},
        "spec": {"replicas": 1, "selector": {"app": "web"}, "template": template}});
    cluster
        .create::<ReplicationController>("default", controller)
        .await;
    let counted = json!({"expectedPods": 11, "desiredHealthy": 5, "currentHealthy": 2});
    status(&cluster, "b", counted).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_replica_set_of_its_own_and_one_of_a_deployment_are_both_counted() {
    let cluster = Cluster::with_kubelet().await;
    cluster
        .create::<Deployment>("default", deployment("web", 2, "v1"))
        .await;
    let mut alone = deployment("alone", 1, "v1");
    alone["spec"]["template"]["metadata"]["labels"]["tier"] = json!("x");
    cluster.create::<ReplicaSet>("default", alone).await;
    let selector =
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "alone"]}]});
    let spec = json!({"minAvailable": "50%", "selector": selector});
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", spec))
        .await;
    let counted = json!({"expectedPods": 3, "desiredHealthy": 2, "currentHealthy": 3, "disruptionsAllowed": 1});
    status(&cluster, "b", counted).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn what_cannot_be_counted_allows_no_eviction() {
    let cluster = Cluster::start().await;
    let map: ConfigMap = cluster
        .create("default", json!({"metadata": {"name": "m"}}))
        .await;
    pod_of(&cluster, "a", Some(reference(&map))).await;
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", json!({"maxUnavailable": 1})))
        .await;
    until(&budgets(&cluster), "b", |budget| {
        let status = serde_json::to_value(budget.and_then(|b| b.status.as_ref())).unwrap();
        let condition = &status["conditions"][0];
        condition["reason"] == "SyncFailed"
            && condition["message"] == "configmaps does not implement the scale subresource"
    })
    .await;
    let told_of = "Failed to calculate the number of expected pods: configmaps does not implement the scale subresource";
    told(&cluster, "CalculateExpectedPodCountFailed", told_of).await;
    assert_eq!(evict(&cluster, "a").await.unwrap_err().code, 429);
    // An integer needs no controller.
    let change = json!({"spec": {"maxUnavailable": null, "minAvailable": 0}});
    budgets(&cluster)
        .patch("b", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    status(&cluster, "b", json!({"disruptionsAllowed": 1})).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn pods_without_a_controller_are_told_of_and_not_counted() {
    let cluster = Cluster::start().await;
    pod_of(&cluster, "a", None).await;
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", json!({"maxUnavailable": 1})))
        .await;
    let counted = json!({"expectedPods": 0, "currentHealthy": 1, "disruptionsAllowed": 0});
    status(&cluster, "b", counted).await;
    told(&cluster, "UnmanagedPods", "were found to be unmanaged").await;
    cluster
        .create::<PodDisruptionBudget>("default", budget("c", json!({"minAvailable": 0})))
        .await;
    status(&cluster, "c", json!({"disruptionsAllowed": 1})).await;
    let labelled = json!({"metadata": {"labels": {"more": "x"}}});
    cluster
        .api::<Pod>("default")
        .patch("a", &PatchParams::default(), &Patch::Merge(labelled))
        .await
        .unwrap();
    let message =
        "Pod \"default\"/\"a\" matches multiple PodDisruptionBudgets.  Chose \"b\" arbitrarily.";
    told(&cluster, "MultiplePodDisruptionBudgets", message).await;
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_eviction_that_does_not_happen_is_forgotten_after_two_minutes() {
    let cluster = Cluster::start().await;
    pod_of(&cluster, "a", None).await;
    pod_of(&cluster, "b", None).await;
    cluster
        .create::<PodDisruptionBudget>("default", budget("b", json!({"minAvailable": 1})))
        .await;
    status(&cluster, "b", json!({"disruptionsAllowed": 1})).await;
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let by = PatchParams::default();
    let evicted = json!({"status": {"disruptedPods": {"a": now}, "disruptionsAllowed": 0}});
    budgets(&cluster)
        .patch_status("b", &by, &Patch::Merge(evicted))
        .await
        .unwrap();
    let mark = json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "EvictionByEvictionAPI", "message": "m", "lastTransitionTime": now}]}});
    let pods = cluster.api::<Pod>("default");
    pods.patch_status("a", &by, &Patch::Strategic(mark))
        .await
        .unwrap();
    status(
        &cluster,
        "b",
        json!({"currentHealthy": 1, "disruptionsAllowed": 0}),
    )
    .await;
    let start = tokio::time::Instant::now();
    let healed = json!({"currentHealthy": 2, "disruptionsAllowed": 1, "disruptedPods": null});
    // Longer than the tests' patience, on the clock that is paused.
    tokio::time::sleep(std::time::Duration::from_secs(125)).await;
    status(&cluster, "b", healed).await;
    assert!(start.elapsed().as_secs() >= 120);
    told(&cluster, "NotDeleted", "to be deleted but it wasn't").await;
    until(&pods, "a", |pod| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "DisruptionTarget" && c.status == "False" && c.reason.is_none())
    })
    .await;
    cluster.shut_down().await;
}
