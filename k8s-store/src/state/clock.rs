//! A clock that starts at a given time and then moves with tokio's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Counts milliseconds since the Unix epoch (or since any other instant, for a
/// store whose times nobody else sees).
///
/// It is set once and then follows `tokio::time`, so a paused runtime pauses it
/// and a step of the wall clock does not move it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    offset: Duration,
}

impl Clock {
    pub(crate) fn starting_at(time: SystemTime) -> Self {
        Self {
            start: Instant::now(),
            offset: time.duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// The time, rounded down: a deadline that is not later has passed.
    pub(crate) fn millis(&self) -> u64 {
        narrow(self.time().as_millis())
    }

    /// The time, rounded up: a deadline counted from here never comes early.
    pub(crate) fn stamp(&self) -> u64 {
        narrow(self.time().as_nanos().div_ceil(1_000_000))
    }

    /// When this clock will show the time; far in the future if it never does.
    pub(crate) fn instant(&self, millis: u64) -> Instant {
        let wait = Duration::from_millis(millis).saturating_sub(self.offset);
        self.start.checked_add(wait).unwrap_or_else(|| {
            let century = Duration::from_secs(100 * 365 * 86_400);
            Instant::now() + century
        })
    }

    fn time(&self) -> Duration {
        self.offset + self.start.elapsed()
    }
}

fn narrow(millis: u128) -> u64 {
    u64::try_from(millis).unwrap_or(u64::MAX)
}
