//! Node controllers and leader election against the real API server.

use std::{sync::Arc, time::Duration};

use crate::support::{Cluster, client_for, until};
use k8s_controllers::{
    ControllerManager,
    runtime::{Clock, LeaderElection, LeaderElectionConfig},
};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::{Api, api::DeleteParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn nodes_get_distinct_ranges_and_not_ready_ones_are_tainted() {
    let cluster = Cluster::start().await;
    cluster.add_node("n1", true).await;
    cluster.add_node("n2", false).await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let mut ranges = Vec::new();
    for name in ["n1", "n2"] {
        let node = until(&nodes, name, |node| {
            let ttl = "node.alpha.kubernetes.io/ttl";
            let annotations = node.and_then(|node| node.metadata.annotations.as_ref());
            let ttl = annotations.and_then(|annotations| annotations.get(ttl));
            let spec = node.and_then(|node| node.spec.as_ref());
            spec.is_some_and(|spec| spec.pod_cidr.is_some()) && ttl.is_some_and(|ttl| ttl == "0")
        })
        .await
        .unwrap();
        let spec = node.spec.unwrap();
        assert_eq!(
            spec.pod_cidrs.as_ref().unwrap(),
            &[spec.pod_cidr.clone().unwrap()]
        );
        ranges.push(spec.pod_cidr.unwrap());
    }
    ranges.sort();
    assert_eq!(ranges, ["10.244.0.0/24", "10.244.1.0/24"]);
    cluster.shut_down().await;
}

#[tokio::test]
async fn a_pod_that_was_never_scheduled_can_be_deleted() {
    let cluster = Cluster::start().await;
    let pod = json!({
        "metadata": {"name": "waiting"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    cluster.create::<Pod>("default", pod).await;
    let pods = cluster.api::<Pod>("default");
    pods.delete("waiting", &DeleteParams::default().grace_period(30))
        .await
        .unwrap();
    until(&pods, "waiting", |pod| pod.is_none()).await;
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_node_is_unreachable_and_loses_its_pods() {
    let cluster = Arc::new(Cluster::start().await);
    cluster.add_node("alive", true).await;
    cluster.add_node("quiet", true).await;
    let pod = json!({
        "metadata": {"name": "victim"},
        "spec": {
            "nodeName": "quiet",
            "containers": [{"name": "c", "image": "i"}],
            "tolerations": [{
                "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 20,
            }],
        },
    });
    cluster.create::<Pod>("default", pod).await;
    let beats = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                cluster.heartbeat("alive").await;
            }
        }
    });
    let nodes = Api::<Node>::all(cluster.client.clone());
    let started = tokio::time::Instant::now();
    let pods = cluster.api::<Pod>("default");
    let watched = async {
        loop {
            let node = nodes.get("quiet").await.unwrap();
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            if taints
                .iter()
                .any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == "NoExecute")
            {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let noticed = started.elapsed();
        assert!(
            noticed >= Duration::from_secs(39) && noticed <= Duration::from_secs(60),
            "{noticed:?}"
        );
        loop {
            let pod = pods.get_opt("victim").await.unwrap();
            if pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(started.elapsed() >= noticed + Duration::from_secs(18));
        let alive = nodes.get("alive").await.unwrap();
        assert!(
            alive
                .spec
                .and_then(|spec| spec.taints)
                .unwrap_or_default()
                .is_empty()
        );
    };
    tokio::time::timeout(Duration::from_secs(600), watched)
        .await
        .unwrap();
    beats.abort();
    let _ = beats.await;
    Arc::into_inner(cluster).unwrap().shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_driven_off_one_node_after_the_other() {
    let cluster = Arc::new(Cluster::start().await);
    let alive = ["a", "b", "c", "d"];
    let quiet = ["x", "y", "z"];
    for name in alive.iter().chain(&quiet) {
        cluster.add_node(name, true).await;
    }
    let beats = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                for name in alive {
                    cluster.heartbeat(name).await;
                }
            }
        }
    });
    let nodes = Api::<Node>::all(cluster.client.clone());
    let added = async |name: &str, effect: &str| {
        let node = nodes.get(name).await.unwrap();
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let found = taints
            .into_iter()
            .find(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == effect);
        found.and_then(|taint| taint.time_added).map(|time| time.0)
    };
    let watched = async {
        loop {
            let mut driven = Vec::new();
            for name in quiet {
                driven.extend(added(name, "NoExecute").await);
            }
            if driven.len() == quiet.len() {
                driven.sort();
                break driven;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let driven = tokio::time::timeout(Duration::from_secs(600), watched);
    let driven = driven.await.unwrap();
    for pair in driven.windows(2) {
        let between = pair[1].duration_since(pair[0]).as_secs();
        assert!((9..=20).contains(&between), "{driven:?}");
    }
    // New pods are kept away from all of them at once.
    for name in quiet {
        let kept_away = added(name, "NoSchedule").await.unwrap();
        assert!(kept_away.duration_since(driven[0]).as_secs() <= 5);
    }
    for name in alive {
        assert_eq!(added(name, "NoSchedule").await, None);
    }
    beats.abort();
    let _ = beats.await;
    Arc::into_inner(cluster).unwrap().shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn one_replica_leads_and_another_follows_when_it_stops() {
    let cluster = Cluster::bare().await;
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut stops = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for identity in ["one", "two"] {
        let stop = CancellationToken::new();
        stops.push(stop.clone());
        let config = LeaderElectionConfig::new("test", identity);
        let election = LeaderElection::new(cluster.client.clone(), config, Clock::system());
        let sender = sender.clone();
        tasks.spawn(async move {
            election
                .run(stop, |leading| async move {
                    sender.send(identity).unwrap();
                    leading.cancelled().await;
                })
                .await
        });
        if identity == "one" {
            assert_eq!(receiver.recv().await, Some("one"));
        }
    }
    assert!(
        tokio::time::timeout(Duration::from_secs(60), receiver.recv())
            .await
            .is_err(),
        "only one leads"
    );
    stops[0].cancel();
    assert_eq!(receiver.recv().await, Some("two"));
    stops[1].cancel();
    while let Some(lost) = tasks.join_next().await {
        assert!(!lost.unwrap());
    }
    cluster.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_goes_twice_are_waited_for_twice() {
    let cluster = Cluster::bare().await;
    let server = cluster.server.clone();
    let manager = ControllerManager::builder(move |name| client_for(&server, name))
        .controllers("serviceaccount,podgc".parse().unwrap())
        .build();
    let stop = cluster.stop.clone();
    let running = tokio::spawn(manager.run(stop.clone()));
    let accounts = cluster.api::<ServiceAccount>("default");
    until(&accounts, "default", |account| account.is_some()).await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let pods = cluster.api::<Pod>("default");
    let on_node = |name: &str| {
        json!({"metadata": {"name": name},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}})
    };
    let at_once = DeleteParams::default().grace_period(0);
    let later = tokio::time::sleep;
    cluster.add_node("n", true).await;
    cluster.create::<Pod>("default", on_node("first")).await;
    nodes.delete("n", &DeleteParams::default()).await.unwrap();
    later(Duration::from_secs(10)).await;
    pods.delete("first", &at_once).await.unwrap();
    cluster.add_node("n", true).await;
    later(Duration::from_secs(100)).await;
    cluster.create::<Pod>("default", on_node("second")).await;
    later(Duration::from_secs(1)).await;
    nodes.delete("n", &DeleteParams::default()).await.unwrap();
    let since = tokio::time::Instant::now();
    while pods.get_opt("second").await.unwrap().is_some() {
        later(Duration::from_secs(1)).await;
        assert!(since.elapsed() < Duration::from_secs(120), "it never goes");
    }
    let waited = since.elapsed();
    assert!(waited >= Duration::from_secs(39), "{waited:?}");
    stop.cancel();
    running.await.unwrap();
    cluster.shut_down().await;
}
