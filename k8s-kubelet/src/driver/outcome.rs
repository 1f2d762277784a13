//! What came of what a [`Worker`] began.

use std::time::Duration;

use jiff::Timestamp;
use k8s_runtime::{ContainerId, ContainerStatus, Error, SandboxId, SandboxStatus};
use tracing::{debug, warn};

use super::{Message, sandbox::SandboxError, start::StartError, worker::Worker};
use crate::{
    events::Kind,
    sync::{PullFailure, Retry, Volumes, Waiting, backoff::Backoff},
    volume::manager::PodVolumes,
};

/// What came of something that was begun.
pub(super) enum Done {
    Volumes(Result<PodVolumes, Vec<String>>),
    Unmounted(Result<(), String>),
    SandboxMade(Result<SandboxStatus, SandboxError>),
    SandboxStopped(SandboxId, Result<Option<SandboxStatus>, Error>),
    SandboxRemoved(SandboxId, Result<(), Error>),
    Started(String, Result<ContainerStatus, StartError>),
    Killed(ContainerId, Result<Option<ContainerStatus>, Error>),
    Removed(ContainerId, Result<(), Error>),
    Deleted,
}

impl Worker {
    pub(super) fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
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

    pub(super) fn volumes_failed(&mut self, now: Timestamp) {
        let retry = Retry::after(self.volume_retry.as_ref(), now);
        self.volume_retry = Some(retry);
        self.state.volumes = Volumes::Failed(retry);
    }

    pub(super) fn mounted(&mut self, result: Result<PodVolumes, Vec<String>>, now: Timestamp) {
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

    pub(super) fn sandbox_failed(&mut self, now: Timestamp) {
        self.state.sandbox_busy = false;
        self.state.sandbox_retry = Some(Retry::after(self.state.sandbox_retry.as_ref(), now));
    }

    pub(super) fn started(
        &mut self,
        name: &str,
        result: Result<ContainerStatus, StartError>,
        now: Timestamp,
    ) {
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
}
