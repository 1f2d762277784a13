//! The decision core, case by case.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_runtime::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, SandboxConfig, SandboxId,
    SandboxState, SandboxStatus,
};
use serde_json::{Value, json};

use super::{state::Plan, *};
use crate::pod::{PodView, fields::NodeFacts, labels};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// A pod's state, put together step by step.
struct Case {
    state: PodState,
}

impl Case {
    fn new(spec: Value) -> Self {
        let object =
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
        let pod: Pod = serde_json::from_value(object).unwrap();
        let mut state = PodState::new(Arc::new(PodView::new(pod)), at(0));
        state.volumes = Volumes::Mounted;
        Self { state }.sandbox("s0", 0, SandboxState::Ready)
    }

    fn simple() -> Self {
        Self::new(json!({"containers": [{"name": "c", "image": "i"}]}))
    }

    fn sandbox(mut self, id: &str, attempt: u32, state: SandboxState) -> Self {
        self.state.put_sandbox(SandboxStatus {
            id: SandboxId(id.to_owned()),
            config: SandboxConfig {
                attempt,
                ..Default::default()
            },
            state,
            created_at: at(i64::from(attempt)),
            ips: vec!["10.0.0.9".parse().unwrap()],
        });
        self
    }

    fn container(
        mut self,
        name: &str,
        attempt: u32,
        state: ContainerState,
        exit: Option<i32>,
    ) -> Self {
        let pod = self.state.pod.clone();
        let (_, spec) = pod.find(name).unwrap();
        let status = ContainerStatus {
            id: ContainerId(format!("{name}{attempt}")),
            sandbox: self.state.sandboxes[0].id.clone(),
            config: ContainerConfig {
                name: name.to_owned(),
                attempt,
                labels: labels::container_labels(&pod, spec),
                annotations: labels::container_annotations(&pod, spec, attempt, "i", None),
                ..Default::default()
            },
            state,
            created_at: at(i64::from(attempt)),
            started_at: Some(at(i64::from(attempt))),
            finished_at: exit.map(|_| at(i64::from(attempt) + 1)),
            exit_code: exit,
            signal: None,
            reason: exit
                .map(|c| if c == 0 { "Completed" } else { "Error" }.to_owned())
                .unwrap_or_default(),
            message: String::new(),
            image_ref: String::new(),
            pid: None,
            log_path: std::path::PathBuf::new(),
        };
        self.state.put_container(status);
        self
    }

    fn running(self, name: &str) -> Self {
        self.container(name, 0, ContainerState::Running, None)
    }

    fn exited(self, name: &str, code: i32) -> Self {
        self.container(name, 0, ContainerState::Exited, Some(code))
    }

    fn plan(&self, second: i64) -> Plan {
        decide(&self.state, at(second))
    }

    fn starts(&self, second: i64) -> Vec<String> {
        let start = |a: &Action| match a {
            Action::Start(s) => Some(s.name.clone()),
            _ => None,
        };
        self.plan(second).actions.iter().filter_map(start).collect()
    }

    fn status(&self) -> k8s_openapi::api::core::v1::PodStatus {
        pod_status(&self.state, at(100), &NodeFacts::default(), "sim")
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap()
    }

    fn end(mut self, kind: EndKind, grace: i64) -> Self {
        self.state.end = Some(End {
            kind,
            since: at(0),
            grace_seconds: grace,
            verdict: None,
        });
        self
    }
}

fn kills(plan: &Plan) -> Vec<(String, i64, String)> {
    let kill = |a: &Action| match a {
        Action::Kill {
            name,
            grace_seconds,
            message,
            ..
        } => Some((name.clone(), *grace_seconds, message.clone())),
        _ => None,
    };
    plan.actions.iter().filter_map(kill).collect()
}

#[test]
fn volumes_come_before_the_sandbox_and_the_sandbox_before_containers() {
    let mut case = Case::simple();
    case.state.sandboxes.clear();
    case.state.volumes = Volumes::Absent;
    assert_eq!(case.plan(0).actions, [Action::MountVolumes]);
    case.state.volumes = Volumes::Mounting;
    assert!(case.plan(0).actions.is_empty());
    case.state.volumes = Volumes::Mounted;
    assert_eq!(case.plan(0).actions, [Action::CreateSandbox { attempt: 0 }]);
    let case = case.sandbox("s0", 0, SandboxState::Ready);
    assert_eq!(case.starts(0), ["c"]);
    assert_eq!(case.phase(), "Pending");
}

#[test]
fn containers_start_one_at_a_time_in_order() {
    let spec = json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]});
    let mut case = Case::new(spec);
    assert_eq!(case.starts(0), ["a"]);
    case.state.note_mut("a").starting = true;
    assert!(case.starts(0).is_empty());
    case.state.note_mut("a").starting = false;
    let case = case.running("a");
    assert_eq!(case.starts(0), ["b"]);
}

#[test]
fn one_that_cannot_start_does_not_hold_up_the_next() {
    let spec = json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]});
    let mut case = Case::new(spec);
    case.state.note_mut("a").retry = Some(Retry::after(None, at(0)));
    assert_eq!(case.starts(0), ["b"]);
    assert_eq!(case.starts(10), ["a"]);
}

#[test]
fn restart_policies_decide_what_runs_again() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]});
    for (policy, code, again, phase) in [
        ("Always", 0, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ] {
        let case = Case::new(spec(policy)).exited("c", code);
        assert_eq!(!case.starts(5).is_empty(), again, "{policy} {code}");
        let ends = case.plan(5).actions.iter().any(|a| {
            matches!(
                a,
                Action::End {
                    kind: EndKind::Finished,
                    ..
                }
            )
        });
        assert_eq!(ends, !again, "{policy} {code}");
        let case = if again {
            case
        } else {
            case.end(EndKind::Finished, 30)
        };
        assert_eq!(case.phase(), phase, "{policy} {code}");
    }
}

#[test]
fn the_second_crash_waits_ten_seconds() {
    let mut case = Case::simple().exited("c", 1);
    let Some(Action::Start(start)) = case.plan(1).actions.pop() else {
        panic!("the first restart is immediate")
    };
    assert_eq!(start.restart_count, Some(1));
    case.state.note_mut("c").crash = start.crash;
    let mut case = case.container("c", 1, ContainerState::Exited, Some(1));
    let plan = case.plan(3);
    let message = "back-off 10s restarting failed container=c pod=p_ns(u)";
    assert_eq!(
        plan.actions,
        [Action::CrashLoop {
            name: "c".to_owned(),
            message: message.to_owned()
        }]
    );
    assert_eq!(plan.wake, Some(at(12)));
    let waiting = Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: message.to_owned(),
    };
    case.state.note_mut("c").waiting = Some(waiting);
    assert!(case.plan(4).actions.is_empty());
    let status = case.status();
    let c = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(
        c.state
            .as_ref()
            .unwrap()
            .waiting
            .as_ref()
            .unwrap()
            .reason
            .as_deref(),
        Some("CrashLoopBackOff")
    );
    assert_eq!(
        c.last_state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        1
    );
    assert_eq!(c.restart_count, 1);
    let Some(Action::Start(start)) = case.plan(12).actions.pop() else {
        panic!("time is up")
    };
    assert_eq!(start.crash.unwrap().delay.as_secs(), 20);
}

#[test]
fn init_containers_run_in_order_and_sidecars_do_not_block() {
    let spec = json!({
        "initContainers": [
            {"name": "a", "image": "i"},
            {"name": "s", "image": "i", "restartPolicy": "Always"},
            {"name": "b", "image": "i"},
        ],
        "containers": [{"name": "c", "image": "i"}],
    });
    let case = Case::new(spec);
    assert_eq!(case.starts(0), ["a"]);
    let case = case.running("a");
    assert!(case.starts(0).is_empty());
    let case = case.exited("a", 0);
    assert_eq!(case.starts(5), ["s"]);
    let case = case.running("s");
    assert_eq!(case.starts(5), ["b"]);
    assert_eq!(case.phase(), "Pending");
    let case = case.exited("b", 0);
    assert_eq!(case.starts(5), ["c"]);
    let case = case.running("c");
    assert!(case.starts(5).is_empty());
    assert_eq!(case.phase(), "Running");
    let case = case.exited("s", 1);
    assert_eq!(case.starts(5), ["s"], "a sidecar is restarted");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let spec = |policy: &str| {
        json!({
            "restartPolicy": policy,
            "initContainers": [{"name": "a", "image": "i"}],
            "containers": [{"name": "c", "image": "i"}],
        })
    };
    let case = Case::new(spec("Never")).exited("a", 1);
    assert!(matches!(
        case.plan(5).actions.as_slice(),
        [Action::End {
            kind: EndKind::Finished,
            ..
        }]
    ));
    assert_eq!(case.phase(), "Failed");
    let case = Case::new(spec("Always")).exited("a", 1);
    assert_eq!(case.starts(5), ["a"]);
    assert_eq!(case.phase(), "Pending");
}

#[test]
fn failed_probes_and_new_images_replace_a_container() {
    let mut case = Case::simple().running("c");
    let id = case.state.containers[0].id.clone();
    case.state.probes.insert(
        id.clone(),
        ProbeState {
            liveness: Some(false),
            ..Default::default()
        },
    );
    let [(name, grace, message)] = &kills(&case.plan(5))[..] else {
        panic!()
    };
    assert_eq!((name.as_str(), *grace), ("c", 30));
    assert_eq!(
        message,
        "Container c failed liveness probe, will be restarted"
    );
    case.state.killing.insert(id.clone(), 30);
    assert!(case.plan(5).actions.is_empty());
    case.state.killing.clear();
    case.state.probes.clear();
    case.state.containers[0].config.annotations.clear();
    assert_eq!(
        kills(&case.plan(5))[0].2,
        "Container c definition changed, will be restarted"
    );
}

/// The pod with another image.
fn with_image(mut case: Case, image: &str) -> Case {
    let mut pod = case.state.pod.to_object();
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    case.state.pod = Arc::new(PodView::new(pod));
    case
}

#[test]
fn a_replacement_shows_nothing_until_it_runs_or_fails() {
    let mut case = Case::simple().running("c");
    case.state.reported = case.status();
    let shown = case.state.reported.container_statuses.clone();
    let mut case = with_image(case, "j");
    case.state.note_mut("c").replace = true;
    let old = case.state.pod.clone();
    case.state.containers[0].state = ContainerState::Exited;
    case.state.containers[0].exit_code = Some(137);
    case.state.containers[0].finished_at = Some(at(5));
    assert_eq!(case.starts(5), ["c"], "it does not back off");
    case.state.note_mut("c").starting = true;
    assert_eq!(case.status().container_statuses, shown);
    assert_eq!(case.state.pod, old);
    case.state.note_mut("c").waiting = Some(Waiting {
        reason: "ErrImagePull".to_owned(),
        message: "no".to_owned(),
    });
    let failed = case.status().container_statuses.unwrap().remove(0);
    assert!(!failed.ready && failed.state.unwrap().waiting.is_some());
    case.state.note_mut("c").waiting = None;
    let case = case.container("c", 1, ContainerState::Running, None);
    let new = case.status().container_statuses.unwrap().remove(0);
    assert!(new.ready && new.restart_count == 1);
    assert_ne!(Some(vec![new]), shown);
}

#[test]
fn a_new_image_does_not_wait_out_the_crashes_of_the_old_one() {
    let mut case = Case::simple().exited("c", 1);
    case.state.note_mut("c").crash = Some(backoff::Backoff::next(None, at(1), at(1)));
    assert!(case.starts(2).is_empty());
    let mut case = with_image(case, "j");
    case.state.note_mut("c").forget_failures();
    assert_eq!(case.starts(2), ["c"]);
}

#[test]
fn readiness_follows_the_probes() {
    let probe = json!({"exec": {"command": ["true"]}});
    let spec = json!({"containers": [{"name": "c", "image": "i", "startupProbe": probe, "readinessProbe": probe}]});
    let mut case = Case::new(spec).running("c");
    let id = case.state.containers[0].id.clone();
    let see = |case: &Case| {
        let c = case.status().container_statuses.unwrap().remove(0);
        (c.started, c.ready)
    };
    assert_eq!(see(&case), (Some(false), false));
    case.state.probes.insert(
        id.clone(),
        ProbeState {
            startup: Some(true),
            ..Default::default()
        },
    );
    assert_eq!(see(&case), (Some(true), false));
    let conditions = case.status().conditions.unwrap();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(
        ready.message.as_deref(),
        Some("containers with unready status: [c]")
    );
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    case.state.probes.insert(
        id,
        ProbeState {
            startup: Some(true),
            readiness: Some(true),
            ..Default::default()
        },
    );
    assert_eq!(see(&case), (Some(true), true));
}

#[test]
fn the_end_takes_containers_then_sandbox_then_volumes_then_the_object() {
    let mut case = Case::simple().running("c").end(EndKind::Deleted, 7);
    assert_eq!(
        kills(&case.plan(0)),
        [("c".to_owned(), 7, "Stopping container c".to_owned())]
    );
    let id = case.state.containers[0].id.clone();
    case.state.killing.insert(id, 7);
    assert!(case.plan(0).actions.is_empty());
    assert_eq!(case.phase(), "Running");
    case.state.end.as_mut().unwrap().grace_seconds = 1;
    assert_eq!(kills(&case.plan(0))[0].1, 1, "less time is asked for again");
    let mut case = case.exited("c", 137);
    assert_eq!(case.phase(), "Failed");
    let sandbox = SandboxId("s0".to_owned());
    assert_eq!(case.plan(0).actions, [Action::StopSandbox(sandbox.clone())]);
    case.state.sandboxes[0].state = SandboxState::NotReady;
    assert_eq!(case.plan(0).actions, [Action::UnmountVolumes]);
    case.state.volumes = Volumes::Absent;
    assert_eq!(case.plan(0).actions, [Action::RemoveSandbox(sandbox)]);
    case.state.sandboxes.clear();
    case.state.containers.clear();
    assert_eq!(case.plan(0).actions, [Action::DeletePod]);
    case.state.deleting = true;
    assert!(case.plan(0).actions.is_empty());
}

#[test]
fn sidecars_end_after_the_main_containers_in_reverse_order() {
    let side = |name: &str| json!({"name": name, "image": "i", "restartPolicy": "Always"});
    let spec = json!({"initContainers": [side("x"), side("y")], "containers": [{"name": "c", "image": "i"}]});
    let case = Case::new(spec)
        .running("x")
        .running("y")
        .running("c")
        .end(EndKind::Deleted, 30);
    let names = |case: &Case, t| {
        kills(&case.plan(t))
            .into_iter()
            .map(|k| (k.0, k.1))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&case, 0), [("c".to_owned(), 30)]);
    let case = case.exited("c", 0);
    assert_eq!(names(&case, 10), [("y".to_owned(), 20)]);
    let case = case.exited("y", 0);
    assert_eq!(names(&case, 40), [("x".to_owned(), 1)]);
}

#[test]
fn a_start_under_way_is_broken_off_by_the_end() {
    let mut case = Case::simple().end(EndKind::Deleted, 30);
    case.state.note_mut("c").starting = true;
    assert_eq!(case.plan(0).actions, [Action::CancelStart]);
}

#[test]
fn a_lost_sandbox_is_replaced_unless_the_pod_never_restarts() {
    let case = Case::simple()
        .sandbox("s0", 0, SandboxState::NotReady)
        .exited("c", 137);
    assert_eq!(case.plan(5).actions, [Action::CreateSandbox { attempt: 1 }]);
    let never = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let case = Case::new(never)
        .sandbox("s0", 0, SandboxState::NotReady)
        .exited("c", 137);
    assert!(matches!(
        case.plan(5).actions.as_slice(),
        [Action::End {
            kind: EndKind::Finished,
            ..
        }]
    ));
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let spec = json!({"initContainers": [{"name": "a", "image": "i"}], "containers": [{"name": "c", "image": "i"}]});
    let case = Case::new(spec).exited("a", 0).exited("c", 1);
    let case = case
        .sandbox("s0", 0, SandboxState::NotReady)
        .sandbox("s1", 1, SandboxState::Ready);
    assert_eq!(case.starts(50), ["a"]);
}

#[test]
fn deadlines_end_a_pod_and_wake_for_it() {
    let spec = json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c", "image": "i"}]});
    let case = Case::new(spec).running("c");
    assert_eq!(case.plan(10).wake, Some(at(60)));
    let [
        Action::End {
            kind: EndKind::Failed,
            verdict: Some(verdict),
            ..
        },
    ] = &case.plan(60).actions[..]
    else {
        panic!()
    };
    assert_eq!(verdict.reason, "DeadlineExceeded");
}

#[test]
fn old_containers_are_removed_but_for_one() {
    let case = Case::simple()
        .exited("c", 1)
        .container("c", 1, ContainerState::Exited, Some(1));
    let case = case.container("c", 2, ContainerState::Running, None);
    assert_eq!(
        case.plan(50).actions,
        [Action::Remove(ContainerId("c0".to_owned()))]
    );
}

#[test]
fn a_failed_pull_is_shown_and_then_waited_out() {
    let mut case = Case::simple();
    let backoff = backoff::Backoff::next(None, at(0), at(0));
    case.state.note_mut("c").pull = Some(PullFailure {
        backoff,
        told: false,
    });
    assert_eq!(case.plan(0).wake, Some(at(2)));
    assert_eq!(
        case.plan(2).actions,
        [Action::PullBackOff {
            name: "c".to_owned()
        }]
    );
    case.state.note_mut("c").pull = Some(PullFailure {
        backoff,
        told: true,
    });
    assert_eq!(case.plan(3).wake, Some(at(10)));
    assert_eq!(case.starts(10), ["c"]);
}

#[test]
fn readiness_gates_and_foreign_conditions_count() {
    let spec = json!({"readinessGates": [{"conditionType": "x/y"}], "containers": [{"name": "c", "image": "i"}]});
    let case = Case::new(spec).running("c");
    let ready = case
        .status()
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.status, "False");
    assert_eq!(
        ready.message.as_deref(),
        Some("corresponding condition of pod readiness gate \"x/y\" does not exist.")
    );
}

#[test]
fn transition_times_stay_while_nothing_changes() {
    let mut case = Case::simple().running("c");
    case.state.reported = case.status();
    let later = pod_status(
        &case.state,
        at(100) + SignedDuration::from_secs(50),
        &NodeFacts::default(),
        "sim",
    );
    assert_eq!(later, case.state.reported);
}
