//! Claims to devices: made, allocated, shared, freed (KEP-4381).

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
};
use k8s_testing::TestCluster;
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::in_time;

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn create<K>(api: &Api<K>, value: Value) -> K
where
    K: Resource + Clone + serde::Serialize + DeserializeOwned + std::fmt::Debug,
{
    api.create(&PostParams::default(), &from(value))
        .await
        .unwrap()
}

/// A cluster of one node with one device.
async fn with_a_device() -> TestCluster {
    let cluster = TestCluster::start().await.unwrap();
    let selector = "device.attributes[\"gpu.example.com\"].memory > 8";
    create(
        &Api::<DeviceClass>::all(cluster.client()),
        json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": selector}}]}}),
    )
    .await;
    let device =
        |name: &str, memory: i64| json!({"name": name, "attributes": {"memory": {"int": memory}}});
    create(
        &Api::<ResourceSlice>::all(cluster.client()),
        json!({"metadata": {"name": "node-1-gpus"}, "spec": {
            "driver": "gpu.example.com", "nodeName": "node-1",
            "pool": {"name": "node-1", "generation": 1, "resourceSliceCount": 1},
            "devices": [device("small", 4), device("large", 16)],
        }}),
    )
    .await;
    cluster
}

fn request() -> Value {
    json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}})
}

fn pod(name: &str, claim: Value, annotations: Value) -> Value {
    json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"restartPolicy": "Never", "resourceClaims": [claim], "containers": [
            {"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}},
        ]},
    })
}

fn phase<'a>(wanted: &'a str) -> impl Fn(Option<&Pod>) -> bool + 'a {
    move |pod| pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some(wanted)
}

fn is_refused(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|c| {
            let message = c.message.as_deref().unwrap_or_default();
            c.type_ == "PodScheduled" && message.contains("cannot allocate all claims")
        })
    })
}

#[tokio::test]
async fn a_pod_gets_a_device_and_the_next_waits_until_it_is_free() {
    let cluster = with_a_device().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let claims: Api<ResourceClaim> = Api::default_namespaced(cluster.client());
    create(
        &Api::<ResourceClaimTemplate>::default_namespaced(cluster.client()),
        json!({"metadata": {"name": "one"}, "spec": {"spec": request()}}),
    )
    .await;
    let own = json!({"name": "gpu", "resourceClaimTemplateName": "one"});
    let first = create(&pods, pod("first", own.clone(), json!({}))).await;
    let uid = first.metadata.uid.unwrap();
    let running = in_time(await_condition(pods.clone(), "first", phase("Running"))).await;
    let statuses = running.unwrap().unwrap().status.unwrap();
    let statuses = statuses.resource_claim_statuses.unwrap();
    let name = statuses[0].resource_claim_name.clone().unwrap();
    assert!(name.starts_with("first-gpu-"), "{name}");
    let claim = claims.get(&name).await.unwrap();
    let made = claim.metadata.uid.clone().unwrap();
    let annotations = claim.metadata.annotations.unwrap();
    assert_eq!(annotations["resource.kubernetes.io/pod-claim-name"], "gpu");
    assert_eq!(claim.metadata.owner_references.unwrap()[0].uid, uid);
    assert_eq!(
        claim.metadata.finalizers.unwrap(),
        ["resource.kubernetes.io/delete-protection"]
    );
    let status = claim.status.unwrap();
    assert_eq!(status.reserved_for.unwrap()[0].uid, uid);
    let allocation = status.allocation.unwrap();
    let given = allocation.devices.unwrap().results.unwrap();
    assert_eq!((given.len(), given[0].device.as_str()), (1, "large"));

    // It ends by itself, once it has begun.
    let short = json!({"sim.k8s-runtime/exit-after": "10ms"});
    create(&pods, pod("second", own.clone(), short)).await;
    in_time(await_condition(pods.clone(), "second", is_refused))
        .await
        .unwrap();
    pods.delete("first", &DeleteParams::default())
        .await
        .unwrap();
    in_time(await_condition(pods.clone(), "second", phase("Succeeded")))
        .await
        .unwrap();
    let gone = await_condition(claims.clone(), &name, conditions::is_deleted(&made));
    in_time(gone).await.unwrap();

    // What has ended needs nothing any more, as long as it may be there.
    create(&pods, pod("third", own, json!({}))).await;
    in_time(await_condition(pods.clone(), "third", phase("Running")))
        .await
        .unwrap();
    let left = claims.list(&ListParams::default()).await.unwrap().items;
    let left: Vec<String> = left.into_iter().map(|c| c.metadata.name.unwrap()).collect();
    assert!(
        left.iter().any(|name| name.starts_with("third-gpu-")),
        "{left:?}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn pods_share_a_claim_and_the_last_one_frees_it() {
    let cluster = with_a_device().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let claims: Api<ResourceClaim> = Api::default_namespaced(cluster.client());
    let shared = json!({"name": "gpu", "resourceClaimName": "shared"});
    // The claim may come after the pod.
    create(&pods, pod("a", shared.clone(), json!({}))).await;
    create(
        &claims,
        json!({"metadata": {"name": "shared"}, "spec": request()}),
    )
    .await;
    in_time(await_condition(pods.clone(), "a", phase("Running")))
        .await
        .unwrap();
    create(&pods, pod("b", shared, json!({}))).await;
    in_time(await_condition(pods.clone(), "b", phase("Running")))
        .await
        .unwrap();
    let users = |claim: Option<&ResourceClaim>| {
        let status = claim.and_then(|claim| claim.status.as_ref());
        let users = status.and_then(|status| status.reserved_for.as_ref());
        users.map_or(0, Vec::len)
    };
    let claim = claims.get("shared").await.unwrap();
    assert_eq!(users(Some(&claim)), 2);
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let one = await_condition(claims.clone(), "shared", |claim: Option<&ResourceClaim>| {
        users(claim) == 1
    });
    let claim = in_time(one).await.unwrap().unwrap();
    assert!(claim.status.unwrap().allocation.is_some());
    pods.delete("b", &DeleteParams::default()).await.unwrap();
    let free = await_condition(claims.clone(), "shared", |claim: Option<&ResourceClaim>| {
        claim.is_some_and(|claim| {
            let status = claim.status.clone().unwrap_or_default();
            let finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
            status.allocation.is_none() && finalizers.is_empty()
        })
    });
    in_time(free).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_is_bound_when_its_device_is() {
    let cluster = TestCluster::start().await.unwrap();
    create(
        &Api::<DeviceClass>::all(cluster.client()),
        json!({"metadata": {"name": "gpu"}}),
    )
    .await;
    let device = json!({"name": "slow", "bindingConditions": ["ready"], "bindingFailureConditions": ["broken"]});
    create(
        &Api::<ResourceSlice>::all(cluster.client()),
        json!({"metadata": {"name": "fabric"}, "spec": {
            "driver": "gpu.example.com", "allNodes": true, "devices": [device],
            "pool": {"name": "fabric", "generation": 1, "resourceSliceCount": 1},
        }}),
    )
    .await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let claims: Api<ResourceClaim> = Api::default_namespaced(cluster.client());
    create(
        &claims,
        json!({"metadata": {"name": "c"}, "spec": request()}),
    )
    .await;
    let named = json!({"name": "gpu", "resourceClaimName": "c"});
    create(&pods, pod("p", named, json!({}))).await;
    let given = |claim: Option<&ResourceClaim>| {
        claim.is_some_and(|claim| {
            let status = claim.status.as_ref();
            status.is_some_and(|status| status.allocation.is_some())
        })
    };
    in_time(await_condition(claims.clone(), "c", given))
        .await
        .unwrap();
    let waiting = pods.get("p").await.unwrap();
    assert_eq!(waiting.spec.unwrap().node_name, None);
    let condition = json!({"type": "ready", "status": "True", "reason": "Attached", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let ready = json!({"status": {"devices": [{"driver": "gpu.example.com", "pool": "fabric",
        "device": "slow", "conditions": [condition]}]}});
    claims
        .patch_status("c", &PatchParams::default(), &Patch::Merge(ready))
        .await
        .unwrap();
    in_time(await_condition(pods, "p", phase("Running")))
        .await
        .unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_template_that_is_not_there_is_told_of_in_an_event() {
    let cluster = TestCluster::start().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let own = json!({"name": "gpu", "resourceClaimTemplateName": "none"});
    create(&pods, pod("p", own, json!({}))).await;
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::default_namespaced(cluster.client());
    let told = async {
        let selected = ListParams::default().fields("reason=FailedResourceClaimCreation");
        loop {
            let found = events.list(&selected).await.unwrap().items;
            if let Some(event) = found.into_iter().next() {
                return event.message.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(
        in_time(told).await,
        "PodResourceClaim gpu: resource claim template \"none\": resourceclaimtemplate.resource.k8s.io \"none\" not found"
    );
    cluster.stop().await;
}
