//! What can be read without asking the store: the caches, as far as they have what this server wrote.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use k8s_store::Revision;
use tokio::time::Instant;

use super::{Registry, Row};
use crate::cache::{Cache, Entry};

/// How long the caches may lack what this server wrote until it is read without that: the store is away then.
const LAG: Duration = Duration::from_secs(1);

/// Up to where this server has written.
#[derive(Debug)]
pub(crate) struct Written {
    revision: AtomicU64,
    start: Instant,
    /// When that was, in milliseconds from the start.
    at: AtomicU64,
}

impl Default for Written {
    fn default() -> Self {
        Written {
            revision: AtomicU64::new(0),
            start: Instant::now(),
            at: AtomicU64::new(0),
        }
    }
}

impl Written {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn note(&self, revision: Revision) {
        self.at.fetch_max(self.now(), Ordering::Relaxed);
        self.revision.fetch_max(revision.0, Ordering::Release);
    }

    /// The revision that caches must have.
    fn needed(&self) -> u64 {
        let revision = self.revision.load(Ordering::Acquire);
        let age = self.now().saturating_sub(self.at.load(Ordering::Relaxed));
        match Duration::from_millis(age) > LAG {
            true => 0,
            false => revision,
        }
    }
}

impl Registry {
    /// The cache of a row, if it is there and has all that this server wrote: what another server wrote a moment ago it
    /// may lack. It can be read while the store is away.
    pub(crate) fn at_hand(&self, row: &Row) -> Option<Arc<Cache>> {
        self.caches.at_hand(&row.prefix, self.written.needed())
    }

    /// An object from there, if it is there.
    pub(crate) fn recent(&self, row: &Row, key: &Bytes) -> Option<Arc<Entry>> {
        let cache = self.at_hand(row)?;
        let entry = cache.one(key)?;
        // One that was closed in the meantime missed changes.
        (!cache.is_closed()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn caches_must_have_what_was_written_unless_they_do_not_get_it() {
        let written = Written::default();
        assert_eq!(written.needed(), 0);
        written.note(Revision(7));
        written.note(Revision(5));
        assert_eq!(written.needed(), 7);
        tokio::time::advance(LAG + Duration::from_millis(1)).await;
        assert_eq!(written.needed(), 0);
        written.note(Revision(8));
        assert_eq!(written.needed(), 8);
    }
}
