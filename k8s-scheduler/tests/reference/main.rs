//! The fast core against a slow and obvious one, on random clusters: the same plugin turns each node
//! away, the scores are equal, and what was computed before never shows.
#![allow(clippy::unwrap_used, reason = "in a test, the panic is the message")]

#[path = "cluster.rs"]
mod cluster;
#[path = "plugins.rs"]
mod plugins;

use std::{collections::BTreeMap, sync::Arc};

use cluster::Cluster;
use fastrand::Rng;
use k8s_scheduler::{
    FitError, Profile, Scheduler,
    snapshot::{Object, PodInfo, Snapshot},
};
use serde_json::Value;

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn info(pod: &Value) -> PodInfo {
    parsed::<k8s_openapi::api::core::v1::Pod>(pod).into()
}

fn snapshot(cluster: &Cluster) -> Snapshot {
    let mut snapshot = Snapshot::new(
        cluster.nodes.iter().map(parsed),
        cluster.pods.iter().map(info),
    );
    for namespace in &cluster.namespaces {
        snapshot.set(Object::Namespace(parsed(namespace)));
    }
    for service in &cluster.services {
        snapshot.set(Object::Service(parsed(service)));
    }
    for budget in &cluster.budgets {
        snapshot.set(Object::PodDisruptionBudget(parsed(budget)));
    }
    snapshot
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Checks one decision against the reference; the node, if there is one.
fn check(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    cluster: &Cluster,
    pod: &Value,
    seed: u64,
) -> Option<String> {
    let rejected: BTreeMap<String, &str> = cluster
        .nodes
        .iter()
        .filter_map(|n| Some((name(n), plugins::rejected_by(cluster, pod, n)?)))
        .collect();
    let feasible: Vec<&Value> = cluster
        .nodes
        .iter()
        .filter(|n| !rejected.contains_key(&name(n)))
        .collect();
    let totals = plugins::totals(cluster, pod, &feasible);
    let expected: BTreeMap<String, i64> = feasible.iter().map(|n| name(n)).zip(totals).collect();

    let pod_info = info(pod);
    let explained = scheduler.explain(snapshot, &pod_info).unwrap();
    let statuses: BTreeMap<String, &str> = explained
        .statuses
        .iter()
        .map(|(n, s)| (n.to_owned(), s.plugin))
        .collect();
    assert_eq!(statuses, rejected, "seed {seed}, pod {pod:#}");
    let scores: BTreeMap<String, i64> = explained
        .scores
        .iter()
        .map(|s| (s.node.clone(), s.total))
        .collect();
    assert_eq!(scores, expected, "seed {seed}, pod {pod:#}\n{explained}");

    match scheduler.schedule(snapshot, &pod_info, seed) {
        Ok(placement) => {
            assert_eq!(placement.feasible, expected.len());
            let best = expected.values().max().unwrap();
            assert_eq!(expected[&placement.node], *best, "seed {seed}: {explained}");
            if placement.feasible > 1 {
                assert_eq!(placement.score, *best);
            }
            Some(placement.node)
        }
        Err(FitError::Unschedulable { statuses, .. }) => {
            assert!(expected.is_empty(), "seed {seed}");
            assert_eq!(statuses, explained.statuses);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn feasible_nodes_and_scores_are_those_of_the_reference() {
    let scheduler = Scheduler::new(Profile::default());
    for seed in 0..1500 {
        let mut rng = Rng::with_seed(seed);
        let cluster = Cluster::random(&mut rng);
        let pod = cluster::pod(&mut rng, "waiting", None);
        check(&scheduler, &snapshot(&cluster), &cluster, &pod, seed);
    }
}

#[test]
fn what_a_snapshot_remembers_is_up_to_date_after_any_change() {
    let scheduler = Scheduler::new(Profile::default());
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let mut cluster = Cluster::random(&mut rng);
        let mut snapshot = snapshot(&cluster);
        let kinds: Vec<Value> = (0..4)
            .map(|_| cluster::pod(&mut rng, "kind", None))
            .collect();
        for step in 0..40 {
            let mut pod = kinds[rng.usize(..kinds.len())].clone();
            pod["metadata"]["name"] = format!("new-{step}").into();
            pod["metadata"]["uid"] = format!("new-{step}").into();
            if let Some(node) = check(&scheduler, &snapshot, &cluster, &pod, seed) {
                pod["spec"]["nodeName"] = node.clone().into();
                snapshot.place(Arc::new(info(&pod)), &node);
                cluster.pods.push(pod);
            }
            match rng.u8(..8) {
                0 | 1 if !cluster.pods.is_empty() => {
                    let gone = cluster.pods.swap_remove(rng.usize(..cluster.pods.len()));
                    snapshot.remove_pod(&name(&gone));
                }
                2 if !cluster.pods.is_empty() => {
                    let at = rng.usize(..cluster.pods.len());
                    cluster.pods[at]["metadata"]["deletionTimestamp"] =
                        "2026-01-01T00:00:00Z".into();
                    let node = cluster.pods[at]["spec"]["nodeName"]
                        .as_str()
                        .unwrap()
                        .to_owned();
                    snapshot.place(Arc::new(info(&cluster.pods[at])), &node);
                }
                3 => {
                    let at = rng.usize(..cluster.nodes.len());
                    cluster.nodes[at] = cluster::node(&mut rng, &name(&cluster.nodes[at]));
                    snapshot.set_node(Arc::new(parsed(&cluster.nodes[at])));
                }
                4 => {
                    let node = cluster::node(&mut rng, &format!("late-{step}"));
                    snapshot.set_node(Arc::new(parsed(&node)));
                    cluster.nodes.push(node);
                }
                5 if cluster.nodes.len() > 1 => {
                    let gone = cluster.nodes.swap_remove(rng.usize(..cluster.nodes.len()));
                    let node = name(&gone);
                    let (there, left): (Vec<Value>, _) = cluster
                        .pods
                        .drain(..)
                        .partition(|p| p["spec"]["nodeName"] == node.as_str());
                    cluster.pods = left;
                    snapshot.remove_node(&node);
                    for pod in there {
                        snapshot.remove_pod(&name(&pod));
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the reference evicts on a node: by importance, most important first, and how many of them break a budget.
fn victims(cluster: &Cluster, pod: &Value, node: &Value) -> Option<(Vec<String>, usize)> {
    let priority = |p: &Value| p["spec"]["priority"].as_i64().unwrap();
    let started = |p: &Value| p["status"]["startTime"].as_str().unwrap().to_owned();
    let is_lower = |p: &Value| {
        p["spec"]["nodeName"] == node["metadata"]["name"] && priority(p) < priority(pod)
    };
    let (mut lower, rest): (Vec<Value>, Vec<Value>) =
        cluster.pods.iter().cloned().partition(|p| is_lower(p));
    if lower.is_empty() {
        return None;
    }
    let mut trial = cluster.clone();
    trial.pods = rest;
    if plugins::rejected_by(&trial, pod, node).is_some() {
        return None;
    }
    lower.sort_by_key(|p| (-priority(p), started(p)));
    let mut allowed: Vec<i64> = cluster
        .budgets
        .iter()
        .map(|b| b["status"]["disruptionsAllowed"].as_i64().unwrap())
        .collect();
    let (breaking, others): (Vec<Value>, Vec<Value>) = lower.into_iter().partition(|p| {
        let mut breaks = false;
        for (budget, left) in cluster.budgets.iter().zip(&mut allowed) {
            let app = &budget["spec"]["selector"]["matchLabels"]["app"];
            if budget["metadata"]["namespace"] == p["metadata"]["namespace"]
                && &p["metadata"]["labels"]["app"] == app
            {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    });
    let (mut gone, mut violations) = (Vec::new(), 0);
    let count = breaking.len();
    for (i, candidate) in breaking.into_iter().chain(others).enumerate() {
        trial.pods.push(candidate.clone());
        if plugins::rejected_by(&trial, pod, node).is_some() {
            trial.pods.pop();
            violations += usize::from(i < count);
            gone.push(candidate);
        }
    }
    gone.sort_by_key(|p| (-priority(p), started(p)));
    Some((gone.iter().map(name).collect(), violations))
}

#[test]
fn preemption_evicts_what_the_reference_evicts_where_it_does_the_least_harm() {
    let scheduler = Scheduler::new(Profile::default());
    let mut preempted = 0;
    for seed in 0..1500 {
        let mut rng = Rng::with_seed(seed);
        let cluster = Cluster::random(&mut rng);
        let mut pod = cluster::pod(&mut rng, "waiting", None);
        pod["spec"]["priority"] = 100.into();
        let (snapshot, pod_info) = (snapshot(&cluster), info(&pod));
        let Err(error) = scheduler.schedule(&snapshot, &pod_info, seed) else {
            continue;
        };
        let FitError::Unschedulable { statuses, .. } = &error else {
            panic!("{error}")
        };
        let Ok(room) = scheduler.make_room(&snapshot, &pod_info, &error, seed) else {
            continue;
        };
        let by_name = |wanted: &String| cluster.pods.iter().find(|p| &name(p) == wanted).unwrap();
        let harm = |(gone, violations): &(Vec<String>, usize)| {
            let priorities: Vec<i64> = gone
                .iter()
                .map(|v| by_name(v)["spec"]["priority"].as_i64().unwrap())
                .collect();
            let highest = priorities.iter().copied().max();
            let top = gone
                .iter()
                .map(by_name)
                .filter(|p| p["spec"]["priority"].as_i64() == highest);
            let earliest = top
                .map(|p| p["status"]["startTime"].as_str().unwrap())
                .min();
            let sum: i64 = priorities.iter().map(|p| p + i64::from(i32::MAX) + 1).sum();
            (
                *violations,
                highest,
                sum,
                gone.len(),
                std::cmp::Reverse(earliest.map(str::to_owned)),
            )
        };
        let helpful = |n: &&Value| {
            statuses
                .get(&name(n))
                .is_some_and(|s| s.code == k8s_scheduler::framework::Code::Unschedulable)
        };
        let candidates: BTreeMap<String, (Vec<String>, usize)> = cluster
            .nodes
            .iter()
            .filter(helpful)
            .filter_map(|n| Some((name(n), victims(&cluster, &pod, n)?)))
            .collect();
        let Some(node) = &room.node else {
            assert!(candidates.is_empty(), "seed {seed}: {candidates:?}");
            continue;
        };
        preempted += 1;
        let least = candidates.values().map(harm).min().unwrap();
        let chosen = &candidates[node];
        assert_eq!(harm(chosen), least, "seed {seed}");
        let evicted: Vec<String> = room.victims.iter().map(|v| v.name().to_owned()).collect();
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(evicted), sorted(chosen.0.clone()), "seed {seed}");
    }
    assert!(preempted > 50, "only {preempted} cases");
}
