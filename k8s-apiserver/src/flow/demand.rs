//! How many seats a priority level asks for, over time.

use tokio::time::Instant;

/// How slowly the smoothed demand falls: by half within five minutes, at one look in ten seconds. As upstream.
const SMOOTHING: f64 = 0.977;

/// The integral of a demand since it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integral {
    since: Instant,
    last: Instant,
    now: f64,
    most: f64,
    sum: f64,
    squares: f64,
}

/// What was asked for in a period, and before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Demand {
    /// On average in the last period.
    pub(crate) average: f64,
    /// The standard deviation in the last period.
    pub(crate) deviation: f64,
    /// The most in the last period.
    pub(crate) most: f64,
    /// Follows a rise at once and a fall slowly.
    pub(crate) smoothed: f64,
}

impl Integral {
    pub(super) fn new(now: Instant) -> Self {
        Integral {
            since: now,
            last: now,
            now: 0.0,
            most: 0.0,
            sum: 0.0,
            squares: 0.0,
        }
    }

    /// The demand changes.
    pub(super) fn set(&mut self, value: f64, at: Instant) {
        let time = at.saturating_duration_since(self.last).as_secs_f64();
        self.sum += time * self.now;
        self.squares += time * self.now * self.now;
        self.last = at;
        self.now = value;
        self.most = self.most.max(value);
    }

    /// Ends a period and begins the next one.
    pub(super) fn period(&mut self, at: Instant, before: Demand) -> Demand {
        self.set(self.now, at);
        let time = at.saturating_duration_since(self.since).as_secs_f64();
        let (average, deviation) = if time > 0.0 {
            let average = self.sum / time;
            let variance = self.squares / time - average * average;
            (average, variance.max(0.0).sqrt())
        } else {
            (self.now, 0.0)
        };
        let envelope = average + deviation;
        let demand = Demand {
            average,
            deviation,
            most: self.most,
            smoothed: envelope.max(SMOOTHING * before.smoothed + (1.0 - SMOOTHING) * envelope),
        };
        let now = self.now;
        *self = Integral::new(at);
        (self.now, self.most) = (now, now);
        demand
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rise_counts_at_once_and_a_fall_slowly() {
        let start = Instant::now();
        let mut integral = Integral::new(start);
        integral.set(10.0, start);
        integral.set(0.0, start + Duration::from_secs(5));
        let end = start + Duration::from_secs(10);
        let first = integral.period(end, Demand::default());
        assert_eq!(
            (first.average, first.deviation, first.most),
            (5.0, 5.0, 10.0)
        );
        assert_eq!(first.smoothed, 10.0);
        let second = integral.period(end + Duration::from_secs(10), first);
        assert_eq!((second.average, second.most), (0.0, 0.0));
        assert!((second.smoothed - 9.77).abs() < 1e-9);
    }
}
