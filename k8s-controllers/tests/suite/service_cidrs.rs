//! ServiceCIDRs: when they are ready, and when they may go.

use crate::support::{Cluster, from, until};
use k8s_openapi::api::{core::v1::Service, networking::v1::ServiceCIDR};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The status, reason and message of its condition.
fn said(range: Option<&ServiceCIDR>) -> Option<(&str, &str, &str)> {
    let conditions = range?.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    Some((&ready.status, &ready.reason, &ready.message))
}

const READY: (&str, &str, &str) = ("True", "", "Kubernetes Service CIDR is ready");

async fn make(api: &Api<ServiceCIDR>, name: &str, cidr: &str) {
    let range = from(json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}}));
    api.create(&PostParams::default(), &range).await.unwrap();
}

fn service(name: &str, ip: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}})
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_stays_until_no_service_has_its_addresses() {
    let cluster = Cluster::start().await;
    let ranges = Api::<ServiceCIDR>::all(cluster.client.clone());
    let services = cluster.api::<Service>("default");
    make(&ranges, "more", "10.200.0.0/24").await;
    for name in ["kubernetes", "more"] {
        let ready = until(&ranges, name, |range| said(range) == Some(READY)).await;
        let finalizers = ready.unwrap().metadata.finalizers.unwrap();
        assert_eq!(finalizers, [FINALIZER]);
    }
    cluster
        .create::<Service>("default", service("s", "10.200.0.9"))
        .await;
    let delete = DeleteParams::default();
    ranges.delete("more", &delete).await.unwrap();
    let held = (
        "False",
        "Terminating",
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
    );
    until(&ranges, "more", |range| said(range) == Some(held)).await;
    let refused = services
        .create(&PostParams::default(), &from(service("t", "10.200.0.10")))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("the provided network does not match the current range"),
        "{refused}"
    );
    services.delete("s", &delete).await.unwrap();
    until(&ranges, "more", |range| range.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_goes_once_another_has_its_addresses() {
    let cluster = Cluster::start().await;
    let ranges = Api::<ServiceCIDR>::all(cluster.client.clone());
    make(&ranges, "small", "10.200.0.0/28").await;
    until(&ranges, "small", |range| said(range) == Some(READY)).await;
    cluster
        .create::<Service>("default", service("s", "10.200.0.9"))
        .await;
    ranges
        .delete("small", &DeleteParams::default())
        .await
        .unwrap();
    until(&ranges, "small", |range| {
        said(range).is_some_and(|said| said.0 == "False")
    })
    .await;
    make(&ranges, "large", "10.200.0.0/16").await;
    until(&ranges, "small", |range| range.is_none()).await;
    let services = cluster.api::<Service>("default");
    let kept = services.get("s").await.unwrap();
    assert_eq!(kept.spec.unwrap().cluster_ip.unwrap(), "10.200.0.9");
    cluster.shut_down().await;
}
