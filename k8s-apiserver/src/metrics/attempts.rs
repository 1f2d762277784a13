//! [`Attempts`]: how checks of requests end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Histogram, Writer};

/// Upstream's bounds, in seconds: powers of two from a millisecond on.
const BOUNDS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// How a check ends. What the numbers are called is for the metric to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Known, or allowed.
    Yes,
    /// Not known, or denied.
    No,
    /// Wrong, or nobody's opinion.
    Otherwise,
    /// Not known for an error; of permissions alone.
    Failed,
}

/// Counts and times checks by their outcome.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    counts: [AtomicU64; 4],
    took: [Histogram<{ BOUNDS.len() }>; 4],
}

impl Attempts {
    pub(crate) fn count(&self, outcome: Outcome, took: Duration) {
        let at = outcome as usize;
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.took[at].observe(took.as_secs_f64(), &BOUNDS);
    }

    /// Writes both metrics, each a name and its help, with these words for the outcomes; without a word, none is written.
    pub(crate) fn write(
        &self,
        out: &mut Writer,
        counts: (&str, &str),
        took: (&str, &str),
        words: &[&str],
    ) {
        out.family(counts.0, "counter", counts.1);
        for (word, count) in words.iter().zip(&self.counts) {
            let labels = format!("result=\"{word}\"");
            out.sample("", &labels, count.load(Ordering::Relaxed) as f64);
        }
        out.family(took.0, "histogram", took.1);
        for (word, took) in words.iter().zip(&self.took) {
            took.write(out, &BOUNDS, &format!("result=\"{word}\""));
        }
    }
}
