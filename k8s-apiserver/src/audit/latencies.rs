//! [`Latencies`]: where the time of a slow request went.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;

/// Requests that take longer say where the time went; upstream's threshold.
const SLOW: Duration = Duration::from_millis(500);

/// How long webhooks took, by their steps.
#[derive(Debug, Default)]
pub(super) struct Latencies(BTreeMap<&'static str, Duration>);

impl Latencies {
    /// Webhooks of that step (`mutating` or `validating`) took so long.
    pub(super) fn add(&mut self, step: &'static str, took: Duration) {
        *self.0.entry(step).or_default() += took;
    }

    /// What the event of a request says that took so long as a whole: nothing of a quick one. It is less than no time
    /// where the clock was set back.
    pub(super) fn annotations(&self, total: SignedDuration) -> Vec<(String, String)> {
        let total = total.max(SignedDuration::ZERO).unsigned_abs();
        if total <= SLOW {
            return Vec::new();
        }
        let webhooks = self.0.iter();
        let webhooks = webhooks.map(|(step, took)| (format!("{step}-webhook"), *took));
        let all = std::iter::once(("total".to_owned(), total)).chain(webhooks);
        all.map(|(layer, took)| {
            let key = format!("apiserver.latency.k8s.io/{layer}");
            (key, k8s_model::duration::print_std(took))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_say_where_the_time_went() {
        let mut latencies = Latencies::default();
        let after = SignedDuration::from_millis;
        assert!(latencies.annotations(after(500)).is_empty());
        latencies.add("mutating", Duration::from_micros(1_000));
        latencies.add("mutating", Duration::from_micros(250));
        let annotation = |layer: &str, took: &str| {
            let key = format!("apiserver.latency.k8s.io/{layer}");
            (key, took.to_owned())
        };
        assert_eq!(
            latencies.annotations(after(1_500)),
            [
                annotation("total", "1.5s"),
                annotation("mutating-webhook", "1.25ms"),
            ]
        );
        assert!(latencies.annotations(after(-9_000)).is_empty());
    }
}
