//! Storage in use outlives its deletion.

use crate::support::{Cluster, from, until, until_all};
use k8s_openapi::{
    api::{
        core::v1::{Event, Namespace, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::VolumeAttributesClass,
    },
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }})
}

fn user_of(name: &str, claim: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }})
}

async fn running(cluster: &Cluster, name: &str) {
    until(&cluster.api::<Pod>("default"), name, |pod| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        status.and_then(|status| status.phase.as_deref()) == Some("Running")
    })
    .await;
}

async fn delete<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

async fn make<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let params = PostParams::default();
    api.create(&params, &from(object)).await.unwrap()
}

#[tokio::test]
async fn a_claim_stays_while_a_pod_uses_it() {
    let cluster = Cluster::with_kubelet().await;
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    for name in ["used", "unused"] {
        make(&claims, claim(name)).await;
    }
    let pods = cluster.api::<Pod>("default");
    make(&pods, user_of("user", "used")).await;
    running(&cluster, "user").await;
    delete(&claims, "used").await;
    // When the other is gone, this one was looked at too.
    delete(&claims, "unused").await;
    until(&claims, "unused", |claim| claim.is_none()).await;
    let held = claims.get("used").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    assert_eq!(
        held.metadata.finalizers.unwrap(),
        ["kubernetes.io/pvc-protection"]
    );
    delete(&pods, "user").await;
    until(&claims, "used", |claim| claim.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_namespace_with_claims_in_use_is_emptied() {
    let cluster = Cluster::with_kubelet().await;
    cluster.namespace("shop").await;
    make(&cluster.api::<PersistentVolumeClaim>("shop"), claim("c")).await;
    make(&cluster.api::<Pod>("shop"), user_of("user", "c")).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    delete(&namespaces, "shop").await;
    until(&namespaces, "shop", |namespace| namespace.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_volume_stays_while_it_is_bound() {
    let cluster = Cluster::start().await;
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    for name in ["bound", "free"] {
        let volume = json!({"metadata": {"name": name}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/data"},
        }});
        make(&volumes, volume).await;
    }
    let by = PatchParams::default();
    let phase = |phase: &str| Patch::Merge(json!({"status": {"phase": phase}}));
    volumes
        .patch_status("bound", &by, &phase("Bound"))
        .await
        .unwrap();
    delete(&volumes, "bound").await;
    delete(&volumes, "free").await;
    until(&volumes, "free", |volume| volume.is_none()).await;
    let held = volumes.get("bound").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    volumes
        .patch_status("bound", &by, &phase("Released"))
        .await
        .unwrap();
    until(&volumes, "bound", |volume| volume.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_volume_attributes_class_stays_while_a_claim_names_it() {
    let cluster = Cluster::start().await;
    let classes = Api::<VolumeAttributesClass>::all(cluster.client.clone());
    for name in ["gold", "silver"] {
        let class = json!({"metadata": {"name": name}, "driverName": "example.com",
            "parameters": {"iops": "1"}});
        let made = make(&classes, class).await;
        assert_eq!(
            made.metadata.finalizers.unwrap(),
            ["kubernetes.io/vac-protection"]
        );
    }
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    let mut wants = claim("c");
    wants["spec"]["volumeAttributesClassName"] = json!("gold");
    make(&claims, wants).await;
    // Not before the controller knows of the claim.
    let patch = json!({"metadata": {"finalizers": null}});
    let by = PatchParams::default();
    claims.patch("c", &by, &Patch::Merge(patch)).await.unwrap();
    until(&claims, "c", |claim| {
        claim.is_some_and(|claim| claim.metadata.finalizers.is_some())
    })
    .await;
    delete(&classes, "gold").await;
    delete(&classes, "silver").await;
    until(&classes, "silver", |class| class.is_none()).await;
    assert!(classes.get("gold").await.is_ok());
    delete(&claims, "c").await;
    until(&classes, "gold", |class| class.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn what_lost_its_finalizer_gets_it_back() {
    let cluster = Cluster::start().await;
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    make(&claims, claim("c")).await;
    let patch = json!({"metadata": {"finalizers": ["example.com/own"]}});
    let by = PatchParams::default();
    claims.patch("c", &by, &Patch::Merge(patch)).await.unwrap();
    until(&claims, "c", |claim| {
        let finalizers = claim.and_then(|claim| claim.metadata.finalizers.as_deref());
        finalizers.is_some_and(|f| f == ["example.com/own", "kubernetes.io/pvc-protection"])
    })
    .await;
    // Those of others are theirs.
    delete(&claims, "c").await;
    until(&claims, "c", |claim| {
        let finalizers = claim.and_then(|claim| claim.metadata.finalizers.as_deref());
        finalizers.is_some_and(|f| f == ["example.com/own"])
    })
    .await;
    cluster.shut_down().await;
}

fn with_ephemeral(name: &str) -> Value {
    let template =
        json!({"metadata": {"labels": {"made": "for-a-pod"}}, "spec": claim("x")["spec"]});
    json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}],
    }})
}

#[tokio::test]
async fn a_pod_brings_its_claim_along_and_takes_it_away() {
    let cluster = Cluster::with_kubelet().await;
    let pods = cluster.api::<Pod>("default");
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    let pod = make(&pods, with_ephemeral("p")).await;
    let made = until(&claims, "p-scratch", |claim| claim.is_some()).await;
    let meta = made.unwrap().metadata;
    assert_eq!(meta.labels.unwrap()["made"], "for-a-pod");
    let owner = &meta.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), &owner.uid),
        ("Pod", pod.metadata.uid.as_ref().unwrap())
    );
    assert_eq!(owner.controller, Some(true));
    running(&cluster, "p").await;
    delete(&pods, "p").await;
    until(&claims, "p-scratch", |claim| claim.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_claim_of_somebody_else_is_not_taken_for_the_pods_own() {
    let cluster = Cluster::start().await;
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    let theirs = make(&claims, claim("p-scratch")).await;
    let pods = cluster.api::<Pod>("default");
    make(&pods, with_ephemeral("p")).await;
    let refusal = "ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)";
    until_all(&cluster.api::<Event>("default"), |events| {
        events.iter().any(|event| {
            event.reason.as_deref() == Some("FailedBinding")
                && event.message.as_deref() == Some(refusal)
        })
    })
    .await;
    // Once it is out of the way, the pod gets its own.
    delete(&claims, "p-scratch").await;
    until(&claims, "p-scratch", |claim| {
        claim.is_some_and(|claim| claim.metadata.uid != theirs.metadata.uid)
    })
    .await;
    cluster.shut_down().await;
}
