//! Plugins that fail, and pods that make no sense: each hurts its own pod, and the others are scheduled.

use std::{sync::Arc, time::Duration};

use k8s_scheduler::{
    Backoff, DriverConfig, Profile,
    framework::{
        CycleState, Filter, Permit, PermitDecision, Plugin, PreFilter, PreFilterResult, Reserve,
        Score, Status,
    },
    snapshot::{NodeInfo, PodInfo, Snapshot},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, cpu};

/// Panics, at the point that the pod's label says; in Permit it can also never come back.
#[derive(Debug)]
struct Wild;

impl Wild {
    fn at(pod: &PodInfo, point: &str) {
        if pod.labels().get("wild").is_some_and(|p| p == point) {
            panic!("wild in {point}");
        }
    }
}

impl Plugin for Wild {
    fn name(&self) -> &'static str {
        "Wild"
    }
}

impl PreFilter for Wild {
    fn pre_filter(
        &self,
        _: &mut CycleState,
        pod: &PodInfo,
        _: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        Self::at(pod, "PreFilter");
        Ok(PreFilterResult::all())
    }
}

impl Filter for Wild {
    fn filter(&self, _: &CycleState, pod: &PodInfo, _: &NodeInfo) -> Result<(), Status> {
        Self::at(pod, "Filter");
        Ok(())
    }
}

impl Score for Wild {
    fn score(&self, _: &CycleState, pod: &PodInfo, _: &NodeInfo) -> i64 {
        Self::at(pod, "Score");
        0
    }
}

impl Reserve for Wild {
    fn reserve(&self, _: &mut CycleState, pod: &PodInfo, _: &NodeInfo) -> Result<(), Status> {
        Self::at(pod, "Reserve");
        Ok(())
    }

    fn unreserve(&self, _: &CycleState, _: &PodInfo, _: &str) {}
}

impl Permit for Wild {
    fn permit(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        _: &str,
        _: &Snapshot,
        _: &[Arc<PodInfo>],
    ) -> PermitDecision {
        Self::at(pod, "Permit");
        if pod.labels().get("wild").is_some_and(|p| p == "never") {
            loop {
                std::thread::park();
            }
        }
        PermitDecision::Allow
    }
}

fn wild() -> (Profile, DriverConfig) {
    let plugin = Arc::new(Wild);
    let profile = Profile::default()
        .with_pre_filter(plugin.clone())
        .with_filter(plugin.clone())
        .with_score(plugin.clone(), 1)
        .with_reserve(plugin.clone())
        .with_permit(plugin);
    let config = DriverConfig {
        permit_patience: Duration::from_millis(200),
        backoff: Backoff {
            initial: Duration::from_millis(50),
            ..Backoff::default()
        },
        ..DriverConfig::default()
    };
    (profile, config)
}

#[tokio::test]
async fn a_plugin_that_panics_fails_its_pod_and_no_other() {
    let (profile, config) = wild();
    let cluster = Cluster::with(profile, config).await;
    for point in ["PreFilter", "Filter", "Score", "Reserve", "Permit"] {
        let name = format!("bad-{}", point.to_lowercase());
        cluster.pod(&name, json!({"labels": {"wild": point}})).await;
        let said = cluster.refusal_of(&name).await;
        assert!(said.contains(&format!("wild in {point}")), "{said}");
        let name = format!("good-{}", point.to_lowercase());
        cluster.pod(&name, json!({})).await;
        cluster.place_of(&name).await;
    }
}

#[tokio::test]
async fn a_plugin_that_never_returns_from_permit_fails_its_pod_and_no_other() {
    let (profile, config) = wild();
    let cluster = Cluster::with(profile, config).await;
    for name in ["stuck-1", "stuck-2"] {
        let labels = json!({"labels": {"wild": "never"}, "containers": cpu("2")});
        cluster.pod(name, labels).await;
        let said = cluster.refusal_of(name).await;
        assert!(said.contains("\"Wild\" did not return"), "{said}");
    }
    // Their places are free again. The plugin is asked about other pods, and answers.
    for name in ["good-1", "good-2"] {
        cluster.pod(name, json!({"containers": cpu("1500m")})).await;
        cluster.place_of(name).await;
    }
}

/// What the condition of such a pod says.
async fn refusal_of(spec: Value) -> String {
    let cluster = Cluster::up().await;
    cluster.pod("odd", spec).await;
    let said = cluster.refusal_of("odd").await;
    cluster.pod("good", json!({})).await;
    cluster.place_of("good").await;
    said
}

#[tokio::test]
async fn contradictory_affinities_are_refused_by_every_node() {
    let term = json!([{"labelSelector": {"matchLabels": {"app": "odd"}}, "topologyKey": "kubernetes.io/hostname"}]);
    let company = json!({"requiredDuringSchedulingIgnoredDuringExecution": term});
    let said = refusal_of(json!({
        "labels": {"app": "even"},
        "affinity": {"podAffinity": company, "podAntiAffinity": company},
    }))
    .await;
    assert!(
        said.starts_with("0/2 nodes are available: 2 node(s) didn't match pod affinity rules."),
        "{said}"
    );
    let said = refusal_of(json!({
        "nodeSelector": {"kubernetes.io/hostname": "one"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["one"]}]}]}}},
    }))
    .await;
    assert!(
        said.contains("2 node(s) didn't match Pod's node affinity/selector"),
        "{said}"
    );
}

#[tokio::test]
async fn requests_beyond_all_bounds_fit_nowhere() {
    for amount in ["9E", "9223372036854775807"] {
        let said = refusal_of(json!({"containers": [
            {"name": "a", "image": "example.com/pause", "resources": {"requests": {"memory": amount, "cpu": "9223372036854775"}}},
            {"name": "b", "image": "example.com/pause", "resources": {"requests": {"memory": amount, "cpu": "9223372036854775"}}}]}))
        .await;
        assert!(
            said.contains("2 Insufficient cpu, 2 Insufficient memory"),
            "{amount}: {said}"
        );
    }
}
