//! The [`Store`] trait: what every backend promises.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Error;

/// A point in the store's history.
///
/// One counter for the whole store: every successful [`Store::commit`] moves it
/// forward by exactly one, whatever the number of writes in the batch. An empty
/// store is at revision 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key with its value, as it stood at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value, shared with the store: cloning it copies no bytes.
    pub value: Bytes,
    /// The revision that made the key (again, if it had been deleted).
    pub created: Revision,
    /// The revision that last wrote it.
    pub modified: Revision,
}

/// What a write demands of the key as it stands when the batch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: write whatever is there.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists.
    Present,
    /// The key exists and was last written at this revision.
    Modified(Revision),
}

/// What a write does to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set the value. With a `ttl` the store deletes the key that long after the
    /// commit, unless it is written again first.
    Put {
        /// The new value.
        value: Bytes,
        /// Time to live; `None` keeps the key for ever.
        ttl: Option<Duration>,
    },
    /// Remove the key. Removing a key that is absent changes nothing, but
    /// still counts as a write.
    Delete,
    /// Change nothing: the write is only a guard for the rest of the batch.
    Check,
}

/// One guarded write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key written.
    pub key: Bytes,
    /// What must hold for the batch to be applied.
    pub expect: Expect,
    /// What is done.
    pub op: Op,
}

/// The outcome of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision of every write in the batch.
    pub revision: Revision,
    /// For each write, in order, the entry that it replaced or removed.
    pub previous: Vec<Option<Entry>>,
}

/// A request for the keys below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Only keys that start with these bytes.
    pub prefix: Bytes,
    /// Only keys strictly greater than this one (the last key of the page before).
    pub after: Option<Bytes>,
    /// The revision to read at; `None` reads the newest.
    pub at: Option<Revision>,
    /// At most this many entries; `None` for all.
    pub limit: Option<usize>,
}

/// One page of a list, in ascending key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The revision that was read. Ask for the next page with it.
    pub revision: Revision,
    /// The entries.
    pub entries: Vec<Entry>,
    /// How many more entries the range holds after the last one here.
    pub remaining: usize,
}

/// One key's change at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// The entry after the change; `None` if the key was deleted or expired.
    pub current: Option<Entry>,
    /// The entry before the change; `None` if the key was created.
    pub previous: Option<Entry>,
}

/// Everything that one revision changed below a watched prefix.
///
/// An empty `changes` is a progress notification: the watcher has seen all
/// there is up to and including `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The revision.
    pub revision: Revision,
    /// The changes, in key order.
    pub changes: Arc<[Change]>,
}

/// A stream of watch batches in ascending revision order. It ends only after an
/// error: [`Error::Compacted`], [`Error::Lagged`] or [`Error::Closed`].
pub type WatchStream = BoxStream<'static, Result<WatchBatch, Error>>;

/// A revisioned key-value store with watch.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The newest revision, linearizably.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Reads one key, at the newest revision or at an older one.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error>;

    /// Reads a page of the keys below a prefix, all at one revision.
    async fn list(&self, list: List) -> Result<Page, Error>;

    /// Applies a batch of writes, all or none.
    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error>;

    /// Streams every change below a prefix after a revision.
    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error>;

    /// Forgets the history before a revision.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
}
