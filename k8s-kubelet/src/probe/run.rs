//! One probe of one container, from its start to its end.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use k8s_runtime::ContainerId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{grpc, http};
use crate::{
    context::Context,
    driver::Message,
    events::Kind,
    pod::{PodView, expansion::expand},
};

/// What a probe finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        })
    }
}

/// What a probe needs to know.
#[derive(Clone, Debug)]
pub(crate) struct ProbeTask {
    pub(crate) cx: Arc<Context>,
    pub(crate) pod: Arc<PodView>,
    pub(crate) container: Container,
    pub(crate) id: ContainerId,
    pub(crate) kind: ProbeKind,
    pub(crate) probe: Probe,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) started: Instant,
}

enum Outcome {
    Success,
    Warning(String),
    Failure(String),
    /// The probe could not be made: the container is not to blame.
    Error(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Outcome::Failure, |()| Outcome::Success)
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value
            .and_then(|v| u64::try_from(v).ok())
            .filter(|v| *v > 0)
            .unwrap_or(default),
    )
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value
        .and_then(|v| u32::try_from(v).ok())
        .filter(|v| *v > 0)
        .unwrap_or(default)
}

/// Probes until the task is dropped; a startup probe ends with its first verdict, and so does a
/// liveness probe that failed for good. Verdicts go to the pod's worker.
pub(crate) async fn run(task: ProbeTask, worker: mpsc::Sender<Message>) {
    let probe = &task.probe;
    let period = seconds(probe.period_seconds, 10);
    let delay = Duration::from_secs(
        probe
            .initial_delay_seconds
            .and_then(|d| u64::try_from(d).ok())
            .unwrap_or(0),
    );
    let successes = threshold(probe.success_threshold, 1);
    let failures = threshold(probe.failure_threshold, 3);
    sleep_until(task.started + delay).await;
    let (mut last, mut streak, mut told) = (None, 0u32, None);
    let mut eager = 3;
    let mut tick = Instant::now();
    loop {
        let healthy = match task.observe(true).await {
            Some(healthy) => Some(healthy),
            None => last,
        };
        if let Some(healthy) = healthy {
            streak = if last == Some(healthy) { streak + 1 } else { 1 };
            last = Some(healthy);
            let enough = streak >= if healthy { successes } else { failures };
            if enough && told != Some(healthy) {
                told = Some(healthy);
                let message = Message::Probe {
                    id: task.id.clone(),
                    kind: task.kind,
                    healthy,
                };
                if worker.send(message).await.is_err() {
                    return;
                }
                let over = match task.kind {
                    ProbeKind::Startup => true,
                    ProbeKind::Liveness => !healthy,
                    ProbeKind::Readiness => false,
                };
                if over {
                    return;
                }
            }
        }
        tick += period;
        if last == Some(true) || task.kind == ProbeKind::Liveness || successes > 1 {
            eager = 0;
        }
        let look_often = eager > 0;
        eager -= i32::from(look_often);
        if look_often && task.retry_until(tick).await {
            // Became healthy between two ticks: count it at once.
            tick = Instant::now();
        } else {
            sleep_until(tick).await;
        }
    }
}

impl ProbeTask {
    /// A container that was just started is rarely ready at the first look. Between the first
    /// ticks it is looked at more often, silently, so that it becomes ready when it is and not a
    /// whole period later; upstream does the same whenever the pod's status changes. Returns
    /// whether it succeeded.
    async fn retry_until(&self, tick: Instant) -> bool {
        let mut pause = Duration::from_millis(25);
        loop {
            let next = Instant::now() + pause;
            if next >= tick || pause > Duration::from_secs(1) {
                return false;
            }
            sleep_until(next).await;
            if self.observe(false).await == Some(true) {
                return true;
            }
            pause *= 2;
        }
    }

    /// Looks once. `None` if that was not possible.
    async fn observe(&self, tell: bool) -> Option<bool> {
        let mut outcome = self.attempt().await;
        for _ in 0..2 {
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
            outcome = self.attempt().await;
        }
        let (healthy, reason, message) = match outcome {
            Outcome::Success => return Some(true),
            Outcome::Warning(m) => (
                Some(true),
                "ProbeWarning",
                format!("{} probe warning: {m}", self.kind),
            ),
            Outcome::Failure(m) => (
                Some(false),
                "Unhealthy",
                format!("{} probe failed: {m}", self.kind),
            ),
            Outcome::Error(m) => (
                None,
                "Unhealthy",
                format!("{} probe errored: {m}", self.kind),
            ),
        };
        if tell {
            self.cx.recorder.pod(
                &self.pod,
                Some(&self.container.name),
                Kind::Warning,
                reason,
                message,
            );
        }
        healthy
    }

    fn ip(&self) -> String {
        self.ips
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    async fn attempt(&self) -> Outcome {
        self.ask().await.unwrap_or_else(Outcome::Error)
    }

    /// Does what the probe says. The error is why that is not possible.
    async fn ask(&self) -> Result<Outcome, String> {
        let limit = seconds(self.probe.timeout_seconds, 1);
        if let Some(action) = &self.probe.exec {
            let command = action.command.as_deref().unwrap_or_default();
            return Ok(self.exec(command, limit).await);
        }
        let ip = self.ip();
        if let Some(action) = &self.probe.http_get {
            let port = resolve_port(&action.port, &self.container)?;
            let target = http::Target::new(action, &ip, port, "probe");
            return Ok(match http::get(&target, limit).await {
                Ok(a) if (200..300).contains(&a.status) => Outcome::Success,
                Ok(a) if (300..400).contains(&a.status) => Outcome::Warning(format!(
                    "Probe terminated redirects, Response body: {}",
                    a.body
                )),
                Ok(a) => {
                    Outcome::Failure(format!("HTTP probe failed with statuscode: {}", a.status))
                }
                Err(error) => Outcome::Failure(error),
            });
        }
        if let Some(action) = &self.probe.tcp_socket {
            let port = resolve_port(&action.port, &self.container)?;
            let host = action.host.as_deref().filter(|h| !h.is_empty());
            let host = host.unwrap_or(&ip);
            let late = |_| Err(format!("dial tcp {}: i/o timeout", http::join(host, port)));
            let connected = timeout(limit, http::connect(host, port)).await;
            let connected = connected.unwrap_or_else(late).map(drop);
            return Ok(connected.into());
        }
        if let Some(action) = &self.probe.grpc {
            let port = resolve_port(&IntOrString::Int(action.port), &self.container)?;
            let service = action.service.as_deref().unwrap_or_default();
            return Ok(grpc::check(&ip, port, service, limit).await.into());
        }
        Err(format!(
            "missing probe handler for {}:{}",
            self.pod.describe(),
            self.container.name
        ))
    }

    async fn exec(&self, command: &[String], limit: Duration) -> Outcome {
        let values = self.container.env.as_deref().unwrap_or_default();
        let lookup = |name: &str| {
            values
                .iter()
                .find(|e| e.name == name)
                .and_then(|e| e.value.clone())
        };
        let command: Vec<String> = command.iter().map(|part| expand(part, lookup)).collect();
        match self
            .cx
            .runtime
            .exec_sync(&self.id, &command, Some(limit))
            .await
        {
            Ok(output) if output.exit_code == 0 => Outcome::Success,
            Ok(output) => {
                let mut text = output.stdout.to_vec();
                text.extend_from_slice(&output.stderr);
                text.truncate(10 << 10);
                Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
            }
            Err(k8s_runtime::Error::Timeout { .. }) => {
                let limit = k8s_model::duration::print_std(limit);
                Outcome::Failure(format!("command {command:?} timed out after {limit}"))
            }
            Err(error) => Outcome::Error(format!("rpc error: {error}")),
        }
    }
}

/// A port by number or by its name in the container.
pub(crate) fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => match name.parse() {
            Ok(n) => n,
            Err(_) => container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
                .ok_or_else(|| {
                    format!("couldn't find port: {name} in container {}", container.name)
                })?,
        },
    };
    u16::try_from(number)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}
