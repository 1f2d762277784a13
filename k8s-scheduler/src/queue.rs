//! [`SchedulingQueue`]: the pods that wait, and when each has its turn.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    framework::{ClusterEvent, Status},
    profile::Profile,
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

/// The pods that wait for a node, each in one of four places: *active*, ordered by the QueueSort
/// plugin and then by time; *backing off* after a failure; *unschedulable* until an event that could help
/// it; *gated* until it changes.
///
/// A plain state machine: the time is an argument, and nothing happens between calls. It cannot lose a
/// wake-up: an event that arrives while a pod's cycle runs sends the pod to back-off instead of
/// unschedulable.
#[derive(Debug)]
pub struct SchedulingQueue {
    profile: Arc<Profile>,
    backoff: Backoff,
    pods: HashMap<String, (QueuedPod, Place)>,
    active: BTreeMap<Rank, String>,
    timers: BTreeSet<(Instant, String)>,
    events: u64,
    sequence: u64,
}

/// A place in the active queue: by the profile's order, then first come, first served.
#[derive(Clone, Debug)]
struct Rank {
    profile: Arc<Profile>,
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
        let sort = &self.profile.queue_sort;
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
    pub fn new(profile: Arc<Profile>, backoff: Backoff) -> Self {
        Self {
            profile,
            backoff,
            pods: HashMap::new(),
            active: BTreeMap::new(),
            timers: BTreeSet::new(),
            events: 0,
            sequence: 0,
        }
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
    pub fn uids(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// How many pods could be taken out now.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Takes in a pod that has no node, or a change of one.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let gate = self.gate(&pod);
        let uid = pod.uid().to_owned();
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
                self.put(
                    uid,
                    queued,
                    if gate.is_some() {
                        Place::Gated
                    } else {
                        Place::Active
                    },
                );
            }
            Some((before, place)) => {
                let Some((mut queued, _)) = self.remove(&uid) else {
                    return;
                };
                queued.pod = pod;
                let changed = may_matter(&before, &queued.pod);
                let place = match place {
                    Place::InFlight => {
                        if changed {
                            self.events += 1;
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
                self.put(uid, queued, place);
            }
        }
    }

    /// Forgets a pod: it is gone, or has a node.
    pub fn forget(&mut self, uid: &str) {
        self.remove(uid);
    }

    /// The next pod to schedule. It stays known until [`SchedulingQueue::forget`] or
    /// [`SchedulingQueue::failed`].
    pub fn pop(&mut self, now: Instant) -> Option<QueuedPod> {
        self.wake(now);
        let (_, uid) = self.active.pop_first()?;
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
        if place != Place::InFlight {
            self.put(uid.to_owned(), queued, place);
            return;
        }
        queued.failed = Some(now);
        let missed_an_event = queued.event != self.events;
        let place = if plugins.is_empty() || missed_an_event {
            Place::BackingOff(now + queued.backoff(&self.backoff))
        } else {
            Place::Unschedulable(now + self.backoff.unschedulable)
        };
        queued.plugins = plugins;
        self.put(uid.to_owned(), queued, place);
    }

    /// Tells the queue of a change in the cluster: the pods that it may help are tried again, after
    /// what is left of their back-off.
    pub fn event(&mut self, event: &ClusterEvent<'_>, now: Instant) {
        self.events += 1;
        let helped: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, (queued, place))| {
                matches!(place, Place::Unschedulable(_)) && self.helps(queued, event)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in helped {
            if let Some((queued, _)) = self.remove(&uid) {
                let place = self.after_backoff(&queued, now);
                self.put(uid, queued, place);
            }
        }
    }

    /// When the next pod becomes active by itself.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn gate(&self, pod: &PodInfo) -> Option<Status> {
        self.profile
            .pre_enqueue
            .iter()
            .find_map(|plugin| plugin.pre_enqueue(pod).err())
    }

    fn helps(&self, queued: &QueuedPod, event: &ClusterEvent<'_>) -> bool {
        queued.plugins.iter().any(|name| {
            self.profile
                .plugin(name)
                .is_none_or(|plugin| plugin.may_help(event, &queued.pod))
        })
    }

    fn after_backoff(&self, queued: &QueuedPod, now: Instant) -> Place {
        match queued.failed.map(|at| at + queued.backoff(&self.backoff)) {
            Some(at) if at > now => Place::BackingOff(at),
            _ => Place::Active,
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some((at, uid)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            match self.remove(&uid) {
                Some((queued, _)) => self.put(uid, queued, Place::Active),
                None => {
                    self.timers.remove(&(at, uid));
                }
            }
        }
    }

    fn put(&mut self, uid: String, mut queued: QueuedPod, place: Place) {
        match place {
            Place::Active => {
                self.sequence += 1;
                queued.sequence = self.sequence;
                self.active.insert(self.rank(&queued), uid.clone());
            }
            Place::BackingOff(at) | Place::Unschedulable(at) => {
                self.timers.insert((at, uid.clone()));
            }
            Place::Gated | Place::InFlight => {}
        }
        self.pods.insert(uid, (queued, place));
    }

    fn remove(&mut self, uid: &str) -> Option<(QueuedPod, Place)> {
        let (queued, place) = self.pods.remove(uid)?;
        match place {
            Place::Active => {
                self.active.remove(&self.rank(&queued));
            }
            Place::BackingOff(at) | Place::Unschedulable(at) => {
                self.timers.remove(&(at, uid.to_owned()));
            }
            Place::Gated | Place::InFlight => {}
        }
        Some((queued, place))
    }

    fn rank(&self, queued: &QueuedPod) -> Rank {
        Rank {
            profile: self.profile.clone(),
            pod: queued.pod.clone(),
            sequence: queued.sequence,
        }
    }
}

/// Whether a change of a pod is more than one of its status.
fn may_matter(old: &PodInfo, new: &PodInfo) -> bool {
    old.pod.spec != new.pod.spec
        || old.pod.metadata.labels != new.pod.metadata.labels
        || old.pod.metadata.annotations != new.pod.metadata.annotations
}

#[cfg(test)]
mod tests;
