//! [`WebhookMetrics`]: how webhooks answer.

use std::time::Duration;

use super::{Hook, call::Failure};
use crate::{
    admission::{AdmissionRequest, metrics::BOUNDS},
    metrics::{Counts, Timings, Writer, quoted},
};

/// How webhooks answer, by their names.
#[derive(Debug, Default)]
pub(crate) struct WebhookMetrics {
    took: Timings<{ BOUNDS.len() }>,
    requests: Counts,
    rejections: Counts,
    open: Counts,
}

/// Counts a call. `step` is `admit` or `validating`, as upstream has it.
pub(super) fn observe<T>(
    request: &AdmissionRequest<'_>,
    hook: &Hook,
    step: &str,
    took: Duration,
    result: &Result<T, Failure>,
) {
    let Some(registry) = request.more.registry else {
        return;
    };
    let metrics = &registry.admission_metrics.webhooks;
    let (name, operation) = (quoted(&hook.name), request.operation.as_str());
    let (kind, code) = match result {
        Ok(_) => ("", 200),
        Err(Failure::Call { code, .. }) => ("calling_webhook_error", *code),
        Err(Failure::Denied(status)) => {
            let code = status.code.and_then(|code| u16::try_from(code).ok());
            ("no_error", code.unwrap_or(0))
        }
        Err(Failure::Internal(_)) => ("apiserver_internal_error", 0),
    };
    // What a webhook makes up must not make metrics without end.
    let code = code.min(600);
    let open = matches!(result, Err(Failure::Call { .. })) && hook.fails_open;
    let rejected = result.is_err() && !open;
    if rejected {
        metrics.rejections.count(format!(
            "error_type=\"{kind}\",name=\"{name}\",operation=\"{operation}\",rejection_code=\"{code}\",type=\"{step}\""
        ));
    }
    if open {
        metrics
            .open
            .count(format!("name=\"{name}\",type=\"{step}\""));
    }
    metrics.requests.count(format!(
        "code=\"{code}\",name=\"{name}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
    ));
    let labels = format!(
        "name=\"{name}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
    );
    metrics.took.observe(labels, took.as_secs_f64(), &BOUNDS);
}

impl WebhookMetrics {
    pub(crate) fn write(&self, out: &mut Writer) {
        self.took.write(
            out,
            &BOUNDS,
            "apiserver_admission_webhook_admission_duration_seconds",
            "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
        );
        self.requests.write(
            out,
            "apiserver_admission_webhook_request_total",
            "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
        );
        self.rejections.write(
            out,
            "apiserver_admission_webhook_rejection_count",
            "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
        );
        self.open.write(
            out,
            "apiserver_admission_webhook_fail_open_count",
            "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating or mutating).",
        );
    }
}
