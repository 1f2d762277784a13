//! The backend that keeps everything in memory.

use std::{sync::Arc, time::UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    Committed, Entry, Error, HistoryLimits, Limits, List, Op, Page, Revision, Store, WatchLimits,
    WatchStream, Write,
    state::{Clock, Expire, Head, Timer, View, expires},
};

/// A store that lives and dies with the process.
///
/// It keeps true history like any other backend, within [`HistoryLimits`].
/// Clones are handles to the same data; [`fork`](Self::fork) makes independent
/// data. The data goes, and every watch ends with [`Error::Closed`], when the
/// last handle is dropped.
///
/// The first commit with a time to live spawns a task on the current tokio
/// runtime, which ends with the last handle.
///
/// ```
/// use k8s_store::{Expect, MemoryStore, Op, Store, Write};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), k8s_store::Error> {
/// let store = MemoryStore::new();
/// let put = |value: &'static str| Write {
///     key: "/pods/a".into(),
///     expect: Expect::Any,
///     op: Op::Put { value: value.into(), ttl: None },
/// };
/// store.commit(vec![put("first")]).await?;
///
/// let fork = store.fork();
/// fork.commit(vec![put("second")]).await?;
///
/// let value = store.get(b"/pods/a", None).await?.map(|entry| entry.value);
/// assert_eq!(value.as_deref(), Some(&b"first"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

/// How to set up a [`MemoryStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// How large a write may be.
    pub limits: Limits,
    /// How much history is kept.
    pub history: HistoryLimits,
    /// How watchers are treated.
    pub watch: WatchLimits,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    view: RwLock<View>,
    timer: Arc<Timer>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store at revision 1.
    pub fn new() -> Self {
        Self::with_options(MemoryOptions::default())
    }

    /// An empty store at revision 1, set up as given.
    pub fn with_options(options: MemoryOptions) -> Self {
        let view = View::new(Head::default(), options.history, options.watch);
        Self {
            inner: Arc::new(Inner {
                limits: options.limits,
                view: RwLock::new(view),
                timer: Arc::new(Timer::new(Clock::starting_at(UNIX_EPOCH))),
            }),
        }
    }

    /// An independent store with the same data, history and revision.
    ///
    /// It takes constant time and, at first, no memory: the two share what
    /// neither has changed. Watches stay with the original. Keys with a time to
    /// live expire in both; inside a tokio runtime from now on, elsewhere from
    /// the fork's first commit or watch on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let view = self.inner.view.read();
        Self::fork_of(&view, &self.inner.timer, self.inner.limits)
    }

    /// A fork of any backend's data. What the view shows must have been noted
    /// in the timer.
    pub(crate) fn fork_of(view: &View, timer: &Timer, limits: Limits) -> Self {
        let fork = Self {
            inner: Arc::new(Inner {
                limits,
                view: RwLock::new(view.fork()),
                timer: Arc::new(timer.fork()),
            }),
        };
        fork.start_timer();
        fork
    }

    fn start_timer(&self) {
        if !self.inner.timer.is_idle() {
            self.inner.timer.start(Arc::downgrade(&self.inner));
        }
    }
}

impl Inner {
    fn commit(&self, writes: Vec<Write>) -> Result<(Committed, bool), Error> {
        self.limits.check(&writes)?;
        let now = self.timer.clock.stamp();
        let mut view = self.view.write();
        view.check_open()?;
        let previous = view.head.judge(&writes)?;
        let mut ends = false;
        for write in &writes {
            if let Op::Put {
                ttl: ttl @ Some(_), ..
            } = write.op
            {
                // Under the view's lock, so that a fork has the key and the hint or neither.
                self.timer.note(expires(now, ttl), write.key.clone());
                ends = true;
            }
        }
        let batch = view.head.apply(writes, &previous, now, None);
        view.publish(std::slice::from_ref(&batch));
        let revision = batch.revision;
        Ok((Committed { revision, previous }, ends))
    }
}

#[async_trait]
impl Expire for Inner {
    async fn expire(&self) -> Result<(), Error> {
        let mut view = self.view.write();
        let writes = view.head.deletions(&self.timer.take_due());
        if !writes.is_empty() {
            let previous = view.head.judge(&writes)?;
            let batch = view.head.apply(writes, &previous, 0, None);
            view.publish(std::slice::from_ref(&batch));
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timer.stop();
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.inner.view.read().head.revision)
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.inner.view.read().get(key, at)
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        let source = {
            let view = self.inner.view.read();
            if let Some(page) = view.page_of_few(&list)? {
                return Ok(page);
            }
            view.source(list.at)?
        };
        Ok(source.page(&list))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        let (committed, ends) = self.inner.commit(writes)?;
        if ends {
            self.start_timer();
        }
        Ok(committed)
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        self.start_timer();
        self.inner.view.write().watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let mut view = self.inner.view.write();
        view.check_compact(revision)?;
        view.compact(revision);
        Ok(())
    }
}
