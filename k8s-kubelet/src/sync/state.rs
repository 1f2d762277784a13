//! What is known about a pod, and what can be done about it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use k8s_runtime::{
    ContainerId, ContainerState, ContainerStatus, SandboxId, SandboxState, SandboxStatus,
};

use super::backoff::Backoff;
use crate::pod::{PodView, labels};

/// Why a container is not running (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// When something that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) at: Timestamp,
    pub(crate) delay: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    pub(crate) fn after(previous: Option<&Self>, now: Timestamp) -> Self {
        let delay = previous.map_or(Self::FIRST, |r| (r.delay * 2).min(Self::LONGEST));
        Self {
            at: now.saturating_add(delay).unwrap_or(now),
            delay,
        }
    }
}

/// An image that could not be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PullFailure {
    pub(crate) backoff: Backoff,
    /// Whether `ImagePullBackOff` has been told already.
    pub(crate) told: bool,
}

/// What the kubelet remembers about one container name, beside what the runtime knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// It is being started right now.
    pub(crate) starting: bool,
    /// It runs, but its `postStart` hook has not ended, so it is not reported yet.
    pub(crate) hooked: Option<ContainerId>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) retry: Option<Retry>,
    pub(crate) crash: Option<Backoff>,
    pub(crate) pull: Option<PullFailure>,
    /// It was killed to be replaced, whatever the restart policy says.
    pub(crate) replace: bool,
}

impl Note {
    /// The definition has changed: what failed before need not fail again, nor be waited for.
    pub(crate) fn forget_failures(&mut self) {
        self.retry = None;
        self.crash = None;
        self.pull = None;
    }
}

/// What a container's probes have found. `None`: nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProbeState {
    pub(crate) startup: Option<bool>,
    pub(crate) liveness: Option<bool>,
    pub(crate) readiness: Option<bool>,
}

/// How far the pod's volumes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Volumes {
    #[default]
    Absent,
    Mounting,
    Mounted,
    Failed(Retry),
    Unmounting,
}

/// Why a pod comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndKind {
    /// Its containers have all ended for good.
    Finished,
    /// The kubelet ended or refused it: see [`End::verdict`].
    Failed,
    /// It is marked for deletion.
    Deleted,
    /// It is not in the API any more.
    Gone,
}

/// A pod's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) kind: EndKind,
    pub(crate) since: Timestamp,
    pub(crate) grace_seconds: i64,
    /// Reason and message for the status, where it failed as a whole.
    pub(crate) verdict: Option<Waiting>,
}

/// Everything known about one pod.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    pub(crate) pod: Arc<PodView>,
    /// Newest first.
    pub(crate) sandboxes: Vec<SandboxStatus>,
    /// Newest first.
    pub(crate) containers: Vec<ContainerStatus>,
    pub(crate) notes: BTreeMap<String, Note>,
    pub(crate) probes: BTreeMap<ContainerId, ProbeState>,
    pub(crate) volumes: Volumes,
    /// A sandbox is being made, stopped or removed.
    pub(crate) sandbox_busy: bool,
    pub(crate) sandbox_retry: Option<Retry>,
    /// Containers that were asked to end, with the grace they got.
    pub(crate) killing: BTreeMap<ContainerId, i64>,
    pub(crate) removing: BTreeSet<ContainerId>,
    pub(crate) end: Option<End>,
    /// The API has the pod's last status and was told to delete it.
    pub(crate) deleting: bool,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) start_time: Timestamp,
    /// What containers left in their termination message file.
    pub(crate) messages: BTreeMap<ContainerId, String>,
    /// The status made last: what the next one starts from.
    pub(crate) reported: PodStatus,
    /// It was refused at admission and has no containers.
    pub(crate) refused: bool,
}

impl PodState {
    pub(crate) fn new(pod: Arc<PodView>, now: Timestamp) -> Self {
        let reported = pod.status();
        let ips = reported
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.ip.parse().ok())
            .collect();
        Self {
            start_time: pod.start_time().unwrap_or(now),
            pod,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            notes: BTreeMap::new(),
            probes: BTreeMap::new(),
            volumes: Volumes::default(),
            sandbox_busy: false,
            sandbox_retry: None,
            killing: BTreeMap::new(),
            removing: BTreeSet::new(),
            end: None,
            deleting: false,
            ips,
            messages: BTreeMap::new(),
            reported,
            refused: false,
        }
    }

    /// The newest container of a name.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.all(name).next()
    }

    /// All containers of a name, newest first.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &ContainerStatus> {
        self.containers
            .iter()
            .filter(move |c| labels::container_name(c) == name)
    }

    /// The newest container of a name that belongs to the present sandbox: what counts for init
    /// containers, which run again in a new one.
    pub(crate) fn latest_here(&self, name: &str) -> Option<&ContainerStatus> {
        let sandbox = &self.sandboxes.first()?.id;
        self.latest(name).filter(|c| c.sandbox == *sandbox)
    }

    pub(crate) fn sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes
            .first()
            .filter(|s| s.state == SandboxState::Ready)
    }

    pub(crate) fn note(&self, name: &str) -> Option<&Note> {
        self.notes.get(name)
    }

    pub(crate) fn note_mut(&mut self, name: &str) -> &mut Note {
        self.notes.entry(name.to_owned()).or_default()
    }

    pub(crate) fn starting(&self) -> bool {
        self.notes.values().any(|n| n.starting)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|c| is_running(c))
    }

    /// Replaces or adds what is known of a container. Returns whether that is news.
    pub(crate) fn put_container(&mut self, status: ContainerStatus) -> bool {
        if status.state != ContainerState::Running {
            self.killing.remove(&status.id);
        }
        match self.containers.iter_mut().find(|c| c.id == status.id) {
            Some(there) if *there == status => false,
            Some(there) => {
                *there = status;
                true
            }
            None => {
                self.containers.push(status);
                sort_containers(&mut self.containers);
                true
            }
        }
    }

    pub(crate) fn drop_container(&mut self, id: &ContainerId) {
        self.containers.retain(|c| c.id != *id);
        self.killing.remove(id);
        self.removing.remove(id);
        self.probes.remove(id);
        self.messages.remove(id);
    }

    pub(crate) fn put_sandbox(&mut self, status: SandboxStatus) {
        self.sandboxes.retain(|s| s.id != status.id);
        self.sandboxes.push(status);
        self.sandboxes
            .sort_by_key(|s| Reverse((s.created_at, s.config.attempt)));
        // A finished pod keeps showing the address that it had.
        if let Some(ready) = self.sandbox().filter(|s| !s.ips.is_empty()) {
            self.ips = ready.ips.clone();
        }
    }

    /// Whether the container has passed its startup probe, or has none.
    pub(crate) fn started(&self, name: &str, id: &ContainerId) -> bool {
        let has_probe = self
            .pod
            .find(name)
            .is_some_and(|(_, c)| c.startup_probe.is_some());
        !has_probe || self.probes.get(id).is_some_and(|p| p.startup == Some(true))
    }
}

pub(crate) fn is_running(container: &ContainerStatus) -> bool {
    container.state == ContainerState::Running
}

/// Newest first; the attempt decides between two of one instant.
pub(crate) fn sort_containers(containers: &mut [ContainerStatus]) {
    containers.sort_by_key(|c| Reverse((c.created_at, c.config.attempt)));
}

/// The start of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) name: String,
    /// `None` where no container of that name is known.
    pub(crate) restart_count: Option<u32>,
    pub(crate) crash: Option<Backoff>,
    /// Containers of that name that were made but never ran: they go first.
    pub(crate) remove: Vec<ContainerId>,
}

/// Something to be done for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    MountVolumes,
    CreateSandbox {
        attempt: u32,
    },
    StopSandbox(SandboxId),
    RemoveSandbox(SandboxId),
    Start(Start),
    /// Break off what is being started.
    CancelStart,
    Kill {
        id: ContainerId,
        name: String,
        message: String,
        grace_seconds: i64,
        replace: bool,
    },
    Remove(ContainerId),
    /// A container waits out its crash-loop back-off.
    CrashLoop {
        name: String,
        message: String,
    },
    /// A container waits before its image is pulled again.
    PullBackOff {
        name: String,
    },
    /// The pod has come to its end; decide again.
    End {
        kind: EndKind,
        grace_seconds: i64,
        verdict: Option<Waiting>,
    },
    UnmountVolumes,
    /// Tell the API the last status and delete the pod there.
    DeletePod,
    /// Nothing is left: forget the pod.
    Forget,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }
}
