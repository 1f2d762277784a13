//! Garbage collection and namespaces against the real API server.

use crate::support::{Cluster, deployment, from, until, until_all};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        batch::v1::Job,
        core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{Value, json};

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

/// A ConfigMap that one object owns.
fn owned(name: &str, owner: Option<OwnerReference>) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [owner.unwrap()]}})
}

/// An owner that never was.
fn ghost(name: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: name.to_owned(),
        uid: format!("no-such-uid-{name}"),
        ..OwnerReference::default()
    }
}

/// Waits until an object without an owner is collected, and so what was found before it.
async fn has_collected(cluster: &Cluster, name: &str) {
    let map = owned(name, Some(ghost(name)));
    cluster.create::<ConfigMap>("default", map).await;
    let maps = cluster.api::<ConfigMap>("default");
    until(&maps, name, |map| map.is_none()).await;
}

async fn define(cluster: &Cluster, kind: &str) -> ApiResource {
    let (group, singular) = ("example.com", kind.to_lowercase());
    let plural = format!("{singular}s");
    let definition = json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let definition = from(definition);
    let create = PostParams::default();
    let made = definitions.create(&create, &definition).await.unwrap();
    let name = made.name_any();
    let established = await_condition(definitions, &name, is_crd_established());
    established.await.unwrap();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), &plural)
}

#[tokio::test]
async fn what_is_not_served_for_now_keeps_its_dependents() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>("default");
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let serve = async |served: bool| {
        let change = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": served}]);
        let change = Patch::Json::<()>(from(change));
        let params = PatchParams::default();
        let changed = definitions.patch("widgets.example.com", &params, &change);
        changed.await.unwrap();
    };
    // The collector has seen what there is of a kind when it collects what was made last.
    let seen = async |api: &Api<DynamicObject>, resource: &ApiResource| {
        let mut last = DynamicObject::new("last", resource);
        last.metadata.owner_references = Some(vec![ghost("of-a-kind")]);
        api.create(&PostParams::default(), &last).await.unwrap();
        until(api, "last", |last| last.is_none()).await;
    };
    let made = async |kind: &str, name: &str| {
        let resource = define(&cluster, kind).await;
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), "default", &resource);
        let owner = DynamicObject::new(name, &resource);
        let owner = api.create(&PostParams::default(), &owner).await.unwrap();
        let map = owned(name, owner.owner_ref(&resource));
        cluster.create::<ConfigMap>("default", map).await;
        seen(&api, &resource).await;
        (api, resource)
    };
    let (widgets, resource) = made("Widget", "a").await;
    serve(false).await;
    // By then it was looked what is served.
    made("Gadget", "b").await;
    has_collected(&cluster, "last").await;
    assert!(maps.get("a").await.is_ok());
    assert!(maps.get("b").await.is_ok());

    serve(true).await;
    until(&widgets, "a", |widget| widget.is_some()).await;
    seen(&widgets, &resource).await;
    widgets
        .delete("a", &DeleteParams::background())
        .await
        .unwrap();
    until(&maps, "a", |map| map.is_none()).await;
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
