//! What a [`Worker`] does of what was decided: each action begins, none is waited for.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    kill::{self, Kill},
    outcome::Done,
    sandbox,
    start::{self, Starting},
    worker::Worker,
};
use crate::{
    context::Context,
    events::Kind,
    pod::PodView,
    sync::{Action, Start, Volumes, Waiting},
};

impl Worker {
    pub(super) fn act(&mut self, action: Action, ops: &mut JoinSet<Done>) {
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

    pub(super) fn mount(&mut self, ops: &mut JoinSet<Done>) {
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

    pub(super) fn refresh_volumes(&mut self, ops: &mut JoinSet<Done>) {
        let due =
            self.refresh_wanted || self.refresh_at.is_some_and(|at| at <= self.cx.clock.now());
        if due && self.state.end.is_none() && self.state.volumes == Volumes::Mounted {
            self.refresh_at = None;
            self.mount(ops);
        }
    }

    pub(super) fn start(&mut self, start: Start, ops: &mut JoinSet<Done>) {
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
