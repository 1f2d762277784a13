//! The life of namespaces.

use serde_json::{Value, json};

use crate::{
    Entry,
    fixture::Fixture,
    rest::{Rest, STRATEGIC},
};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted",
        pods_go_with_their_namespace,
    ),
    (
        "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted",
        services_go_with_their_namespace,
    ),
    (
        "[sig-api-machinery] Namespaces [Serial] should patch a Namespace",
        a_namespace_is_patched,
    ),
    (
        "[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace",
        a_namespace_is_updated,
    ),
    (
        "[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status",
        the_status_is_changed_by_itself,
    ),
    (
        "[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace",
        finalizers_are_set_and_removed,
    ),
];

const NAMESPACES: &str = "/api/v1/namespaces";
const SHOP: &str = "/api/v1/namespaces/shop";

async fn shop(api: &Rest) -> Value {
    let made = api
        .create(NAMESPACES, json!({"metadata": {"name": "shop"}}))
        .await;
    api.until(&format!("{SHOP}/serviceaccounts/default"), |_| true)
        .await;
    made
}

/// Deletes the namespace with an object in it, makes it again, and finds it empty.
async fn goes_with_its_namespace(cluster: &Fixture, resource: &str, object: Value) {
    let api = &cluster.api;
    let namespace = shop(api).await;
    let path = format!("{SHOP}/{resource}");
    let made = api.create(&path, object).await;
    if resource == "pods" {
        let name = made["metadata"]["name"].as_str().expect("a name");
        let running = |pod: &Value| pod["status"]["phase"] == "Running";
        api.until(&format!("{path}/{name}"), running).await;
    }
    let ending = api.delete(SHOP).await;
    assert_eq!(ending["status"]["phase"], "Terminating");
    api.gone(SHOP, &namespace["metadata"]["uid"]).await;
    shop(api).await;
    assert_eq!(api.list(&path).await, Vec::<Value>::new());
}

#[tokio::test]
async fn pods_go_with_their_namespace() {
    let cluster = Fixture::with_nodes(1).await;
    let pod = json!({
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "c", "image": "example.com/web:1"}]},
    });
    goes_with_its_namespace(&cluster, "pods", pod).await;
}

#[tokio::test]
async fn services_go_with_their_namespace() {
    let cluster = Fixture::server().await;
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 80}]},
    });
    goes_with_its_namespace(&cluster, "services", service).await;
}

#[tokio::test]
async fn a_namespace_is_patched() {
    let cluster = Fixture::server().await;
    shop(&cluster.api).await;
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    cluster.api.patch(SHOP, STRATEGIC, patch).await;
    let labels = &cluster.api.get(SHOP).await["metadata"]["labels"];
    let name = "kubernetes.io/metadata.name";
    assert_eq!(*labels, json!({"testLabel": "testValue", name: "shop"}));
}

#[tokio::test]
async fn a_namespace_is_updated() {
    let cluster = Fixture::server().await;
    shop(&cluster.api).await;
    let label = |namespace: &mut Value| namespace["metadata"]["labels"]["updated"] = "yes".into();
    cluster.api.change(SHOP, label).await;
    let found = cluster.api.get(SHOP).await;
    assert_eq!(found["metadata"]["labels"]["updated"], "yes");
}

#[tokio::test]
async fn the_status_is_changed_by_itself() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    shop(api).await;
    let status = format!("{SHOP}/status");
    assert_eq!(api.get(&status).await["status"]["phase"], "Active");
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Test", "message": "Set by a test"});
    let patch = json!({
        "metadata": {"annotations": {"patched": "true"}},
        "status": {"conditions": [condition("StatusPatch")]},
    });
    let patched = api.merge(&status, patch).await;
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusPatch");
    let found = api.get(SHOP).await;
    assert_eq!(found["status"], patched["status"]);
    let updated = api
        .change(&status, |namespace| {
            let conditions = namespace["status"]["conditions"].as_array_mut();
            conditions
                .expect("conditions")
                .push(condition("StatusUpdate"));
            namespace["spec"]["finalizers"] = json!([]);
        })
        .await;
    assert_eq!(
        updated["status"]["conditions"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(updated["status"]["conditions"][1]["reason"], "Test");
    assert_eq!(
        updated["spec"]["finalizers"],
        json!(["kubernetes"]),
        "not the status"
    );
}

#[tokio::test]
async fn finalizers_are_set_and_removed() {
    const OURS: &str = "example.com/fakeFinalizer";
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    shop(api).await;
    let finalize = format!("{SHOP}/finalize");
    let set = |finalizers: Value| {
        move |namespace: &mut Value| namespace["spec"]["finalizers"] = finalizers.clone()
    };
    api.change(&finalize, set(json!(["kubernetes", OURS])))
        .await;
    let found = api.get(SHOP).await;
    assert_eq!(found["spec"]["finalizers"], json!(["kubernetes", OURS]));
    api.change(&finalize, set(json!(["kubernetes"]))).await;
    let found = api.get(SHOP).await;
    assert_eq!(found["spec"]["finalizers"], json!(["kubernetes"]));
}
