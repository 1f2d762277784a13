//! [`PolicyMetrics`]: what policies say.

use std::time::Duration;

use k8s_model::cel::CelError;

use super::{Binding, Policy};
use crate::{
    admission::AdmissionRequest,
    metrics::{Counts, Timings, Writer, quoted},
};

/// Upstream's bounds, in seconds.
const BOUNDS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

type Took = Timings<{ BOUNDS.len() }>;

/// What policies of either sort say, by their names.
#[derive(Debug, Default)]
pub(crate) struct PolicyMetrics {
    validations: (Counts, Took),
    mutations: (Counts, Took),
}

/// What was wrong with an expression, as metrics name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    Compile,
    Invalid,
    Budget,
}

impl Fault {
    /// What is wrong, by what is said of it.
    pub(super) fn of_text(text: &str) -> Self {
        match text {
            text if text.starts_with("compilation") => Fault::Compile,
            text if text.starts_with("validation failed due to running out of cost budget") => {
                Fault::Budget
            }
            _ => Fault::Invalid,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Fault::None => "no_error",
            Fault::Compile => "compile_error",
            Fault::Invalid => "invalid_error",
            Fault::Budget => "out_of_budget",
        }
    }
}

impl From<&CelError> for Fault {
    fn from(error: &CelError) -> Self {
        match error {
            CelError::Syntax(_) => Fault::Compile,
            CelError::Cost => Fault::Budget,
            _ => Fault::Invalid,
        }
    }
}

fn names(policy: &Policy, binding: &Binding, fault: Fault) -> String {
    format!(
        "error_type=\"{}\",policy=\"{}\",policy_binding=\"{}\"",
        fault.as_str(),
        quoted(&policy.name),
        quoted(&binding.name)
    )
}

/// Counts what a validation has led to: `allow`, `deny`, `audit` or `warn`.
pub(super) fn validated(
    request: &AdmissionRequest<'_>,
    (policy, binding): (&Policy, &Binding),
    action: &str,
    fault: Fault,
    took: Duration,
) {
    let Some(registry) = request.more.registry else {
        return;
    };
    let (counts, timings) = &registry.admission_metrics.policies.validations;
    let names = names(policy, binding, fault);
    let labels = format!("enforcement_action=\"{action}\",{names}");
    timings.observe(labels.clone(), took.as_secs_f64(), &BOUNDS);
    counts.count(labels);
}

/// Counts an evaluation of a policy that changes objects.
pub(super) fn mutated(
    request: &AdmissionRequest<'_>,
    (policy, binding): (&Policy, &Binding),
    fault: Fault,
    took: Duration,
) {
    let Some(registry) = request.more.registry else {
        return;
    };
    let (counts, timings) = &registry.admission_metrics.policies.mutations;
    let labels = names(policy, binding, fault);
    timings.observe(labels.clone(), took.as_secs_f64(), &BOUNDS);
    counts.count(labels);
}

impl PolicyMetrics {
    pub(crate) fn write(&self, out: &mut Writer) {
        let (counts, took) = &self.validations;
        counts.write(
            out,
            "apiserver_validating_admission_policy_check_total",
            "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
        );
        took.write(
            out,
            &BOUNDS,
            "apiserver_validating_admission_policy_check_duration_seconds",
            "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
        );
        let (counts, took) = &self.mutations;
        counts.write(
            out,
            "apiserver_mutating_admission_policy_check_total",
            "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
        );
        took.write(
            out,
            &BOUNDS,
            "apiserver_mutating_admission_policy_check_duration_seconds",
            "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
        );
    }
}
