//! [`decide`]: what to do for a pod now.

use jiff::Timestamp;
use k8s_model::duration::print_std;
use k8s_openapi::api::core::v1::Container;
use k8s_runtime::{ContainerState, ContainerStatus, SandboxState};

use super::{
    backoff::Backoff,
    init::{self, Progress},
    state::{Action, EndKind, Plan, PodState, Start, Volumes, Waiting, is_running},
    teardown,
};
use crate::pod::{ContainerKind, RestartPolicy, labels, labels::Annotated};

/// What must be done for a pod in this state, at this moment.
///
/// The order is upstream's: volumes, sandbox, ephemeral containers, init containers one after the
/// other, main containers. One container is started at a time, in the order of the specification.
pub(crate) fn decide(state: &PodState, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(end) = &state.end {
        teardown::tear_down(state, end, now, &mut plan);
        return plan;
    }
    if let Some(end) = ending(state, now, &mut plan) {
        plan.push(end);
        return plan;
    }
    remove_old(state, &mut plan);
    match state.volumes {
        Volumes::Mounted => {}
        Volumes::Absent => {
            plan.push(Action::MountVolumes);
            return plan;
        }
        Volumes::Failed(retry) if retry.at > now => {
            plan.wake_at(retry.at);
            return plan;
        }
        Volumes::Failed(_) => {
            plan.push(Action::MountVolumes);
            return plan;
        }
        Volumes::Mounting | Volumes::Unmounting => return plan,
    }
    if state.sandbox_busy {
        return plan;
    }
    if state.sandbox().is_none() {
        make_sandbox(state, now, &mut plan);
        return plan;
    }
    containers(state, now, &mut plan);
    plan
}

/// Whether the pod has to end now.
fn ending(state: &PodState, now: Timestamp, plan: &mut Plan) -> Option<Action> {
    let pod = &state.pod;
    let end = |kind, verdict| {
        Some(Action::End {
            kind,
            grace_seconds: pod.grace_seconds(),
            verdict,
        })
    };
    if pod.deletion_timestamp().is_some() {
        return end(EndKind::Deleted, None);
    }
    if pod.is_terminal() {
        return end(EndKind::Finished, None);
    }
    if let Some(seconds) = pod.spec().active_deadline_seconds {
        let deadline = state
            .start_time
            .saturating_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(now);
        if now >= deadline {
            let verdict = Waiting {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            };
            return end(EndKind::Failed, Some(verdict));
        }
        plan.wake_at(deadline);
    }
    None
}

/// Of each container name the newest two are kept: what runs, and what ran before it.
fn remove_old(state: &PodState, plan: &mut Plan) {
    let names = state.pod.containers().map(|(_, c)| c.name.as_str());
    for name in names {
        let old = state
            .all(name)
            .skip(2)
            .filter(|c| !is_running(c) && !state.removing.contains(&c.id));
        plan.actions
            .extend(old.map(|c| Action::Remove(c.id.clone())));
    }
    for sandbox in state.sandboxes.iter().skip(1) {
        let empty = !state.containers.iter().any(|c| c.sandbox == sandbox.id);
        if sandbox.state == SandboxState::NotReady && empty && !state.sandbox_busy {
            plan.push(Action::RemoveSandbox(sandbox.id.clone()));
            return;
        }
    }
}

fn make_sandbox(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let attempt = state.sandboxes.first().map_or(0, |s| s.config.attempt + 1);
    let policy = state.pod.restart_policy();
    let finish = |plan: &mut Plan| {
        plan.push(Action::End {
            kind: EndKind::Finished,
            grace_seconds: state.pod.grace_seconds(),
            verdict: None,
        });
    };
    if attempt > 0 {
        if policy == RestartPolicy::Never && !state.containers.is_empty() {
            return finish(plan);
        }
        let done = |c: &Container| {
            policy == RestartPolicy::OnFailure && state.latest(&c.name).is_some_and(succeeded)
        };
        if state.pod.main().iter().all(done) {
            return finish(plan);
        }
        let mut alive = false;
        for container in state
            .running()
            .filter(|c| !state.killing.contains_key(&c.id))
        {
            let name = labels::container_name(container);
            plan.push(kill(
                container,
                &format!("Stopping container {name}"),
                state.pod.grace_seconds(),
                false,
            ));
            alive = true;
        }
        if alive || !state.killing.is_empty() {
            return;
        }
    }
    match state.sandbox_retry {
        Some(retry) if retry.at > now => plan.wake_at(retry.at),
        _ => plan.push(Action::CreateSandbox { attempt }),
    }
}

fn containers(state: &PodState, now: Timestamp, plan: &mut Plan) {
    for container in state.pod.ephemeral() {
        if state.latest(&container.name).is_none() {
            start(state, ContainerKind::Ephemeral, container, now, plan);
        }
    }
    let initialized = match init::progress(state) {
        Progress::Done => true,
        Progress::Wait => false,
        Progress::Start(container) => {
            let kind = crate::pod::view::init_kind(container);
            start(state, kind, container, now, plan);
            false
        }
        Progress::Failed => {
            plan.push(Action::End {
                kind: EndKind::Finished,
                grace_seconds: state.pod.grace_seconds(),
                verdict: None,
            });
            return;
        }
    };
    check_sidecars(state, initialized, now, plan);
    if !initialized {
        return;
    }
    let mut alive = false;
    for container in state.pod.main() {
        alive |= main_container(state, container, now, plan);
    }
    if !alive {
        plan.actions.clear();
        plan.push(Action::End {
            kind: EndKind::Finished,
            grace_seconds: state.pod.grace_seconds(),
            verdict: None,
        });
    }
}

/// Sidecars are watched over as main containers are, and restarted whatever the pod's policy.
fn check_sidecars(state: &PodState, initialized: bool, now: Timestamp, plan: &mut Plan) {
    for container in state.pod.init() {
        if crate::pod::view::init_kind(container) != ContainerKind::Sidecar {
            continue;
        }
        match state.latest_here(&container.name) {
            Some(c) if is_running(c) => {
                check_running(state, ContainerKind::Sidecar, container, c, plan);
            }
            Some(_) if initialized => start(state, ContainerKind::Sidecar, container, now, plan),
            _ => {}
        }
    }
}

/// Returns whether the container keeps the pod alive.
fn main_container(
    state: &PodState,
    container: &Container,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    match state.latest(&container.name) {
        Some(c) if is_running(c) => {
            check_running(state, ContainerKind::Main, container, c, plan);
            true
        }
        latest => {
            let replace = state.note(&container.name).is_some_and(|n| n.replace);
            let again = latest.is_none_or(|c| should_restart(state.pod.restart_policy(), c));
            if replace || again {
                start(state, ContainerKind::Main, container, now, plan);
                true
            } else {
                false
            }
        }
    }
}

/// Whether a container that is not running is to be started again.
pub(crate) fn should_restart(policy: RestartPolicy, container: &ContainerStatus) -> bool {
    match container.state {
        ContainerState::Running => false,
        ContainerState::Created | ContainerState::Unknown => true,
        ContainerState::Exited => match policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => container.exit_code != Some(0),
            RestartPolicy::Always => true,
        },
    }
}

fn succeeded(container: &ContainerStatus) -> bool {
    container.state == ContainerState::Exited && container.exit_code == Some(0)
}

/// Kills a container whose definition changed or whose probes failed.
fn check_running(
    state: &PodState,
    kind: ContainerKind,
    spec: &Container,
    running: &ContainerStatus,
    plan: &mut Plan,
) {
    if state.killing.contains_key(&running.id) {
        return;
    }
    let name = &spec.name;
    let probes = state.probes.get(&running.id).copied().unwrap_or_default();
    let restarts = state.pod.restart_policy_of(kind) != RestartPolicy::Never;
    let grace = state.pod.grace_seconds();
    let probe_grace = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe
            .as_ref()
            .and_then(|p| p.termination_grace_period_seconds)
            .unwrap_or(grace)
    };
    let (message, grace, replace) = if running.config.hash() != labels::hash(spec) {
        (format!("Container {name} definition changed"), grace, true)
    } else if probes.liveness == Some(false) {
        (
            format!("Container {name} failed liveness probe"),
            probe_grace(&spec.liveness_probe),
            false,
        )
    } else if probes.startup == Some(false) {
        (
            format!("Container {name} failed startup probe"),
            probe_grace(&spec.startup_probe),
            false,
        )
    } else {
        return;
    };
    let message = if restarts || replace {
        format!("{message}, will be restarted")
    } else {
        message
    };
    plan.push(kill(running, &message, grace, replace));
}

pub(crate) fn kill(
    container: &ContainerStatus,
    message: &str,
    grace_seconds: i64,
    replace: bool,
) -> Action {
    Action::Kill {
        id: container.id.clone(),
        name: labels::container_name(container).to_owned(),
        message: message.to_owned(),
        grace_seconds,
        replace,
    }
}

/// Starts a container unless it has to wait, or another one is being started.
fn start(
    state: &PodState,
    kind: ContainerKind,
    container: &Container,
    now: Timestamp,
    plan: &mut Plan,
) {
    let _ = kind;
    let name = &container.name;
    let note = state.note(name).cloned().unwrap_or_default();
    if note.starting
        || state
            .latest(name)
            .is_some_and(|c| state.killing.contains_key(&c.id))
    {
        return;
    }
    if let Some(retry) = note.retry.filter(|r| r.at > now) {
        plan.wake_at(retry.at);
        return;
    }
    if let Some(pull) = note.pull {
        // Shown as ErrImagePull for a moment before it becomes ImagePullBackOff.
        const SHOWN: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
        let failed = pull.backoff.updated;
        let again = failed.saturating_add(pull.backoff.delay).unwrap_or(now);
        if again > now {
            let tell = failed.saturating_add(SHOWN).unwrap_or(now);
            if pull.told {
                plan.wake_at(again);
            } else if tell > now {
                plan.wake_at(tell);
            } else {
                plan.push(Action::PullBackOff { name: name.clone() });
                plan.wake_at(again);
            }
            return;
        }
    }
    // Those of a former definition say nothing about how this one will fare.
    let exited = state
        .all(name)
        .find(|c| c.state == ContainerState::Exited && c.config.hash() == labels::hash(container));
    let crash = match exited.and_then(|c| c.finished_at) {
        Some(finished) => {
            if let Some(until) = Backoff::wait_until(note.crash.as_ref(), finished, now) {
                if note
                    .waiting
                    .as_ref()
                    .is_none_or(|w| w.reason != "CrashLoopBackOff")
                {
                    let delay = note.crash.map(|b| b.delay).unwrap_or_default();
                    let message = format!(
                        "back-off {} restarting failed container={name} pod={}",
                        print_std(delay),
                        state.pod.describe()
                    );
                    plan.push(Action::CrashLoop {
                        name: name.clone(),
                        message,
                    });
                }
                plan.wake_at(until);
                return;
            }
            Some(Backoff::next(note.crash.as_ref(), finished, now))
        }
        None => None,
    };
    if state.starting() || plan.actions.iter().any(|a| matches!(a, Action::Start(_))) {
        return;
    }
    let remove = state
        .all(name)
        .filter(|c| c.state == ContainerState::Created)
        .map(|c| c.id.clone())
        .collect();
    plan.push(Action::Start(Start {
        name: name.clone(),
        restart_count: state.latest(name).map(|c| c.config.restart_count() + 1),
        crash,
        remove,
    }));
}
