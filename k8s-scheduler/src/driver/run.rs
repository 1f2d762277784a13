//! [`Driver`]: the loop around the decisions.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use kube::Client;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    act::Actor,
    asker::Asker,
    election::LeaderElection,
    events::{EventLimits, Events},
    watch::{OBJECTS, inputs},
};
use crate::{
    framework::{Code, CycleState, Extender, Status},
    metrics::Metrics,
    profile::Profiles,
    queue::{Backoff, SchedulingQueue},
    schedule::Scheduler,
    snapshot::{PodInfo, Snapshot},
};

/// How many requests may be under way. Servers allow 200 writes at once of all clients together, unless they are told
/// otherwise.
const CONCURRENT_WRITES: usize = 96;
/// How long events are still written after the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How many decisions may be made before the API is listened to again.
const BATCH: usize = 32;

/// What a [`Driver`] may be told.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// When waiting pods are tried again.
    pub backoff: Backoff,
    /// Chooses among nodes of equal score.
    pub seed: u64,
    /// How long binding a pod may take, with all that its plugins do before; 10 minutes by default.
    pub bind_timeout: Duration,
    /// How long the Permit plugins may think about a pod before it is given back with an error; 10 seconds by default. How
    /// long they may have it wait is theirs to say.
    pub permit_patience: Duration,
    /// Schedules only while it holds a lease, for several schedulers of which one works. Off by default.
    pub leader_election: Option<LeaderElection>,
    /// Who else has a say in where pods go. Nobody by default.
    pub extenders: Vec<Arc<dyn Extender>>,
    /// How many events are written.
    pub events: EventLimits,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            seed: 0,
            bind_timeout: Duration::from_secs(600),
            permit_patience: Duration::from_secs(10),
            leader_election: None,
            extenders: Vec::new(),
            events: EventLimits::default(),
        }
    }
}

/// Schedules the pods of a cluster.
///
/// Mirrors upstream's kube-scheduler, and needs the same rights (`system:kube-scheduler`). Its state is
/// rebuilt from the API alone: it may be stopped and started at any time. A placement counts as
/// taken from the moment of the decision; if its binding fails, it is given back and
/// the pod is tried again. A plugin that panics fails the pod whose turn it was, and no other.
pub struct Driver {
    pub(super) client: Client,
    pub(super) profiles: Profiles,
    pub(super) schedulers: HashMap<String, Arc<Scheduler>>,
    pub(super) config: DriverConfig,
    pub(super) metrics: Arc<Metrics>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("profiles", &self.profiles)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What became of a request.
pub(super) enum Outcome {
    Bound {
        pod: Arc<PodInfo>,
        node: String,
        state: Arc<CycleState>,
        result: Result<(), String>,
        tried: Tried,
    },
    /// Room could not be made: victims are still there.
    NoRoom(Arc<PodInfo>),
    Said,
}

/// A placement that is not bound yet: a Permit plugin may have said to wait.
pub(super) struct Waiting {
    pub(super) pod: Arc<PodInfo>,
    pub(super) node: String,
    pub(super) state: CycleState,
    /// When it is given up; `None` while nobody said to wait.
    pub(super) until: Option<Instant>,
    pub(super) plugin: &'static str,
    pub(super) tried: Tried,
}

/// A pod's way so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// When its cycle began.
    pub(super) began: Instant,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// When it came in.
    pub(super) since: Instant,
}

/// Why a pod that was placed is taken back.
pub(super) struct Rejection {
    pub(super) plugin: Option<&'static str>,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Rejection {
    pub(super) fn by(plugin: &'static str, status: &Status) -> Self {
        if status.code == Code::Error {
            let reasons = status.reasons.join(", ");
            return Self::error(match plugin {
                "" => reasons,
                plugin => format!("running plugin {plugin:?}: {reasons}"),
            });
        }
        Self {
            plugin: Some(plugin),
            reason: "Unschedulable",
            message: status.reasons.join(", "),
        }
    }

    pub(super) fn error(message: String) -> Self {
        Self {
            plugin: None,
            reason: "SchedulerError",
            message,
        }
    }
}

pub(super) struct State {
    pub(super) snapshot: Snapshot,
    pub(super) queue: SchedulingQueue,
    /// Pods that were placed here and that the API does not show on their node yet, by UID.
    pub(super) assumed: HashSet<Arc<str>>,
    pub(super) waiting: HashMap<Arc<str>, Waiting>,
    pub(super) asker: Asker,
    /// Whether those that wait may get another answer.
    pub(super) permits_changed: bool,
    /// The nodes where room is being made, by the UID of the pod that it is for.
    pub(super) nominations: HashMap<Arc<str>, String>,
    pub(super) fresh_pods: Option<HashSet<String>>,
    pub(super) fresh_nodes: Option<HashSet<String>>,
    pub(super) knows_pods: bool,
    pub(super) knows_nodes: bool,
    /// How many resources are not known yet.
    pub(super) missing: usize,
    pub(super) writes: JoinSet<Outcome>,
    pub(super) random: fastrand::Rng,
}

impl Driver {
    /// A driver for the pods that name one of these profiles' schedulers.
    pub fn new(client: Client, profiles: impl Into<Profiles>, config: DriverConfig) -> Self {
        let profiles = profiles.into();
        let metrics = Arc::new(Metrics::new(&profiles));
        let scheduler = |profile: &Arc<crate::Profile>| {
            let name = profile.scheduler_name().to_owned();
            let scheduler = Scheduler::new(crate::Profile::clone(profile))
                .with_extenders(config.extenders.clone())
                .with_metrics(&metrics);
            (name, Arc::new(scheduler))
        };
        Self {
            schedulers: profiles.iter().map(scheduler).collect(),
            client,
            profiles,
            config,
            metrics,
        }
    }

    /// What it counts: to be served at `/metrics`, for as long as there is somebody who asks.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Runs until `stop` is cancelled, then lets the bindings under way finish. Where it loses the lease, bindings under
    /// way are dropped instead: another scheduler may be deciding already, and does not know of them.
    pub async fn run(self, stop: CancellationToken) {
        let Some(election) = self.config.leader_election.clone() else {
            return self.schedule(&stop).await;
        };
        while !stop.is_cancelled() {
            let Some(lost) = election.acquire(&self.client, &stop).await else {
                return;
            };
            tokio::select! {
                () = self.schedule(&stop) => {}
                () = lost.cancelled() => tracing::warn!("leadership lost"),
            }
            // Whoever comes next need not wait for the lease to run out.
            election.release(&self.client, lost).await;
        }
    }

    async fn schedule(&self, stop: &CancellationToken) {
        let (client, metrics) = (&self.client, &self.metrics);
        let (events, writing) = Events::new(client.clone(), self.config.events, metrics.clone());
        let mut writer = JoinSet::new();
        writer.spawn(writing);
        let actor = Actor::new(client, events, &self.config.extenders, metrics);
        let mut inputs = inputs(&self.client);
        let mut state = State {
            snapshot: Snapshot::default(),
            queue: SchedulingQueue::new(self.profiles.clone(), self.config.backoff)
                .with_metrics(metrics.clone()),
            assumed: HashSet::new(),
            waiting: HashMap::new(),
            asker: Asker::default(),
            permits_changed: false,
            nominations: HashMap::new(),
            fresh_pods: None,
            fresh_nodes: None,
            knows_pods: false,
            knows_nodes: false,
            missing: OBJECTS + 2,
            writes: JoinSet::new(),
            random: fastrand::Rng::with_seed(self.config.seed),
        };
        loop {
            // Whatever is there already is taken in before the next decision.
            while let Some(Some(input)) = inputs.next().now_or_never() {
                self.take(&mut state, &actor, input);
            }
            while let Some(outcome) = state.writes.try_join_next() {
                self.finish(&mut state, &actor, outcome);
            }
            self.ask_waiting(&mut state, &actor).await;
            let mut decisions = 0;
            while state.missing == 0
                && decisions < BATCH
                && state.writes.len() < CONCURRENT_WRITES
                && let Some(queued) = state.queue.pop(Instant::now())
            {
                self.cycle(&mut state, &actor, queued).await;
                decisions += 1;
            }
            let (nodes, pods) = (state.snapshot.len(), state.snapshot.count());
            metrics.cache(nodes, pods, state.assumed.len());
            if decisions > 0 {
                // Lets the requests just made get on their way.
                tokio::task::yield_now().await;
                if stop.is_cancelled() {
                    break;
                }
                continue;
            }
            let timers = state.queue.next_timer().into_iter();
            let timer = timers
                .chain(state.waiting.values().filter_map(|w| w.until))
                .min();
            let wait = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = wait => {}
                Some(outcome) = state.writes.join_next(), if !state.writes.is_empty() => {
                    self.finish(&mut state, &actor, outcome);
                }
                input = inputs.next() => match input {
                    Some(input) => self.take(&mut state, &actor, input),
                    None => break,
                },
            }
        }
        while state.writes.join_next().await.is_some() {}
        // What is still to be said, as far as the limits let it.
        drop(actor);
        let _ = tokio::time::timeout(LAST_WORDS, writer.join_next()).await;
    }
}
