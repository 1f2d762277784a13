//! [`Clock`]: the time of day, carried by tokio's clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use tokio::time::Instant;

/// The time of day: a starting point plus what tokio's clock has counted since.
///
/// On a paused tokio clock it stands still, and moves when that is advanced, so a controller's
/// deadlines and the timestamps that it writes always agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock that shows the machine's time of day now.
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that shows `base` now.
    pub fn starting_at(base: Timestamp) -> Self {
        Clock {
            base,
            start: Instant::now(),
        }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.base + self.start.elapsed()
    }

    /// The time of day in the API's form for second precision.
    pub fn time(&self) -> Time {
        Time(truncate(self.now()))
    }

    /// The time of day in the API's form for microsecond precision.
    pub fn micro_time(&self) -> MicroTime {
        MicroTime(self.now())
    }
}

/// Whole seconds, which is all that the API's `Time` keeps.
pub(crate) fn truncate(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// How long from `earlier` to `later`; zero when it is the other way round.
pub(crate) fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}
