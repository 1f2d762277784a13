//! Metrics by labels that are not known beforehand, as the names of webhooks are.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{Histogram, Writer};

/// Counts by labels, which are written already.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    pub(crate) fn count(&self, labels: String) {
        *self.0.lock().entry(labels).or_default() += 1;
    }

    /// Writes them as a counter; nothing at all if nothing was counted.
    pub(crate) fn write(&self, out: &mut Writer, name: &str, help: &str) {
        let counts = self.0.lock();
        if counts.is_empty() {
            return;
        }
        out.family(name, "counter", help);
        for (labels, count) in &*counts {
            out.sample("", labels, *count as f64);
        }
    }
}

/// Histograms by labels, which are written already.
#[derive(Debug, Default)]
pub(crate) struct Timings<const N: usize>(Mutex<BTreeMap<String, Histogram<N>>>);

impl<const N: usize> Timings<N> {
    pub(crate) fn observe(&self, labels: String, value: f64, bounds: &[f64; N]) {
        let mut all = self.0.lock();
        all.entry(labels).or_default().observe(value, bounds);
    }

    /// Writes them as a histogram; nothing at all if nothing was observed.
    pub(crate) fn write(&self, out: &mut Writer, bounds: &[f64; N], name: &str, help: &str) {
        let all = self.0.lock();
        if all.is_empty() {
            return;
        }
        out.family(name, "histogram", help);
        for (labels, histogram) in &*all {
            histogram.write(out, bounds, labels);
        }
    }
}
