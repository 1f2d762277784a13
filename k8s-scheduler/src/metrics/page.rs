//! How metrics are written down.

use std::sync::PoisonError;

use super::{
    Incoming, Metrics, Outcome, Point, Where,
    series::{Histogram, Page},
};

const STATUSES: [&str; 4] = [
    "Success",
    "Unschedulable",
    "UnschedulableAndUnresolvable",
    "Error",
];

impl Metrics {
    /// All of it in the text format of Prometheus (`text/plain; version=0.0.4`).
    pub fn render(&self) -> String {
        let mut page = Page::default();
        self.attempts(&mut page);
        self.plugins(&mut page);
        self.queue(&mut page);
        self.rest(&mut page);
        page.0
    }

    fn attempts(&self, page: &mut Page) {
        let name = "scheduler_schedule_attempts_total";
        page.head(
            name,
            "counter",
            "Number of attempts to schedule pods, by the result.",
        );
        for (profile, metrics) in &self.profiles {
            for result in Outcome::ALL {
                let labels = [("profile", profile.as_str()), ("result", result.text())];
                page.value(name, &labels, metrics.attempts[*result as usize].get());
            }
        }
        let name = "scheduler_scheduling_attempt_duration_seconds";
        page.head(
            name,
            "histogram",
            "How long attempts took, from the decision to the binding.",
        );
        for (profile, metrics) in &self.profiles {
            for result in Outcome::ALL {
                let labels = [("profile", profile.as_str()), ("result", result.text())];
                page.histogram(name, &labels, &metrics.durations[*result as usize]);
            }
        }
        let name = "scheduler_framework_extension_point_duration_seconds";
        page.head(
            name,
            "histogram",
            "How long all plugins of an extension point took.",
        );
        for (profile, metrics) in &self.profiles {
            for (point, histograms) in Point::ALL.iter().zip(&metrics.points) {
                for (status, histogram) in STATUSES.iter().zip(histograms) {
                    if !histogram.is_empty() {
                        let labels = [
                            ("extension_point", point.text()),
                            ("profile", profile.as_str()),
                            ("status", status),
                        ];
                        page.histogram(name, &labels, histogram);
                    }
                }
            }
        }
    }

    fn plugins(&self, page: &mut Page) {
        let name = "scheduler_plugin_execution_duration_seconds";
        page.head(
            name,
            "histogram",
            "How long a plugin took at an extension point, in one cycle of ten.",
        );
        let plugins = self.plugins.lock();
        let plugins = plugins.unwrap_or_else(PoisonError::into_inner);
        for ((plugin, point, status), histogram) in &*plugins {
            let labels = [
                ("extension_point", Point::ALL[*point].text()),
                ("plugin", plugin),
                ("status", STATUSES[*status]),
            ];
            page.histogram(name, &labels, histogram);
        }
    }

    fn queue(&self, page: &mut Page) {
        let name = "scheduler_pending_pods";
        page.head(
            name,
            "gauge",
            "Number of pods that wait, by the part of the queue.",
        );
        for (place, gauge) in Where::ALL.iter().zip(&self.pending) {
            page.value(name, &[("queue", place.text())], gauge.get());
        }
        let name = "scheduler_queue_incoming_pods_total";
        page.head(
            name,
            "counter",
            "Number of pods that came into a part of the queue, by what brought them.",
        );
        for (place, counters) in Where::ALL.iter().zip(&self.incoming) {
            for (event, counter) in Incoming::ALL.iter().zip(counters) {
                if counter.get() > 0 {
                    let labels = [("event", event.text()), ("queue", place.text())];
                    page.value(name, &labels, counter.get());
                }
            }
        }
        let name = "scheduler_unschedulable_pods";
        page.head(
            name,
            "gauge",
            "Number of pods that wait because of a plugin; a pod counts for each that turned it away.",
        );
        let pods = self.unschedulable.lock();
        let pods = pods.unwrap_or_else(PoisonError::into_inner);
        for ((plugin, profile), count) in &*pods {
            page.value(name, &[("plugin", plugin), ("profile", profile)], count);
        }
        drop(pods);
        let name = "scheduler_pod_scheduling_attempts";
        page.head(
            name,
            "histogram",
            "Number of attempts until a pod was scheduled.",
        );
        page.histogram(name, &[], &self.attempts_until_scheduled);
        let name = "scheduler_pod_scheduling_sli_duration_seconds";
        page.head(
            name,
            "histogram",
            "How long pods waited from coming into the queue to their binding.",
        );
        for (n, histogram) in self.until_scheduled.iter().enumerate() {
            if !histogram.is_empty() {
                let attempts = if n + 1 == self.until_scheduled.len() {
                    format!("{}+", n + 1)
                } else {
                    (n + 1).to_string()
                };
                page.histogram(name, &[("attempts", &attempts)], histogram);
            }
        }
    }

    fn rest(&self, page: &mut Page) {
        let mut one = |name: &str, help: &str, histogram: &Histogram| {
            page.head(name, "histogram", help);
            page.histogram(name, &[], histogram);
        };
        one(
            "scheduler_scheduling_algorithm_duration_seconds",
            "How long decisions took.",
            &self.algorithm,
        );
        one(
            "scheduler_preemption_victims",
            "Number of pods that one preemption evicts.",
            &self.victims,
        );
        let name = "scheduler_preemption_attempts_total";
        page.head(
            name,
            "counter",
            "Number of attempts to make room by eviction.",
        );
        page.value(name, &[], self.preemptions.get());
        let name = "scheduler_permit_wait_duration_seconds";
        page.head(name, "histogram", "How long pods waited for permission.");
        for (result, histogram) in ["Success", "Unschedulable", "Error"]
            .iter()
            .zip(&self.permit_waits)
        {
            if !histogram.is_empty() {
                page.histogram(name, &[("result", result)], histogram);
            }
        }
        let name = "scheduler_goroutines";
        page.head(name, "gauge", "Number of tasks that run, by their work.");
        page.value(name, &[("operation", "binding")], self.bindings.get());
        let name = "scheduler_cache_size";
        page.head(
            name,
            "gauge",
            "Number of nodes, pods and assumed pods that are known.",
        );
        page.value(name, &[("type", "assumed_pods")], self.assumed.get());
        page.value(name, &[("type", "nodes")], self.nodes.get());
        page.value(name, &[("type", "pods")], self.pods.get());
        let name = "scheduler_events_dropped_total";
        page.head(
            name,
            "counter",
            "Number of events about pods that were not written because too many waited.",
        );
        page.value(name, &[], self.dropped_events.get());
    }
}
