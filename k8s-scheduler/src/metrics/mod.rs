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
        let outcome = match outcome {
            None => 0,
            Some(Code::Unschedulable) => 1,
            Some(Code::UnschedulableAndUnresolvable) => 2,
            Some(Code::Error) => 3,
        };
        self.points[point as usize][outcome].took(time);
    }
}

impl Metrics {
    pub(crate) fn new(profiles: &Profiles) -> Self {
        let profile = |p: &Arc<crate::Profile>| {
            (
                p.scheduler_name().to_owned(),
                Arc::new(ProfileMetrics::new()),
            )
        };
        let counts = |first, count| Histogram::new(Buckets { first, count });
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
        }
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&Arc<ProfileMetrics>> {
        self.profiles.get(name)
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
