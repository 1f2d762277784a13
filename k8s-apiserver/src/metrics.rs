//! What `/metrics` tells: requests by verb and resource, under upstream's names.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use dashmap::DashMap;
use http::StatusCode;

use crate::{http::RequestInfo, server::Inner};

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 5.0, 60.0];

/// What requests are counted by. Bounded: names of resources that are not served are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

impl Label {
    pub(crate) fn new(server: &Inner, info: &RequestInfo) -> Self {
        let verb = match info.verb.as_str() {
            "get" if info.is_resource => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETE",
            "get" => "GET",
            "post" => "POST",
            "head" => "HEAD",
            _ => "other",
        };
        let mut label = Label {
            verb,
            group: "",
            version: "",
            resource: "",
            subresource: "",
            scope: "",
        };
        if let Some(row) = server
            .registry
            .rows
            .get(&info.group, &info.version, &info.resource)
        {
            label.group = row.resource.group;
            label.version = row.resource.version;
            label.resource = row.resource.resource;
            label.subresource = row
                .resource
                .subresource(&info.subresource)
                .map_or("", |s| s.name);
            label.scope = if !info.name.is_empty() {
                "resource"
            } else if info.namespace.is_empty() {
                "cluster"
            } else {
                "namespace"
            };
        }
        label
    }
}

/// Counters of requests.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: DashMap<(Label, u16), AtomicU64>,
    durations: DashMap<Label, Durations>,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Metrics {
    pub(crate) fn count(&self, label: Label, code: StatusCode, took: Duration) {
        let key = (label, code.as_u16());
        match self.requests.get(&key) {
            Some(counter) => drop(counter.fetch_add(1, Ordering::Relaxed)),
            None => drop(
                self.requests
                    .entry(key)
                    .or_default()
                    .fetch_add(1, Ordering::Relaxed),
            ),
        }
        if !self.durations.contains_key(&label) {
            self.durations.entry(label).or_default();
        }
        if let Some(durations) = self.durations.get(&label) {
            let seconds = took.as_secs_f64();
            for (bucket, bound) in durations.buckets.iter().zip(BUCKETS) {
                if seconds <= bound {
                    bucket.fetch_add(1, Ordering::Relaxed);
                }
            }
            durations.count.fetch_add(1, Ordering::Relaxed);
            durations.micros.fetch_add(
                u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
    }

    /// In Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.\n# TYPE apiserver_request_total counter\n",
        );
        let labels = |l: &Label| {
            format!(
                "component=\"apiserver\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
                l.group, l.resource, l.scope, l.subresource, l.verb, l.version
            )
        };
        let mut lines: Vec<String> = self
            .requests
            .iter()
            .map(|entry| {
                let ((label, code), count) = entry.pair();
                format!(
                    "apiserver_request_total{{code=\"{code}\",{}}} {}\n",
                    labels(label),
                    count.load(Ordering::Relaxed)
                )
            })
            .collect();
        lines.sort();
        lines.iter().for_each(|line| out.push_str(line));
        out.push_str("# HELP apiserver_request_duration_seconds [STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.\n# TYPE apiserver_request_duration_seconds histogram\n");
        let mut all: Vec<(String, String)> = self
            .durations
            .iter()
            .map(|entry| {
                let (label, durations) = entry.pair();
                let labels = labels(label);
                let mut text = String::new();
                let count = durations.count.load(Ordering::Relaxed);
                for (bucket, bound) in durations.buckets.iter().zip(BUCKETS) {
                    let n = bucket.load(Ordering::Relaxed);
                    let _ = writeln!(
                        text,
                        "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {n}"
                    );
                }
                let _ = writeln!(
                    text,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {count}"
                );
                let sum = durations.micros.load(Ordering::Relaxed) as f64 / 1e6;
                let _ = writeln!(
                    text,
                    "apiserver_request_duration_seconds_sum{{{labels}}} {sum}"
                );
                let _ = writeln!(
                    text,
                    "apiserver_request_duration_seconds_count{{{labels}}} {count}"
                );
                (labels, text)
            })
            .collect();
        all.sort();
        all.iter().for_each(|(_, text)| out.push_str(text));
        out
    }
}
