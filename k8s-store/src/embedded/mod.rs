//! The backend that keeps everything in memory and on disk.

mod backup;
mod directory;
#[cfg(test)]
mod faults;
mod file;
mod log;
mod pending;
#[cfg(test)]
mod power;
mod record;
mod recovery;
mod snapshot;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;
mod writer;

/// Marks a [`CrashPoint`](crate::testing::CrashPoint); nothing outside of tests.
macro_rules! crash_point {
    ($point:ident) => {
        #[cfg(feature = "testing")]
        crate::testing::CrashPoint::$point.reached();
    };
}
use crash_point;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::backup::Inventory;
use self::{directory::Directory, pending::Shared, writer::Writer};
use crate::{
    Committed, Entry, Error, HistoryLimits, Limits, List, MemoryStore, Op, Page, Revision, Store,
    WatchLimits, WatchStream, Write,
    state::{Clock, Timer},
};

/// A durable store in a directory of its own, for one process at a time.
///
/// All data is in memory as well, so reads never touch the disk. A commit is on
/// disk (`fdatasync`) before anybody sees it and before it is acknowledged;
/// commits that arrive while the disk is busy share the next sync. After a
/// crash at any instant, [`open`](Self::open) finds every commit that was
/// acknowledged. `docs/design.md` describes the files.
///
/// Clones are handles to the same store. It owns two or three threads, and a
/// task on the runtime that opened it, which deletes expired keys. They end
/// with [`close`](Self::close) or when the last handle is dropped; dropping it
/// waits for the commits that are on their way, which takes about one sync.
///
/// When the disk is full, commits return [`Error::ReadOnly`] and change
/// nothing, reads and watches go on, and commits succeed again as soon as there
/// is space.
///
/// ```
/// use k8s_store::{EmbeddedStore, Expect, Op, Store, Write};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let store = EmbeddedStore::open(dir.path()).await?;
/// store
///     .commit(vec![Write {
///         key: "/pods/a".into(),
///         expect: Expect::Absent,
///         op: Op::Put { value: "{}".into(), ttl: None },
///     }])
///     .await?;
/// store.close().await?;
///
/// let store = EmbeddedStore::open(dir.path()).await?;
/// assert!(store.get(b"/pods/a", None).await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    handle: Arc<Handle>,
}

/// How to set up an [`EmbeddedStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How large a write may be.
    pub limits: Limits,
    /// How much history is kept. After opening, it reaches back to the newest
    /// snapshot on disk at most.
    pub history: HistoryLimits,
    /// How watchers are treated.
    pub watch: WatchLimits,
    /// Take a snapshot, and remove the logs before it, once the logs have so
    /// many bytes and no fewer than the previous snapshot. Default: 16 MiB.
    pub snapshot_after: u64,
    /// The wall-clock time when the store is opened; `None` asks the system.
    /// Expiry times on disk are counted from it, and from then on time is
    /// `tokio::time`'s.
    pub now: Option<SystemTime>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            history: HistoryLimits::default(),
            watch: WatchLimits::default(),
            snapshot_after: 16 << 20,
            now: None,
        }
    }
}

#[derive(Debug)]
struct Handle {
    path: PathBuf,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    #[cfg(test)]
    faults: faults::Faults,
}

impl EmbeddedStore {
    /// Opens the store in a directory, and makes both if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if somebody else has it open, [`Error::Version`] if the
    /// directory holds another version's store or something else,
    /// [`Error::Corrupt`] if a file is damaged, and [`Error::Io`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub async fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(dir, EmbeddedOptions::default()).await
    }

    /// Opens the store in a directory, set up as given; see [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// The same.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub async fn open_with(dir: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, Error> {
        let path = dir.as_ref().to_owned();
        let now = options.now.unwrap_or_else(SystemTime::now);
        let timer = Timer::new(Clock::starting_at(now));
        let opening = tokio::task::spawn_blocking(move || Self::start(path, options, timer));
        let store = match opening.await {
            Ok(store) => store?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime shuts down.
                Err(_) => return Err(Error::Closed),
            },
        };
        let shared = &store.handle.shared;
        shared.timer.start(Arc::downgrade(shared));
        Ok(store)
    }

    fn start(path: PathBuf, options: EmbeddedOptions, timer: Timer) -> Result<Self, Error> {
        let directory = Directory::lock(&path)?;
        let recovered = recovery::recover(&directory, options.history, options.watch, &timer)?;
        let shared = Arc::new(Shared::new(
            options.limits,
            timer,
            recovered.view,
            recovered.log.len(),
        ));
        let log = (recovered.log, recovered.log_bytes, recovered.snapshot_bytes);
        let writer = Writer::new(Arc::clone(&shared), directory, log, options.snapshot_after);
        #[cfg(test)]
        let faults = writer.faults();
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(Error::io(&path))?;
        Ok(Self {
            handle: Arc::new(Handle {
                path,
                shared,
                writer: Mutex::new(Some(thread)),
                #[cfg(test)]
                faults,
            }),
        })
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// An independent store in memory with the same data, history and revision.
    ///
    /// Like [`MemoryStore::fork`], it takes constant time and leaves the
    /// watches here; nothing that happens to it reaches the disk.
    #[must_use]
    pub fn fork(&self) -> MemoryStore {
        let shared = &self.handle.shared;
        MemoryStore::fork_of(&shared.view.read(), &shared.timer, shared.limits)
    }

    /// Closes the store, whatever other handles there are, and frees its directory.
    ///
    /// Commits on their way are written and acknowledged first; everything
    /// after, and every watch, gets [`Error::Closed`]. Closing twice is fine.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] if it is not known what is on disk.
    ///
    /// # Cancel safety
    ///
    /// The store closes even if the future is dropped, once it was polled.
    pub async fn close(&self) -> Result<(), Error> {
        let mut closed = self.handle.shared.closed.subscribe();
        self.handle.shared.timer.stop();
        self.handle.shared.close();
        let outcome = closed.wait_for(Option::is_some).await;
        outcome
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or(Ok(()))
    }

    async fn answer(
        &self,
        submitted: Result<oneshot::Receiver<Result<Committed, Error>>, Error>,
    ) -> Result<Committed, Error> {
        submitted?.await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.timer.stop();
        self.shared.close();
        if let Some(writer) = self.writer.lock().take() {
            // A panic in the writer has poisoned the store by itself.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn revision(&self) -> Result<Revision, Error> {
        let view = self.handle.shared.view.read();
        view.check_open()?;
        Ok(view.head.revision)
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.handle.shared.view.read().get(key, at)
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        let source = {
            let view = self.handle.shared.view.read();
            if let Some(page) = view.page_of_few(&list)? {
                return Ok(page);
            }
            view.source(list.at)?
        };
        Ok(source.page(&list))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        let shared = &self.handle.shared;
        if writes
            .iter()
            .any(|w| matches!(w.op, Op::Put { ttl: Some(_), .. }))
        {
            // The runtime that opened the store may be gone, and its tasks with it.
            shared.timer.start(Arc::downgrade(shared));
        }
        self.answer(shared.submit(writes)).await
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        self.handle.shared.view.write().watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.answer(self.handle.shared.compact(revision)).await?;
        Ok(())
    }
}
