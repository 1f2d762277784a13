//! [`pod_status`]: a pod's status as the API shows it.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, HostIP, PodIP, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    conditions::conditions,
    container_status::statuses,
    state::{EndKind, PodState},
};
use crate::{
    pod::{ContainerKind, RestartPolicy, fields::NodeFacts},
    time::whole_second,
};

/// The status of a pod in this state.
pub(crate) fn pod_status(
    state: &PodState,
    now: Timestamp,
    node: &NodeFacts,
    runtime_name: &str,
) -> PodStatus {
    let pod = &state.pod;
    let old = &state.reported;
    let api = pod.status();
    let mut out = PodStatus {
        start_time: Some(Time(whole_second(state.start_time))),
        qos_class: Some(pod.qos().as_str().to_owned()),
        observed_generation: pod.object.metadata.generation,
        // Kept as they are: not the kubelet's.
        nominated_node_name: api.nominated_node_name.clone(),
        resource_claim_statuses: api.resource_claim_statuses.clone(),
        ..Default::default()
    };
    if state.refused {
        let verdict = state.end.as_ref().and_then(|e| e.verdict.as_ref());
        out.phase = Some("Failed".to_owned());
        out.reason = verdict.map(|v| v.reason.clone()).or(api.reason);
        out.message = verdict.map(|v| v.message.clone()).or(api.message);
        out.conditions = api.conditions;
        return out;
    }
    let part = |kinds: &'static [ContainerKind]| {
        pod.containers()
            .filter(move |(k, _)| kinds.contains(k))
            .map(|(k, c)| (k, c.clone()))
    };
    let list = |l: &Option<Vec<ContainerStatus>>| l.clone().unwrap_or_default();
    let init = statuses(
        state,
        part(&[ContainerKind::Init, ContainerKind::Sidecar]),
        &list(&old.init_container_statuses),
        runtime_name,
    );
    let main = statuses(
        state,
        part(&[ContainerKind::Main]),
        &list(&old.container_statuses),
        runtime_name,
    );
    let ephemeral = statuses(
        state,
        part(&[ContainerKind::Ephemeral]),
        &list(&old.ephemeral_container_statuses),
        runtime_name,
    );
    let mut phase = phase(state, &init, &main);
    for settled in [old.phase.as_deref(), api.phase.as_deref()]
        .into_iter()
        .flatten()
    {
        if matches!(settled, "Succeeded" | "Failed") {
            phase = if settled == "Failed" {
                "Failed"
            } else {
                "Succeeded"
            };
        }
    }
    if old.phase.as_deref() == Some(phase) {
        out.reason = old.reason.clone().or(api.reason);
        out.message = old.message.clone().or(api.message);
    }
    if let Some(verdict) = state.end.as_ref().and_then(|e| e.verdict.as_ref()) {
        phase = "Failed";
        out.reason = Some(verdict.reason.clone());
        out.message = Some(verdict.message.clone());
    }
    out.conditions = Some(conditions(state, phase, &init, &main, now));
    out.phase = Some(phase.to_owned());
    let some = |l: Vec<ContainerStatus>| (!l.is_empty()).then_some(l);
    out.init_container_statuses = some(init);
    out.container_statuses = some(main);
    out.ephemeral_container_statuses = some(ephemeral);
    out.host_ip = node.ips.first().map(ToString::to_string);
    out.host_ips = (!node.ips.is_empty()).then(|| {
        node.ips
            .iter()
            .map(|ip| HostIP { ip: ip.to_string() })
            .collect()
    });
    let ips = if pod.host_network() {
        &node.ips
    } else {
        &state.ips
    };
    out.pod_ip = ips.first().map(ToString::to_string);
    out.pod_ips =
        (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    out
}

/// Which phase the containers' states amount to, as upstream counts since v1.29.
fn phase(state: &PodState, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let (mut pending_init, mut failed_init) = (0, 0);
    for (kind, container) in state.pod.containers() {
        if !matches!(kind, ContainerKind::Init | ContainerKind::Sidecar) {
            continue;
        }
        let Some(status) = init.iter().find(|s| s.name == container.name) else {
            pending_init += 1;
            continue;
        };
        let now = status.state.clone().unwrap_or_default();
        let last = status.last_state.clone().unwrap_or_default().terminated;
        if now.running.is_some() {
            let done = kind == ContainerKind::Sidecar && status.started == Some(true);
            pending_init += usize::from(!done);
        } else if let Some(t) = now.terminated {
            failed_init += usize::from(kind == ContainerKind::Init && t.exit_code != 0);
        } else if let Some(last) = last {
            failed_init += usize::from(kind == ContainerKind::Init && last.exit_code != 0);
        } else {
            pending_init += 1;
        }
    }
    let (mut unknown, mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0, 0);
    for container in state.pod.main() {
        let Some(status) = main.iter().find(|s| s.name == container.name) else {
            unknown += 1;
            continue;
        };
        let now = status.state.clone().unwrap_or_default();
        if now.running.is_some() {
            running += 1;
        } else if let Some(t) = now.terminated {
            stopped += 1;
            succeeded += usize::from(t.exit_code == 0);
        } else if status
            .last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some())
        {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    let policy = state.pod.restart_policy();
    if failed_init > 0 && policy == RestartPolicy::Never {
        return "Failed";
    }
    // All that can still happen is the end: the phase must be a final one (KEP-3329).
    let ended = state.end.as_ref().is_some_and(|e| e.kind != EndKind::Gone)
        && state.running().next().is_none()
        && !state.starting();
    if ended {
        let all =
            succeeded == state.pod.main().len() && failed_init == 0 && !state.pod.main().is_empty();
        return if all { "Succeeded" } else { "Failed" };
    }
    // Sidecars that ended after the main containers began don't take the pod back.
    if pending_init > 0 && !super::init::initialized(state) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        return match policy {
            RestartPolicy::Always => "Running",
            _ if stopped == succeeded && state.running().next().is_none() => "Succeeded",
            RestartPolicy::Never if state.running().next().is_none() => "Failed",
            _ => "Running",
        };
    }
    "Pending"
}
