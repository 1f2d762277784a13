//! How long admission takes, and how often it refuses.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    AdmissionPlugin, Operation, Step, expressions::ConditionMetrics,
    policies::metrics::PolicyMetrics, webhooks::metrics::WebhookMetrics,
};
use crate::metrics::{Histogram, Writer};

/// Upstream's bounds, in seconds.
pub(super) const BOUNDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

type Took = Histogram<{ BOUNDS.len() }>;

/// By operation, step and whether it was refused.
#[derive(Debug, Default)]
struct Times([[[Took; 2]; 2]; 4]);

const OPERATIONS: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "CONNECT"];
const STEPS: [&str; 2] = ["admit", "validate"];

impl Times {
    fn of(&self, operation: Operation, step: Step, rejected: bool) -> &Took {
        let operation = match operation {
            Operation::Create => 0,
            Operation::Update => 1,
            Operation::Delete => 2,
            Operation::Connect => 3,
        };
        // What accompanies an object is not timed.
        let step = usize::from(step != Step::Admit);
        &self.0[operation][step][usize::from(rejected)]
    }

    fn write(&self, out: &mut Writer, name: &str) {
        for (operation, steps) in OPERATIONS.iter().zip(&self.0) {
            for (step, outcomes) in STEPS.iter().zip(steps) {
                for (rejected, took) in [false, true].iter().zip(outcomes) {
                    let labels = format!(
                        "{name}operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
                    );
                    took.write(out, &BOUNDS, &labels);
                }
            }
        }
    }
}

/// Times one step, plugin by plugin; the step is counted when this is dropped.
#[derive(Debug)]
pub(crate) struct Stopwatch<'m> {
    metrics: &'m AdmissionMetrics,
    operation: Operation,
    step: Step,
    started: Instant,
    lap: Instant,
    rejected: bool,
}

impl Stopwatch<'_> {
    /// Counts that the plugin at that place had nothing to do.
    pub(crate) fn pass(&self, at: usize) {
        if let Some((_, times)) = self.metrics.plugins.get(at) {
            times
                .of(self.operation, self.step, false)
                .observe(0.0, &BOUNDS);
        }
    }

    /// Counts what the plugin at that place did since the last one.
    pub(crate) fn lap<T, E>(&mut self, at: usize, result: Result<T, E>) -> Result<T, E> {
        let now = Instant::now();
        self.rejected = result.is_err();
        if let Some((_, times)) = self.metrics.plugins.get(at) {
            let took = now.saturating_duration_since(self.lap).as_secs_f64();
            let times = times.of(self.operation, self.step, self.rejected);
            times.observe(took, &BOUNDS);
        }
        self.lap = now;
        result
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        let took = self.lap.saturating_duration_since(self.started);
        let times = (self.metrics.all).of(self.operation, self.step, self.rejected);
        times.observe(took.as_secs_f64(), &BOUNDS);
    }
}

/// Times by plugin, and of all of them together.
#[derive(Debug)]
pub(crate) struct AdmissionMetrics {
    plugins: Vec<(String, Times)>,
    all: Times,
    pub(super) webhooks: WebhookMetrics,
    pub(super) policies: PolicyMetrics,
    pub(super) conditions: ConditionMetrics,
}

impl AdmissionMetrics {
    pub(crate) fn new(plugins: &[Arc<dyn AdmissionPlugin>]) -> Self {
        AdmissionMetrics {
            plugins: plugins
                .iter()
                .map(|plugin| (plugin.name().to_owned(), Times::default()))
                .collect(),
            all: Times::default(),
            webhooks: WebhookMetrics::default(),
            policies: PolicyMetrics::default(),
            conditions: ConditionMetrics::default(),
        }
    }

    /// Begins to time a step.
    pub(crate) fn stopwatch(&self, operation: Operation, step: Step) -> Stopwatch<'_> {
        let now = Instant::now();
        Stopwatch {
            metrics: self,
            operation,
            step,
            started: now,
            lap: now,
            rejected: false,
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.family(
            "apiserver_admission_controller_admission_duration_seconds",
            "histogram",
            "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
        );
        for (name, times) in &self.plugins {
            times.write(out, &format!("name=\"{name}\","));
        }
        out.family(
            "apiserver_admission_step_admission_duration_seconds",
            "histogram",
            "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
        );
        self.all.write(out, "");
        self.webhooks.write(out);
        self.policies.write(out);
        self.conditions.write(out);
    }
}
