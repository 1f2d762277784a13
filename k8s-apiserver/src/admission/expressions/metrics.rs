//! [`ConditionMetrics`]: what match conditions say, and how long it takes them.

use super::{Judged, Verdict};
use crate::{
    admission::AdmissionRequest,
    metrics::{Counts, Timings, Writer, quoted},
};

/// Upstream's bounds, in seconds.
const BOUNDS: [f64; 7] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];

/// What match conditions say, by the names of what they belong to.
#[derive(Debug, Default)]
pub(crate) struct ConditionMetrics {
    took: Timings<{ BOUNDS.len() }>,
    errors: Counts,
    exclusions: Counts,
}

/// Counts what the conditions of a `webhook` or `policy` have said, if it has any. `step` is `admit`, `validating` or
/// `validate`, as upstream has it.
pub(in crate::admission) fn count(
    request: &AdmissionRequest<'_>,
    kind: &str,
    name: &str,
    step: &str,
    judged: &Judged,
) {
    let (Some(registry), Some(took)) = (request.more.registry, judged.took) else {
        return;
    };
    let metrics = &registry.admission_metrics.conditions;
    let labels = format!(
        "kind=\"{kind}\",name=\"{}\",operation=\"{}\",type=\"{step}\"",
        quoted(name),
        request.operation.as_str()
    );
    for _ in 0..judged.errors {
        metrics.errors.count(labels.clone());
    }
    if judged.verdict == Verdict::NoMatch {
        metrics.exclusions.count(labels.clone());
    }
    metrics.took.observe(labels, took.as_secs_f64(), &BOUNDS);
}

impl ConditionMetrics {
    pub(crate) fn write(&self, out: &mut Writer) {
        self.errors.write(
            out,
            "apiserver_admission_match_condition_evaluation_errors_total",
            "[ALPHA] Admission match condition evaluation errors count, identified by name of resource containing the match condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission type (validate or admit).",
        );
        self.took.write(
            out,
            &BOUNDS,
            "apiserver_admission_match_condition_evaluation_seconds",
            "[ALPHA] Admission match condition evaluation time in seconds, identified by name and broken out for each kind containing matchConditions (webhook or policy), operation and type (validate or admit).",
        );
        self.exclusions.write(
            out,
            "apiserver_admission_match_condition_exclusions_total",
            "[ALPHA] Admission match condition evaluation exclusions count, identified by name of resource containing the match condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission type (validate or admit).",
        );
    }
}
