//! [`Histogram`]: how often a number was within which bounds.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Writer;

/// Counts observations by upper bounds, which are given anew each time: they are the same for all histograms of a
/// metric. Observations are seconds, or other numbers that may be summed up in millionths.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    /// How many were at most as much as the bound, and more than the one before.
    buckets: [AtomicU64; N],
    /// How many were more than the last bound.
    beyond: AtomicU64,
    millionths: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            millionths: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn observe(&self, value: f64, bounds: &[f64; N]) {
        let at = bounds.iter().position(|bound| value <= *bound);
        let counter = at.map_or(&self.beyond, |at| &self.buckets[at]);
        counter.fetch_add(1, Ordering::Relaxed);
        // Saturates where it does not fit.
        let millionths = (value * 1e6) as u64;
        if millionths > 0 {
            self.millionths.fetch_add(millionths, Ordering::Relaxed);
        }
    }

    /// Writes the samples of one set of labels; nothing if nothing was observed.
    pub(crate) fn write(&self, out: &mut Writer, bounds: &[f64; N], labels: &str) {
        let counted = self.buckets.each_ref().map(|n| n.load(Ordering::Relaxed));
        let count = counted.iter().sum::<u64>() + self.beyond.load(Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let comma = if labels.is_empty() { "" } else { "," };
        let mut so_far = 0;
        for (bucket, bound) in counted.iter().zip(bounds) {
            so_far += bucket;
            out.sample(
                "_bucket",
                &format!("{labels}{comma}le=\"{bound}\""),
                so_far as f64,
            );
        }
        let count = count as f64;
        out.sample("_bucket", &format!("{labels}{comma}le=\"+Inf\""), count);
        let sum = self.millionths.load(Ordering::Relaxed) as f64 / 1e6;
        out.sample("_sum", labels, sum);
        out.sample("_count", labels, count);
    }
}
