use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus,
            RollingUpdateDeployment,
        },
        core::v1::{Container, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, Time},
        util::intstr::IntOrString,
    },
};
use proptest::prelude::*;

use super::{
    REVISION, REVISION_HISTORY, limits,
    plan::{self, Observed, Plan, Write, replicas},
};
use crate::common::{compat, owner};

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn template(image: &str) -> PodTemplateSpec {
    let container = Container {
        name: "c".to_owned(),
        image: Some(image.to_owned()),
        ..Default::default()
    };
    let mut template = PodTemplateSpec {
        spec: Some(PodSpec {
            containers: vec![container],
            ..Default::default()
        }),
        ..Default::default()
    };
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert("app".to_owned(), "web".to_owned());
    template
}

fn deployment(count: i32, surge: i32, unavailable: i32) -> Deployment {
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(surge)),
        max_unavailable: Some(IntOrString::Int(unavailable)),
    };
    let mut deployment = Deployment::default();
    deployment.metadata.name = Some("web".to_owned());
    deployment.metadata.namespace = Some("default".to_owned());
    deployment.metadata.uid = Some("d".to_owned());
    deployment.metadata.generation = Some(1);
    deployment.spec = compat::set(DeploymentSpec {
        replicas: Some(count),
        selector: LabelSelector {
            match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..Default::default()
        },
        strategy: Some(DeploymentStrategy {
            type_: None,
            rolling_update: Some(rolling),
        }),
        template: template("v1"),
        progress_deadline_seconds: Some(600),
        revision_history_limit: Some(10),
        ..Default::default()
    });
    deployment
}

/// A cluster in which nothing but this Deployment lives: applies plans, and plays the ReplicaSet
/// controller and the kubelet.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    created: usize,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        World {
            deployment,
            sets: Vec::new(),
            now: start(),
            created: 0,
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut DeploymentSpec)) {
        change(compat::deployment_spec_mut(&mut self.deployment).unwrap());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn plan(&self) -> Plan {
        let running = self
            .sets
            .iter()
            .filter(|set| actual(set) > 0)
            .map(|set| owner::uid(&set.metadata).to_owned());
        plan::plan(Observed {
            deployment: &self.deployment,
            sets: self.sets.iter().cloned().map(Arc::new).collect(),
            running: running.collect::<HashSet<_>>(),
            now: self.now,
        })
    }

    /// One reconcile. Says whether it wrote anything.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let mut wrote = false;
        for write in plan.writes {
            wrote = true;
            match write {
                Write::Create(set) => {
                    let mut set = (*set).clone();
                    self.created += 1;
                    set.metadata.uid = Some(format!("rs{}", self.created));
                    set.metadata.creation_timestamp = Some(Time(
                        start() + std::time::Duration::from_secs(self.created as u64),
                    ));
                    set.metadata.generation = Some(1);
                    self.sets.push(set);
                }
                Write::Update { set, .. } => {
                    let known = self
                        .sets
                        .iter_mut()
                        .find(|known| known.metadata.uid == set.metadata.uid)
                        .unwrap();
                    *known = (*set).clone();
                    *known.metadata.generation.as_mut().unwrap() += 1;
                }
                Write::Delete(set) => self
                    .sets
                    .retain(|known| known.metadata.uid != set.metadata.uid),
            }
        }
        wrote |= self.deployment.status != plan.deployment.status
            || self.deployment.metadata.annotations != plan.deployment.metadata.annotations;
        self.deployment.status = plan.deployment.status;
        self.deployment.metadata.annotations = plan.deployment.metadata.annotations;
        wrote
    }

    /// The ReplicaSet controller: pods are created at once; of those to be removed, unavailable
    /// ones go first.
    fn sync_sets(&mut self) {
        for set in &mut self.sets {
            let count = replicas(set);
            let generation = set.metadata.generation;
            let status = set.status.get_or_insert_with(ReplicaSetStatus::default);
            status.replicas = count;
            status.available_replicas = Some(status.available_replicas.unwrap_or(0).min(count));
            status.ready_replicas = status.available_replicas;
            status.observed_generation = generation;
        }
    }

    fn make_all_available(&mut self) {
        self.sync_sets();
        for set in &mut self.sets {
            let status = set.status.as_mut().unwrap();
            status.available_replicas = Some(status.replicas);
            status.ready_replicas = Some(status.replicas);
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let wrote = self.step();
            self.make_all_available();
            if !wrote && !self.step() {
                return;
            }
        }
        panic!("does not settle");
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let condition = super::progress::find(&self.deployment.status, kind).unwrap();
        (
            compat::text(&condition.status).to_owned(),
            condition.reason.clone().unwrap(),
        )
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(replicas).collect()
    }

    fn revision(&self, index: usize) -> &str {
        &self.sets[index].metadata.annotations.as_ref().unwrap()[REVISION]
    }
}

fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

#[test]
fn a_new_deployment_gets_its_replica_set_and_progresses_to_available() {
    let mut world = World::new(deployment(3, 1, 0));
    assert!(world.step());
    assert_eq!(world.sizes(), [3]);
    let set = &world.sets[0];
    let hash = &set.metadata.labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(owner::name(&set.metadata), format!("web-{hash}"));
    assert_eq!(
        set.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/desired-replicas"],
        "3"
    );
    assert_eq!(
        set.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/max-replicas"],
        "4"
    );
    assert_eq!(world.revision(0), "1");
    assert_eq!(
        world.deployment.metadata.annotations.as_ref().unwrap()[REVISION],
        "1"
    );
    assert_eq!(
        world.condition("Progressing"),
        ("True".to_owned(), "NewReplicaSetCreated".to_owned())
    );
    assert_eq!(
        world.condition("Available"),
        ("False".to_owned(), "MinimumReplicasUnavailable".to_owned())
    );
    world.sync_sets();
    world.step();
    assert_eq!(
        world.condition("Progressing"),
        ("True".to_owned(), "ReplicaSetUpdated".to_owned())
    );
    world.settle();
    assert_eq!(
        world.condition("Progressing"),
        ("True".to_owned(), "NewReplicaSetAvailable".to_owned())
    );
    assert_eq!(
        world.condition("Available"),
        ("True".to_owned(), "MinimumReplicasAvailable".to_owned())
    );
    let status = world.deployment.status.as_ref().unwrap();
    assert_eq!(
        (
            status.replicas,
            status.updated_replicas,
            status.available_replicas
        ),
        (Some(3), Some(3), Some(3))
    );
    assert_eq!(
        (status.unavailable_replicas, status.observed_generation),
        (None, Some(1))
    );
}

#[test]
fn a_rollout_replaces_the_old_set_and_undo_brings_it_back_as_a_new_revision() {
    let mut world = World::new(deployment(4, 1, 1));
    world.settle();
    world.edit(|spec| spec.template = template("v2"));
    world.settle();
    assert_eq!(world.sizes(), [0, 4]);
    assert_eq!(world.revision(1), "2");
    // `kubectl rollout undo` puts the former template back.
    world.edit(|spec| spec.template = template("v1"));
    world.settle();
    assert_eq!(world.sizes(), [4, 0]);
    assert_eq!(world.revision(0), "3");
    assert_eq!(
        world.sets[0].metadata.annotations.as_ref().unwrap()[REVISION_HISTORY],
        "1"
    );
    assert_eq!(
        world.deployment.metadata.annotations.as_ref().unwrap()[REVISION],
        "3"
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut deployment = deployment(2, 0, 0);
    compat::deployment_spec_mut(&mut deployment)
        .unwrap()
        .strategy = Some(DeploymentStrategy {
        type_: Some("Recreate".to_owned()),
        rolling_update: None,
    });
    let mut world = World::new(deployment);
    world.settle();
    world.edit(|spec| spec.template = template("v2"));
    world.step();
    assert_eq!(world.sizes(), [0]);
    world.step();
    assert_eq!(world.sizes(), [0], "old pods still run");
    world.settle();
    assert_eq!(world.sizes(), [0, 2]);
}

#[test]
fn history_beyond_the_limit_is_deleted_oldest_first() {
    let mut world = World::new(deployment(1, 1, 0));
    world.edit(|spec| spec.revision_history_limit = Some(2));
    for version in 1..=6 {
        world.edit(|spec| spec.template = template(&format!("v{version}")));
        world.settle();
    }
    let revisions: Vec<_> = (0..world.sets.len())
        .map(|index| world.revision(index).to_owned())
        .collect();
    assert_eq!(revisions, ["4", "5", "6"]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    // The example of upstream's documentation: 10 replicas, surge 3, unavailable 2; the new
    // image cannot be pulled; then the Deployment is scaled to 15.
    let mut world = World::new(deployment(10, 3, 2));
    world.settle();
    world.edit(|spec| spec.template = template("bad"));
    for _ in 0..10 {
        world.step();
        world.sync_sets();
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.edit(|spec| spec.replicas = Some(15));
    world.step();
    assert_eq!(world.sizes(), [11, 7]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment(2, 1, 0));
    world.settle();
    world.edit(|spec| {
        spec.paused = Some(true);
        spec.template = template("v2");
        spec.replicas = Some(5);
    });
    world.settle();
    assert_eq!(world.sizes(), [5]);
    assert_eq!(
        world.condition("Progressing"),
        ("Unknown".to_owned(), "DeploymentPaused".to_owned())
    );
    world.edit(|spec| spec.paused = Some(false));
    world.settle();
    assert_eq!(world.sizes(), [0, 5]);
    assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn a_rollout_without_progress_times_out_after_the_deadline() {
    let mut world = World::new(deployment(2, 1, 0));
    world.step();
    world.sync_sets();
    world.step();
    let requeue = world.plan().requeue.unwrap();
    assert_eq!(requeue.as_secs(), 601);
    world.now += requeue;
    world.step();
    assert_eq!(
        world.condition("Progressing"),
        ("False".to_owned(), "ProgressDeadlineExceeded".to_owned())
    );
    assert_eq!(world.plan().requeue, None);
    assert!(!world.step(), "a timed out rollout is reported once");
}

proptest! {
    /// Whatever becomes available or fails in whatever order, a rollout never has more pods than
    /// the surge allows, never gives up more available pods than it may, and ends.
    #[test]
    fn a_rollout_stays_within_its_limits(
        count in 1i32..12, surge in 0i32..5, unavailable in 0i32..5,
        steps in proptest::collection::vec((0usize..3, any::<u8>()), 0..120))
    {
        let mut world = World::new(deployment(count, surge, unavailable));
        world.settle();
        world.edit(|spec| spec.template = template("v2"));
        let max = count + limits::max_surge(&world.deployment);
        let min = count - limits::max_unavailable(&world.deployment);
        for (what, choice) in steps {
            match what {
                0 => {
                    let before: i32 = world.sets.iter().map(available).sum();
                    world.step();
                    let total: i32 = world.sets.iter().map(replicas).sum();
                    prop_assert!(total <= max, "{total} pods, {max} allowed");
                    // What scaling down takes away at most, unavailable pods going first.
                    let after: i32 = world.sets.iter().map(|set| available(set).min(replicas(set))).sum();
                    prop_assert!(after >= min.min(before), "{after} available, {min} needed, {before} before");
                }
                1 => world.sync_sets(),
                _ => {
                    world.sync_sets();
                    let index = usize::from(choice) % world.sets.len();
                    let status = world.sets[index].status.as_mut().unwrap();
                    let available = status.available_replicas.unwrap_or(0);
                    let changed = if choice % 4 == 0 { available - 1 } else { available + 1 };
                    status.available_replicas = Some(changed.clamp(0, status.replicas));
                    status.ready_replicas = status.available_replicas;
                }
            }
        }
        world.settle();
        prop_assert_eq!(world.sizes(), vec![0, count]);
    }
}
