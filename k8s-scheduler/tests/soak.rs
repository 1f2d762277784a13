//! Simulated days: nodes join, change and die, pods of all kinds come and go. No node is ever
//! over-committed, and no pod that has a place somewhere goes on waiting when its back-off is over.
#![allow(clippy::unwrap_used, reason = "in a test, the panic is the message")]

#[allow(dead_code, reason = "shared with the reference, which uses all of it")]
#[path = "reference/cluster.rs"]
mod cluster;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastrand::Rng;
use k8s_scheduler::{
    FitError, Profile, Scheduler, SchedulingQueue,
    framework::ClusterEvent,
    snapshot::{Object, PodInfo, Snapshot},
};
use serde_json::Value;
use tokio::time::Instant;

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

struct World {
    rng: Rng,
    scheduler: Scheduler,
    snapshot: Snapshot,
    queue: SchedulingQueue,
    now: Instant,
    /// The pods that have a place, with the time of their end.
    running: BTreeMap<String, Instant>,
    waiting: BTreeMap<String, Arc<PodInfo>>,
    pods: usize,
    nodes: usize,
    placed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let profile = Arc::new(Profile::default());
        let mut snapshot = Snapshot::default();
        for (name, team) in [("one", "red"), ("two", "blue")] {
            let namespace =
                serde_json::json!({"metadata": {"name": name, "labels": {"team": team}}});
            snapshot.set(Object::Namespace(parsed(&namespace)));
        }
        Self {
            rng: Rng::with_seed(seed),
            scheduler: Scheduler::new(Profile::clone(&profile)),
            snapshot,
            queue: SchedulingQueue::new(profile, Default::default()),
            now: Instant::now(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pods: 0,
            nodes: 0,
            placed: 0,
        }
    }

    fn set_node(&mut self, name: &str) {
        let is_new = self.snapshot.node(name).is_none();
        let node = cluster::node(&mut self.rng, name);
        self.snapshot.set_node(Arc::new(parsed(&node)));
        let node = self.snapshot.node(name).unwrap();
        let event = if is_new {
            ClusterEvent::NodeAdd(node)
        } else {
            ClusterEvent::NodeUpdate(node)
        };
        self.queue.event(&event, self.now);
    }

    fn any_node(&mut self) -> Option<String> {
        let names: Vec<String> = self.snapshot.nodes().map(|n| n.name().to_owned()).collect();
        (!names.is_empty()).then(|| names[self.rng.usize(..names.len())].clone())
    }

    fn end(&mut self, uid: &str) {
        self.running.remove(uid);
        if let Some(gone) = self.snapshot.remove_pod(uid) {
            self.queue
                .event(&ClusterEvent::AssignedPodDelete(&gone), self.now);
        }
    }

    fn something_happens(&mut self) {
        match self.rng.u8(..20) {
            0 => {
                self.nodes += 1;
                self.set_node(&format!("node-{}", self.nodes));
            }
            1 => {
                // Fewer pods may fit than are there: a node only grows old, it does not shrink under its pods.
                let empty = self
                    .any_node()
                    .filter(|n| self.snapshot.node(n).unwrap().pods().is_empty());
                if let Some(name) = empty {
                    self.set_node(&name);
                }
            }
            2 if self.snapshot.len() > 4 => {
                let name = self.any_node().unwrap();
                let node = self.snapshot.node(&name).unwrap().clone();
                self.snapshot.remove_node(&name);
                self.queue.event(&ClusterEvent::NodeDelete(&node), self.now);
                for pod in node.pods() {
                    self.end(pod.uid());
                }
            }
            3..12 => {
                self.pods += 1;
                let pod = cluster::pod(&mut self.rng, &format!("pod-{}", self.pods), None);
                let pod: k8s_openapi::api::core::v1::Pod = parsed(&pod);
                let pod = Arc::new(PodInfo::from(pod));
                self.waiting.insert(pod.uid().to_owned(), pod.clone());
                self.queue.set(pod, self.now);
            }
            12 if !self.waiting.is_empty() => {
                let nth = self.rng.usize(..self.waiting.len());
                let uid = self.waiting.keys().nth(nth).unwrap().clone();
                self.waiting.remove(&uid);
                self.queue.forget(&uid);
            }
            _ => {
                self.now += Duration::from_secs(self.rng.u64(1..120));
                let ended = self.running.iter().filter(|(_, end)| **end <= self.now);
                let ended: Vec<String> = ended.map(|(uid, _)| uid.clone()).collect();
                for uid in ended {
                    self.end(&uid);
                }
            }
        }
    }

    fn schedule(&mut self) {
        while let Some(queued) = self.queue.pop(self.now) {
            let pod = queued.pod;
            let seed = self.rng.u64(..);
            match self.scheduler.schedule(&self.snapshot, &pod, seed) {
                Ok(placement) => {
                    self.snapshot.place(pod.clone(), &placement.node);
                    self.queue.forget(pod.uid());
                    self.waiting.remove(pod.uid());
                    let end = self.now + Duration::from_secs(self.rng.u64(10..3600));
                    self.running.insert(pod.uid().to_owned(), end);
                    self.placed += 1;
                    self.queue
                        .event(&ClusterEvent::AssignedPodAdd(&pod), self.now);
                }
                Err(error) => {
                    let mut plugins = error.plugins();
                    if plugins.is_empty() {
                        plugins.insert("NodeName");
                    }
                    self.queue.failed(pod.uid(), plugins, self.now);
                }
            }
        }
    }

    fn check(&mut self) {
        for node in self.snapshot.nodes() {
            let cpu: i64 = node.pods().iter().map(|p| p.requests().milli_cpu).sum();
            let memory: i64 = node.pods().iter().map(|p| p.requests().memory).sum();
            assert_eq!(
                (cpu, memory),
                (node.requested.milli_cpu, node.requested.memory)
            );
            assert!(cpu <= node.allocatable.milli_cpu && memory <= node.allocatable.memory);
            assert!(node.pods().len() as i64 <= node.allowed_pods);
        }
        assert_eq!(self.queue.len(), self.waiting.len());
        // Longer than any back-off, shorter than the time after which all are tried.
        self.now += Duration::from_secs(11);
        self.schedule();
        for pod in self.waiting.values() {
            match self.scheduler.schedule(&self.snapshot, pod, 0) {
                Err(FitError::Unschedulable { .. }) => {}
                Err(error) => panic!("{error}"),
                Ok(placement) => panic!("{} waits, and would fit on {}", pod.key(), placement.node),
            }
        }
    }
}

#[test]
fn days_of_churn_overcommit_nothing_and_forget_nobody() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        let start = world.now;
        for step in 0..1500 {
            world.something_happens();
            world.schedule();
            if step % 25 == 0 {
                world.check();
            }
        }
        assert!(
            world.placed > 200,
            "seed {seed}: only {} were placed",
            world.placed
        );
        assert!(world.now - start > Duration::from_secs(6 * 3600));
    }
}
