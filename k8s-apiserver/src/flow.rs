//! Limits on how many requests are served at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    auth::{Identity, MASTERS},
    http::RequestInfo,
};

/// How many requests are served at once, as upstream's `--max-requests-inflight` and
/// `--max-mutating-requests-inflight`. Those that would be too many are answered with 429. Watches, connections and
/// logs are not counted, nor what `system:masters` ask for.
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
pub(crate) struct InFlight {
    reading: Arc<Lane>,
    mutating: Arc<Lane>,
}

#[derive(Debug)]
struct Lane {
    limit: usize,
    now: AtomicUsize,
}

/// A request that is counted until this is dropped; or one that is not counted.
#[derive(Debug)]
pub(crate) struct Ticket(Option<Arc<Lane>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(lane) = &self.0 {
            lane.now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl InFlight {
    pub(crate) fn new(limits: MaxInFlight) -> Self {
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
    pub(crate) fn enter(&self, user: &Identity, info: &RequestInfo) -> Option<Ticket> {
        let lane = match info.verb.as_str() {
            "get" | "list" | "watch" => &self.reading,
            _ => &self.mutating,
        };
        if lane.limit == 0 {
            return Some(Ticket(None));
        }
        if lane.now.fetch_add(1, Ordering::Relaxed) < lane.limit {
            return Some(Ticket(Some(lane.clone())));
        }
        lane.now.fetch_sub(1, Ordering::Relaxed);
        user.in_group(MASTERS).then_some(Ticket(None))
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
        drop((first, writing));
        let third = all.enter(&bob, &info("GET")).unwrap();
        assert!(all.enter(&bob, &info("GET")).is_none());
        assert!(all.enter(&bob, &info("PUT")).is_some());
        drop((second, third));
    }
}
