//! Storage version migration, as upstream's documentation has it: a definition gets another storage
//! version, and then what lies there in the old one is written again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use k8s_controllers::ControllerManager;
use k8s_openapi::{
    api::{core::v1::ConfigMap, storagemigration::v1::StorageVersionMigration},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    client::Body,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::support::{Cluster, client_for, from, until};

fn definition(storage: &str) -> Value {
    let version = |name: &str| {
        json!({
            "name": name, "served": true, "storage": name == storage,
            "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.test.example.com"},
        "spec": {
            "group": "test.example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [version("v1"), version("v2")],
        },
    })
}

fn migration(name: &str, group: &str, resource: &str) -> StorageVersionMigration {
    from(json!({
        "metadata": {"name": name},
        "spec": {"resource": {"group": group, "resource": resource}},
    }))
}

fn is(migration: Option<&StorageVersionMigration>, sort: &str) -> bool {
    let status = migration.and_then(|m| m.status.as_ref());
    let conditions = status.and_then(|s| s.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|c| c.type_ == sort && c.status == "True")
}

fn stored(definition: Option<&CustomResourceDefinition>) -> Vec<String> {
    let status = definition.and_then(|d| d.status.as_ref());
    status
        .and_then(|s| s.stored_versions.clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn objects_move_to_the_storage_version_and_the_old_one_may_go() {
    let cluster = Cluster::start().await;
    let client = cluster.client.clone();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let params = PostParams::default();
    let apply = PatchParams::apply("test").force();
    definitions
        .create(&params, &from(definition("v1")))
        .await
        .unwrap();
    until(&definitions, "things.test.example.com", |d| {
        stored(d) == ["v1"]
            && d.is_some_and(|d| {
                d.status
                    .as_ref()
                    .unwrap()
                    .conditions
                    .iter()
                    .flatten()
                    .any(|c| c.type_ == "Established" && c.status == "True")
            })
    })
    .await;

    let kind = GroupVersionKind::gvk("test.example.com", "v1", "Thing");
    let kind = ApiResource::from_gvk_with_plural(&kind, "things");
    let things = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &kind);
    let mut before = Vec::new();
    for name in ["a", "b", "c"] {
        let thing = DynamicObject::new(name, &kind).data(json!({"size": 1}));
        let made = things.create(&params, &thing).await.unwrap();
        before.push(made.metadata.resource_version);
    }
    let changed = Patch::Apply(definition("v2"));
    definitions
        .patch("things.test.example.com", &apply, &changed)
        .await
        .unwrap();
    until(&definitions, "things.test.example.com", |d| {
        stored(d) == ["v1", "v2"]
    })
    .await;

    let migrations = Api::<StorageVersionMigration>::all(client.clone());
    let wanted = migration("things", "test.example.com", "things");
    migrations.create(&params, &wanted).await.unwrap();
    until(&migrations, "things", |m| is(m, "Succeeded")).await;
    let done = migrations.get("things").await.unwrap();
    assert!(!is(Some(&done), "Running"));
    assert!(done.status.unwrap().resource_version.is_some());
    for (name, before) in ["a", "b", "c"].into_iter().zip(before) {
        let thing = things.get(name).await.unwrap();
        assert_ne!(
            thing.metadata.resource_version, before,
            "{name} was written"
        );
        assert_eq!(thing.data["size"], 1);
        let managers = thing.metadata.managed_fields.unwrap_or_default();
        assert!(
            managers
                .iter()
                .all(|m| m.manager.as_deref() != Some("storage-version-migrator-controller"))
        );
    }
    let migrated = definitions.get("things.test.example.com").await.unwrap();
    assert_eq!(stored(Some(&migrated)), ["v2"]);

    let mut last = definition("v2");
    last["spec"]["versions"].as_array_mut().unwrap().remove(0);
    definitions
        .patch("things.test.example.com", &apply, &Patch::Apply(last))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_stored_rightly_is_left_alone_and_what_is_not_served_fails() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>("default");
    let map = from(json!({"metadata": {"name": "m"}, "data": {"k": "v"}}));
    let before = maps.create(&PostParams::default(), &map).await.unwrap();

    let migrations = Api::<StorageVersionMigration>::all(cluster.client.clone());
    for migration in [
        migration("maps", "", "configmaps"),
        migration("none", "no.example.com", "things"),
    ] {
        migrations
            .create(&PostParams::default(), &migration)
            .await
            .unwrap();
    }
    until(&migrations, "maps", |m| is(m, "Succeeded")).await;
    let after = maps.get("m").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );
    until(&migrations, "none", |m| is(m, "Failed")).await;
    let failed = migrations.get("none").await.unwrap().status.unwrap();
    let conditions = failed.conditions.unwrap();
    let failure = conditions.iter().find(|c| c.type_ == "Failed").unwrap();
    assert_eq!(failure.message, "things.no.example.com is not served");
}

#[tokio::test]
async fn an_object_whose_path_is_not_served_for_now_is_not_taken_for_gone() {
    let cluster = Cluster::bare().await;
    let maps = cluster.api::<ConfigMap>("default");
    let map = from(json!({"metadata": {"name": "m"}, "data": {"k": "v"}}));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (server, counts) = (cluster.server.clone(), (asked.clone(), answered.clone()));
    let manager = ControllerManager::builder(move |name| {
        let (controller, (asked, answered)) = (client_for(&server, name), counts.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let is_write = request.method() == http::Method::PATCH
                && request.uri().path().ends_with("/configmaps/m");
            // As aggregators say it, and as servers do of a resource in a group that they know.
            let texts = [
                "404 page not found\n".to_owned(),
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                    "reason": "NotFound", "details": {},
                    "message": "the server could not find the requested resource"})
                .to_string(),
            ];
            let attempt = if is_write {
                asked.fetch_add(1, SeqCst)
            } else {
                usize::MAX
            };
            let refusal = texts.into_iter().nth(attempt);
            let (controller, answered) = (controller.clone(), answered.clone());
            async move {
                if let Some(text) = refusal {
                    let text = Body::from(text.into_bytes());
                    return Ok(http::Response::builder().status(404).body(text).unwrap());
                }
                answered.fetch_add(usize::from(is_write), SeqCst);
                controller.send(request).await
            }
        });
        Client::new(service, "default")
    })
    .controllers("storage-version-migrator-controller".parse().unwrap())
    .build();
    let stop = cluster.stop.clone();
    let running = tokio::spawn(manager.run(stop.clone()));
    let migrations = Api::<StorageVersionMigration>::all(cluster.client.clone());
    let wanted = migration("maps", "", "configmaps");
    migrations
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    until(&migrations, "maps", |m| is(m, "Succeeded")).await;
    assert_ne!(answered.load(SeqCst), 0, "it was never written");
    stop.cancel();
    running.await.unwrap();
    cluster.shut_down().await;
}
