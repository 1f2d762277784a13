//! [`Place`]: how far somebody has read the changes of a resource.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{audience::Audience, entry::Event, resource::Cache};

/// How many pieces of writing are kept for others, how long they may be, and how many must watch the
/// same for that to pay.
const PIECES: usize = 16;
const LONGEST: usize = 128 * 1024;
const MANY: usize = 4;

/// How far somebody has read the changes of a resource that they are to hear of.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) cache: Arc<Cache>,
    audience: Arc<Audience>,
    wake: watch::Receiver<()>,
    /// The number of the change that is read next.
    next: u64,
    /// It was in the ring when the place was taken: what comes before is read without being told to.
    until: u64,
}

/// The reader has fallen out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lagged;

/// What one watcher wrote of some changes, and all who want the same will write of them.
#[derive(Debug)]
pub(super) struct Written {
    /// What was wanted of the changes, and how.
    manner: Arc<str>,
    /// The places before and after.
    from: u64,
    to: u64,
    /// The revision of the first change.
    revision: u64,
    bytes: Bytes,
}

impl Place {
    pub(super) fn new(cache: Arc<Cache>, audience: Arc<Audience>, next: u64, until: u64) -> Self {
        let wake = audience.subscribe();
        Place {
            cache,
            audience,
            wake,
            next,
            until,
        }
    }

    /// Has the next reads go on to the newest change, as if the reader had been told of it.
    pub(crate) fn catch_up(&mut self) {
        self.until = self.cache.state.read().end();
    }

    /// Reads on, at most `limit` changes, as far as the reader was told to.
    pub(crate) fn read(&mut self, limit: usize, out: &mut Vec<Arc<Event>>) -> Result<(), Lagged> {
        self.wake.mark_unchanged();
        let told = self.audience.told().max(self.until);
        let state = self.cache.state.read();
        let (first, end) = (state.first, state.end().min(told));
        let mut numbers = Vec::new();
        self.audience
            .numbers(self.next, first, end, limit, &mut numbers)
            .ok_or(Lagged)?;
        self.next = match numbers.last() {
            Some(last) if numbers.len() == limit => last + 1,
            _ => end.max(self.next),
        };
        let event = |number: u64| state.ring.get((number - first) as usize).cloned();
        out.extend(numbers.into_iter().filter_map(event));
        Ok(())
    }

    /// Waits for further changes. An error if there will be none.
    pub(crate) fn changed(&mut self) -> impl Future<Output = Result<(), watch::error::RecvError>> {
        self.wake.changed()
    }

    /// What another reader wrote of the changes that are next, in that manner, if they are all later than
    /// a revision. They count as read.
    pub(crate) fn written(&mut self, manner: &Arc<str>, after: u64) -> Option<Bytes> {
        self.wake.mark_unchanged();
        let written = self.cache.written.lock();
        let found = written
            .iter()
            .find(|w| w.from == self.next && w.revision > after && w.manner == *manner)?;
        self.next = found.to;
        Some(found.bytes.clone())
    }

    /// Keeps for other readers what was written of the changes since a place, the first of which has that
    /// revision, if that may pay.
    pub(crate) fn keep(&self, manner: &Arc<str>, from: u64, revision: u64, bytes: &Bytes) {
        if bytes.len() > LONGEST || self.audience.size() < MANY {
            return;
        }
        let mut written = self.cache.written.lock();
        if written.len() == PIECES {
            written.pop_front();
        }
        written.push_back(Written {
            manner: manner.clone(),
            from,
            to: self.next,
            revision,
            bytes: bytes.clone(),
        });
    }

    /// The number of the change that is read next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cache.leave(&self.audience);
    }
}
