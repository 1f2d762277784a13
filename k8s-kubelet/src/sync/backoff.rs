//! Exponential back-off as upstream's `flowcontrol.Backoff` does it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);

/// The back-off of one container's restarts or one image's pulls: 10 s, doubling to 5 min,
/// forgotten when nothing went wrong for 10 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) delay: Duration,
    pub(crate) updated: Timestamp,
}

impl Backoff {
    fn expired(&self, event: Timestamp) -> bool {
        event.duration_since(self.updated)
            > SignedDuration::try_from(MAX * 2).unwrap_or(SignedDuration::MAX)
    }

    /// When an attempt after `event` may be made, if not yet now.
    pub(crate) fn wait_until(
        this: Option<&Self>,
        event: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let entry = this.filter(|b| !b.expired(event))?;
        let until = event.saturating_add(entry.delay).unwrap_or(event);
        (now < until).then_some(until)
    }

    /// The back-off after one more failure at `event`.
    pub(crate) fn next(this: Option<&Self>, event: Timestamp, now: Timestamp) -> Self {
        let delay = match this {
            Some(b) if !b.expired(event) => (b.delay * 2).min(MAX),
            _ => INITIAL,
        };
        Self {
            delay,
            updated: now,
        }
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_seconds(duration: Duration) -> String {
    let s = duration.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// The same for short spans: `1.234s`, `56.7ms`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let scaled = |unit: u128, suffix: &str| {
        let text = format!(
            "{}.{:0width$}",
            nanos / unit,
            nanos % unit,
            width = unit.ilog10() as usize
        );
        format!(
            "{}{suffix}",
            text.trim_end_matches('0').trim_end_matches('.')
        )
    };
    match nanos {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => scaled(1_000, "µs"),
        n if n < 1_000_000_000 => scaled(1_000_000, "ms"),
        n if n < 60_000_000_000 => scaled(1_000_000_000, "s"),
        _ => go_seconds(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_to_five_minutes_and_are_forgotten_after_ten() {
        let mut entry = None;
        let mut delays = Vec::new();
        let mut now = 1000;
        for _ in 0..7 {
            assert_eq!(
                Backoff::wait_until(entry.as_ref(), at(now - 400), at(now)),
                None
            );
            let next = Backoff::next(entry.as_ref(), at(now), at(now));
            delays.push(next.delay.as_secs());
            entry = Some(next);
            now += 1;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(
            Backoff::wait_until(entry.as_ref(), at(now), at(now)),
            Some(at(now + 300))
        );
        let later = now + 602;
        assert_eq!(
            Backoff::wait_until(entry.as_ref(), at(later), at(later)),
            None
        );
        assert_eq!(
            Backoff::next(entry.as_ref(), at(later), at(later)).delay,
            INITIAL
        );
    }

    #[test]
    fn durations_print_as_in_go() {
        assert_eq!(go_seconds(Duration::from_secs(10)), "10s");
        assert_eq!(go_seconds(Duration::from_secs(80)), "1m20s");
        assert_eq!(go_seconds(Duration::from_secs(300)), "5m0s");
        assert_eq!(go_duration(Duration::from_micros(1_234_500)), "1.2345s");
        assert_eq!(go_duration(Duration::from_micros(56_700)), "56.7ms");
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1.5µs");
    }
}
