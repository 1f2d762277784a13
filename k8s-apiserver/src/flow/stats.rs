//! What `/metrics` tells of flow control.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{config::Flows, demand::Demand, queues::Refused, roll::Roll};
use crate::metrics::{Histogram, Writer};

/// Upstream's bounds of the time in a queue and of that of being served, in seconds.
pub(super) const BOUNDS: [f64; 13] = [
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];

/// The seats of a level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LevelStats {
    pub(super) nominal: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) current: f64,
    pub(super) target: f64,
    pub(super) demand: Demand,
}

/// The requests of a schema.
#[derive(Debug, Default)]
pub(super) struct SchemaStats {
    pub(super) dispatched: AtomicU64,
    pub(super) executing: AtomicI64,
    pub(super) waiting: AtomicI64,
    refused: [AtomicU64; 4],
    pub(super) waited: Histogram<{ BOUNDS.len() }>,
    pub(super) waited_in_vain: Histogram<{ BOUNDS.len() }>,
    pub(super) took: Histogram<{ BOUNDS.len() }>,
    /// Those that are there now.
    pub(super) roll: Roll,
    /// What tells their flows apart.
    pub(super) flows: Mutex<Flows>,
}

const REASONS: [&str; 4] = ["concurrency-limit", "queue-full", "time-out", "cancelled"];

impl SchemaStats {
    /// Counts a request that was refused, or, with `None`, one whose client gave up while it waited.
    pub(super) fn refuse(&self, reason: Option<Refused>) {
        let at = match reason {
            Some(Refused::ConcurrencyLimit) => 0,
            Some(Refused::QueueFull) => 1,
            Some(Refused::TimeOut) => 2,
            None => 3,
        };
        self.refused[at].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were refused: for want of seats, of room in the queue, of time, and those whose clients gave up.
    pub(super) fn refusals(&self) -> [u64; 4] {
        self.refused.each_ref().map(|n| n.load(Ordering::Relaxed))
    }
}

/// A metric of each level: its name, what it is, and its value.
type Gauge = (&'static str, &'static str, fn(&LevelStats) -> f64);

impl super::FlowControl {
    /// Writes the metrics.
    pub(crate) fn write(&self, out: &mut Writer) {
        let levels = self.levels.lock();
        let labels = |schema: &str, level: &str| {
            format!("flow_schema=\"{schema}\",priority_level=\"{level}\"")
        };
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64;
        let gauge = |n: &AtomicI64| n.load(Ordering::Relaxed) as f64;
        out.family(
            "apiserver_flowcontrol_rejected_requests_total",
            "counter",
            "[STABLE] Number of requests rejected by API Priority and Fairness subsystem",
        );
        for (schema, level, stats) in levels.stats() {
            for (reason, n) in REASONS.iter().zip(&stats.refused) {
                if count(n) > 0.0 {
                    let labels = format!("{},reason=\"{reason}\"", labels(schema, level));
                    out.sample("", &labels, count(n));
                }
            }
        }
        out.family(
            "apiserver_flowcontrol_dispatched_requests_total",
            "counter",
            "[STABLE] Number of requests executed by API Priority and Fairness subsystem",
        );
        for (schema, level, stats) in levels.stats() {
            out.sample("", &labels(schema, level), count(&stats.dispatched));
        }
        out.family(
            "apiserver_flowcontrol_current_inqueue_requests",
            "gauge",
            "[STABLE] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        );
        for (schema, level, stats) in levels.stats() {
            out.sample("", &labels(schema, level), gauge(&stats.waiting));
        }
        out.family(
            "apiserver_flowcontrol_current_executing_requests",
            "gauge",
            "[STABLE] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
        );
        for (schema, level, stats) in levels.stats() {
            out.sample("", &labels(schema, level), gauge(&stats.executing));
        }
        out.family(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            "histogram",
            "[STABLE] Length of time a request spent waiting in its queue",
        );
        for (schema, level, stats) in levels.stats() {
            for (execute, waited) in [("true", &stats.waited), ("false", &stats.waited_in_vain)] {
                let labels = format!("execute=\"{execute}\",{}", labels(schema, level));
                waited.write(out, &BOUNDS, &labels);
            }
        }
        out.family(
            "apiserver_flowcontrol_request_execution_seconds",
            "histogram",
            "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
        );
        for (schema, level, stats) in levels.stats() {
            stats.took.write(out, &BOUNDS, &labels(schema, level));
        }
        let gauges: [Gauge; 9] = [
            (
                "nominal_limit_seats",
                "[STABLE] Nominal number of execution seats configured for each priority level",
                |s| s.nominal,
            ),
            (
                "lower_limit_seats",
                "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
                |s| s.least,
            ),
            (
                "upper_limit_seats",
                "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
                |s| s.most,
            ),
            (
                "current_limit_seats",
                "[ALPHA] current derived number of execution seats available to each priority level",
                |s| s.current,
            ),
            (
                "demand_seats_high_watermark",
                "[ALPHA] High watermark, over last adjustment period, of demand_seats",
                |s| s.demand.most,
            ),
            (
                "demand_seats_average",
                "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats",
                |s| s.demand.average,
            ),
            (
                "demand_seats_stdev",
                "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats",
                |s| s.demand.deviation,
            ),
            (
                "demand_seats_smoothed",
                "[ALPHA] Smoothed seat demands",
                |s| s.demand.smoothed,
            ),
            ("target_seats", "[ALPHA] Seat allocation targets", |s| {
                s.target
            }),
        ];
        for (name, help, value) in gauges {
            out.family(&format!("apiserver_flowcontrol_{name}"), "gauge", help);
            for (level, limited) in levels.limited() {
                let labels = format!("priority_level=\"{level}\"");
                out.sample("", &labels, value(&limited.stats));
            }
        }
        out.family(
            "apiserver_flowcontrol_current_executing_seats",
            "gauge",
            "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
        );
        for (level, limited) in levels.limited() {
            let labels = format!("priority_level=\"{level}\"");
            out.sample("", &labels, f64::from(limited.queues.seats_used()));
        }
        out.family(
            "apiserver_flowcontrol_seat_fair_frac",
            "gauge",
            "[ALPHA] Fair fraction of server's concurrency to allocate to each priority level that can use it",
        );
        out.sample("", "", levels.factor);
    }
}
