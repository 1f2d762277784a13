//! `/metrics`: a few of upstream's, and [`Metric`], the text format.

use std::fmt;

use jiff::Timestamp;
use k8s_runtime::ContainerState;

use crate::context::Context;

/// How far a metric's name and labels will stay what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stability {
    Alpha,
    Stable,
}

/// One metric with its samples: labels, value, and the time of the measurement. Its text is empty
/// without any.
#[derive(Debug)]
pub(super) struct Metric {
    stability: Stability,
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64, Option<Timestamp>)>,
}

impl Metric {
    pub(super) fn new(
        stability: Stability,
        name: &'static str,
        kind: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            stability,
            name,
            kind,
            help,
            samples: Vec::new(),
        }
    }

    /// Adds a sample; the labels are written as they are, with their braces.
    pub(super) fn add(&mut self, labels: String, value: f64, at: Option<Timestamp>) {
        self.samples.push((labels, value, at));
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.samples.is_empty() {
            return Ok(());
        }
        let (name, help) = (self.name, self.help);
        let stability = match self.stability {
            Stability::Alpha => "ALPHA",
            Stability::Stable => "STABLE",
        };
        writeln!(f, "# HELP {name} [{stability}] {help}")?;
        writeln!(f, "# TYPE {name} {}", self.kind)?;
        for (labels, value, at) in &self.samples {
            match at {
                Some(at) => writeln!(f, "{name}{labels} {value} {}", at.as_millisecond())?,
                None => writeln!(f, "{name}{labels} {value}")?,
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point")]
fn float(n: usize) -> f64 {
    n as f64
}

/// What the kubelet tells of itself.
pub(super) async fn metrics(cx: &Context) -> Result<String, k8s_runtime::Error> {
    let gauge = |name, help| Metric::new(Stability::Alpha, name, "gauge", help);
    let mut pods = gauge(
        "kubelet_running_pods",
        "Number of pods that have a running pod sandbox",
    );
    let running = cx.known_where(|known| known.sandbox.is_some());
    pods.add(String::new(), float(running.len()), None);
    let mut containers = gauge(
        "kubelet_running_containers",
        "Number of containers currently running",
    );
    let all = cx.runtime.containers().await?;
    for (name, state) in [
        ("created", ContainerState::Created),
        ("exited", ContainerState::Exited),
        ("running", ContainerState::Running),
    ] {
        let labels = format!("{{container_state={name:?}}}");
        let count = all.iter().filter(|c| c.state == state).count();
        containers.add(labels, float(count), None);
    }
    let mut node = gauge(
        "kubelet_node_name",
        "The node's name. The count is always 1.",
    );
    let labels = format!("{{node={:?}}}", cx.settings.node_name);
    node.add(labels, 1.0, None);
    Ok([pods, containers, node]
        .iter()
        .map(Metric::to_string)
        .collect())
}
