//! Container statuses as the API shows them.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use k8s_runtime as runtime;

use super::{
    decide::should_restart,
    state::{PodState, is_running},
};
use crate::{
    pod::{ContainerKind, labels::Annotated},
    time::whole_second,
};

/// The statuses of some of the pod's containers, in the order of the specification.
pub(crate) fn statuses(
    state: &PodState,
    containers: impl Iterator<Item = (ContainerKind, Container)>,
    old: &[ContainerStatus],
    runtime_name: &str,
) -> Vec<ContainerStatus> {
    containers
        .filter_map(|(kind, c)| {
            let before = old.iter().find(|s| s.name == c.name);
            let status = status(state, kind, &c, before, runtime_name);
            // An ephemeral container shows up once it was tried.
            let untried = kind == ContainerKind::Ephemeral
                && state.latest(&c.name).is_none()
                && state.note(&c.name).is_none();
            (!untried).then_some(status)
        })
        .collect()
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..Default::default()
    }
}

fn status(
    state: &PodState,
    kind: ContainerKind,
    container: &Container,
    before: Option<&ContainerStatus>,
    runtime_name: &str,
) -> ContainerStatus {
    let name = &container.name;
    let note = state.note(name);
    let hidden = note.and_then(|n| n.hooked.as_ref());
    let mut known = state.all(name).filter(|c| Some(&c.id) != hidden);
    let (newest, previous) = (known.next(), known.next());
    if let Some(before) = before.filter(|b| being_replaced(state, name, newest, b)) {
        return before.clone();
    }
    let mut out = match newest {
        Some(c) => {
            let mut out = ContainerStatus {
                name: name.clone(),
                restart_count: i32::try_from(c.config.restart_count()).unwrap_or(i32::MAX),
                image: c.config.image_name().to_owned(),
                image_id: c.image_ref.clone(),
                container_id: Some(format!("{runtime_name}://{}", c.id.0)),
                state: Some(container_state(state, c, runtime_name)),
                ..Default::default()
            };
            out.last_state = previous
                .map(|p| container_state(state, p, runtime_name))
                .filter(|s| s.terminated.is_some())
                .or_else(|| {
                    before
                        .filter(|b| same_container(b, &out))
                        .and_then(|b| b.last_state.clone())
                });
            out
        }
        None => never_seen(state, kind, container, before),
    };
    // Ended for now: what keeps it from starting again is its state, how it ended its last state.
    let policy = state.pod.restart_policy_of(kind);
    let may_start = state.end.is_none()
        && match newest {
            None => true,
            Some(c) => {
                should_restart(policy, c) || note.is_some_and(|n| n.replace && !is_running(c))
            }
        };
    if let Some(reason) = note.and_then(|n| n.waiting.as_ref()).filter(|_| may_start) {
        if let Some(terminated) = out.state.as_ref().and_then(|s| s.terminated.clone()) {
            out.last_state = Some(ContainerState {
                terminated: Some(terminated),
                ..Default::default()
            });
        }
        out.state = Some(waiting(&reason.reason, &reason.message));
    }
    readiness(state, kind, container, newest, &mut out);
    out
}

/// Whether what was reported last is being replaced by a container of a new definition. Upstream
/// ends the old one, pulls the new image and starts the new one in one go, and shows nothing of
/// what lies between, unless the new one cannot be started.
fn being_replaced(
    state: &PodState,
    name: &str,
    newest: Option<&runtime::ContainerStatus>,
    before: &ContainerStatus,
) -> bool {
    let ran = before.state.as_ref().is_some_and(|s| s.running.is_some());
    let runs = newest.is_some_and(is_running);
    let note = state.note(name);
    ran && !runs && state.end.is_none() && note.is_some_and(|n| n.replace && n.waiting.is_none())
}

fn same_container(before: &ContainerStatus, now: &ContainerStatus) -> bool {
    before.container_id == now.container_id
}

/// A container that the runtime knows nothing of.
fn never_seen(
    state: &PodState,
    kind: ContainerKind,
    container: &Container,
    before: Option<&ContainerStatus>,
) -> ContainerStatus {
    let initializing = kind == ContainerKind::Main && !state.pod.init().is_empty()
        || matches!(kind, ContainerKind::Init | ContainerKind::Sidecar);
    let reason = if initializing {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut out = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, "")),
        last_state: None,
        ..Default::default()
    };
    let Some(before) = before else { return out };
    let was = before.state.clone().unwrap_or_default();
    if was.terminated.is_some() {
        return before.clone();
    }
    out.restart_count = before.restart_count;
    out.last_state = before.last_state.clone();
    if was.running.is_some()
        && out
            .last_state
            .as_ref()
            .is_none_or(|s| s.terminated.is_none())
    {
        // It ran once and is not there any more: that is an end, though nobody saw it.
        out.last_state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some(
                    "The container could not be located when the pod was deleted.  The container used to be Running"
                        .to_owned(),
                ),
                ..Default::default()
            }),
            ..Default::default()
        });
        if state.pod.deletion_timestamp().is_none() {
            out.restart_count += 1;
        }
    }
    out
}

fn container_state(
    state: &PodState,
    c: &runtime::ContainerStatus,
    runtime_name: &str,
) -> ContainerState {
    let time = |t: Option<jiff::Timestamp>| t.map(|t| Time(whole_second(t)));
    match c.state {
        runtime::ContainerState::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: time(c.started_at),
            }),
            ..Default::default()
        },
        runtime::ContainerState::Exited => {
            let mut message = c.message.clone();
            if let Some(own) = state.messages.get(&c.id).filter(|m| !m.is_empty()) {
                if !message.is_empty() {
                    message.push_str(": ");
                }
                message.push_str(own);
            }
            ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: c.exit_code.unwrap_or(-1),
                    signal: c.signal.filter(|s| *s != 0),
                    reason: (!c.reason.is_empty()).then(|| c.reason.clone()),
                    message: (!message.is_empty()).then_some(message),
                    started_at: time(c.started_at),
                    finished_at: time(c.finished_at),
                    container_id: Some(format!("{runtime_name}://{}", c.id.0)),
                }),
                ..Default::default()
            }
        }
        runtime::ContainerState::Created | runtime::ContainerState::Unknown => {
            let reason = match state.note(crate::pod::labels::container_name(c)) {
                Some(note) if note.starting => "ContainerCreating",
                _ => "",
            };
            waiting(reason, "")
        }
    }
}

/// `started` and `ready`, from the probes.
fn readiness(
    state: &PodState,
    kind: ContainerKind,
    container: &Container,
    newest: Option<&runtime::ContainerStatus>,
    out: &mut ContainerStatus,
) {
    let is_now = |f: fn(&ContainerState) -> bool| out.state.as_ref().is_some_and(f);
    let running = is_now(|s| s.running.is_some());
    if kind == ContainerKind::Ephemeral {
        return;
    }
    let started = running && newest.is_some_and(|c| state.started(&container.name, &c.id));
    out.started = Some(started);
    out.ready = if kind == ContainerKind::Init {
        out.state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0)
    } else {
        let probes = newest
            .and_then(|c| state.probes.get(&c.id))
            .copied()
            .unwrap_or_default();
        started && (container.readiness_probe.is_none() || probes.readiness == Some(true))
    };
}
