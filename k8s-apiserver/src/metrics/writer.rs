//! [`Writer`]: Prometheus' text format.

use std::fmt::Write;

/// Writes metrics, family by family.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    text: String,
    name: String,
}

impl Writer {
    /// Begins a metric; its samples follow. `kind` is `counter`, `gauge` or `histogram`.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the metric, or, with a suffix, a part of one. The labels are written already.
    pub(crate) fn sample(&mut self, suffix: &str, labels: &str, value: f64) {
        let name = &self.name;
        let _ = match labels {
            "" => writeln!(self.text, "{name}{suffix} {value}"),
            labels => writeln!(self.text, "{name}{suffix}{{{labels}}} {value}"),
        };
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// A label's value, from outside.
pub(crate) fn quoted(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn a_histogram_is_written_as_prometheus_wants_it() {
        let bounds = [0.1, 1.0];
        let histogram = Histogram::<2>::default();
        let mut out = Writer::default();
        out.family("took_seconds", "histogram", "How long.");
        histogram.write(&mut out, &bounds, "");
        for value in [0.05, 0.5, 0.25, 7.0] {
            histogram.observe(value, &bounds);
        }
        histogram.write(&mut out, &bounds, "a=\"b\"");
        assert_eq!(
            out.finish(),
            "# HELP took_seconds How long.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{a=\"b\",le=\"0.1\"} 1\n\
             took_seconds_bucket{a=\"b\",le=\"1\"} 3\n\
             took_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\n\
             took_seconds_sum{a=\"b\"} 7.8\ntook_seconds_count{a=\"b\"} 4\n"
        );
        assert_eq!(quoted("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
