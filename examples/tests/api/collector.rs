//! What becomes of dependents when their owner is deleted.

use serde_json::{Value, json};

use crate::{Entry, fixture::Fixture, rest::Rest};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning",
        pods_go_after_their_controller,
    ),
    (
        "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so",
        pods_stay_when_they_are_orphaned,
    ),
    (
        "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning",
        replica_sets_go_after_their_deployment,
    ),
    (
        "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan",
        replica_sets_stay_when_they_are_orphaned,
    ),
    (
        "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so",
        a_controller_goes_after_its_pods_in_the_foreground,
    ),
    (
        "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted",
        pods_with_another_owner_stay,
    ),
    (
        "[sig-api-machinery] Garbage collector should not be blocked by dependency circle",
        a_circle_of_owners_goes,
    ),
];

const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "example.com/web:1"}]},
    })
}

fn controller(name: &str, replicas: usize) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"app": name}, "template": template(name)},
    })
}

/// Makes a ReplicationController, and waits for its pods.
async fn run(api: &Rest, name: &str, replicas: usize) -> Value {
    let made = api.create(CONTROLLERS, controller(name, replicas)).await;
    api.settles(&format!("{PODS}?labelSelector=app%3D{name}"), |pods| {
        pods.len() == replicas
    })
    .await;
    made
}

async fn deploy(api: &Rest) -> Value {
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web")},
    });
    let made = api.create(DEPLOYMENTS, deployment).await;
    api.settles(PODS, |pods| pods.len() == 2).await;
    made
}

fn uid(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}

/// Waits until the collector has done all that it had to do before this.
async fn collected(api: &Rest) {
    let map = json!({"metadata": {"name": "orphan", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "no-such-uid"},
    ]}});
    let made = api.create(MAPS, map).await;
    api.gone(&format!("{MAPS}/orphan"), uid(&made)).await;
}

fn is_free(object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_none_or(Vec::is_empty) && object["metadata"]["deletionTimestamp"].is_null()
}

#[tokio::test]
async fn pods_go_after_their_controller() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    let made = run(api, "rc", 2).await;
    let path = format!("{CONTROLLERS}/rc");
    api.delete_as(&path, "Background").await;
    api.gone(&path, uid(&made)).await;
    api.settles(PODS, <[Value]>::is_empty).await;
}

#[tokio::test]
async fn pods_stay_when_they_are_orphaned() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    let made = run(api, "rc", 10).await;
    let path = format!("{CONTROLLERS}/rc");
    let marked = api.delete_as(&path, "Orphan").await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    api.gone(&path, uid(&made)).await;
    collected(api).await;
    let pods = api.list(PODS).await;
    assert_eq!(pods.len(), 10);
    assert!(pods.iter().all(is_free), "{pods:#?}");
}

#[tokio::test]
async fn replica_sets_go_after_their_deployment() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    deploy(api).await;
    api.delete_as(&format!("{DEPLOYMENTS}/web"), "Background")
        .await;
    api.settles(SETS, <[Value]>::is_empty).await;
    api.settles(PODS, <[Value]>::is_empty).await;
}

#[tokio::test]
async fn replica_sets_stay_when_they_are_orphaned() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    let made = deploy(api).await;
    let path = format!("{DEPLOYMENTS}/web");
    api.delete_as(&path, "Orphan").await;
    api.gone(&path, uid(&made)).await;
    collected(api).await;
    let sets = api.list(SETS).await;
    assert_eq!(sets.len(), 1);
    assert!(is_free(&sets[0]), "{sets:#?}");
    let pods = api.list(PODS).await;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], *uid(&sets[0]));
        assert!(pod["metadata"]["deletionTimestamp"].is_null());
    }
}

#[tokio::test]
async fn a_controller_goes_after_its_pods_in_the_foreground() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    let made = run(api, "rc", 10).await;
    let mut pods = api.watch(PODS).await;
    for _ in 0..10 {
        assert_eq!(pods.next().await.0, "ADDED");
    }
    let mut controllers = api.watch(CONTROLLERS).await;
    controllers.until("ADDED", |_| true).await;
    let path = format!("{CONTROLLERS}/rc");
    let marked = api.delete_as(&path, "Foreground").await;
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    let mut last = 0;
    for _ in 0..10 {
        let pod = pods.until("DELETED", |_| true).await;
        last = last.max(revision(&pod));
    }
    let deleted = controllers.until("DELETED", |_| true).await;
    assert_eq!(uid(&deleted), uid(&made));
    assert!(last < revision(&deleted), "it went before its last pod");
}

fn revision(object: &Value) -> u64 {
    let revision = object["metadata"]["resourceVersion"].as_str();
    revision.expect("a version").parse().expect("a number")
}

#[tokio::test]
async fn pods_with_another_owner_stay() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    let leaves = run(api, "leaves", 10).await;
    let stays = run(api, "stays", 0).await;
    let owner = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "name": "stays", "uid": uid(&stays),
    });
    let pods = api.list(PODS).await;
    for pod in &pods[..5] {
        let mut owners = pod["metadata"]["ownerReferences"].clone();
        owners.as_array_mut().expect("owners").push(owner.clone());
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let patch = json!({"metadata": {"ownerReferences": owners}});
        api.merge(&format!("{PODS}/{name}"), patch).await;
    }
    let path = format!("{CONTROLLERS}/leaves");
    api.delete_as(&path, "Foreground").await;
    api.gone(&path, uid(&leaves)).await;
    collected(api).await;
    let pods = api.settles(PODS, |pods| pods.len() <= 5).await;
    assert_eq!(pods.len(), 5);
    for pod in &pods {
        assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
        let owners = &pod["metadata"]["ownerReferences"];
        assert_eq!(owners.as_array().map(Vec::len), Some(1), "{owners}");
        assert_eq!(owners[0]["uid"], *uid(&stays));
    }
}

#[tokio::test]
async fn a_circle_of_owners_goes() {
    let cluster = Fixture::with_nodes(1).await;
    let api = &cluster.api;
    let mut made = Vec::new();
    for name in ["pod1", "pod2", "pod3"] {
        let mut pod = template(name);
        pod["metadata"]["name"] = name.into();
        made.push(api.create(PODS, pod).await);
    }
    for (dependent, owner) in [(0, 2), (1, 0), (2, 1)] {
        let owner = &made[owner]["metadata"];
        let references = json!([{
            "apiVersion": "v1", "kind": "Pod", "name": owner["name"], "uid": owner["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }]);
        let name = made[dependent]["metadata"]["name"].as_str();
        let patch = json!({"metadata": {"ownerReferences": references}});
        let path = format!("{PODS}/{}", name.expect("a name"));
        api.merge(&path, patch).await;
    }
    api.delete_as(&format!("{PODS}/pod1"), "Background").await;
    api.settles(PODS, <[Value]>::is_empty).await;
}
