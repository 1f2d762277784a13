//! Deployments, ReplicaSets and ReplicationControllers against the real API server.

use crate::support::{Cluster, deployment, until, until_all};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Event, Pod, ReplicationController},
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

fn available(deployment: Option<&Deployment>, count: i32) -> bool {
    let Some(deployment) = deployment else {
        return false;
    };
    let Some(status) = &deployment.status else {
        return false;
    };
    status.observed_generation == deployment.metadata.generation
        && status.available_replicas == Some(count)
        && status.updated_replicas == Some(count)
        && status.replicas == Some(count)
}

fn owners(pod: &Pod) -> Vec<&str> {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .map(|owner| owner.name.as_str())
        .collect()
}

#[tokio::test]
async fn a_deployment_becomes_available_and_replaces_a_deleted_pod() {
    let cluster = Cluster::with_kubelet().await;
    let deployments = cluster.api::<Deployment>("default");
    cluster
        .create::<Deployment>("default", deployment("web", 3, "v1"))
        .await;
    let done = until(&deployments, "web", |deployment| available(deployment, 3))
        .await
        .unwrap();
    assert_eq!(
        done.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"],
        "1"
    );
    let done = until(&deployments, "web", |deployment| {
        let conditions = deployment
            .and_then(|d| d.status.as_ref()?.conditions.clone())
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"))
    })
    .await
    .unwrap();
    let conditions = done.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.reason.as_deref() == Some("MinimumReplicasAvailable"))
    );

    let pods = cluster.api::<Pod>("default");
    let victim = pods.list(&ListParams::default()).await.unwrap().items[0]
        .metadata
        .clone();
    pods.delete(victim.name.as_deref().unwrap(), &DeleteParams::default())
        .await
        .unwrap();
    until_all(&pods, |pods| {
        let living = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.iter().all(|pod| pod.metadata.uid != victim.uid) && living.count() == 3
    })
    .await;

    let events = cluster.api::<Event>("default");
    until_all(&events, |events| {
        let message = |text: &str| {
            events
                .iter()
                .any(|e| e.message.as_deref().unwrap_or_default().starts_with(text))
        };
        message("Scaled up replica set web-") && message("Created pod: web-")
    })
    .await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_new_image_rolls_out_and_undo_rolls_back() {
    let cluster = Cluster::with_kubelet().await;
    let deployments = cluster.api::<Deployment>("default");
    let sets = cluster.api::<ReplicaSet>("default");
    cluster
        .create::<Deployment>("default", deployment("web", 4, "v1"))
        .await;
    until(&deployments, "web", |deployment| available(deployment, 4)).await;
    let set_image = async |image: &str| {
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        deployments
            .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .unwrap();
        until(&deployments, "web", |deployment| available(deployment, 4)).await;
    };
    set_image("v2").await;
    set_image("v1").await;
    let sets = sets.list(&ListParams::default()).await.unwrap().items;
    let mut revisions: Vec<_> = sets
        .iter()
        .map(|set| {
            let annotations = set.metadata.annotations.as_ref().unwrap();
            let replicas = set.spec.replicas.unwrap();
            (
                annotations["deployment.kubernetes.io/revision"].clone(),
                replicas,
            )
        })
        .collect();
    revisions.sort();
    assert_eq!(revisions, [("2".to_owned(), 0), ("3".to_owned(), 4)]);
    cluster.shut_down().await;
}

#[tokio::test]
async fn scaling_follows_in_both_directions() {
    let cluster = Cluster::with_kubelet().await;
    let deployments = cluster.api::<Deployment>("default");
    cluster
        .create::<Deployment>("default", deployment("web", 2, "v1"))
        .await;
    until(&deployments, "web", |deployment| available(deployment, 2)).await;
    for count in [7, 1, 3] {
        let patch = json!({"spec": {"replicas": count}});
        deployments
            .patch_scale("web", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        until(&deployments, "web", |deployment| {
            available(deployment, count)
        })
        .await;
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn matching_pods_are_adopted_and_strays_released() {
    let cluster = Cluster::with_kubelet().await;
    let pods = cluster.api::<Pod>("default");
    let orphan = json!({
        "metadata": {"name": "orphan", "labels": {"app": "rc"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    cluster.create::<Pod>("default", orphan).await;
    let controller = json!({
        "metadata": {"name": "rc"},
        "spec": {
            "replicas": 1,
            "selector": {"app": "rc"},
            "template": {
                "metadata": {"labels": {"app": "rc"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    cluster
        .create::<ReplicationController>("default", controller)
        .await;
    until(&pods, "orphan", |pod| {
        pod.is_some_and(|pod| owners(pod) == ["rc"])
    })
    .await;
    let patch = json!({"metadata": {"labels": {"app": "other"}}});
    pods.patch("orphan", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    until(&pods, "orphan", |pod| {
        pod.is_some_and(|pod| owners(pod).is_empty())
    })
    .await;
    until_all(&pods, |pods| {
        pods.len() == 2 && pods.iter().any(|pod| owners(pod) == ["rc"])
    })
    .await;
    let controllers = cluster.api::<ReplicationController>("default");
    until(&controllers, "rc", |rc| {
        rc.and_then(|rc| rc.status.as_ref())
            .is_some_and(|status| status.available_replicas == Some(1))
    })
    .await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_set_whose_pods_are_refused_says_so() {
    let cluster = Cluster::with_kubelet().await;
    let mut object = deployment("web", 2, "v1");
    object["spec"]["template"]["spec"]["serviceAccountName"] = json!("nobody");
    cluster.create::<Deployment>("default", object).await;
    let deployments = cluster.api::<Deployment>("default");
    let deployment = until(&deployments, "web", |deployment| {
        let conditions = deployment
            .and_then(|d| d.status.as_ref()?.conditions.clone())
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_.as_deref() == Some("ReplicaFailure"))
    })
    .await
    .unwrap();
    let conditions = deployment.status.unwrap().conditions.unwrap();
    let failure = conditions
        .iter()
        .find(|c| c.type_.as_deref() == Some("ReplicaFailure"))
        .unwrap();
    assert_eq!(failure.reason.as_deref(), Some("FailedCreate"));
    assert!(
        failure.message.as_ref().unwrap().contains("nobody"),
        "{failure:?}"
    );
    cluster.shut_down().await;
}
