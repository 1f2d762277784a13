//! Requests by verb and resource.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use http::StatusCode;
use parking_lot::RwLock;

use super::{Histogram, Writer};
use crate::{
    http::{RequestInfo, uri},
    registry::{Row, Served},
};

/// Upper bounds of the latency buckets, in seconds; upstream's.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

const VERBS: [&str; 12] = [
    "GET",
    "LIST",
    "WATCH",
    "POST",
    "PUT",
    "PATCH",
    "APPLY",
    "DELETE",
    "DELETECOLLECTION",
    "CONNECT",
    "HEAD",
    "other",
];
const SCOPES: [&str; 4] = ["", "cluster", "namespace", "resource"];

/// What requests are counted by. Bounded: names of resources that are not served are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// In [`VERBS`].
    verb: u8,
    /// In [`SCOPES`].
    scope: u8,
    dry_run: bool,
    /// Group, version and plural name.
    resource: Option<Names>,
    subresource: &'static str,
}

/// A label in a form that is quick to compare: every request looks for its own.
type Key = (u8, u8, bool, [usize; 3], usize);

/// The group, version and plural name of a resource.
type Names = (&'static str, &'static str, &'static str);

impl Label {
    pub(crate) fn new(row: Option<&Row>, info: &RequestInfo, parts: &http::request::Parts) -> Self {
        let connects = matches!(
            info.subresource.as_str(),
            "exec" | "attach" | "portforward" | "proxy"
        );
        let applies = || {
            let kind = parts.headers.get(http::header::CONTENT_TYPE);
            kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch"))
        };
        let verb = match info.verb.as_str() {
            _ if connects => 9,
            "get" => 0,
            "list" => 1,
            "watch" => 2,
            "create" | "post" => 3,
            "update" => 4,
            "patch" if applies() => 6,
            "patch" => 5,
            "delete" => 7,
            "deletecollection" => 8,
            "head" => 10,
            _ => 11,
        };
        let scope = match row {
            None => 0,
            Some(_) if !info.name.is_empty() => 3,
            Some(_) if info.namespace.is_empty() => 1,
            Some(_) => 2,
        };
        let query = parts.uri.query();
        Label {
            verb,
            scope,
            dry_run: (3..=8).contains(&verb)
                && query.is_some_and(|q| q.contains("dryRun"))
                && uri::query_value(query, "dryRun").is_some_and(|v| v == "All"),
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
        (self.verb, self.scope, self.dry_run, resource, subresource)
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
pub(crate) struct Requests {
    series: DashMap<Key, Arc<Series>, foldhash::fast::RandomState>,
}

/// The requests of one label.
#[derive(Debug)]
pub(crate) struct Series {
    label: Label,
    codes: RwLock<Vec<(u16, AtomicU64)>>,
    took: Histogram<{ BUCKETS.len() }>,
    /// Those that were ended by the server: too many, or too long.
    terminated: [AtomicU64; 2],
    /// Long ones that go on.
    running: AtomicI64,
}

/// Why the server ended requests, by their codes.
const TERMINATIONS: [u16; 2] = [429, 504];

/// A long request, until this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Series>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Series {
    fn new(label: Label) -> Self {
        Series {
            label,
            codes: RwLock::default(),
            took: Histogram::default(),
            terminated: Default::default(),
            running: AtomicI64::new(0),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&self, code: StatusCode, took: Duration) {
        let code = code.as_u16();
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
        if let Some(at) = TERMINATIONS.iter().position(|c| *c == code) {
            self.terminated[at].fetch_add(1, Ordering::Relaxed);
        }
        self.took.observe(took.as_secs_f64(), &BUCKETS);
    }

    /// Counts a long request as long as what is given back lives.
    pub(crate) fn run(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }
}

impl Requests {
    /// The counters of a label.
    pub(crate) fn series(&self, label: Label) -> Arc<Series> {
        let key = label.key();
        if let Some(series) = self.series.get(&key) {
            return series.clone();
        }
        let series = self.series.entry(key);
        series
            .or_insert_with(|| Arc::new(Series::new(label)))
            .clone()
    }

    /// Forgets what was counted of resources that are no longer served: upstream keeps it, and grows with each that
    /// comes and goes.
    pub(crate) fn keep(&self, served: &Served) {
        self.series.retain(|_, series| {
            (series.label.resource).is_none_or(|(group, version, resource)| {
                served.row(group, version, resource).is_some()
            })
        });
    }

    pub(super) fn write(&self, out: &mut Writer) {
        let mut all: Vec<(String, bool, Arc<Series>)> = self
            .series
            .iter()
            .map(|series| {
                (
                    series.label.text(),
                    series.label.dry_run,
                    series.value().clone(),
                )
            })
            .collect();
        all.sort_by(|(a, dry, _), (b, other, _)| (a, dry).cmp(&(b, other)));
        let dry_run = |dry: bool| format!("dry_run=\"{}\"", if dry { "All" } else { "" });
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64;

        out.family(
            "apiserver_request_total",
            "counter",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        );
        for (labels, dry, series) in &all {
            for (code, count) in series.codes.read().iter() {
                let labels = format!("code=\"{code}\",{},{labels}", dry_run(*dry));
                out.sample("", &labels, load(count));
            }
        }
        out.family(
            "apiserver_request_duration_seconds",
            "histogram",
            "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        );
        for (labels, dry, series) in &all {
            let labels = format!("{},{labels}", dry_run(*dry));
            series.took.write(out, &BUCKETS, &labels);
        }
        out.family(
            "apiserver_request_terminations_total",
            "counter",
            "[ALPHA] Number of requests which apiserver terminated in self-defense.",
        );
        // Dry runs are not told apart here.
        let mut ended: BTreeMap<String, f64> = BTreeMap::new();
        for (labels, _, series) in &all {
            for (code, count) in TERMINATIONS.iter().zip(&series.terminated) {
                if load(count) > 0.0 {
                    let labels = format!("code=\"{code}\",{labels}");
                    *ended.entry(labels).or_default() += load(count);
                }
            }
        }
        for (labels, count) in &ended {
            out.sample("", labels, *count);
        }
        out.family(
            "apiserver_longrunning_requests",
            "gauge",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
        );
        for (labels, _, series) in &all {
            let running = series.running.load(Ordering::Relaxed);
            // It is there from the first long request on.
            if running != 0 || matches!(VERBS[usize::from(series.label.verb)], "WATCH" | "CONNECT")
            {
                out.sample("", labels, running as f64);
            }
        }
    }
}
