//! Pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use serde_json::Value;

use super::{
    column::{AGE, Column, NAME, text as column, wide},
    duration::since,
};
use crate::{
    kinds::checks::{list, text},
    pods::{is_ready, is_sidecar, is_terminal},
};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Ready",
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    column(
        "Status",
        "The aggregate status of the containers in this pod.",
    ),
    column(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE,
    wide("IP", "The pod's primary address."),
    wide("Node", "The node that runs the pod."),
    wide(
        "Nominated Node",
        "The node that is being freed for the pod.",
    ),
    wide(
        "Readiness Gates",
        "How many of the pod's readiness gates are passed.",
    ),
];

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let summary = Summary::of(pod, status);
    let mut restarts = summary.restarts.count.to_string();
    if let Some(last) = summary.restarts.last {
        restarts = format!("{restarts} ({} ago)", since(Some(last), now));
    }
    let spec = pod.spec.as_ref();
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let ip = list(&status.pod_ips)
        .first()
        .map_or("", |ip| ip.ip.as_str());
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    vec![
        text(&pod.metadata.name).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        since(created, now).into(),
        or_none(ip),
        or_none(spec.map_or("", |spec| text(&spec.node_name))),
        or_none(text(&status.nominated_node_name)),
        readiness_gates(pod, status).into(),
    ]
}

fn readiness_gates(pod: &Pod, status: &PodStatus) -> String {
    let gates = pod
        .spec
        .as_ref()
        .map(|spec| list(&spec.readiness_gates))
        .unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let passed = gates.iter().filter(|gate| {
        list(&status.conditions)
            .iter()
            .find(|condition| condition.type_ == gate.condition_type)
            .is_some_and(|condition| condition.status == "True")
    });
    format!("{}/{}", passed.count(), gates.len())
}

/// How often containers have been restarted, and when last.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += container.restart_count;
        let ended = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let finished = ended
            .and_then(|ended| ended.finished_at.as_ref())
            .map(|time| time.0);
        self.last = self.last.max(finished);
    }
}

/// A pod in a few words.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Pod, status: &PodStatus) -> Self {
        let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
        let init = pod
            .spec
            .as_ref()
            .map(|spec| list(&spec.init_containers))
            .unwrap_or_default();
        let phase = text(&status.phase);
        let reason = match text(&status.reason) {
            "" => phase,
            reason => reason,
        };
        let mut out = Summary {
            ready: 0,
            total: containers
                + init
                    .iter()
                    .filter(|container| is_sidecar(container))
                    .count(),
            reason: reason.to_owned(),
            restarts: Restarts::default(),
        };
        let gated = list(&status.conditions).iter().any(|condition| {
            condition.type_ == "PodScheduled" && text(&condition.reason) == "SchedulingGated"
        });
        if gated {
            out.reason = "SchedulingGated".to_owned();
        }

        let mut sidecar_restarts = Restarts::default();
        let mut initializing = false;
        for (index, container) in list(&status.init_container_statuses).iter().enumerate() {
            let sidecar = init
                .iter()
                .any(|c| c.name == container.name && is_sidecar(c));
            out.restarts.add(container);
            if sidecar {
                sidecar_restarts.add(container);
            }
            let state = container.state.as_ref();
            if state
                .and_then(|s| s.terminated.as_ref())
                .is_some_and(|ended| ended.exit_code == 0)
            {
                continue;
            }
            if sidecar && container.started == Some(true) {
                out.ready += usize::from(container.ready);
                continue;
            }
            let why = match state.and_then(waiting_or_ended) {
                Some(why) if why != "PodInitializing" => why,
                _ => format!("{index}/{}", init.len()),
            };
            out.reason = format!("Init:{why}");
            initializing = true;
            break;
        }

        let initialized = list(&status.conditions)
            .iter()
            .any(|condition| condition.type_ == "Initialized" && condition.status == "True");
        if !initializing || initialized {
            out.restarts = sidecar_restarts;
            out.add_containers(pod, status);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            if text(&status.reason) == "NodeLost" {
                out.reason = "Unknown".to_owned();
            } else if !is_terminal(pod) {
                out.reason = "Terminating".to_owned();
            }
        }
        out
    }

    fn add_containers(&mut self, pod: &Pod, status: &PodStatus) {
        let mut running = false;
        for container in list(&status.container_statuses).iter().rev() {
            self.restarts.add(container);
            let state = container.state.as_ref();
            if let Some(why) = state.and_then(waiting_or_ended) {
                self.reason = why;
            } else if container.ready && state.is_some_and(|state| state.running.is_some()) {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if is_ready(pod) { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

/// Why a container waits or has ended.
fn waiting_or_ended(state: &ContainerState) -> Option<String> {
    let waiting = state
        .waiting
        .as_ref()
        .map_or("", |waiting| text(&waiting.reason));
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let ended = state.terminated.as_ref()?;
    let signal = ended.signal.unwrap_or_default();
    Some(match text(&ended.reason) {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", ended.exit_code),
        reason => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Vec<String> {
        let pod: Pod = serde_json::from_value(value).unwrap();
        let now = "2024-01-01T00:10:00Z".parse().unwrap();
        cells(&pod, now)
            .iter()
            .map(|cell| cell.as_str().unwrap().to_owned())
            .collect()
    }

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}],
                "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": status})
    }

    #[test]
    fn a_running_pod_shows_readiness_restarts_and_place() {
        let row = row(pod(
            json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
                "restartCount": 1, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1,
                    "finishedAt": "2024-01-01T00:09:55Z"}}}]}),
        ));
        assert_eq!(
            row,
            [
                "a",
                "1/1",
                "Running",
                "1 (5s ago)",
                "10m",
                "10.0.0.1",
                "n",
                "<none>",
                "<none>"
            ]
        );
    }

    #[test]
    fn a_crashing_container_names_the_status() {
        let row = row(pod(json!({"phase": "Running",
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]})));
        assert_eq!(row[1..3], ["0/1", "CrashLoopBackOff"]);
    }

    #[test]
    fn init_containers_come_first() {
        let status = |state: Value| {
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": state}]})
        };
        assert_eq!(row(pod(status(json!({"running": {}}))))[2], "Init:1/2");
        assert_eq!(
            row(pod(status(json!({"terminated": {"exitCode": 2}}))))[2],
            "Init:ExitCode:2"
        );
        assert_eq!(
            row(pod(status(
                json!({"waiting": {"reason": "ImagePullBackOff"}})
            )))[2],
            "Init:ImagePullBackOff"
        );
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_terminating() {
        let mut value = pod(json!({"phase": "Running"}));
        value["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        assert_eq!(row(value)[2], "Terminating");
    }
}
