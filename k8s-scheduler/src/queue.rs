//! [`SchedulingQueue`]: the pods that wait, and when each has its turn.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    framework::{ClusterEvent, EventKind, QueueSort, Status},
    metrics::{Incoming, Metrics, Where},
    profile::{Profile, Profiles},
    snapshot::PodInfo,
};

/// When waiting pods are tried again. The defaults are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub initial: Duration,
    /// At most; it doubles in between.
    pub max: Duration,
    /// A pod that no event has helped is tried again after this long.
    pub unschedulable: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
            unschedulable: Duration::from_secs(300),
        }
    }
}

/// A pod on its way through the queue.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it first came in.
    pub since: Instant,
    /// The number of events that the queue had seen when it was last taken out.
    event: u64,
    /// When it failed last.
    failed: Option<Instant>,
    /// Who turned it away last.
    plugins: BTreeSet<&'static str>,
    sequence: u64,
}

impl QueuedPod {
    fn backoff(&self, backoff: &Backoff) -> Duration {
        let doublings = self.attempts.saturating_sub(1).min(20);
        backoff
            .initial
            .saturating_mul(1 << doublings)
            .min(backoff.max)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    BackingOff(Instant),
    Unschedulable(Instant),
    Gated,
    /// Taken out, its cycle not over yet.
    InFlight,
}

impl Place {
    /// As metrics call it.
    fn part(self) -> Option<Where> {
        match self {
            Place::Active => Some(Where::Active),
            Place::BackingOff(_) => Some(Where::Backoff),
            Place::Unschedulable(_) => Some(Where::Unschedulable),
            Place::Gated => Some(Where::Gated),
            Place::InFlight => None,
        }
    }
}

/// The pods that wait for a node, each in one of four places: *active*, ordered by the QueueSort
/// plugin and then by time; *backing off* after a failure; *unschedulable* until an event that could help
/// it; *gated* until it changes.
///
/// A plain state machine: the time is an argument, and nothing happens between calls. It cannot lose a
/// wake-up: an event that arrives while a pod's cycle runs sends the pod to back-off instead of
/// unschedulable.
#[derive(Debug)]
pub struct SchedulingQueue {
    profiles: Profiles,
    backoff: Backoff,
    pods: HashMap<Arc<str>, (QueuedPod, Place)>,
    active: BTreeMap<Rank, Arc<str>>,
    timers: BTreeSet<(Instant, Arc<str>)>,
    /// Of the pods that back off, those that were turned away and may be helped by now.
    helped: BTreeSet<(Instant, Arc<str>)>,
    /// The unschedulable pods that each plugin turned away, with their profile's name.
    turned_away: HashMap<&'static str, BTreeSet<Arc<str>>>,
    /// The number of events so far.
    events: u64,
    /// What it was at the last event of each kind.
    last: HashMap<EventKind, u64>,
    sequence: u64,
    metrics: Option<Arc<Metrics>>,
}

/// A place in the active queue: by the profile's order, then first come, first served.
#[derive(Clone, Debug)]
struct Rank {
    sort: Arc<dyn QueueSort>,
    pod: Arc<PodInfo>,
    sequence: u64,
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let sort = &self.sort;
        if sort.less(&self.pod, &other.pod) {
            Ordering::Less
        } else if sort.less(&other.pod, &self.pod) {
            Ordering::Greater
        } else {
            self.sequence.cmp(&other.sequence)
        }
    }
}

impl SchedulingQueue {
    /// An empty queue.
    pub fn new(profiles: impl Into<Profiles>, backoff: Backoff) -> Self {
        Self {
            profiles: profiles.into(),
            backoff,
            pods: HashMap::new(),
            active: BTreeMap::new(),
            timers: BTreeSet::new(),
            helped: BTreeSet::new(),
            turned_away: HashMap::new(),
            events: 0,
            last: HashMap::new(),
            sequence: 0,
            metrics: None,
        }
    }

    /// The same, which counts.
    #[must_use]
    pub(crate) fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// How many pods it knows, in whatever place.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// The UIDs of all pods that it knows.
    pub fn uids(&self) -> Vec<Arc<str>> {
        self.pods.keys().cloned().collect()
    }

    /// How many pods could be taken out now.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Takes in a pod that has no node, or a change of one.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let gate = self.gate(&pod);
        let uid = pod.shared_uid().clone();
        match self
            .pods
            .get(&uid)
            .map(|(queued, place)| (queued.pod.clone(), *place))
        {
            None => {
                let queued = QueuedPod {
                    pod,
                    attempts: 0,
                    since: now,
                    event: self.events,
                    failed: None,
                    plugins: BTreeSet::new(),
                    sequence: 0,
                };
                let place = if gate.is_some() {
                    Place::Gated
                } else {
                    Place::Active
                };
                self.count(place, Incoming::PodAdd);
                self.put(uid, queued, place);
            }
            Some((before, place)) => {
                let Some((mut queued, _)) = self.remove(&uid) else {
                    return;
                };
                queued.pod = pod;
                let changed = may_matter(&before, &queued.pod);
                let was = place;
                let place = match place {
                    Place::InFlight => {
                        if changed {
                            self.note(EventKind::PodUpdate);
                        }
                        Place::InFlight
                    }
                    _ if gate.is_some() => Place::Gated,
                    Place::Gated => Place::Active,
                    Place::Unschedulable(_)
                        if changed && self.helps(&queued, &ClusterEvent::PodUpdate) =>
                    {
                        self.after_backoff(&queued, now)
                    }
                    other => other,
                };
                if place != was {
                    self.count(place, Incoming::PodUpdate);
                }
                self.put(uid, queued, place);
            }
        }
    }

    /// Forgets a pod: it is gone, or has a node.
    pub fn forget(&mut self, uid: &str) {
        self.remove(uid);
    }

    /// The next pod to schedule. While nothing else is to be done, pods that something may have helped do not wait
    /// for the end of their back-off (KEP-5142). It stays known until [`SchedulingQueue::forget`] or
    /// [`SchedulingQueue::failed`].
    pub fn pop(&mut self, now: Instant) -> Option<QueuedPod> {
        self.ring(now);
        if self.active.is_empty()
            && let Some((_, uid)) = self.helped.first().cloned()
            && let Some((queued, _)) = self.remove(&uid)
        {
            self.count(Place::Active, Incoming::BackoffComplete);
            self.put(uid, queued, Place::Active);
        }
        let (_, uid) = self.active.pop_first()?;
        if let Some(metrics) = &self.metrics {
            metrics.left(Where::Active);
        }
        let (queued, place) = self.pods.get_mut(&uid)?;
        queued.attempts += 1;
        queued.event = self.events;
        *place = Place::InFlight;
        Some(queued.clone())
    }

    /// Takes back a pod that could not be placed. `plugins` turned it away; none means that something
    /// failed, and that it is tried again after its back-off.
    pub fn failed(&mut self, uid: &str, plugins: BTreeSet<&'static str>, now: Instant) {
        let Some((mut queued, place)) = self.remove(uid) else {
            return;
        };
        let uid = queued.pod.shared_uid().clone();
        if place != Place::InFlight {
            self.put(uid, queued, place);
            return;
        }
        queued.failed = Some(now);
        let missed_an_event = self.missed(&queued, &plugins);
        let place = if plugins.is_empty() || missed_an_event {
            Place::BackingOff(now + queued.backoff(&self.backoff))
        } else {
            Place::Unschedulable(now + self.backoff.unschedulable)
        };
        queued.plugins = plugins;
        self.count(place, Incoming::Failure);
        self.put(uid, queued, place);
    }

    /// Whether something happened since a pod was taken out that concerns those who turned it away.
    fn missed(&self, queued: &QueuedPod, plugins: &BTreeSet<&'static str>) -> bool {
        let profile = self.profile(&queued.pod);
        let mut since = self.last.iter().filter(|(_, at)| **at > queued.event);
        since.any(|(kind, _)| {
            plugins.iter().any(|name| {
                let plugin = profile.as_ref().and_then(|p| p.plugin(name));
                *kind == EventKind::PodUpdate || plugin.is_none_or(|p| p.watches(*kind))
            })
        })
    }

    fn note(&mut self, kind: EventKind) {
        self.events += 1;
        self.last.insert(kind, self.events);
    }

    /// Tells the queue of a change in the cluster: the pods that it may help are tried again, after
    /// what is left of their back-off.
    pub fn event(&mut self, event: &ClusterEvent<'_>, now: Instant) {
        let kind = event.kind();
        self.note(kind);
        let mut helped: Vec<Arc<str>> = Vec::new();
        for (name, uids) in &self.turned_away {
            let watches = |profile: &Arc<Profile>| {
                profile
                    .plugin(name)
                    .is_none_or(|plugin| plugin.watches(kind))
            };
            if uids.is_empty() || !self.profiles.iter().any(watches) {
                continue;
            }
            for uid in uids {
                let Some((queued, _)) = self.pods.get(uid) else {
                    continue;
                };
                let profile = self.profile(&queued.pod);
                let plugin = profile.as_ref().and_then(|p| p.plugin(name));
                if plugin.is_none_or(|p| p.watches(kind) && p.may_help(event, &queued.pod)) {
                    helped.push(uid.clone());
                }
            }
        }
        for uid in helped {
            self.wake(&uid, kind.into(), now);
        }
    }

    /// Has a pod tried again, after what is left of its back-off, if it waits for an event.
    pub fn wake_up(&mut self, uid: &str, now: Instant) {
        self.wake(uid, Incoming::Forced, now);
    }

    fn wake(&mut self, uid: &str, because: Incoming, now: Instant) {
        let waits = self
            .pods
            .get(uid)
            .is_some_and(|(_, place)| matches!(place, Place::Unschedulable(_)));
        if waits && let Some((queued, _)) = self.remove(uid) {
            let place = self.after_backoff(&queued, now);
            self.count(place, because);
            self.put(queued.pod.shared_uid().clone(), queued, place);
        }
    }

    fn count(&self, place: Place, because: Incoming) {
        if let (Some(metrics), Some(to)) = (&self.metrics, place.part()) {
            metrics.incoming(to, because);
        }
    }

    /// Replaces what is known of a pod, without trying it again for that.
    pub fn note_pod(&mut self, pod: Arc<PodInfo>) {
        if let Some((mut queued, place)) = self.remove(pod.uid()) {
            queued.pod = pod;
            self.put(queued.pod.shared_uid().clone(), queued, place);
        }
    }

    /// A waiting pod, by UID.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|(queued, _)| &queued.pod)
    }

    /// When the next pod becomes active by itself.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn profile(&self, pod: &PodInfo) -> Option<Arc<Profile>> {
        self.profiles.get(&pod.shape().scheduler_name).cloned()
    }

    /// Why a pod stays out; `None` if it may come in.
    pub fn gate(&self, pod: &PodInfo) -> Option<Status> {
        let profile = self.profile(pod)?;
        let mut plugins = profile.pre_enqueue.iter();
        plugins.find_map(|plugin| plugin.pre_enqueue(pod).err().map(|s| s.by(plugin.name())))
    }

    fn helps(&self, queued: &QueuedPod, event: &ClusterEvent<'_>) -> bool {
        let Some(profile) = self.profile(&queued.pod) else {
            return true;
        };
        queued.plugins.iter().any(|name| {
            let plugin = profile.plugin(name);
            plugin.is_none_or(|p| p.watches(event.kind()) && p.may_help(event, &queued.pod))
        })
    }

    fn after_backoff(&self, queued: &QueuedPod, now: Instant) -> Place {
        match queued.failed.map(|at| at + queued.backoff(&self.backoff)) {
            Some(at) if at > now => Place::BackingOff(at),
            _ => Place::Active,
        }
    }

    fn ring(&mut self, now: Instant) {
        while let Some((at, uid)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            match self.remove(&uid) {
                Some((queued, place)) => {
                    let because = match place {
                        Place::Unschedulable(_) => Incoming::Timeout,
                        _ => Incoming::BackoffComplete,
                    };
                    self.count(Place::Active, because);
                    self.put(uid, queued, Place::Active);
                }
                None => {
                    self.timers.remove(&(at, uid));
                }
            }
        }
    }

    fn put(&mut self, uid: Arc<str>, mut queued: QueuedPod, place: Place) {
        if let (Some(metrics), Some(to)) = (&self.metrics, place.part()) {
            metrics.entered(to);
            if to == Where::Unschedulable {
                count_reasons(metrics, &queued, 1);
            }
        }
        match place {
            Place::Active => {
                self.sequence += 1;
                queued.sequence = self.sequence;
                self.active.insert(self.rank(&queued), uid.clone());
            }
            Place::BackingOff(at) | Place::Unschedulable(at) => {
                self.timers.insert((at, uid.clone()));
                if matches!(place, Place::BackingOff(_)) && !queued.plugins.is_empty() {
                    self.helped.insert((at, uid.clone()));
                }
                if matches!(place, Place::Unschedulable(_)) {
                    for plugin in &queued.plugins {
                        let uids = self.turned_away.entry(plugin).or_default();
                        uids.insert(uid.clone());
                    }
                }
            }
            Place::Gated | Place::InFlight => {}
        }
        self.pods.insert(uid, (queued, place));
    }

    fn remove(&mut self, uid: &str) -> Option<(QueuedPod, Place)> {
        let (queued, place) = self.pods.remove(uid)?;
        if let (Some(metrics), Some(from)) = (&self.metrics, place.part()) {
            metrics.left(from);
            if from == Where::Unschedulable {
                count_reasons(metrics, &queued, -1);
            }
        }
        match place {
            Place::Active => {
                self.active.remove(&self.rank(&queued));
            }
            Place::BackingOff(at) | Place::Unschedulable(at) => {
                let entry = (at, queued.pod.shared_uid().clone());
                self.timers.remove(&entry);
                self.helped.remove(&entry);
                if matches!(place, Place::Unschedulable(_)) {
                    for plugin in &queued.plugins {
                        if let Some(uids) = self.turned_away.get_mut(plugin) {
                            uids.remove(uid);
                        }
                    }
                }
            }
            Place::Gated | Place::InFlight => {}
        }
        Some((queued, place))
    }

    fn rank(&self, queued: &QueuedPod) -> Rank {
        Rank {
            sort: self.profiles.first().queue_sort.clone(),
            pod: queued.pod.clone(),
            sequence: queued.sequence,
        }
    }
}

/// Counts a pod for each plugin that turned it away.
fn count_reasons(metrics: &Metrics, queued: &QueuedPod, more: i64) {
    for plugin in &queued.plugins {
        metrics.unschedulable(plugin, &queued.pod.shape().scheduler_name, more);
    }
}

/// Whether a change of a pod is more than one of its status.
fn may_matter(old: &PodInfo, new: &PodInfo) -> bool {
    let (Some(old), Some(new)) = (old.pod(), new.pod()) else {
        return old != new;
    };
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || old.metadata.annotations != new.metadata.annotations
}

#[cfg(test)]
mod tests;
