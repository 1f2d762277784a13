//! [`Roll`]: the requests of a schema that wait or are being served.

use std::time::Duration;

use http::{Method, Uri};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Where a request is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// In that queue, the later the higher the number.
    Waiting { queue: usize, number: u64 },
    /// It has its seats, of a queue if there are any.
    Served {
        queue: Option<usize>,
        since: Instant,
    },
}

/// A request that waits or is being served.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) user: Box<str>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) arrived: Instant,
    pub(super) seats: u32,
    /// How long it will occupy them after it has been answered.
    pub(super) linger: Duration,
    pub(super) stage: Stage,
}

/// Requests, each under a number that it has as long as it is there.
#[derive(Debug, Default)]
pub(super) struct Roll(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    places: Vec<Option<Present>>,
    free: Vec<usize>,
}

impl Roll {
    pub(super) fn enter(&self, request: Present) -> usize {
        let mut state = self.0.lock();
        if let Some(at) = state.free.pop() {
            state.places[at] = Some(request);
            return at;
        }
        state.places.push(Some(request));
        state.places.len() - 1
    }

    pub(super) fn served(&self, at: usize, queue: Option<usize>) {
        if let Some(Some(request)) = self.0.lock().places.get_mut(at) {
            let since = Instant::now();
            request.stage = Stage::Served { queue, since };
        }
    }

    pub(super) fn leave(&self, at: usize) {
        let mut state = self.0.lock();
        let left = state.places.get_mut(at).and_then(Option::take);
        if left.is_some() {
            state.free.push(at);
        }
    }

    /// Those who are there now.
    pub(super) fn present(&self) -> Vec<Present> {
        self.0.lock().places.iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: &str) -> Present {
        let now = Instant::now();
        Present {
            user: user.into(),
            method: Method::GET,
            uri: Uri::from_static("/api/v1/pods"),
            arrived: now,
            seats: 1,
            linger: Duration::ZERO,
            stage: Stage::Waiting {
                queue: 3,
                number: 7,
            },
        }
    }

    #[tokio::test]
    async fn who_leaves_makes_room() {
        let roll = Roll::default();
        let names = |roll: &Roll| -> Vec<String> {
            let present = roll.present().into_iter();
            present.map(|request| request.user.into()).collect()
        };
        let [a, b] = ["a", "b"].map(|user| roll.enter(request(user)));
        roll.served(a, Some(3));
        assert!(matches!(
            roll.present()[0].stage,
            Stage::Served { queue: Some(3), .. }
        ));
        roll.leave(a);
        roll.leave(a);
        assert_eq!(names(&roll), ["b"]);
        assert_eq!(roll.enter(request("c")), a);
        assert_eq!(roll.enter(request("d")), b + 1);
        assert_eq!(names(&roll), ["c", "b", "d"]);
    }
}
