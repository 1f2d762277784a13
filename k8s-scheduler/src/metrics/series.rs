//! Counters and histograms, and how they are written down.

use std::{
    fmt::Write,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// Goes up.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bounds that grow by a factor from one bucket to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    pub(super) first: f64,
    pub(super) factor: f64,
    pub(super) count: usize,
}

impl Buckets {
    fn bound(self, n: usize) -> f64 {
        // Step by step, as upstream has it: that decides the last digits.
        (0..n).fold(self.first, |bound, _| bound * self.factor)
    }
}

/// The most buckets that a histogram has.
const MOST: usize = 20;

/// How often values lay between bounds. Values are counted in millionths.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: Buckets,
    buckets: [AtomicU64; MOST],
    count: AtomicU64,
    millionths: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: Buckets) -> Self {
        Self {
            bounds,
            buckets: Default::default(),
            count: AtomicU64::new(0),
            millionths: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, value: f64) {
        let Buckets {
            first,
            factor,
            count,
        } = self.bounds;
        let bounds = std::iter::successors(Some(first), |bound| Some(bound * factor));
        let mut buckets = self.buckets[..count.min(MOST)].iter().zip(bounds);
        if let Some((bucket, _)) = buckets.find(|(_, bound)| value <= *bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let millionths = (value.max(0.0) * 1e6) as u64;
        self.millionths.fetch_add(millionths, Ordering::Relaxed);
    }

    pub(super) fn took(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }
}

/// A bound as upstream writes it: small ones as `1e-05`.
fn text(bound: f64) -> String {
    if bound >= 1e-4 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

/// A page of metrics in the text format of Prometheus.
#[derive(Debug, Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn value(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], of: &Histogram) {
        let mut sum = 0;
        for n in 0..of.bounds.count.min(MOST) {
            sum += of.buckets[n].load(Ordering::Relaxed);
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&text(of.bounds.bound(n))));
            let _ = writeln!(self.0, " {sum}");
        }
        let count = of.count.load(Ordering::Relaxed).max(sum);
        let _ = write!(self.0, "{name}_bucket");
        self.labels(labels, Some("+Inf"));
        let _ = writeln!(self.0, " {count}");
        let total = of.millionths.load(Ordering::Relaxed) as f64 / 1e6;
        self.value(&format!("{name}_sum"), labels, total);
        self.value(&format!("{name}_count"), labels, count);
    }

    fn labels(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        let all = labels.iter().copied().chain(bound.map(|b| ("le", b)));
        let mut is_first = true;
        for (name, value) in all {
            self.0.push(if is_first { '{' } else { ',' });
            is_first = false;
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(self.0, "{name}=\"{}\"", value.replace('\n', "\\n"));
        }
        if !is_first {
            self.0.push('}');
        }
    }
}
