//! Answers that are lost, conflicts, nodes that vanish, pods that are deleted in the middle of their cycle, and
//! schedulers that start anew: no node is ever given to more pods than it has room for, and no pod is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_apiserver::auth::Identity;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_scheduler::{
    Backoff, Driver, DriverConfig, LeaderElection, Profile,
    framework::{CycleState, Plugin, PreBind, Status},
    snapshot::PodInfo,
};
use k8s_testing::{Faults, TestCluster};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::from;

/// How many of these pods a node has room for.
const ROOM: usize = 4;
/// How long the scheduler may take for all.
const PATIENCE: Duration = Duration::from_secs(90);

struct Trial {
    cluster: TestCluster,
    /// What a watcher saw that must not be.
    wrong: Arc<Mutex<Vec<String>>>,
    _watch: tokio::task::JoinHandle<()>,
}

fn node(name: &str) -> Node {
    let amount = json!({"cpu": ROOM.to_string(), "memory": "4Gi", "pods": "110"});
    from(json!({"metadata": {"name": name}, "status": {"allocatable": amount, "capacity": amount}}))
}

fn pod(name: &str) -> Pod {
    from(json!({
        "metadata": {"name": name},
        "spec": {"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "c", "image": "example.com/pause", "resources": {"requests": {"cpu": "1"}}}]},
    }))
}

/// Watches that no pod changes its node, and that no node has more pods than fit.
async fn judge(pods: Api<Pod>, wrong: Arc<Mutex<Vec<String>>>) {
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let mut events = pods
        .watch(&WatchParams::default(), "0")
        .await
        .expect("a watch")
        .boxed();
    while let Ok(Some(event)) = events.try_next().await {
        let (pod, gone) = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
            WatchEvent::Deleted(pod) => (pod, true),
            _ => continue,
        };
        let uid = pod.metadata.uid.unwrap_or_default();
        if gone {
            places.remove(&uid);
            continue;
        }
        let Some(node) = pod.spec.and_then(|s| s.node_name) else {
            continue;
        };
        if let Some(before) = places.insert(uid.clone(), node.clone())
            && before != node
        {
            let text = format!("{uid} went from {before} to {node}");
            wrong.lock().expect("no panic").push(text);
        }
        let there = places.values().filter(|n| **n == node).count();
        if there > ROOM {
            let text = format!("{there} pods on {node}");
            wrong.lock().expect("no panic").push(text);
        }
    }
}

impl Trial {
    async fn with_nodes(count: usize) -> Self {
        let cluster = TestCluster::builder().start().await.expect("a cluster");
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let pods = Api::default_namespaced(cluster.client());
        let watch = tokio::spawn(judge(pods, wrong.clone()));
        let trial = Self {
            cluster,
            wrong,
            _watch: watch,
        };
        for n in 0..count {
            trial.add_node(&format!("node-{n}")).await;
        }
        trial
    }

    async fn add_node(&self, name: &str) {
        let nodes = Api::<Node>::all(self.cluster.client());
        nodes
            .create(&PostParams::default(), &node(name))
            .await
            .expect("a node");
        let ready = Patch::Merge(json!({"spec": {"taints": null}}));
        let params = PatchParams::default();
        nodes.patch(name, &params, &ready).await.expect("no taint");
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.cluster.client())
    }

    async fn add_pods(&self, names: impl Iterator<Item = String>) {
        let pods = &self.pods();
        stream::iter(names)
            .for_each_concurrent(8, |name| async move {
                pods.create(&PostParams::default(), &pod(&name))
                    .await
                    .expect("a pod");
            })
            .await;
    }

    /// A scheduler on whose way things go wrong, until it is cancelled.
    fn schedule(&self, faults: &Faults) -> CancellationToken {
        let identity = Identity::user("system:kube-scheduler").group("system:authenticated");
        let client = self.cluster.client_with_faults(identity, faults);
        let config = DriverConfig {
            backoff: Backoff {
                initial: Duration::from_millis(20),
                max: Duration::from_millis(100),
                unschedulable: Duration::from_secs(2),
            },
            ..DriverConfig::default()
        };
        let stop = CancellationToken::new();
        tokio::spawn(Driver::new(client, Profile::default(), config).run(stop.clone()));
        stop
    }

    async fn placed(&self) -> BTreeMap<String, Option<String>> {
        let list = self.pods().list(&ListParams::default()).await;
        let pods = list.expect("a list").items.into_iter();
        pods.map(|pod| {
            let node = pod.spec.and_then(|s| s.node_name);
            (pod.metadata.name.unwrap_or_default(), node)
        })
        .collect()
    }

    /// Waits until so many pods have a node.
    async fn until_placed(&self, count: usize) {
        let all = async {
            loop {
                let placed = self.placed().await;
                if placed.values().filter(|node| node.is_some()).count() >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            panic!("not all were placed: {:#?}", self.placed().await);
        }
    }

    fn all_went_well(&self) {
        let wrong = self.wrong.lock().expect("no panic");
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |n| format!("{prefix}-{n}"))
}

#[tokio::test]
async fn bindings_whose_answers_are_lost_are_made_once() {
    for seed in 0..3 {
        // Room for all, and for not one more.
        let trial = Trial::with_nodes(10).await;
        let faults = Faults::seeded(seed)
            .errors_after_writes(0.3)
            .lost_connections(0.2)
            .at_most(2)
            .only_paths_with("/binding");
        let stop = trial.schedule(&faults);
        trial.add_pods(names("pod", 10 * ROOM)).await;
        trial.until_placed(10 * ROOM).await;
        trial.all_went_well();
        assert!(!faults.injected().is_empty(), "seed {seed}");
        stop.cancel();
    }
}

#[tokio::test]
async fn conflicts_stale_reads_and_broken_watches_lose_no_pod() {
    for seed in 10..13 {
        let trial = Trial::with_nodes(10).await;
        let faults = Faults::seeded(seed)
            .conflicts(0.3)
            .errors_after_writes(0.1)
            .repeated_events(0.1)
            .lost_connections(0.05)
            .at_most(3);
        let stop = trial.schedule(&faults);
        trial.add_pods(names("pod", 10 * ROOM)).await;
        trial.until_placed(10 * ROOM).await;
        trial.all_went_well();
        stop.cancel();
    }
}

#[tokio::test]
async fn late_events_do_not_give_a_place_twice() {
    for seed in 20..22 {
        let trial = Trial::with_nodes(6).await;
        let faults = Faults::seeded(seed).delayed_events(0.2, Duration::from_millis(50));
        let stop = trial.schedule(&faults);
        trial.add_pods(names("pod", 6 * ROOM)).await;
        trial.until_placed(6 * ROOM).await;
        trial.all_went_well();
        stop.cancel();
    }
}

#[tokio::test]
async fn a_node_that_vanishes_in_the_middle_takes_no_other_pods_along() {
    let trial = Trial::with_nodes(8).await;
    let stop = trial.schedule(&Faults::seeded(0));
    let nodes = Api::<Node>::all(trial.cluster.client());
    let vanish = async {
        for n in 0..4 {
            trial.until_placed(n * 4).await;
            let params = DeleteParams::default();
            nodes
                .delete(&format!("node-{n}"), &params)
                .await
                .expect("it goes");
        }
    };
    tokio::join!(trial.add_pods(names("pod", 4 * ROOM)), vanish);
    trial.until_placed(4 * ROOM).await;
    // Those that came after it was gone are elsewhere.
    trial.add_pods(names("late", 1)).await;
    let late = async {
        loop {
            let placed = trial.placed().await;
            match &placed["late-0"] {
                Some(node) => return node.clone(),
                // The nodes that are left may be full by now.
                None => trial.add_node("more").await,
            }
            trial.until_placed(4 * ROOM + 1).await;
        }
    };
    let node = tokio::time::timeout(PATIENCE, late).await.expect("in time");
    let gone: BTreeSet<String> = names("node", 4).collect();
    assert!(!gone.contains(&node), "{node}");
    trial.all_went_well();
    stop.cancel();
}

#[tokio::test]
async fn pods_deleted_in_the_middle_give_their_room_back() {
    let trial = Trial::with_nodes(4).await;
    let stop = trial.schedule(&Faults::seeded(0));
    let pods = trial.pods();
    // Twice as many as there is room for; half of them go, whatever they are at.
    let delete = async {
        for name in names("gone", 4 * ROOM) {
            let params = DeleteParams::default().grace_period(0);
            while pods.delete(&name, &params).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::join!(
        trial.add_pods(names("gone", 4 * ROOM)),
        trial.add_pods(names("stays", 4 * ROOM)),
        delete
    );
    trial.until_placed(4 * ROOM).await;
    let placed = trial.placed().await;
    assert_eq!(placed.len(), 4 * ROOM);
    trial.all_went_well();
    stop.cancel();
}

#[tokio::test]
async fn a_scheduler_that_starts_anew_knows_all_from_the_api() {
    let trial = Trial::with_nodes(10).await;
    trial.add_pods(names("pod", 10 * ROOM)).await;
    for seed in 30..36 {
        // Stopped in the middle, with answers lost on the way.
        let faults = Faults::seeded(seed).errors_after_writes(0.2).at_most(1);
        let stop = trial.schedule(&faults);
        let before = trial.placed().await.values().flatten().count();
        trial.until_placed((before + 5).min(10 * ROOM)).await;
        stop.cancel();
    }
    let stop = trial.schedule(&Faults::seeded(0));
    trial.until_placed(10 * ROOM).await;
    trial.all_went_well();
    stop.cancel();
}

/// Has each pod wait before it is bound, for ever; says when it begins to and when it is given up.
#[derive(Debug)]
struct Endless(mpsc::UnboundedSender<&'static str>);

impl Plugin for Endless {
    fn name(&self) -> &'static str {
        "Endless"
    }
}

#[async_trait]
impl PreBind for Endless {
    async fn pre_bind(
        &self,
        _: &Client,
        _: &CycleState,
        _: &PodInfo,
        _: &str,
    ) -> Result<(), Status> {
        struct Given(mpsc::UnboundedSender<&'static str>);
        impl Drop for Given {
            fn drop(&mut self) {
                // The test may be over.
                let _ = self.0.send("is given up");
            }
        }
        let given = Given(self.0.clone());
        given.0.send("waits").expect("the test listens");
        std::future::pending().await
    }
}

#[tokio::test]
async fn who_does_not_lead_any_more_binds_nothing_that_it_decided_before() {
    let trial = Trial::with_nodes(1).await;
    let (network, (said, mut heard)) = (Faults::seeded(0), mpsc::unbounded_channel());
    let identity = Identity::user("system:kube-scheduler").group("system:authenticated");
    let client = trial.cluster.client_with_faults(identity, &network);
    let config = DriverConfig {
        leader_election: Some(LeaderElection {
            lease_duration: Duration::from_secs(3),
            renew_deadline: Duration::from_secs(2),
            retry_period: Duration::from_millis(100),
            ..LeaderElection::new("one")
        }),
        ..DriverConfig::default()
    };
    let profile = Profile::default().with_pre_bind(Arc::new(Endless(said)));
    let stop = CancellationToken::new();
    let running = tokio::spawn(Driver::new(client, profile, config).run(stop.clone()));
    trial.add_pods(names("pod", 1)).await;
    assert_eq!(heard.recv().await, Some("waits"));
    network.cut();
    let given_up = tokio::time::timeout(Duration::from_secs(30), heard.recv());
    assert_eq!(given_up.await.expect("in time"), Some("is given up"));
    stop.cancel();
    running.await.expect("no panic");
}
