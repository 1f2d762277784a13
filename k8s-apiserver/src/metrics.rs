//! What `/metrics` tells: requests by verb and resource, under upstream's names.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use dashmap::DashMap;
use http::StatusCode;
use parking_lot::RwLock;

use crate::{http::RequestInfo, registry::Row};

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 5.0, 60.0];

const VERBS: [&str; 9] = [
    "GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "DELETE", "HEAD", "other",
];
const SCOPES: [&str; 4] = ["", "cluster", "namespace", "resource"];

/// What requests are counted by. Bounded: names of resources that are not served are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// In [`VERBS`].
    verb: u8,
    /// In [`SCOPES`].
    scope: u8,
    /// Group, version and plural name.
    resource: Option<Names>,
    subresource: &'static str,
}

/// A label in a form that is quick to compare: every request looks for its own.
type Key = (u8, u8, [usize; 3], usize);

/// The group, version and plural name of a resource.
type Names = (&'static str, &'static str, &'static str);

impl Label {
    pub(crate) fn new(row: Option<&Row>, info: &RequestInfo) -> Self {
        let verb = match info.verb.as_str() {
            "get" => 0,
            "list" => 1,
            "watch" => 2,
            "create" | "post" => 3,
            "update" => 4,
            "patch" => 5,
            "delete" | "deletecollection" => 6,
            "head" => 7,
            _ => 8,
        };
        let scope = match row {
            None => 0,
            Some(_) if !info.name.is_empty() => 3,
            Some(_) if info.namespace.is_empty() => 1,
            Some(_) => 2,
        };
        Label {
            verb,
            scope,
            resource: row.map(|row| {
                let resource = &row.resource;
                (resource.group, resource.version, resource.resource)
            }),
            subresource: row
                .filter(|_| !info.subresource.is_empty())
                .and_then(|row| row.resource.subresource(&info.subresource))
                .map_or("", |s| s.name),
        }
    }

    /// Names are static, and the same ones for a row as long as it is served: their addresses tell
    /// rows apart.
    fn key(&self) -> Key {
        let resource = self.resource.map_or([0; 3], |(group, version, resource)| {
            [group, version, resource].map(|name| name.as_ptr().addr())
        });
        let subresource = match self.subresource {
            "" => 0,
            name => name.as_ptr().addr(),
        };
        (self.verb, self.scope, resource, subresource)
    }

    fn text(&self) -> String {
        let (group, version, resource) = self.resource.unwrap_or_default();
        format!(
            "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{version}\"",
            SCOPES[usize::from(self.scope)],
            self.subresource,
            VERBS[usize::from(self.verb)],
        )
    }
}

/// Counters of requests.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: DashMap<Key, Series>,
}

/// The requests of one label.
#[derive(Debug)]
struct Series {
    label: Label,
    codes: RwLock<Vec<(u16, AtomicU64)>>,
    /// How many took at most as long as the bucket's bound, and longer than that of the one before.
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Series {
    fn new(label: Label) -> Self {
        Series {
            label,
            codes: RwLock::default(),
            buckets: Default::default(),
            count: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        }
    }

    fn count(&self, code: u16, took: Duration) {
        let counted = |codes: &[(u16, AtomicU64)]| {
            let found = codes.iter().find(|(c, _)| *c == code);
            found
                .map(|(_, n)| n.fetch_add(1, Ordering::Relaxed))
                .is_some()
        };
        if !counted(&self.codes.read()) {
            let mut codes = self.codes.write();
            if !counted(&codes) {
                codes.push((code, AtomicU64::new(1)));
            }
        }
        let seconds = took.as_secs_f64();
        if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn count(&self, label: Label, code: StatusCode, took: Duration) {
        let key = label.key();
        match self.series.get(&key) {
            Some(series) => series.count(code.as_u16(), took),
            None => self
                .series
                .entry(key)
                .or_insert_with(|| Series::new(label))
                .count(code.as_u16(), took),
        }
    }

    /// In Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.\n# TYPE apiserver_request_total counter\n",
        );
        let mut lines = Vec::new();
        let mut all = Vec::new();
        for series in &self.series {
            let labels = series.label.text();
            for (code, count) in series.codes.read().iter() {
                lines.push(format!(
                    "apiserver_request_total{{code=\"{code}\",{labels}}} {}\n",
                    count.load(Ordering::Relaxed)
                ));
            }
            let mut text = String::new();
            let mut so_far = 0;
            for (bucket, bound) in series.buckets.iter().zip(BUCKETS) {
                so_far += bucket.load(Ordering::Relaxed);
                let _ = writeln!(
                    text,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {so_far}"
                );
            }
            let count = series.count.load(Ordering::Relaxed).max(so_far);
            let sum = series.micros.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = write!(
                text,
                "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {count}\napiserver_request_duration_seconds_sum{{{labels}}} {sum}\napiserver_request_duration_seconds_count{{{labels}}} {count}\n"
            );
            all.push((labels, text));
        }
        lines.sort();
        lines.iter().for_each(|line| out.push_str(line));
        out.push_str("# HELP apiserver_request_duration_seconds [STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.\n# TYPE apiserver_request_duration_seconds histogram\n");
        all.sort();
        all.iter().for_each(|(_, text)| out.push_str(text));
        out
    }
}
