//! The pod conditions that the kubelet owns.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::state::PodState;
use crate::pod::ContainerKind;
use crate::time::whole_second;

const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// One condition's verdict.
struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            status: true,
            reason: "",
            message: String::new(),
        }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self {
            status: false,
            reason,
            message,
        }
    }
}

/// All conditions of the pod: the kubelet's own and, unchanged, everybody else's.
pub(crate) fn conditions(
    state: &PodState,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let old = state.reported.conditions.as_deref().unwrap_or_default();
    let api = state.pod.status().conditions.unwrap_or_default();
    let containers_ready = containers_ready(state, phase, main);
    let ready = if containers_ready.status {
        gates(state, &api)
    } else {
        Verdict {
            message: containers_ready.message.clone(),
            ..containers_ready
        }
    };
    let verdicts = [
        if state.sandbox().is_some() {
            Verdict::yes()
        } else {
            Verdict::no("", String::new())
        },
        initialized(state, phase, init),
        ready,
        containers_ready,
        Verdict::yes(),
    ];
    let foreign = api
        .into_iter()
        .filter(|c| !OWNED.contains(&c.type_.as_str()));
    let own = OWNED.iter().zip(verdicts).map(|(type_, verdict)| {
        let status = if verdict.status { "True" } else { "False" };
        let before = old.iter().find(|c| c.type_ == *type_);
        let since = before
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        PodCondition {
            type_: (*type_).to_owned(),
            status: status.to_owned(),
            reason: text(verdict.reason),
            message: text(&verdict.message),
            last_transition_time: since.or(Some(Time(whole_second(now)))),
            observed_generation: state.pod.object.metadata.generation,
            ..Default::default()
        }
    });
    foreign.chain(own).collect()
}

fn names<'a>(list: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", list.collect::<Vec<_>>().join(" "))
}

fn unready_message(unknown: &[&str], unready: &[&str], word: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!(
            "containers with unknown status: {}",
            names(unknown.iter().copied())
        ));
    }
    if !unready.is_empty() {
        parts.push(format!(
            "containers with {word} status: {}",
            names(unready.iter().copied())
        ));
    }
    parts.join(", ")
}

fn containers_ready(state: &PodState, phase: &str, statuses: &[ContainerStatus]) -> Verdict {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for (kind, container) in state.pod.containers() {
        if !matches!(kind, ContainerKind::Main) {
            continue;
        }
        match statuses.iter().find(|s| s.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if !s.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict::no("PodCompleted", String::new());
    }
    if phase == "Failed" {
        return Verdict::no("PodFailed", String::new());
    }
    match unready_message(&unknown, &unready, "unready") {
        message if message.is_empty() => Verdict::yes(),
        message => Verdict::no("ContainersNotReady", message),
    }
}

fn gates(state: &PodState, conditions: &[PodCondition]) -> Verdict {
    let mut messages = Vec::new();
    for gate in state.pod.spec().readiness_gates.iter().flatten() {
        let gate = &gate.condition_type;
        match conditions.iter().find(|c| c.type_ == *gate) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {gate:?} does not exist."
            )),
            Some(c) if c.status != "True" => {
                messages.push(format!(
                    "the status of pod readiness gate {gate:?} is not \"True\", but {}",
                    c.status
                ));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", messages.join(", "))
    }
}

fn initialized(state: &PodState, phase: &str, statuses: &[ContainerStatus]) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for (kind, container) in state.pod.containers() {
        let done = |s: &ContainerStatus| match kind {
            ContainerKind::Sidecar => s.started == Some(true),
            _ => s.ready,
        };
        if !matches!(kind, ContainerKind::Init | ContainerKind::Sidecar) {
            continue;
        }
        match statuses.iter().find(|s| s.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if !done(s) => incomplete.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict {
            reason: "PodCompleted",
            ..Verdict::yes()
        };
    }
    // Sidecars that have ended with their pod do not undo its initialization.
    if super::init::initialized(state) && !state.pod.init().is_empty() {
        return Verdict::yes();
    }
    match unready_message(&unknown, &incomplete, "incomplete") {
        message if message.is_empty() => Verdict::yes(),
        message => Verdict::no("ContainersNotInitialized", message),
    }
}
