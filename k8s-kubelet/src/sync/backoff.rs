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
}
