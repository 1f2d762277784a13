//! [`RateLimiter`]: how long a failing key waits.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// How long a failing key waits before its next try: the larger of the key's own exponential
/// back-off and what an overall token bucket allows, as in client-go's
/// `DefaultTypedControllerRateLimiter`.
#[derive(Debug)]
pub struct RateLimiter<K> {
    base: Duration,
    max: Duration,
    failures: HashMap<K, u32>,
    bucket: Bucket,
}

impl<K> Default for RateLimiter<K> {
    /// 5 ms doubling up to 1000 s for each key; 10 per second with bursts of 100 overall.
    fn default() -> Self {
        Self::new(
            Duration::from_millis(5),
            Duration::from_secs(1000),
            10.0,
            100,
        )
    }
}

impl<K> RateLimiter<K> {
    /// A limiter with a key's first and longest wait, and the overall rate per second and burst.
    pub fn new(base: Duration, max: Duration, per_second: f64, burst: u32) -> Self {
        RateLimiter {
            base,
            max,
            failures: HashMap::new(),
            bucket: Bucket::new(per_second, burst),
        }
    }
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// Counts one more failure of `key` and says how long it waits.
    pub fn when(&mut self, key: K, now: Instant) -> Duration {
        let failures = self.failures.entry(key).or_insert(0);
        let factor = 2f64.powi((*failures).min(64) as i32);
        *failures = failures.saturating_add(1);
        let own = (self.base.as_secs_f64() * factor).min(self.max.as_secs_f64());
        Duration::from_secs_f64(own).max(self.bucket.reserve(now))
    }

    /// Forgets the failures of `key`.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// How often `key` has failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }
}

/// A token bucket whose tokens may be reserved ahead of time.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(per_second: f64, burst: u32) -> Self {
        Bucket {
            per_second,
            burst: f64::from(burst),
            tokens: f64::from(burst),
            at: None,
        }
    }

    fn refill(&mut self, now: Instant) {
        if let Some(at) = self.at {
            let gained = now.saturating_duration_since(at).as_secs_f64() * self.per_second;
            self.tokens = (self.tokens + gained).min(self.burst);
        }
        self.at = Some(now);
    }

    /// Takes a token and says how long until it is there.
    pub(crate) fn reserve(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or(Duration::MAX)
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_backs_off_from_5_ms_doubling_to_1000_s_and_forgets() {
        let mut limiter = RateLimiter::new(
            Duration::from_millis(5),
            Duration::from_secs(1000),
            1e9,
            1000,
        );
        let now = Instant::now();
        let waits: Vec<_> = (0..4).map(|_| limiter.when("a", now).as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40]);
        assert_eq!(
            limiter.when("b", now).as_millis(),
            5,
            "keys do not share their back-off"
        );
        for _ in 0..100 {
            limiter.when("a", now);
        }
        assert_eq!(limiter.when("a", now), Duration::from_secs(1000));
        limiter.forget(&"a");
        assert_eq!(limiter.failures(&"a"), 0);
        assert_eq!(limiter.when("a", now).as_millis(), 5);
    }

    #[test]
    fn the_bucket_spreads_what_exceeds_its_burst() {
        let mut bucket = Bucket::new(10.0, 2);
        let now = Instant::now();
        assert_eq!(bucket.reserve(now), Duration::ZERO);
        assert_eq!(bucket.reserve(now), Duration::ZERO);
        assert_eq!(bucket.reserve(now), Duration::from_millis(100));
        assert_eq!(bucket.reserve(now), Duration::from_millis(200));
        assert_eq!(
            bucket.reserve(now + Duration::from_secs(60)),
            Duration::ZERO
        );
    }
}
