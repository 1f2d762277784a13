//! What `/debug/api_priority_and_fairness` shows: levels, queues and requests, in upstream's tables.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_model::duration;
use tokio::time::Instant;

use super::{
    FlowControl,
    config::Flows,
    defaults,
    queues::QueueNow,
    roll::{Present, Stage},
    stats::SchemaStats,
};
use crate::http::RequestInfo;

/// A table that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dump {
    Levels,
    Queues,
    /// With or without what the requests are about.
    Requests {
        details: bool,
    },
}

const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    // So upstream has it.
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] = [
    "UserName",
    "Verb",
    "APIPath",
    "Namespace",
    "Name",
    "APIVersion",
    "Resource",
    "SubResource",
];

/// What upstream writes for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl FlowControl {
    /// A table as it is now; nothing where there are no priority levels.
    pub(crate) fn dump(&self, dump: Dump, now: Timestamp) -> Option<String> {
        if !self.is_fair() {
            return None;
        }
        Some(table(match dump {
            Dump::Levels => self.dump_levels(),
            Dump::Queues => self.dump_queues(),
            Dump::Requests { details } => self.dump_requests(details, now),
        }))
    }

    fn dump_levels(&self) -> Vec<Vec<String>> {
        let levels = self.levels.lock();
        let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
        let names = levels.limited().map(|(name, _)| name);
        for name in names.chain([defaults::EXEMPT]) {
            counts.entry(name).or_default();
        }
        for (_, level, stats) in levels.stats() {
            counts.entry(level).or_default().add(stats);
        }
        let mut rows = vec![LEVELS.map(str::to_owned).to_vec()];
        for (name, counts) in counts {
            let limited = levels.limited().find(|(limited, _)| *limited == name);
            let (active, idle, leaving) = match limited {
                Some((_, limited)) => {
                    let queues = limited.queues.now();
                    let active = queues.iter().filter(|queue| queue.waiting > 0).count();
                    (active, limited.queues.is_idle(), limited.leaving)
                }
                None if name == defaults::EXEMPT => (0, counts.executing == 0, false),
                // It was there once.
                None => continue,
            };
            rows.push(vec![
                name.to_owned(),
                active.to_string(),
                idle.to_string(),
                leaving.to_string(),
                counts.waiting.to_string(),
                counts.executing.to_string(),
                counts.dispatched.to_string(),
                counts.rejected.to_string(),
                counts.timed_out.to_string(),
                counts.cancelled.to_string(),
            ]);
        }
        rows
    }

    fn dump_queues(&self) -> Vec<Vec<String>> {
        let levels = self.levels.lock();
        let mut rows = vec![QUEUES.map(str::to_owned).to_vec()];
        for (name, limited) in levels.limited() {
            for (index, queue) in limited.queues.now().into_iter().enumerate() {
                let QueueNow {
                    waiting,
                    executing,
                    seats_used,
                    next,
                    seats_wanted,
                    work,
                } = queue;
                rows.push(vec![
                    name.to_owned(),
                    index.to_string(),
                    waiting.to_string(),
                    executing.to_string(),
                    seats_used.to_string(),
                    format!("{next:.8}ss"),
                    seats_wanted.to_string(),
                    // Seats that linger are those that were there before.
                    seats_wanted.to_string(),
                    format!("{work:.8}ss"),
                ]);
            }
        }
        rows
    }

    fn dump_requests(&self, details: bool, now: Timestamp) -> Vec<Vec<String>> {
        let mut present: Vec<(String, String, Flows, Present)> = Vec::new();
        for (schema, level, stats) in self.levels.lock().stats() {
            let flows = *stats.flows.lock();
            let requests = stats.roll.present().into_iter();
            present.extend(requests.map(|r| (level.to_owned(), schema.to_owned(), flows, r)));
        }
        // As upstream: queue by queue, first those who wait.
        present.sort_by_key(|(level, _, _, request)| {
            let (queue, served, number) = match request.stage {
                Stage::Waiting { queue, number } => (Some(queue), false, number),
                Stage::Served { queue, .. } => (queue, true, 0),
            };
            (level.clone(), queue.is_none(), queue, served, number)
        });
        let mut header = REQUESTS.map(str::to_owned).to_vec();
        if details {
            header.extend(DETAILS.map(str::to_owned));
        }
        let mut rows = vec![header];
        let clock = (Instant::now(), now);
        let (mut before, mut ahead) = (None, 0);
        for (level, schema, flows, request) in present {
            let info = RequestInfo::new(&request.method, &request.uri);
            let (queue, place, start) = match request.stage {
                Stage::Waiting { queue, .. } => {
                    let here = Some((level.clone(), queue));
                    ahead = if here == before { ahead + 1 } else { 0 };
                    before = here;
                    (queue.to_string(), ahead.to_string(), NEVER.to_owned())
                }
                Stage::Served { queue, since } => {
                    let queue = queue.map_or("-1".to_owned(), |queue| queue.to_string());
                    (queue, "-1".to_owned(), time(since, clock))
                }
            };
            let last_seats = match request.linger.is_zero() {
                true => 0,
                false => request.seats,
            };
            let flow = match flows {
                Flows::One => "",
                Flows::ByUser => &request.user,
                Flows::ByNamespace => &info.namespace,
            };
            let mut row = vec![
                level,
                schema,
                queue,
                place,
                flow.to_owned(),
                time(request.arrived, clock),
                request.seats.to_string(),
                last_seats.to_string(),
                duration::print_std(request.linger),
                start,
            ];
            if details {
                let version = match &*info.group {
                    "" => info.version,
                    group => format!("{group}/{}", info.version),
                };
                row.extend([
                    request.user.into(),
                    info.verb,
                    info.path,
                    info.namespace,
                    info.name,
                    version,
                    info.resource,
                    info.subresource,
                ]);
            }
            rows.push(row);
        }
        rows
    }
}

/// How many requests of a level there are, and were.
#[derive(Default)]
struct Counts {
    waiting: i64,
    executing: i64,
    dispatched: u64,
    rejected: u64,
    timed_out: u64,
    cancelled: u64,
}

impl Counts {
    fn add(&mut self, stats: &SchemaStats) {
        let [limited, full, timed_out, cancelled] = stats.refusals();
        self.waiting += stats.waiting.load(Ordering::Relaxed);
        self.executing += stats.executing.load(Ordering::Relaxed);
        self.dispatched += stats.dispatched.load(Ordering::Relaxed);
        self.rejected += limited + full;
        self.timed_out += timed_out;
        self.cancelled += cancelled;
    }
}

/// The time of an instant, of which it is known how it stands to now.
fn time(at: Instant, (instant, now): (Instant, Timestamp)) -> String {
    let ago = instant.saturating_duration_since(at);
    let ago = SignedDuration::try_from(ago.min(Duration::from_secs(1 << 30)));
    let at = ago.ok().and_then(|ago| now.checked_sub(ago).ok());
    at.unwrap_or(now).to_string()
}

/// Rows as Go's `tabwriter` aligns them: a comma after each cell but the last, and columns of eight characters at least.
fn table(rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let longest = cells.map(|cell| cell.chars().count()).max();
            // The comma, and a space.
            (longest.unwrap_or(0) + 2).max(8)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            out.push_str(cell);
            if column < last {
                out.push(',');
                let filled = cell.chars().count() + 1;
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(filled)));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_have_commas() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(vec![
            row(["Name", "LongerThanThat", "Last"]),
            row(["é", "", "x"]),
        ]);
        assert_eq!(
            text,
            "Name,   LongerThanThat, Last\né,      ,               x\n"
        );
    }
}
