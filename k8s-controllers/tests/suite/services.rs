//! Endpoints and EndpointSlices against the real API server.

use crate::support::{Cluster, deployment, until, until_all};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

fn endpoints(slices: &[EndpointSlice]) -> Vec<&Endpoint> {
    slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .collect()
}

fn ready(slices: &[EndpointSlice]) -> usize {
    let ready =
        |endpoint: &&&Endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true);
    endpoints(slices).iter().filter(ready).count()
}

#[tokio::test]
async fn endpoints_follow_the_pods_of_a_service() {
    let cluster = Cluster::with_kubelet().await;
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    cluster.create::<Service>("default", service).await;
    let slices = cluster.api::<EndpointSlice>("default");
    let of_web = |slices: &[EndpointSlice]| -> Vec<EndpointSlice> {
        let is_web = |slice: &&EndpointSlice| {
            slice
                .metadata
                .labels
                .as_ref()
                .and_then(|l| l.get("kubernetes.io/service-name"))
                .is_some_and(|n| n == "web")
        };
        slices.iter().filter(is_web).cloned().collect()
    };
    until_all(&slices, |slices| of_web(slices).len() == 1).await;
    cluster
        .create::<Deployment>("default", deployment("web", 3, "v1"))
        .await;
    let all = until_all(&slices, |slices| ready(&of_web(slices)) == 3).await;
    let mine = of_web(&all);
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].address_type, "IPv4");
    let port = &mine[0].ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.port),
        (Some("http"), Some(8080))
    );
    assert_eq!(endpoints(&mine)[0].node_name.as_deref(), Some("n1"));

    let api = cluster.api::<Endpoints>("default");
    let count = |endpoints: Option<&Endpoints>| {
        let subsets = endpoints
            .and_then(|e| e.subsets.clone())
            .unwrap_or_default();
        subsets
            .iter()
            .map(|s| s.addresses.as_ref().map_or(0, Vec::len))
            .sum::<usize>()
    };
    until(&api, "web", |endpoints| count(endpoints) == 3).await;

    // A pod that stops being ready is not used, but not forgotten.
    let pods = cluster.api::<Pod>("default");
    let name = endpoints(&mine)[0]
        .target_ref
        .as_ref()
        .unwrap()
        .name
        .clone()
        .unwrap();
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .unwrap();
    until_all(&slices, |slices| {
        ready(&of_web(slices)) == 2 && endpoints(&of_web(slices)).len() == 3
    })
    .await;
    until(&api, "web", |endpoints| count(endpoints) == 2).await;

    // With the Service goes all that was made for it.
    cluster
        .api::<Service>("default")
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    until(&api, "web", |endpoints| endpoints.is_none()).await;
    until_all(&slices, |slices| of_web(slices).is_empty()).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn endpoints_written_by_hand_are_mirrored() {
    let cluster = Cluster::with_kubelet().await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
    cluster.create::<Service>("default", service).await;
    let by_hand = json!({
        "metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}],
    });
    cluster.create::<Endpoints>("default", by_hand).await;
    let slices = cluster.api::<EndpointSlice>("default");
    let of_db = |slices: &[EndpointSlice]| -> Vec<String> {
        let is_db = |slice: &&EndpointSlice| {
            let owners = slice.metadata.owner_references.iter().flatten();
            owners
                .into_iter()
                .any(|o| o.kind == "Endpoints" && o.name == "db")
        };
        let mine: Vec<_> = slices.iter().filter(is_db).cloned().collect();
        endpoints(&mine)
            .into_iter()
            .flat_map(|endpoint| endpoint.addresses.clone())
            .collect()
    };
    until_all(&slices, |slices| of_db(slices) == ["192.0.2.7"]).await;
    let change = json!({
        "subsets": [{"addresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 5432}]}],
    });
    let api = cluster.api::<Endpoints>("default");
    api.patch("db", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    until_all(&slices, |slices| of_db(slices) == ["192.0.2.8"]).await;
    api.delete("db", &DeleteParams::default()).await.unwrap();
    until_all(&slices, |slices| of_db(slices).is_empty()).await;
}

#[tokio::test]
async fn endpoints_that_come_before_their_service_stay() {
    let cluster = Cluster::start().await;
    let api = cluster.api::<Endpoints>("default");
    let own = |name: &str| {
        json!({"metadata": {"name": name},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]})
    };
    let made = cluster.create::<Endpoints>("default", own("db")).await;
    // By when this one has its own, the controller has looked at what came before.
    let web = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.create::<Service>("default", web).await;
    until(&api, "web", |endpoints| endpoints.is_some()).await;
    let db = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}});
    cluster.create::<Service>("default", db).await;
    let slices = cluster.api::<EndpointSlice>("default");
    until_all(&slices, |slices| {
        let mut all = endpoints(slices).into_iter();
        all.any(|endpoint| endpoint.addresses == ["192.0.2.1"])
    })
    .await;
    let kept = api.get("db").await.unwrap();
    assert_eq!(kept.metadata.uid, made.metadata.uid);
    // With the Service they go.
    let services = cluster.api::<Service>("default");
    services
        .delete("db", &DeleteParams::default())
        .await
        .unwrap();
    until(&api, "db", |endpoints| endpoints.is_none()).await;
    cluster.shut_down().await;
}
