//! [`Dropped`]: when those that are refused may come again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The longest that somebody is told to wait, in seconds.
const LONGEST: u64 = 32;

/// The requests that a level has refused of late. The more there are, the longer the next ones are told to wait: twice as
/// long each time that three a second were refused, a second less each time that there was less than one a second; as
/// upstream's `droppedRequestsTracker`.
#[derive(Debug)]
pub(super) struct Dropped {
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many there were in a second, for each of those that had any.
    seconds: VecDeque<(u64, u64)>,
    wait: u64,
    /// When the wait became longer last.
    raised: Option<u64>,
}

impl Default for Dropped {
    fn default() -> Self {
        Dropped {
            begun: Instant::now(),
            state: Mutex::new(State {
                seconds: VecDeque::new(),
                wait: 1,
                raised: None,
            }),
        }
    }
}

impl Dropped {
    /// Counts a request that was refused; says when it may come again.
    pub(super) fn count(&self) -> Duration {
        let mut state = self.state.lock();
        Duration::from_secs(state.count(self.begun.elapsed().as_secs()))
    }
}

impl State {
    fn count(&mut self, now: u64) -> u64 {
        match self.seconds.back_mut() {
            Some((second, count)) if *second == now => {
                *count += 1;
                return self.wait;
            }
            _ => {}
        }
        // The wait is thought over in the first of a second's refusals: what came before is known by then.
        let since = now.saturating_sub(self.wait);
        let lately = self.seconds.iter().filter(|(second, _)| *second >= since);
        let lately: u64 = lately.map(|(_, count)| count).sum();
        let is_settled = self
            .raised
            .is_none_or(|raised| now.saturating_sub(raised) >= self.wait);
        if is_settled && lately >= 3 * self.wait {
            self.wait = (2 * self.wait).min(LONGEST);
            self.raised = Some(now);
        } else if lately < self.wait && self.wait > 1 {
            self.wait -= 1;
        }
        self.seconds.push_back((now, 1));
        let oldest = now.saturating_sub(LONGEST);
        self.seconds.retain(|(second, _)| *second >= oldest);
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits at the end of each of so many seconds with that many refusals.
    fn waits(state: &mut State, seconds: std::ops::Range<u64>, each: u64) -> Vec<u64> {
        let of_second = |second: u64| (0..each).map(|_| state.count(second)).last();
        seconds.filter_map(of_second).collect()
    }

    #[test]
    fn many_refusals_make_the_wait_longer_and_few_make_it_shorter_again() {
        let dropped = Dropped::default();
        assert_eq!(dropped.count(), Duration::from_secs(1));
        let mut state = dropped.state.into_inner();
        state.seconds.clear();
        let rising = waits(&mut state, 100..170, 3);
        assert_eq!(rising[..8], [1, 2, 2, 4, 4, 4, 4, 8]);
        assert_eq!(rising.last(), Some(&LONGEST));
        // One every two seconds is less than one a second.
        let mut falling = (0..40).map(|n| state.count(300 + 2 * n));
        assert_eq!(falling.next(), Some(LONGEST - 1));
        assert_eq!(falling.last(), Some(1));
        assert!(state.seconds.len() <= 33);
    }

    #[test]
    fn a_single_burst_makes_the_wait_longer_once() {
        let mut state = Dropped::default().state.into_inner();
        assert_eq!(waits(&mut state, 10..11, 1000), [1]);
        assert_eq!(waits(&mut state, 11..14, 1), [2, 2, 2]);
        assert_eq!(state.count(20), 1);
    }
}
