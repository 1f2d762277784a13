//! Operators as their authors would test them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use k8s_controllers::runtime::{Clock, LeaderElection, LeaderElectionConfig};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_testing::{Faults, Identity, TestCluster, Webhook, eventually};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        Controller,
        controller::Action,
        finalizer::{Event, finalizer},
        watcher,
    },
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config_map;

const FINALIZER: &str = "example.com/outside";

type Failure = kube::runtime::finalizer::Error<std::convert::Infallible>;

/// Something outside the cluster, by name.
type Outside = Arc<Mutex<BTreeSet<String>>>;

/// Keeps one thing outside for each ConfigMap, and takes it away with that.
async fn keep_outside(
    map: Arc<ConfigMap>,
    context: Arc<(Api<ConfigMap>, Outside)>,
) -> Result<Action, Failure> {
    let (maps, outside) = &*context;
    finalizer(maps, FINALIZER, map, |event| async move {
        match event {
            Event::Apply(map) => outside.lock().unwrap().insert(map.name_any()),
            Event::Cleanup(map) => outside.lock().unwrap().remove(&map.name_any()),
        };
        Ok(Action::await_change())
    })
    .await
}

#[tokio::test]
async fn what_is_outside_goes_before_the_object_though_the_network_is_bad() {
    let cluster = TestCluster::builder().start().await.unwrap();
    let faults = Faults::seeded(3)
        .conflicts(0.3)
        .errors_after_writes(0.3)
        .lost_connections(0.1);
    let bad = cluster.client_with_faults(Identity::system_masters(), &faults);
    let (watched, outside) = (
        Api::<ConfigMap>::default_namespaced(bad),
        Outside::default(),
    );
    let context = Arc::new((watched.clone(), outside.clone()));
    let again = |_, _: &Failure, _| Action::requeue(Duration::from_millis(10));
    let controller = Controller::new(watched, watcher::Config::default())
        .run(keep_outside, again, context)
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
        let held = |map: Option<&ConfigMap>| map.is_some_and(|map| !map.finalizers().is_empty());
        eventually(&maps, name, held).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        maps.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = |map: Option<&ConfigMap>| map.is_none();
        eventually(&maps, name, gone).await.unwrap();
        assert!(!outside.lock().unwrap().contains(name));
    }
    assert!(!faults.injected().is_empty());
    controller.abort();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_another_begins() {
    let cluster = TestCluster::builder().start().await.unwrap();
    let networks = [Faults::seeded(1), Faults::seeded(2)];
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    for (index, network) in networks.iter().enumerate() {
        let client = cluster.client_with_faults(Identity::system_masters(), network);
        let config = LeaderElectionConfig::new("operator", format!("replica-{index}"));
        let election = LeaderElection::new(client, config, Clock::system());
        let (said, stop) = (said.clone(), stop.clone());
        tokio::spawn(async move {
            election
                .run(stop, |leading| async move {
                    said.send((index, "begins")).unwrap();
                    leading.cancelled().await;
                    said.send((index, "ends")).unwrap();
                })
                .await
        });
        if index == 0 {
            assert_eq!(heard.recv().await, Some((0, "begins")));
        }
    }
    networks[0].cut();
    assert_eq!(heard.recv().await, Some((0, "ends")));
    assert_eq!(heard.recv().await, Some((1, "begins")));
    networks[0].heal();
    stop.cancel();
    assert_eq!(heard.recv().await, Some((1, "ends")));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_shown_what_there_is() {
    let cluster = TestCluster::builder().start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let with_data = |map: Option<&ConfigMap>| map.is_some_and(|map| map.data.is_some());
    let missing = eventually(&maps, "m", with_data).await.unwrap_err();
    assert_eq!(
        missing.to_string(),
        "waited in vain for m, which is not there"
    );
    maps.create(&PostParams::default(), &config_map("m"))
        .await
        .unwrap();
    let shown = eventually(&maps, "m", with_data).await.unwrap_err();
    assert!(shown.to_string().contains("data: None"), "{shown}");
    cluster.stop().await;
}

/// One size in `v1` is a list of them in `v2`.
fn convert(review: &Value) -> Value {
    let wanted = &review["request"]["desiredAPIVersion"];
    let objects = review["request"]["objects"].as_array().unwrap();
    let converted = objects.iter().map(|object| {
        let mut object = object.clone();
        object["apiVersion"] = wanted.clone();
        object["spec"] = match wanted.as_str() {
            Some("example.com/v2") => json!({"sizes": [object["spec"]["size"]]}),
            _ => json!({"size": object["spec"]["sizes"][0]}),
        };
        object
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {
            "uid": review["request"]["uid"], "result": {"status": "Success"},
            "convertedObjects": converted.collect::<Vec<_>>(),
        },
    })
}

#[tokio::test]
async fn a_definition_with_two_versions_and_a_status_is_converted_by_a_webhook() {
    let webhook = Webhook::serve(|path, review| {
        assert_eq!(path, "/convert");
        convert(review)
    })
    .await
    .unwrap();
    let version = |name: &str, storage: bool, spec: Value| {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": spec},
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        }});
        json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema}})
    };
    let sizes = json!({"sizes": {"type": "array", "items": {"type": "integer"}}});
    let definition = json!({"metadata": {"name": "shirts.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "shirts", "kind": "Shirt"},
        "versions": [
            version("v1", false, json!({"size": {"type": "integer"}})),
            version("v2", true, sizes),
        ],
        "conversion": {"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1"], "clientConfig": webhook.client_config("/convert"),
        }},
    }});
    let cluster = TestCluster::builder().start().await.unwrap();
    let definition = serde_json::from_value(definition).unwrap();
    cluster.define([definition]).await.unwrap();
    let shirts = |version: &str| {
        let kind = GroupVersionKind::gvk("example.com", version, "Shirt");
        let resource = ApiResource::from_gvk_with_plural(&kind, "shirts");
        Api::<DynamicObject>::default_namespaced_with(cluster.client(), &resource)
    };
    let shirt = json!({"apiVersion": "example.com/v1", "kind": "Shirt", "metadata": {"name": "s"}, "spec": {"size": 7}});
    let shirt: DynamicObject = serde_json::from_value(shirt).unwrap();
    let made = shirts("v1").create(&PostParams::default(), &shirt).await;
    assert_eq!(made.unwrap().data["spec"]["size"], 7);
    let found = shirts("v2").get("s").await.unwrap();
    assert_eq!(found.data["spec"], json!({"sizes": [7]}));
    let (by, ready) = (PatchParams::default(), json!({"status": {"ready": true}}));
    shirts("v1")
        .patch_status("s", &by, &Patch::Merge(ready))
        .await
        .unwrap();
    let is_ready = |shirt: Option<&DynamicObject>| {
        shirt.is_some_and(|shirt| shirt.data["status"]["ready"] == true)
    };
    let ready = eventually(&shirts("v2"), "s", is_ready).await.unwrap();
    assert_eq!(ready.unwrap().data["spec"], json!({"sizes": [7]}));
    cluster.stop().await;
}
