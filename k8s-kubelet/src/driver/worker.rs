//! [`Worker`]: one pod's task.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_runtime::{ContainerId, ContainerState, ContainerStatus, Error, SandboxId, SandboxStatus};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Message,
    kill::{self, Kill},
    publish::Probes,
    sandbox,
    start::{self, StartError, Starting},
    status_writer::StatusWriter,
    termination_message,
};
use crate::{
    context::Context,
    events::Kind,
    pod::PodView,
    probe::ProbeKind,
    sync::{
        Action, End, EndKind, PodState, PullFailure, Retry, Start, Volumes, Waiting,
        backoff::Backoff, decide,
    },
    volume::manager::PodVolumes,
};

/// What came of something that was begun.
enum Done {
    Volumes(Result<PodVolumes, Vec<String>>),
    Unmounted(Result<(), String>),
    SandboxMade(Result<SandboxStatus, Error>),
    SandboxStopped(SandboxId, Result<Option<SandboxStatus>, Error>),
    SandboxRemoved(SandboxId, Result<(), Error>),
    Started(String, Result<ContainerStatus, StartError>),
    Killed(ContainerId, Result<Option<ContainerStatus>, Error>),
    Removed(ContainerId, Result<(), Error>),
    Deleted,
}

/// Carries one pod from its first sight to its end.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) cx: Arc<Context>,
    pub(crate) state: PodState,
    pub(crate) writer: StatusWriter,
    pub(crate) probes: Probes,
    /// The pod's containers are being removed for good.
    pub(crate) fading: bool,
    volumes: PodVolumes,
    refresh_at: Option<Timestamp>,
    refresh_wanted: bool,
    volume_retry: Option<Retry>,
    /// When to decide again, whatever the plan says.
    again_at: Option<Timestamp>,
    cancel: CancellationToken,
    finished: bool,
    sender: mpsc::Sender<Message>,
    inbox: mpsc::Receiver<Message>,
}

impl Worker {
    pub(crate) fn new(
        cx: Arc<Context>,
        pod: Arc<PodView>,
        sender: mpsc::Sender<Message>,
        inbox: mpsc::Receiver<Message>,
    ) -> Self {
        let now = cx.clock.now();
        let writer = StatusWriter::new(cx.clone(), &pod);
        Self {
            state: PodState::new(pod, now),
            writer,
            cx,
            probes: Probes::new(),
            fading: false,
            volumes: PodVolumes::default(),
            refresh_at: None,
            refresh_wanted: false,
            volume_retry: None,
            again_at: None,
            cancel: CancellationToken::new(),
            finished: false,
            sender,
            inbox,
        }
    }

    /// The pod was refused by the node.
    pub(crate) fn refuse(&mut self, reason: String, message: String) {
        self.cx
            .recorder
            .pod(&self.state.pod, None, Kind::Warning, &reason, &message);
        self.state.refused = true;
        let message = format!("Pod was rejected: {message}");
        self.end(
            EndKind::Failed,
            self.state.pod.grace_seconds(),
            Some(Waiting { reason, message }),
        );
    }

    /// What a former kubelet left of this pod.
    pub(crate) fn adopt(
        &mut self,
        sandboxes: Vec<SandboxStatus>,
        containers: Vec<ContainerStatus>,
    ) {
        for sandbox in sandboxes {
            self.state.put_sandbox(sandbox);
        }
        for container in containers {
            self.put(container);
        }
        self.adopt_readiness();
    }

    /// Runs until the pod is gone.
    pub(crate) async fn run(mut self) {
        let mut ops: JoinSet<Done> = JoinSet::new();
        loop {
            let wake = self.step(&mut ops);
            if self.finished {
                break;
            }
            let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                Some(done) = ops.join_next(), if !ops.is_empty() => self.done(done),
                message = self.inbox.recv() => match message {
                    Some(message) => self.told(message).await,
                    None => break,
                },
                () = sleep_until(wake) => {}
            }
            // Whatever else has come is dealt with before deciding again.
            while let Some(done) = ops.try_join_next() {
                self.done(done);
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.told(message).await;
            }
        }
        self.cx.forget(&self.state.pod);
    }

    /// Decides, acts and publishes. Returns when to do so again if nothing happens.
    fn step(&mut self, ops: &mut JoinSet<Done>) -> Option<Instant> {
        let mut wake = None;
        // An end that is decided changes what is decided next.
        for _ in 0..4 {
            let plan = decide(&self.state, self.cx.clock.now());
            wake = plan.wake;
            let ended = plan.actions.iter().any(|a| matches!(a, Action::End { .. }));
            for action in plan.actions {
                self.act(action, ops);
            }
            if !ended {
                break;
            }
        }
        self.refresh_volumes(ops);
        let sender = self.sender.clone();
        self.sync_probes(&sender);
        self.publish();
        let refresh = self
            .refresh_at
            .filter(|_| self.state.end.is_none() && self.state.volumes == Volumes::Mounted);
        let wake = [wake, refresh, self.again_at.take()]
            .into_iter()
            .flatten()
            .min();
        wake.map(|at| self.cx.clock.instant(at))
    }

    pub(crate) fn end(&mut self, kind: EndKind, grace_seconds: i64, verdict: Option<Waiting>) {
        let since = self.cx.clock.now();
        self.state.end = Some(End {
            kind,
            since,
            grace_seconds,
            verdict,
        });
    }

    fn event(&self, container: Option<&str>, kind: Kind, reason: &str, message: impl Into<String>) {
        self.cx
            .recorder
            .pod(&self.state.pod, container, kind, reason, message);
    }

    fn act(&mut self, action: Action, ops: &mut JoinSet<Done>) {
        let (cx, pod) = (self.cx.clone(), self.state.pod.clone());
        match action {
            Action::MountVolumes => self.mount(ops),
            Action::CreateSandbox { attempt } => {
                if attempt > 0 {
                    let message = "Pod sandbox changed, it will be killed and re-created.";
                    self.event(None, Kind::Normal, "SandboxChanged", message);
                }
                self.state.sandbox_busy = true;
                ops.spawn(
                    async move { Done::SandboxMade(sandbox::make(&cx, &pod, attempt).await) },
                );
            }
            Action::StopSandbox(id) => {
                self.state.sandbox_busy = true;
                ops.spawn(async move {
                    let result = match cx.runtime.stop_sandbox(&id).await {
                        Ok(()) => match cx.runtime.sandbox(&id).await {
                            Ok(status) => Ok(Some(status)),
                            Err(error) if error.is_not_found() => Ok(None),
                            Err(error) => Err(error),
                        },
                        Err(error) => Err(error),
                    };
                    Done::SandboxStopped(id, result)
                });
            }
            Action::RemoveSandbox(id) => {
                self.fading |= self.state.end.is_some();
                self.state.sandbox_busy = true;
                ops.spawn(async move {
                    let result = cx.runtime.remove_sandbox(&id).await;
                    Done::SandboxRemoved(id, result)
                });
            }
            Action::Start(start) => self.start(start, ops),
            Action::CancelStart => self.cancel.cancel(),
            Action::Kill {
                id,
                name,
                message,
                grace_seconds,
                replace,
            } => {
                let again = self
                    .state
                    .killing
                    .insert(id.clone(), grace_seconds)
                    .is_some();
                self.state.note_mut(&name).replace |= replace;
                let kill = Kill {
                    cx,
                    pod,
                    id: id.clone(),
                    name,
                    message,
                    grace: Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0)),
                    ips: self.state.ips.clone(),
                    again,
                };
                ops.spawn(async move { Done::Killed(id, kill::run(kill).await) });
            }
            Action::Remove(id) => {
                self.state.removing.insert(id.clone());
                let log = self
                    .state
                    .containers
                    .iter()
                    .find(|c| c.id == id)
                    .map(|c| c.log_path.clone());
                ops.spawn(async move {
                    let result = cx.runtime.remove_container(&id).await;
                    if let (Ok(()), Some(log)) = (&result, log) {
                        crate::logs::rotation::remove(&log);
                    }
                    Done::Removed(id, result)
                });
            }
            Action::CrashLoop { name, message } => {
                let text = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    pod.describe()
                );
                self.event(Some(&name), Kind::Warning, "BackOff", text);
                let waiting = Waiting {
                    reason: "CrashLoopBackOff".to_owned(),
                    message,
                };
                self.state.note_mut(&name).waiting = Some(waiting);
            }
            Action::PullBackOff { name } => {
                let image = pod
                    .find(&name)
                    .and_then(|(_, c)| c.image.clone())
                    .unwrap_or_default();
                let message = format!("Back-off pulling image {image:?}");
                self.event(Some(&name), Kind::Normal, "BackOff", message.as_str());
                self.event(
                    Some(&name),
                    Kind::Warning,
                    "Failed",
                    "Error: ImagePullBackOff",
                );
                let note = self.state.note_mut(&name);
                note.waiting = Some(Waiting {
                    reason: "ImagePullBackOff".to_owned(),
                    message,
                });
                if let Some(pull) = &mut note.pull {
                    pull.told = true;
                }
            }
            Action::End {
                kind,
                grace_seconds,
                verdict,
            } => {
                if let Some(verdict) = &verdict {
                    self.event(
                        None,
                        Kind::Normal,
                        &verdict.reason,
                        verdict.message.as_str(),
                    );
                }
                self.end(kind, grace_seconds, verdict);
            }
            Action::UnmountVolumes => {
                self.state.volumes = Volumes::Unmounting;
                self.refresh_at = None;
                ops.spawn(
                    async move { Done::Unmounted(cx.volumes.tear_down(&pod, &cx.facts()).await) },
                );
            }
            Action::DeletePod => {
                self.state.deleting = true;
                let flushed = self.writer.flushed();
                ops.spawn(async move {
                    flushed.await;
                    delete(&cx, &pod).await;
                    Done::Deleted
                });
            }
            Action::Forget => self.leave(),
        }
    }

    fn mount(&mut self, ops: &mut JoinSet<Done>) {
        let (cx, pod, ips) = (
            self.cx.clone(),
            self.state.pod.clone(),
            self.state.ips.clone(),
        );
        self.state.volumes = Volumes::Mounting;
        self.refresh_wanted = false;
        ops.spawn(async move {
            let facts = cx.facts();
            let ips = if pod.host_network() {
                facts.ips.clone()
            } else {
                ips
            };
            Done::Volumes(cx.volumes.set_up(&pod, &facts, &ips).await)
        });
    }

    fn refresh_volumes(&mut self, ops: &mut JoinSet<Done>) {
        let due =
            self.refresh_wanted || self.refresh_at.is_some_and(|at| at <= self.cx.clock.now());
        if due && self.state.end.is_none() && self.state.volumes == Volumes::Mounted {
            self.refresh_at = None;
            self.mount(ops);
        }
    }

    fn start(&mut self, start: Start, ops: &mut JoinSet<Done>) {
        let Some(sandbox) = self.state.sandbox().map(|s| s.id.clone()) else {
            return;
        };
        let name = start.name.clone();
        for id in &start.remove {
            self.state.drop_container(id);
        }
        let note = self.state.note_mut(&name);
        note.starting = true;
        note.crash = start.crash.or(note.crash);
        self.cancel = CancellationToken::new();
        let starting = Starting {
            cx: self.cx.clone(),
            pod: self.state.pod.clone(),
            sandbox,
            ips: self.state.ips.clone(),
            volumes: self.volumes.clone(),
            start,
            cancel: self.cancel.clone(),
            worker: self.sender.clone(),
        };
        ops.spawn(async move { Done::Started(name, start::run(starting).await) });
    }

    /// Takes in what the runtime says of a container.
    fn put(&mut self, status: ContainerStatus) {
        let ended = status.state == ContainerState::Exited;
        if ended && !self.state.messages.contains_key(&status.id) {
            let message = termination_message::read(&status);
            self.state.messages.insert(status.id.clone(), message);
        }
        self.state.put_container(status);
    }

    async fn told(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => self.updated(pod),
            Message::Gone => {
                if self.state.deleting {
                    self.leave();
                } else if self
                    .state
                    .end
                    .as_ref()
                    .is_none_or(|e| e.kind != EndKind::Gone)
                {
                    let verdict = self.state.end.take().and_then(|e| e.verdict);
                    self.end(EndKind::Gone, self.state.pod.grace_seconds(), verdict);
                }
            }
            Message::Runtime(event) => match event.container {
                Some(id) => self.look_at(&id).await,
                None => {
                    for sandbox in self.state.sandboxes.clone() {
                        self.inspect_sandbox(&sandbox.id).await;
                    }
                }
            },
            Message::Listed {
                sandboxes,
                containers,
            } => self.listed(sandboxes, containers).await,
            Message::Hooked { name, status } => {
                self.state.note_mut(&name).hooked = Some(status.id.clone());
                self.put(*status);
            }
            Message::Probe { id, kind, healthy } => {
                let found = self.state.probes.entry(id).or_default();
                match kind {
                    ProbeKind::Startup => found.startup = Some(healthy),
                    ProbeKind::Liveness => found.liveness = Some(healthy),
                    ProbeKind::Readiness => found.readiness = Some(healthy),
                }
            }
            Message::SourceChanged => self.refresh_wanted = true,
            Message::Stop => {
                if self.state.end.is_none() {
                    self.end(EndKind::Gone, self.state.pod.grace_seconds(), None);
                }
            }
        }
    }

    fn updated(&mut self, pod: Arc<PodView>) {
        let meta = |p: &PodView| {
            (
                p.object.metadata.labels.clone(),
                p.object.metadata.annotations.clone(),
            )
        };
        self.refresh_wanted |= meta(&pod) != meta(&self.state.pod);
        self.writer.observe(&pod);
        self.state.pod = pod;
        if self.state.pod.deletion_timestamp().is_none() {
            return;
        }
        let grace = self.state.pod.grace_seconds();
        match &mut self.state.end {
            Some(end) if end.kind == EndKind::Gone => {}
            Some(end) => {
                // The time it has begins with the deletion.
                if end.kind != EndKind::Deleted {
                    end.since = self.cx.clock.now();
                }
                end.kind = EndKind::Deleted;
                end.grace_seconds = end.grace_seconds.min(grace);
            }
            None => {}
        }
    }

    async fn look_at(&mut self, id: &ContainerId) {
        // One that is being started reports itself.
        if self.state.containers.iter().any(|c| c.id == *id) {
            self.inspect(id).await;
        }
    }

    async fn inspect(&mut self, id: &ContainerId) {
        match self.cx.runtime.container(id).await {
            Ok(status) => self.put(status),
            Err(error) if error.is_not_found() => self.state.drop_container(id),
            Err(error) => warn!(%error, "container not inspected"),
        }
    }

    async fn inspect_sandbox(&mut self, id: &SandboxId) {
        match self.cx.runtime.sandbox(id).await {
            Ok(status) => self.state.put_sandbox(status),
            Err(error) if error.is_not_found() => self.state.sandboxes.retain(|s| s.id != *id),
            Err(error) => warn!(%error, "sandbox not inspected"),
        }
    }

    /// Compares with a full listing: events may have been lost. A listing may be older than what
    /// is known, so whatever differs is looked at once more.
    async fn listed(&mut self, sandboxes: Vec<SandboxStatus>, containers: Vec<ContainerStatus>) {
        // What is being made or removed is in flux; its operation tells.
        if self.state.sandbox_busy || self.state.starting() || !self.state.removing.is_empty() {
            return;
        }
        let known: Vec<_> = self
            .state
            .sandboxes
            .iter()
            .filter(|s| !sandboxes.contains(s))
            .map(|s| s.id.clone())
            .collect();
        let new = sandboxes
            .iter()
            .filter(|s| !self.state.sandboxes.contains(s))
            .map(|s| s.id.clone());
        for id in known
            .into_iter()
            .chain(new)
            .collect::<std::collections::BTreeSet<_>>()
        {
            self.inspect_sandbox(&id).await;
        }
        let known: Vec<_> = self
            .state
            .containers
            .iter()
            .filter(|c| !containers.contains(c))
            .map(|c| c.id.clone())
            .collect();
        let new = containers
            .iter()
            .filter(|c| !self.state.containers.contains(c))
            .map(|c| c.id.clone());
        for id in known
            .into_iter()
            .chain(new)
            .collect::<std::collections::BTreeSet<_>>()
        {
            self.inspect(&id).await;
        }
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                // A panic in an operation must not leave the pod stuck.
                warn!(%error, pod = %self.state.pod.describe(), "operation broke off");
                self.state.sandbox_busy = false;
                self.state.killing.clear();
                self.state.removing.clear();
                self.state
                    .notes
                    .values_mut()
                    .for_each(|n| n.starting = false);
                if matches!(self.state.volumes, Volumes::Mounting | Volumes::Unmounting) {
                    self.state.volumes = Volumes::Failed(Retry::after(None, self.cx.clock.now()));
                }
                return;
            }
        };
        let now = self.cx.clock.now();
        match done {
            Done::Volumes(result) => self.mounted(result, now),
            Done::Unmounted(Ok(())) => {
                self.state.volumes = Volumes::Absent;
                self.volumes = PodVolumes::default();
            }
            Done::Unmounted(Err(error)) => {
                warn!(%error, pod = %self.state.pod.describe(), "volumes not taken down");
                self.volumes_failed(now);
            }
            Done::SandboxMade(Ok(status)) => {
                self.state.sandbox_busy = false;
                self.state.sandbox_retry = None;
                self.state.put_sandbox(status);
            }
            Done::SandboxMade(Err(error)) => {
                self.event(
                    None,
                    Kind::Warning,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}"),
                );
                self.sandbox_failed(now);
            }
            Done::SandboxStopped(id, Ok(status)) => {
                self.state.sandbox_busy = false;
                self.state.sandbox_retry = None;
                self.state.sandboxes.retain(|s| s.id != id);
                if let Some(status) = status {
                    self.state.put_sandbox(status);
                }
            }
            Done::SandboxRemoved(id, Ok(())) => {
                self.state.sandbox_busy = false;
                self.state.sandbox_retry = None;
                self.state.sandboxes.retain(|s| s.id != id);
                self.state.containers.retain(|c| c.sandbox != id);
            }
            Done::SandboxStopped(_, Err(error)) | Done::SandboxRemoved(_, Err(error)) => {
                self.event(
                    None,
                    Kind::Warning,
                    "FailedKillPod",
                    format!("error killing pod: {error}"),
                );
                self.sandbox_failed(now);
            }
            Done::Started(name, result) => self.started(&name, result, now),
            Done::Killed(id, result) => match result {
                Ok(Some(status)) => {
                    self.state.killing.remove(&id);
                    self.put(status);
                }
                Ok(None) => self.state.drop_container(&id),
                Err(error) => {
                    warn!(%error, pod = %self.state.pod.describe(), "container not ended");
                    // Asked again a second from now, by whichever event or wake-up comes.
                    self.state.killing.remove(&id);
                    self.again_at = Some(now.saturating_add(Duration::from_secs(1)).unwrap_or(now));
                }
            },
            Done::Removed(id, result) => {
                self.state.removing.remove(&id);
                match result {
                    Ok(()) => self.state.drop_container(&id),
                    Err(error) => debug!(%error, "container not removed"),
                }
            }
            Done::Deleted => self.leave(),
        }
    }

    fn volumes_failed(&mut self, now: Timestamp) {
        let retry = Retry::after(self.volume_retry.as_ref(), now);
        self.volume_retry = Some(retry);
        self.state.volumes = Volumes::Failed(retry);
    }

    fn mounted(&mut self, result: Result<PodVolumes, Vec<String>>, now: Timestamp) {
        match result {
            Ok(volumes) => {
                let after = volumes.refresh_after();
                self.refresh_at = after.and_then(|a| now.saturating_add(a).ok());
                self.volumes = volumes;
                self.state.volumes = Volumes::Mounted;
                self.volume_retry = None;
            }
            Err(errors) => {
                for error in errors {
                    self.event(None, Kind::Warning, "FailedMount", error);
                }
                // Containers that run keep what they have.
                let had = !self.volumes.volumes.is_empty();
                if had {
                    self.state.volumes = Volumes::Mounted;
                    self.refresh_at = now.saturating_add(Duration::from_secs(10)).ok();
                } else {
                    self.volumes_failed(now);
                }
            }
        }
    }

    fn sandbox_failed(&mut self, now: Timestamp) {
        self.state.sandbox_busy = false;
        self.state.sandbox_retry = Some(Retry::after(self.state.sandbox_retry.as_ref(), now));
    }

    fn started(&mut self, name: &str, result: Result<ContainerStatus, StartError>, now: Timestamp) {
        let hooked = self.state.notes.get(name).and_then(|n| n.hooked.clone());
        let note = self.state.note_mut(name);
        note.starting = false;
        note.hooked = None;
        match result {
            Ok(status) => {
                note.waiting = None;
                note.retry = None;
                note.pull = None;
                note.replace = false;
                self.put(status);
            }
            Err(error) => {
                let pull = matches!(
                    error.reason,
                    "ErrImagePull" | "ErrImageNeverPull" | "ImageInspectError"
                );
                if error.reason == "ErrImagePull" {
                    let before = note.pull.map(|p| p.backoff);
                    note.pull = Some(PullFailure {
                        backoff: Backoff::next(before.as_ref(), now, now),
                        told: false,
                    });
                    note.retry = None;
                } else if error.reason == "PostStartHookError" {
                    note.retry = None;
                } else if !error.message.is_empty() || pull {
                    note.retry = Some(Retry::after(note.retry.as_ref(), now));
                }
                if !error.message.is_empty() {
                    note.waiting = Some(Waiting {
                        reason: error.reason.to_owned(),
                        message: error.message,
                    });
                }
                if let Some(id) = hooked {
                    // It was ended; how, the runtime tells.
                    let event = k8s_runtime::RuntimeEvent {
                        pod_uid: self.state.pod.uid().to_owned(),
                        container: Some(id),
                        kind: k8s_runtime::RuntimeEventKind::Stopped,
                    };
                    let _ = self.sender.try_send(Message::Runtime(event));
                }
            }
        }
        self.find_created(name);
    }

    /// A container that was made but failed to start is known only to the runtime.
    fn find_created(&mut self, name: &str) {
        if self.state.note(name).is_some_and(|n| {
            n.waiting
                .as_ref()
                .is_some_and(|w| w.reason == "RunContainerError")
        }) {
            let (cx, uid, sender) = (
                self.cx.clone(),
                self.state.pod.uid().to_owned(),
                self.sender.clone(),
            );
            tokio::spawn(async move {
                let (Ok(sandboxes), Ok(containers)) =
                    (cx.runtime.sandboxes().await, cx.runtime.containers().await)
                else {
                    return;
                };
                let sandboxes = sandboxes
                    .into_iter()
                    .filter(|s| s.config.uid == uid)
                    .collect();
                let containers = containers
                    .into_iter()
                    .filter(|c| crate::pod::labels::pod_uid(c) == uid)
                    .collect();
                let _ = sender
                    .send(Message::Listed {
                        sandboxes,
                        containers,
                    })
                    .await;
            });
        }
    }

    fn leave(&mut self) {
        self.finished = true;
        let dir = self.cx.pod_log_dir(&self.state.pod);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, dir = %dir.display(), "logs not removed");
        }
    }
}

/// Deletes the pod in the API for good. Tries until the API has answered.
async fn delete(cx: &Context, pod: &PodView) {
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), pod.namespace());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(pod.uid().to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut delay = Duration::from_millis(50);
    loop {
        match api.delete(pod.name(), &params).await {
            Ok(_) => return,
            // Not there any more, or another one of the same name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => warn!(%error, pod = %pod.describe(), "pod not deleted"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(10));
    }
}
