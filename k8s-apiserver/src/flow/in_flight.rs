//! How many requests are being served, and the plain limits on that where there is no priority and fairness.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    auth::{Identity, MASTERS},
    http::RequestInfo,
};

/// How many requests are served at once, as upstream's `--max-requests-inflight` and
/// `--max-mutating-requests-inflight`. Watches, connections and logs are not counted.
///
/// With [priority and fairness](crate::ApiServerBuilder::priority_and_fairness), which is the default, their sum is
/// the number of seats that the priority levels share. Without, each is a limit of its own; requests that would be too
/// many are answered with 429, except for those of `system:masters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxInFlight {
    /// Those that only read; 0 for no limit.
    pub reading: usize,
    /// All others; 0 for no limit.
    pub mutating: usize,
}

impl Default for MaxInFlight {
    /// 400 and 200, as upstream.
    fn default() -> Self {
        MaxInFlight {
            reading: 400,
            mutating: 200,
        }
    }
}

/// Counts what is being served.
#[derive(Debug)]
pub(super) struct InFlight {
    reading: Arc<Lane>,
    mutating: Arc<Lane>,
}

#[derive(Debug)]
struct Lane {
    limit: usize,
    now: AtomicUsize,
}

/// A request that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Lane>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a verb changes nothing.
pub(super) fn only_reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

impl InFlight {
    pub(super) fn new(limits: MaxInFlight) -> Self {
        let lane = |limit| {
            Arc::new(Lane {
                limit,
                now: AtomicUsize::new(0),
            })
        };
        InFlight {
            reading: lane(limits.reading),
            mutating: lane(limits.mutating),
        }
    }

    /// Lets a request in that is not long; `None` if it is too much.
    pub(super) fn enter(&self, user: &Identity, info: &RequestInfo) -> Option<Counted> {
        let lane = match only_reads(&info.verb) {
            true => &self.reading,
            false => &self.mutating,
        };
        let before = lane.now.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(lane.clone());
        let fits = lane.limit == 0 || before < lane.limit || user.in_group(MASTERS);
        fits.then_some(counted)
    }

    /// How many are being served: those that only read, and all others.
    pub(super) fn now(&self) -> (usize, usize) {
        let now = |lane: &Lane| lane.now.load(Ordering::Relaxed);
        (now(&self.reading), now(&self.mutating))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_and_writers_have_limits_of_their_own_and_masters_none() {
        let all = InFlight::new(MaxInFlight {
            reading: 2,
            mutating: 1,
        });
        let info = |method: &str| {
            RequestInfo::new(&method.parse().unwrap(), &"/api/v1/pods/x".parse().unwrap())
        };
        let (bob, root) = (Identity::user("bob"), Identity::system_masters());
        let first = all.enter(&bob, &info("GET")).unwrap();
        let second = all.enter(&bob, &info("GET")).unwrap();
        assert!(all.enter(&bob, &info("GET")).is_none());
        assert!(all.enter(&root, &info("GET")).is_some());
        let writing = all.enter(&bob, &info("PUT")).unwrap();
        assert!(all.enter(&bob, &info("DELETE")).is_none());
        assert_eq!(all.now(), (2, 1));
        drop((first, writing));
        let third = all.enter(&bob, &info("GET")).unwrap();
        assert!(all.enter(&bob, &info("GET")).is_none());
        assert!(all.enter(&bob, &info("PUT")).is_some());
        drop((second, third));
        assert_eq!(all.now(), (0, 0));
    }
}
