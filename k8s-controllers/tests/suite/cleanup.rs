//! Garbage collection and namespaces against the real API server.

use crate::support::{Cluster, deployment, until, until_all};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

async fn running(cluster: &Cluster) {
    cluster
        .create::<Deployment>("default", deployment("web", 2, "v1"))
        .await;
    let deployments = cluster.api::<Deployment>("default");
    until(&deployments, "web", |deployment| {
        deployment
            .and_then(|d| d.status.as_ref())
            .is_some_and(|status| status.available_replicas == Some(2))
    })
    .await;
}

#[tokio::test]
async fn deleting_in_the_background_takes_the_dependents_along() {
    let cluster = Cluster::with_kubelet().await;
    running(&cluster).await;
    let deployments = cluster.api::<Deployment>("default");
    deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    until_all(&cluster.api::<ReplicaSet>("default"), |sets| {
        sets.is_empty()
    })
    .await;
    until_all(&cluster.api::<Pod>("default"), |pods| pods.is_empty()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn deleting_in_the_foreground_takes_the_owner_last() {
    let cluster = Cluster::with_kubelet().await;
    running(&cluster).await;
    let deployments = cluster.api::<Deployment>("default");
    deployments
        .delete("web", &DeleteParams::foreground())
        .await
        .unwrap();
    until(&deployments, "web", |deployment| deployment.is_none()).await;
    assert!(
        cluster
            .api::<ReplicaSet>("default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        cluster
            .api::<Pod>("default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    cluster.shut_down().await;
}

#[tokio::test]
async fn orphaning_keeps_the_dependents() {
    let cluster = Cluster::with_kubelet().await;
    running(&cluster).await;
    let deployments = cluster.api::<Deployment>("default");
    deployments
        .delete("web", &DeleteParams::orphan())
        .await
        .unwrap();
    until(&deployments, "web", |deployment| deployment.is_none()).await;
    let sets = cluster
        .api::<ReplicaSet>("default")
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(sets.len(), 1);
    assert!(
        sets[0]
            .metadata
            .owner_references
            .as_ref()
            .is_none_or(Vec::is_empty)
    );
    assert_eq!(
        cluster
            .api::<Pod>("default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    cluster.shut_down().await;
}

#[tokio::test]
async fn an_object_with_an_owner_that_never_was_is_collected() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>("default");
    let owned = |owner: serde_json::Value| json!({"metadata": {"name": "owned", "ownerReferences": [owner]}});
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "no-such-uid"});
    cluster.create::<ConfigMap>("default", owned(owner)).await;
    until(&maps, "owned", |map| map.is_none()).await;

    // One that has a living owner, too, only loses the reference.
    let living: ConfigMap = cluster
        .create("default", json!({"metadata": {"name": "living"}}))
        .await;
    let both = json!({"metadata": {"name": "both", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "no-such-uid"},
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "living", "uid": living.metadata.uid},
    ]}});
    cluster.create::<ConfigMap>("default", both).await;
    until(&maps, "both", |map| {
        map.is_some_and(|map| {
            map.metadata
                .owner_references
                .as_ref()
                .is_some_and(|owners| owners.len() == 1)
        })
    })
    .await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_circle_of_owners_is_deleted_in_the_foreground() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>("default");
    let mut uids = Vec::new();
    for name in ["a", "b", "c"] {
        let map: ConfigMap = cluster
            .create("default", json!({"metadata": {"name": name}}))
            .await;
        uids.push(map.metadata.uid.unwrap());
    }
    for (name, owner, uid) in [
        ("a", "c", &uids[2]),
        ("b", "a", &uids[0]),
        ("c", "b", &uids[1]),
    ] {
        let patch = json!({"metadata": {"ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        }]}});
        maps.patch(name, &Default::default(), &kube::api::Patch::Merge(patch))
            .await
            .unwrap();
    }
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    until_all(&maps, |maps| {
        maps.iter()
            .all(|map| map.metadata.name.as_deref() == Some("kube-root-ca.crt"))
    })
    .await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_namespace_is_emptied_and_goes() {
    let cluster = Cluster::with_kubelet().await;
    cluster.namespace("shop").await;
    cluster
        .create::<Deployment>("shop", deployment("web", 3, "v1"))
        .await;
    cluster
        .create::<ConfigMap>("shop", json!({"metadata": {"name": "settings"}}))
        .await;
    until_all(&cluster.api::<Pod>("shop"), |pods| pods.len() == 3).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    until(&namespaces, "shop", |namespace| namespace.is_none()).await;
    for left in [
        cluster
            .api::<Pod>("shop")
            .list_metadata(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        cluster
            .api::<Deployment>("shop")
            .list_metadata(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        cluster
            .api::<ConfigMap>("shop")
            .list_metadata(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
    ] {
        assert_eq!(left, 0);
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_namespace_waits_for_finalizers_and_says_for_which() {
    let cluster = Cluster::start().await;
    cluster.namespace("held").await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    cluster.create::<ConfigMap>("held", held).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces
        .delete("held", &DeleteParams::default())
        .await
        .unwrap();
    until(&namespaces, "held", |namespace| {
        let conditions = namespace
            .and_then(|n| n.status.as_ref()?.conditions.clone())
            .unwrap_or_default();
        conditions.iter().any(|c| {
            c.type_ == "NamespaceFinalizersRemaining"
                && c.status == "True"
                && c.message
                    .as_ref()
                    .is_some_and(|m| m.contains("example.com/hold in 1 resource instances"))
        })
    })
    .await;
    let patch = json!({"metadata": {"finalizers": null}});
    let maps = cluster.api::<ConfigMap>("held");
    maps.patch("held", &Default::default(), &kube::api::Patch::Merge(patch))
        .await
        .unwrap();
    until(&namespaces, "held", |namespace| namespace.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn every_namespace_has_its_account_and_root_certificate() {
    let cluster = Cluster::start().await;
    cluster.namespace("new").await;
    let maps = cluster.api::<ConfigMap>("new");
    let map = until(&maps, "kube-root-ca.crt", |map| map.is_some())
        .await
        .unwrap();
    assert_eq!(map.data.unwrap()["ca.crt"], "PEM");
    // What is deleted comes back.
    maps.delete("kube-root-ca.crt", &DeleteParams::default())
        .await
        .unwrap();
    until(&maps, "kube-root-ca.crt", |now| {
        now.is_some_and(|now| now.metadata.uid != map.metadata.uid)
    })
    .await;
    let accounts = cluster.api::<ServiceAccount>("new");
    let before = accounts.get("default").await.unwrap().metadata.uid;
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    until(&accounts, "default", |now| {
        now.is_some_and(|now| now.metadata.uid != before)
    })
    .await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_job_that_is_over_goes_after_its_time() {
    let cluster = Cluster::start().await;
    let jobs = cluster.api::<Job>("default");
    for (name, ttl) in [("brief", json!(0)), ("kept", json!(null))] {
        let template = json!({"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}});
        let job = json!({"metadata": {"name": name},
            "spec": {"ttlSecondsAfterFinished": ttl, "template": template}});
        cluster.create::<Job>("default", job).await;
        let now = "2026-01-01T00:00:00Z";
        let over = json!({"status": {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": now},
            {"type": "Complete", "status": "True", "lastTransitionTime": now},
        ]}});
        jobs.patch_status(name, &Default::default(), &kube::api::Patch::Merge(over))
            .await
            .unwrap();
    }
    until(&jobs, "brief", |job| job.is_none()).await;
    assert!(jobs.get("kept").await.is_ok());
    cluster.shut_down().await;
}
