//! [`Worker`]: one pod's task.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_runtime::{ContainerStatus, SandboxStatus};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Message, outcome::Done, publish::Probes, status_writer::StatusWriter};
use crate::{
    context::Context,
    events::Kind,
    pod::{PodView, labels},
    probe::ProbeKind,
    sync::{Action, End, EndKind, PodState, Retry, Volumes, Waiting, decide},
    volume::manager::PodVolumes,
};

/// What is left to the containers of a pod that uses too much.
const EVICTION_GRACE_SECONDS: i64 = 1;

/// Carries one pod from its first sight to its end.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) cx: Arc<Context>,
    pub(crate) state: PodState,
    pub(crate) writer: StatusWriter,
    pub(crate) probes: Probes,
    /// The pod's containers are being removed for good.
    pub(crate) fading: bool,
    pub(super) volumes: PodVolumes,
    pub(super) refresh_at: Option<Timestamp>,
    pub(super) refresh_wanted: bool,
    pub(super) volume_retry: Option<Retry>,
    /// When to decide again, whatever the plan says.
    pub(super) again_at: Option<Timestamp>,
    pub(super) cancel: CancellationToken,
    finished: bool,
    pub(super) sender: mpsc::Sender<Message>,
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

    pub(super) fn event(
        &self,
        container: Option<&str>,
        kind: Kind,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.cx
            .recorder
            .pod(&self.state.pod, container, kind, reason, message);
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
            Message::Evict(message) => {
                if self.state.end.is_none() {
                    self.event(None, Kind::Warning, "Evicted", message.as_str());
                    let reason = "Evicted".to_owned();
                    let verdict = Waiting { reason, message };
                    self.end(EndKind::Failed, EVICTION_GRACE_SECONDS, Some(verdict));
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
        for (_, container) in pod.containers() {
            let before = self.state.pod.find(&container.name);
            if before.is_some_and(|(_, old)| labels::hash(old) != labels::hash(container)) {
                self.state.note_mut(&container.name).forget_failures();
            }
        }
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

    pub(super) fn leave(&mut self) {
        self.finished = true;
        let dir = self.cx.pod_log_dir(&self.state.pod);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, dir = %dir.display(), "logs not removed");
        }
    }
}
