//! [`Metrics`]: how often who acts as another, and what that costs.

use std::time::Duration;

use super::Mode;
use crate::metrics::{Counts, Timings, Writer};

/// Upstream's bounds, in seconds: powers of two from a millisecond on.
const BOUNDS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    attempts: Counts,
    attempts_took: Timings<{ BOUNDS.len() }>,
    authorizations: Counts,
    authorizations_took: Timings<{ BOUNDS.len() }>,
}

impl Metrics {
    /// A request was let through by a mode, or by none.
    pub(super) fn attempt(&self, mode: Option<Mode>, took: Duration) {
        let labels = labels(mode.map_or("", Mode::name), mode.is_some());
        (self.attempts_took).observe(labels.clone(), took.as_secs_f64(), &BOUNDS);
        self.attempts.count(labels);
    }

    /// The authorizer was asked for a mode.
    pub(super) fn authorization(&self, mode: Mode, allowed: bool, took: Duration) {
        let labels = labels(mode.name(), allowed);
        (self.authorizations_took).observe(labels.clone(), took.as_secs_f64(), &BOUNDS);
        self.authorizations.count(labels);
    }

    pub(super) fn write(&self, out: &mut Writer) {
        self.attempts.write(
            out,
            "apiserver_impersonation_attempts_total",
            "[ALPHA] Total number of impersonation attempts split by mode and decision.",
        );
        self.attempts_took.write(
            out,
            &BOUNDS,
            "apiserver_impersonation_attempts_duration_seconds",
            "[ALPHA] Latency of impersonation attempts in seconds split by mode and decision.",
        );
        self.authorizations.write(
            out,
            "apiserver_impersonation_authorization_attempts_total",
            "[ALPHA] Total number of authorization checks made by the impersonation handler split by mode and decision.",
        );
        self.authorizations_took.write(
            out,
            &BOUNDS,
            "apiserver_impersonation_authorization_attempts_duration_seconds",
            "[ALPHA] Latency of authorization checks made by the impersonation handler in seconds split by mode and decision.",
        );
    }
}

fn labels(mode: &str, allowed: bool) -> String {
    let decision = if allowed { "allowed" } else { "denied" };
    format!("decision=\"{decision}\",mode=\"{mode}\"")
}
