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
///
/// # Purpose
///
/// The API server keeps its objects here and knows nothing else of storage: it
/// calls [`get`](Self::get), [`list`](Self::list) and [`commit`](Self::commit)
/// from every request and holds one [`watch`](Self::watch) per resource. Write
/// your own to keep the objects where you keep everything else, such as a
/// database that you already run and back up.
///
/// # Guarantees
///
/// - **Revisions.** An empty store is at revision 1. Each successful commit
///   takes the next one, whatever it writes, and so does each commit by which
///   the store deletes expired keys. A failed commit takes none.
/// - **Atomicity.** A commit's writes are applied together, if every one's
///   [`Expect`] holds, or not at all. Reads and watches show all of it or nothing.
/// - **Order.** Commits happen one after another, in revision order, each at
///   some moment between call and answer. Guards see every commit before.
/// - **Durability.** A commit is as durable as the backend makes it before it
///   is acknowledged and before any read or watch shows it. A backend whose data
///   outlives the process loses nothing that it has ever shown.
/// - **Consistency.** `get` and `list` without a revision see every commit
///   acknowledged before the call. A list, and every page of it read at the
///   first page's revision, shows the data at exactly one revision.
/// - **History.** Data at older revisions can be read and watched from, back to
///   some oldest one. Backends may bound history and move that forward by
///   themselves; [`compact`](Self::compact) does it on request.
/// - **Watch.** From revision R, a watch yields every batch of changes below
///   its prefix with a revision greater than R, once, in ascending order and
///   without a gap, across the seam of past and present. One revision is one
///   batch in key order, with the entry before and after each change. Between
///   them there may be progress notifications: batches without changes, which
///   may repeat a revision. Revisions that changed nothing below the prefix are
///   skipped.
/// - **Time to live.** A key whose time has passed is deleted by an ordinary
///   commit, soon after, and not before. Until then it is there like any other.
///
/// # Concurrency
///
/// All methods may be called at the same time from any number of tasks; the
/// store puts commits in order. Reads do not wait for commits on their way to
/// the disk. A watcher that does not read is disconnected with
/// [`Error::Lagged`] once a bounded buffer is full: it slows nobody down.
///
/// # Errors
///
/// | error | from | the caller |
/// |---|---|---|
/// | [`Error::Conflict`] | commit | reads again and decides anew |
/// | [`Error::DuplicateKey`], [`Error::KeyTooLarge`], [`Error::ValueTooLarge`], [`Error::BatchTooLarge`] | commit | gives up |
/// | [`Error::Compacted`] | anything with a revision, and watches that fell behind | lists again |
/// | [`Error::Future`] | anything with a revision | waits, or asks for an older one |
/// | [`Error::Lagged`] | a watch | watches again after the last revision it saw |
/// | [`Error::ReadOnly`] | commit, compact | tries later; reads go on |
/// | [`Error::Poisoned`] | commit, compact | opens the store again |
/// | [`Error::Io`] | anything | may retry |
/// | [`Error::TooManyWrites`], [`Error::ReservedKey`] | commit, to some backends | gives up |
/// | [`Error::Unavailable`] | anything, from a remote store | may retry |
/// | [`Error::Denied`] | anything, from a remote store | asks for more rights |
/// | [`Error::Undecipherable`] | reads and watches of an encrypted value | brings the key back |
/// | [`Error::Closed`] | anything | gives up |
///
/// After `Poisoned`, `Io`, `Unavailable` or `Closed` from a commit that was on its way, it may
/// have happened or not, as after a dropped future. All others mean that it has
/// not.
///
/// # Cancellation
///
/// Dropping the future of a read does nothing. A commit whose future is dropped
/// before the answer has happened as a whole, will, or will not: the caller
/// finds out by reading its keys. Dropping a watch ends it.
///
/// # Example
///
/// A store around another one. To prove a real one, run the conformance kit in
/// the module `testing` (feature `testing`).
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use k8s_store::{
///     Committed, Entry, Error, List, MemoryStore, Page, Revision, Store, WatchStream, Write,
/// };
///
/// /// Answers from a store that nobody writes to any more.
/// #[derive(Debug)]
/// struct Archive(MemoryStore);
///
/// #[async_trait]
/// impl Store for Archive {
///     async fn revision(&self) -> Result<Revision, Error> {
///         self.0.revision().await
///     }
///
///     async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
///         self.0.get(key, at).await
///     }
///
///     async fn list(&self, list: List) -> Result<Page, Error> {
///         self.0.list(list).await
///     }
///
///     async fn commit(&self, _: Vec<Write>) -> Result<Committed, Error> {
///         let source = Arc::new(std::io::ErrorKind::ReadOnlyFilesystem.into());
///         Err(Error::ReadOnly { source })
///     }
///
///     async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
///         self.0.watch(prefix, after).await
///     }
///
///     async fn compact(&self, revision: Revision) -> Result<(), Error> {
///         self.0.compact(revision).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let archive = Archive(MemoryStore::new());
/// assert_eq!(archive.revision().await?, Revision(1));
/// assert!(matches!(archive.commit(vec![]).await, Err(Error::ReadOnly { .. })));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The newest revision, linearizably.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Io`].
    async fn revision(&self) -> Result<Revision, Error>;

    /// Reads one key, at the newest revision or at an older one.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`], [`Error::Future`], [`Error::Closed`], [`Error::Io`].
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error>;

    /// Reads a page of the keys below a prefix, all at one revision.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`], [`Error::Future`], [`Error::Closed`], [`Error::Io`].
    async fn list(&self, list: List) -> Result<Page, Error>;

    /// Applies a batch of writes, all or none.
    ///
    /// A batch may be empty, and names each key once. It takes one revision,
    /// even if it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] for the first write, in batch order, whose demand
    /// does not hold; see the trait for the others.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the batch happens as a whole or not at all.
    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error>;

    /// Streams every change below a prefix after a revision.
    ///
    /// The empty prefix watches everything. All that happens after the call
    /// returns is seen, whether or not the stream has been polled.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`], [`Error::Future`], [`Error::Closed`], [`Error::Io`].
    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error>;

    /// Forgets the history before a revision: that one becomes the oldest that
    /// can be read and watched from. Data and newest revision stay as they are.
    ///
    /// Compacting again at the oldest revision does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`] if the revision is forgotten already,
    /// [`Error::Future`] if it has not happened; see the trait for the others.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn revision(&self) -> Result<Revision, Error> {
        (**self).revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        (**self).get(key, at).await
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        (**self).list(list).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        (**self).commit(writes).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        (**self).watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        (**self).compact(revision).await
    }
}

/// The trait is used as `dyn Store`.
const _: fn(&dyn Store) = |_| {};
