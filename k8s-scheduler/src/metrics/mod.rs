//! [`Metrics`]: what the scheduler counts, under upstream's names.

mod names;
mod page;
mod series;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub(crate) use names::{Incoming, Outcome, Point, Where};
use series::{Buckets, Counter, Gauge, Histogram};

use crate::{framework::Code, profile::Profiles};

const SECONDS: Buckets = Buckets {
    first: 0.001,
    factor: 2.0,
    count: 15,
};

/// What a scheduler counts. [`Metrics::render`] writes it down as upstream's kube-scheduler does at `/metrics`.
///
/// A driver has its own, see [`Driver::metrics`](crate::Driver::metrics). Labels are bounded: by profiles, plugins, extension
/// points and results.
#[derive(Debug)]
pub struct Metrics {
    profiles: BTreeMap<String, Arc<ProfileMetrics>>,
    algorithm: Histogram,
    victims: Histogram,
    preemptions: Counter,
    pending: [Gauge; Where::COUNT],
    incoming: [[Counter; Incoming::COUNT]; Where::COUNT],
    attempts_until_scheduled: Histogram,
    /// By the number of attempts; the last one is for more.
    until_scheduled: [Histogram; 16],
    permit_waits: [Histogram; 3],
    bindings: Gauge,
    nodes: Gauge,
    pods: Gauge,
    assumed: Gauge,
    unschedulable: Mutex<BTreeMap<(&'static str, String), i64>>,
    dropped_events: Counter,
    /// By plugin, extension point and outcome.
    plugins: Mutex<BTreeMap<(&'static str, usize, usize), Histogram>>,
}

/// What is counted of one profile.
#[derive(Debug)]
pub(crate) struct ProfileMetrics {
    attempts: [Counter; Outcome::COUNT],
    durations: [Histogram; Outcome::COUNT],
    points: [[Histogram; 4]; Point::COUNT],
}

impl ProfileMetrics {
    fn new() -> Self {
        let points = Buckets {
            first: 0.0001,
            factor: 2.0,
            count: 12,
        };
        Self {
            attempts: Default::default(),
            durations: std::array::from_fn(|_| Histogram::new(SECONDS)),
            points: std::array::from_fn(|_| std::array::from_fn(|_| Histogram::new(points))),
        }
    }

    /// An extension point took so long, with that outcome: `None` is success.
    pub(crate) fn point(&self, point: Point, outcome: Option<Code>, time: Duration) {
        self.points[point as usize][status(outcome)].took(time);
    }
}

/// The position of an outcome among the statuses.
fn status(outcome: Option<Code>) -> usize {
    match outcome {
        None => 0,
        Some(Code::Unschedulable) => 1,
        Some(Code::UnschedulableAndUnresolvable) => 2,
        Some(Code::Error) => 3,
    }
}

/// Upstream's bounds for single plugins.
const OF_PLUGINS: Buckets = Buckets {
    first: 0.000_01,
    factor: 1.5,
    count: 20,
};

/// In one of so many cycles it is counted how long each plugin takes, as upstream has it: clocks cost time too.
const CYCLES: u64 = 10;

/// Whether the cycle of a seed is one of those.
pub(crate) fn is_sampled(seed: u64) -> bool {
    seed.is_multiple_of(CYCLES)
}

impl Metrics {
    pub(crate) fn new(profiles: &Profiles) -> Self {
        let profile = |p: &Arc<crate::Profile>| {
            (
                p.scheduler_name().to_owned(),
                Arc::new(ProfileMetrics::new()),
            )
        };
        let counts = |first, count| {
            Histogram::new(Buckets {
                first,
                factor: 2.0,
                count,
            })
        };
        Self {
            profiles: profiles.iter().map(profile).collect(),
            algorithm: Histogram::new(SECONDS),
            victims: counts(1.0, 7),
            preemptions: Counter::default(),
            pending: Default::default(),
            incoming: Default::default(),
            attempts_until_scheduled: counts(1.0, 5),
            until_scheduled: std::array::from_fn(|_| counts(0.01, 20)),
            permit_waits: std::array::from_fn(|_| Histogram::new(SECONDS)),
            bindings: Gauge::default(),
            nodes: Gauge::default(),
            pods: Gauge::default(),
            assumed: Gauge::default(),
            unschedulable: Mutex::default(),
            dropped_events: Counter::default(),
            plugins: Mutex::default(),
        }
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&Arc<ProfileMetrics>> {
        self.profiles.get(name)
    }

    /// A plugin took so long at an extension point, with that outcome: `None` is success.
    pub(crate) fn plugin(
        &self,
        point: Point,
        plugin: &'static str,
        outcome: Option<Code>,
        time: Duration,
    ) {
        let plugins = self.plugins.lock();
        let mut plugins = plugins.unwrap_or_else(PoisonError::into_inner);
        let key = (plugin, point as usize, status(outcome));
        let histogram = plugins.entry(key);
        histogram
            .or_insert_with(|| Histogram::new(OF_PLUGINS))
            .took(time);
    }

    pub(crate) fn algorithm(&self, time: Duration) {
        self.algorithm.took(time);
    }

    /// A pod of a profile was tried, from the decision to the binding if there was one.
    pub(crate) fn attempt(&self, profile: &str, result: Outcome, time: Duration) {
        if let Some(profile) = self.profiles.get(profile) {
            profile.attempts[result as usize].increment();
            profile.durations[result as usize].took(time);
        }
    }

    /// A pod has its node, after so many attempts and so long.
    pub(crate) fn scheduled(&self, attempts: u32, time: Duration) {
        self.attempts_until_scheduled.observe(f64::from(attempts));
        let n = (attempts.max(1) as usize - 1).min(self.until_scheduled.len() - 1);
        self.until_scheduled[n].took(time);
    }

    pub(crate) fn preempted(&self, victims: usize) {
        self.victims.observe(victims as f64);
    }

    pub(crate) fn tried_to_preempt(&self) {
        self.preemptions.increment();
    }

    pub(crate) fn waited_for_permit(&self, outcome: Option<Code>, time: Duration) {
        let n = match outcome {
            None => 0,
            Some(Code::Error) => 2,
            Some(_) => 1,
        };
        self.permit_waits[n].took(time);
    }

    pub(crate) fn binding(&self, more: i64) {
        self.bindings.add(more);
    }

    pub(crate) fn cache(&self, nodes: usize, pods: usize, assumed: usize) {
        self.nodes.set(nodes);
        self.pods.set(pods);
        self.assumed.set(assumed);
    }

    pub(crate) fn dropped_event(&self) {
        self.dropped_events.increment();
    }

    pub(crate) fn entered(&self, place: Where) {
        self.pending[place as usize].add(1);
    }

    pub(crate) fn left(&self, place: Where) {
        self.pending[place as usize].add(-1);
    }

    pub(crate) fn incoming(&self, place: Where, event: Incoming) {
        self.incoming[place as usize][event as usize].increment();
    }

    /// A pod waits because of a plugin, or does not any more.
    pub(crate) fn unschedulable(&self, plugin: &'static str, profile: &str, more: i64) {
        let pods = self.unschedulable.lock();
        let mut pods = pods.unwrap_or_else(PoisonError::into_inner);
        match pods
            .iter_mut()
            .find(|((name, of), _)| *name == plugin && of == profile)
        {
            Some((_, count)) => *count += more,
            None => {
                pods.insert((plugin, profile.to_owned()), more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{Node, Pod};

    use super::*;
    use crate::{
        Profile, Scheduler,
        snapshot::{PodInfo, Snapshot},
    };

    #[test]
    fn in_one_cycle_of_ten_each_plugin_is_timed() {
        let metrics = Arc::new(Metrics::new(&Profile::default().into()));
        let scheduler = Scheduler::new(Profile::default()).with_metrics(&metrics);
        let mut node = Node::default();
        node.metadata.name = Some("n".to_owned());
        let snapshot = Snapshot::new([node], []);
        for seed in 1..=20 {
            // No node takes a pod without a number of pods that it may have.
            let pod = PodInfo::from(Pod::default());
            assert!(scheduler.schedule(&snapshot, &pod, seed).is_err());
        }
        let page = metrics.render();
        let name = "scheduler_plugin_execution_duration_seconds";
        let line = format!(
            "{name}_count{{extension_point=\"PreFilter\",plugin=\"NodeName\",status=\"Success\"}} 2\n"
        );
        assert!(page.contains(&line), "{page}");
        for bound in ["1e-05", "1.5000000000000002e-05", "0.00011390625000000003"] {
            let label = format!("status=\"Success\",le=\"{bound}\"}}");
            assert!(page.contains(&label), "{bound}: {page}");
        }
    }
}
