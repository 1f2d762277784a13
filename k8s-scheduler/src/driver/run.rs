//! [`Driver`]: the loop around the decisions.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Client, runtime::watcher::Event};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    act::Actor,
    watch::{Input, inputs},
};
use crate::{
    framework::{ClusterEvent, CycleState, PermitDecision},
    profile::Profile,
    queue::{Backoff, QueuedPod, SchedulingQueue},
    schedule::{FitError, Scheduler},
    snapshot::{PodInfo, Snapshot},
};

/// How many requests may be under way.
const CONCURRENT_WRITES: usize = 256;

/// What a [`Driver`] may be told.
#[derive(Clone, Debug, Default)]
pub struct DriverConfig {
    /// When waiting pods are tried again.
    pub backoff: Backoff,
    /// Chooses among nodes of equal score.
    pub seed: u64,
}

/// Schedules the pods of a cluster.
///
/// Mirrors upstream's kube-scheduler, and needs the same rights (`system:kube-scheduler`). Its state is
/// rebuilt from the API alone: it may be stopped and started at any time. A placement counts as
/// taken from the moment of the decision; if its binding fails, it is given back and
/// the pod is tried again.
pub struct Driver {
    client: Client,
    scheduler: Scheduler,
    profile: Arc<Profile>,
    config: DriverConfig,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("profile", &self.profile)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What became of a request.
enum Outcome {
    Bound {
        pod: Arc<PodInfo>,
        node: String,
        state: CycleState,
        result: Result<(), String>,
    },
    Said,
}

/// A placement whose Permit plugin said to wait.
struct Waiting {
    pod: Arc<PodInfo>,
    node: String,
    state: CycleState,
    until: Instant,
}

struct State {
    snapshot: Snapshot,
    queue: SchedulingQueue,
    /// Pods that were placed here and that the API does not show on their node yet, by UID.
    assumed: HashSet<String>,
    waiting: HashMap<String, Waiting>,
    fresh_pods: Option<HashSet<String>>,
    fresh_nodes: Option<HashSet<String>>,
    synced: (bool, bool),
    writes: JoinSet<Outcome>,
    random: fastrand::Rng,
}

impl Driver {
    /// A driver for the pods that name this profile's scheduler.
    pub fn new(client: Client, profile: Profile, config: DriverConfig) -> Self {
        let profile = Arc::new(profile);
        Self {
            client,
            scheduler: Scheduler::new(Profile::clone(&profile)),
            profile,
            config,
        }
    }

    /// Runs until `stop` is cancelled, then lets the bindings under way finish.
    pub async fn run(self, stop: CancellationToken) {
        let actor = Actor::new(self.client.clone(), self.profile.clone());
        let mut inputs = inputs(&self.client);
        let mut state = State {
            snapshot: Snapshot::default(),
            queue: SchedulingQueue::new(self.profile.clone(), self.config.backoff),
            assumed: HashSet::new(),
            waiting: HashMap::new(),
            fresh_pods: None,
            fresh_nodes: None,
            synced: (false, false),
            writes: JoinSet::new(),
            random: fastrand::Rng::with_seed(self.config.seed),
        };
        loop {
            // Whatever is there already is taken in before the next decision.
            while let Some(Some(input)) = inputs.next().now_or_never() {
                self.take(&mut state, input);
            }
            while let Some(Ok(outcome)) = state.writes.try_join_next() {
                self.finish(&mut state, &actor, outcome);
            }
            self.ask_waiting(&mut state, &actor);
            if state.synced == (true, true)
                && state.writes.len() < CONCURRENT_WRITES
                && let Some(queued) = state.queue.pop(Instant::now())
            {
                self.cycle(&mut state, &actor, queued);
                // Lets the requests just made get on their way.
                tokio::task::yield_now().await;
                if stop.is_cancelled() {
                    break;
                }
                continue;
            }
            let timer = state
                .queue
                .next_timer()
                .into_iter()
                .chain(state.waiting.values().map(|w| w.until))
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
                Some(Ok(outcome)) = state.writes.join_next(), if !state.writes.is_empty() => {
                    self.finish(&mut state, &actor, outcome);
                }
                input = inputs.next() => match input {
                    Some(input) => self.take(&mut state, input),
                    None => break,
                },
            }
        }
        while state.writes.join_next().await.is_some() {}
    }

    /// One scheduling cycle.
    fn cycle(&self, state: &mut State, actor: &Actor, queued: QueuedPod) {
        let span = tracing::debug_span!("scheduling cycle", object.ref = queued.pod.key(), attempt = queued.attempts);
        let _entered = span.enter();
        let pod = queued.pod;
        let uid = pod.uid().to_owned();
        if pod.pod.metadata.deletion_timestamp.is_some() {
            state.queue.forget(&uid);
            return;
        }
        let seed = state.random.u64(..);
        match self.scheduler.schedule(&state.snapshot, &pod, seed) {
            Ok(placement) => {
                for plugin in &self.profile.reserve {
                    if let Err(status) = plugin.reserve(&placement.state, &pod, &placement.node) {
                        self.unreserve(&placement.state, &pod, &placement.node);
                        let plugins = BTreeSet::from([plugin.name()]);
                        return self.reject(
                            state,
                            actor,
                            pod,
                            plugins,
                            "Unschedulable",
                            status.reasons.join(", "),
                        );
                    }
                }
                state.snapshot.place(pod.clone(), &placement.node);
                state.assumed.insert(uid);
                self.permit(state, actor, pod, placement.node, placement.state, None);
            }
            Err(error) => {
                let mut message = error.to_string();
                if let FitError::Unschedulable { statuses, .. } = &error {
                    for plugin in &self.profile.post_filter {
                        let cycle = CycleState::default();
                        match plugin.post_filter(&cycle, &pod, &state.snapshot, statuses) {
                            Ok(_) => break,
                            Err(status) => {
                                message = format!("{message} {}", status.reasons.join(", "))
                            }
                        }
                    }
                }
                let (reason, plugins) = match &error {
                    FitError::Unschedulable { .. } => ("Unschedulable", error.plugins()),
                    FitError::Plugin { .. } => ("SchedulerError", BTreeSet::new()),
                };
                // Without any node there is no plugin to blame; a node that comes helps.
                let plugins = if plugins.is_empty() && reason == "Unschedulable" {
                    BTreeSet::from(["NodeName"])
                } else {
                    plugins
                };
                self.reject(state, actor, pod, plugins, reason, message);
            }
        }
    }

    fn permit(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        node: String,
        cycle: CycleState,
        until: Option<Instant>,
    ) {
        let mut wait = None;
        for plugin in &self.profile.permit {
            match plugin.permit(&cycle, &pod, &node) {
                PermitDecision::Allow => {}
                PermitDecision::Wait(timeout) => {
                    let at = until.unwrap_or_else(|| Instant::now() + timeout);
                    wait = Some(wait.map_or(at, |w: Instant| w.min(at)));
                }
                PermitDecision::Reject(status) => {
                    self.give_back(state, &cycle, &pod, &node);
                    let plugins = BTreeSet::from([plugin.name()]);
                    return self.reject(
                        state,
                        actor,
                        pod,
                        plugins,
                        "Unschedulable",
                        status.reasons.join(", "),
                    );
                }
            }
        }
        if let Some(until) = wait {
            state.waiting.insert(
                pod.uid().to_owned(),
                Waiting {
                    pod,
                    node,
                    state: cycle,
                    until,
                },
            );
            return;
        }
        let actor = actor.clone();
        state.writes.spawn(async move {
            let result = actor.bind(&pod, &node).await;
            Outcome::Bound {
                pod,
                node,
                state: cycle,
                result,
            }
        });
    }

    /// Asks the Permit plugins again for every pod that waits for them.
    fn ask_waiting(&self, state: &mut State, actor: &Actor) {
        if state.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        for (_, waiting) in std::mem::take(&mut state.waiting) {
            let Waiting {
                pod,
                node,
                state: cycle,
                until,
            } = waiting;
            if until <= now {
                self.give_back(state, &cycle, &pod, &node);
                let message = "pod was not permitted in time".to_owned();
                self.reject(state, actor, pod, BTreeSet::new(), "Unschedulable", message);
            } else {
                self.permit(state, actor, pod, node, cycle, Some(until));
            }
        }
    }

    fn finish(&self, state: &mut State, actor: &Actor, outcome: Outcome) {
        let Outcome::Bound {
            pod,
            node,
            state: cycle,
            result,
        } = outcome
        else {
            return;
        };
        match result {
            Ok(()) => {
                state.queue.forget(pod.uid());
                for plugin in &self.profile.post_bind {
                    plugin.post_bind(&pod, &node);
                }
                let actor = actor.clone();
                state.writes.spawn(async move {
                    actor.scheduled(&pod, &node).await;
                    Outcome::Said
                });
            }
            Err(message) => {
                tracing::warn!(object.ref = pod.key(), node, error = message, "pod not bound");
                // If the binding took effect all the same, the API shows the pod on its node and the
                // watch puts it back there.
                self.give_back(state, &cycle, &pod, &node);
                let message = format!("binding rejected: {message}");
                self.reject(
                    state,
                    actor,
                    pod,
                    BTreeSet::new(),
                    "SchedulerError",
                    message,
                );
            }
        }
    }

    fn unreserve(&self, cycle: &CycleState, pod: &PodInfo, node: &str) {
        for plugin in self.profile.reserve.iter().rev() {
            plugin.unreserve(cycle, pod, node);
        }
    }

    fn give_back(&self, state: &mut State, cycle: &CycleState, pod: &Arc<PodInfo>, node: &str) {
        self.unreserve(cycle, pod, node);
        if state.assumed.remove(pod.uid()) {
            state.snapshot.remove_pod(pod.uid());
            state
                .queue
                .event(&ClusterEvent::AssignedPodDelete(pod), Instant::now());
        }
    }

    fn reject(
        &self,
        state: &mut State,
        actor: &Actor,
        pod: Arc<PodInfo>,
        plugins: BTreeSet<&'static str>,
        reason: &'static str,
        message: String,
    ) {
        tracing::debug!(object.ref = pod.key(), object.reason = reason, message, "pod not scheduled");
        state.queue.failed(pod.uid(), plugins, Instant::now());
        let actor = actor.clone();
        state.writes.spawn(async move {
            actor.failed(&pod, reason, message).await;
            Outcome::Said
        });
    }

    fn take(&self, state: &mut State, input: Input) {
        match input {
            Input::Pod(Event::Apply(pod)) => self.pod(state, pod),
            Input::Pod(Event::Delete(pod)) => {
                self.pod_gone(state, pod.metadata.uid.as_deref().unwrap_or_default())
            }
            Input::Pod(Event::Init) => state.fresh_pods = Some(HashSet::new()),
            Input::Pod(Event::InitApply(pod)) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                state.fresh_pods.get_or_insert_default().insert(uid);
                self.pod(state, pod);
            }
            Input::Pod(Event::InitDone) => {
                let fresh = state.fresh_pods.take().unwrap_or_default();
                let gone: Vec<String> = state
                    .snapshot
                    .pods()
                    .map(|p| p.uid().to_owned())
                    .filter(|uid| !fresh.contains(uid))
                    .collect();
                for uid in gone {
                    self.pod_gone(state, &uid);
                }
                for uid in state.queue.uids() {
                    if !fresh.contains(&uid) {
                        state.queue.forget(&uid);
                    }
                }
                state.synced.0 = true;
            }
            Input::Node(Event::Apply(node)) => self.node(state, node),
            Input::Node(Event::Delete(node)) => {
                state
                    .snapshot
                    .remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
            Input::Node(Event::Init) => state.fresh_nodes = Some(HashSet::new()),
            Input::Node(Event::InitApply(node)) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                state.fresh_nodes.get_or_insert_default().insert(name);
                self.node(state, node);
            }
            Input::Node(Event::InitDone) => {
                let fresh = state.fresh_nodes.take().unwrap_or_default();
                let gone: Vec<String> = state
                    .snapshot
                    .nodes()
                    .map(|n| n.name().to_owned())
                    .filter(|name| !fresh.contains(name))
                    .collect();
                for name in gone {
                    state.snapshot.remove_node(&name);
                }
                state.synced.1 = true;
            }
        }
    }

    fn pod(&self, state: &mut State, pod: Pod) {
        let info = Arc::new(PodInfo::from(pod));
        let uid = info.uid().to_owned();
        if info.is_terminal() {
            return self.pod_gone(state, &uid);
        }
        if let Some(node) = info.node_name().map(str::to_owned) {
            state.queue.forget(&uid);
            state.assumed.remove(&uid);
            state.snapshot.place(info, &node);
            return;
        }
        let name = info
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.scheduler_name.as_deref());
        let ours = name.unwrap_or(crate::DEFAULT_SCHEDULER_NAME) == self.profile.scheduler_name();
        // What was placed here a moment ago, and is not shown there yet, is not to be placed again.
        if ours && !state.assumed.contains(&uid) {
            state.queue.set(info, Instant::now());
        }
    }

    fn pod_gone(&self, state: &mut State, uid: &str) {
        state.queue.forget(uid);
        state.assumed.remove(uid);
        if let Some(waiting) = state.waiting.remove(uid) {
            self.unreserve(&waiting.state, &waiting.pod, &waiting.node);
        }
        if let Some(pod) = state.snapshot.remove_pod(uid) {
            state
                .queue
                .event(&ClusterEvent::AssignedPodDelete(&pod), Instant::now());
        }
    }

    fn node(&self, state: &mut State, node: Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let before = state
            .snapshot
            .node(&name)
            .and_then(|n| n.node())
            .map(essence);
        let after = essence(&node);
        let (is_new, changed) = (before.is_none(), before.as_ref() != Some(&after));
        state.snapshot.set_node(Arc::new(node));
        let State {
            snapshot, queue, ..
        } = state;
        if let Some(info) = snapshot.node(&name).filter(|_| changed) {
            let event = if is_new {
                ClusterEvent::NodeAdd(info)
            } else {
                ClusterEvent::NodeUpdate(info)
            };
            queue.event(&event, Instant::now());
        }
    }
}

/// The parts of a node that decide what fits on it: without its heartbeats.
fn essence(node: &Node) -> impl PartialEq + use<> {
    (
        node.metadata.labels.clone(),
        node.spec.clone(),
        node.status.as_ref().and_then(|s| s.allocatable.clone()),
    )
}
