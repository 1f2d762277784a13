//! The end of a pod: containers, sandbox, volumes, and where it was deleted, everything.

use jiff::Timestamp;
use k8s_runtime::{ContainerStatus, SandboxState};

use super::{
    decide::kill,
    state::{Action, End, EndKind, Plan, PodState, Volumes},
};
use crate::pod::{ContainerKind, labels};

/// What is to be done next for a pod that has come to its end.
pub(crate) fn tear_down(state: &PodState, end: &End, now: Timestamp, plan: &mut Plan) {
    if state.deleting {
        return;
    }
    if state.starting() {
        plan.push(Action::CancelStart);
    }
    let running = stop_containers(state, end, now, plan);
    let busy = running
        || state.starting()
        || state.sandbox_busy
        || !state.removing.is_empty()
        || matches!(state.volumes, Volumes::Mounting | Volumes::Unmounting);
    if busy {
        return;
    }
    if let Some(sandbox) = state
        .sandboxes
        .iter()
        .find(|s| s.state == SandboxState::Ready)
    {
        match state.sandbox_retry {
            Some(retry) if retry.at > now => plan.wake_at(retry.at),
            _ => plan.push(Action::StopSandbox(sandbox.id.clone())),
        }
        return;
    }
    match state.volumes {
        Volumes::Absent => {}
        Volumes::Failed(retry) if retry.at > now => {
            plan.wake_at(retry.at);
            return;
        }
        _ => {
            plan.push(Action::UnmountVolumes);
            return;
        }
    }
    if matches!(end.kind, EndKind::Finished | EndKind::Failed) {
        // Its containers stay for `logs` until the pod is deleted.
        return;
    }
    if let Some(sandbox) = state.sandboxes.first() {
        match state.sandbox_retry {
            Some(retry) if retry.at > now => plan.wake_at(retry.at),
            _ => plan.push(Action::RemoveSandbox(sandbox.id.clone())),
        }
        return;
    }
    plan.push(if end.kind == EndKind::Deleted {
        Action::DeletePod
    } else {
        Action::Forget
    });
}

/// Main containers first, all at once; then sidecars, the last one started first, in what is left
/// of the grace period. Returns whether any still runs.
fn stop_containers(state: &PodState, end: &End, now: Timestamp, plan: &mut Plan) -> bool {
    let sidecar = |c: &ContainerStatus| {
        matches!(
            state.pod.find(labels::container_name(c)),
            Some((ContainerKind::Sidecar, _))
        )
    };
    let (mut sidecars, main): (Vec<_>, Vec<_>) = state.running().partition(|c| sidecar(c));
    if main.is_empty() && sidecars.is_empty() {
        return false;
    }
    let order = |c: &ContainerStatus| {
        state
            .pod
            .init()
            .iter()
            .position(|i| i.name == labels::container_name(c))
    };
    sidecars.sort_by_key(|c| std::cmp::Reverse(order(c)));
    sidecars.truncate(1);
    let elapsed = now.duration_since(end.since).as_secs().max(0);
    let now_stopping = if main.is_empty() { sidecars } else { main };
    for container in now_stopping {
        let grace = end.grace_seconds;
        // Asked for already, with no more time than this.
        if state
            .killing
            .get(&container.id)
            .is_some_and(|given| *given <= grace)
        {
            continue;
        }
        let left = if sidecar(container) {
            (grace - elapsed).max(1)
        } else {
            grace
        };
        let message = format!("Stopping container {}", labels::container_name(container));
        plan.push(kill(container, &message, left, false));
    }
    true
}
