//! A store that does not always do as it is told.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Subject;
use crate::{
    Committed, Entry, Error, List, Op, Page, Revision, Store, WatchBatch, WatchStream, Write,
};

/// A store around another one that fails on command, for tests of what uses a
/// [`Store`].
///
/// ```
/// use std::sync::Arc;
/// use k8s_store::{Error, MemoryStore, Store, testing::FaultyStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = FaultyStore::new(Arc::new(MemoryStore::new()));
/// store.refuse_commits(1);
/// assert!(matches!(store.commit(vec![]).await, Err(Error::ReadOnly { .. })));
/// assert!(store.commit(vec![]).await.is_ok());
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyStore {
    inner: Subject,
    refuse: AtomicUsize,
    refuse_some: Mutex<(Vec<u8>, usize)>,
    lose: AtomicUsize,
    cuts: watch::Sender<u64>,
    away: AtomicBool,
    silent: watch::Sender<bool>,
}

impl FaultyStore {
    /// A store that does as it is told, so far.
    pub fn new(inner: Subject) -> Self {
        Self {
            inner,
            refuse: AtomicUsize::new(0),
            refuse_some: Mutex::default(),
            lose: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
            away: AtomicBool::new(false),
            silent: watch::Sender::new(false),
        }
    }

    /// The next so many commits change nothing and return [`Error::ReadOnly`].
    pub fn refuse_commits(&self, count: usize) {
        self.refuse.store(count, Ordering::SeqCst);
    }

    /// The next so many commits that put a value with this text in it change nothing and return [`Error::ReadOnly`]:
    /// for what is written from several tasks, in no certain order.
    pub fn refuse_values(&self, text: &str, count: usize) {
        *self.refuse_some.lock() = (text.as_bytes().to_vec(), count);
    }

    /// Whether these writes are among those.
    fn refuses(&self, writes: &[Write]) -> bool {
        let (text, left) = &mut *self.refuse_some.lock();
        let has = |value: &[u8]| {
            value
                .windows(text.len().max(1))
                .any(|part| part == text.as_slice())
        };
        let meant = *left > 0
            && (writes.iter())
                .any(|write| matches!(&write.op, Op::Put { value, .. } if has(value)));
        *left -= usize::from(meant);
        meant
    }

    /// The next so many commits that succeed return [`Error::Closed`] all the
    /// same, as if the connection to a remote store had gone before the answer.
    pub fn lose_answers(&self, count: usize) {
        self.lose.store(count, Ordering::SeqCst);
    }

    /// Ends every watch there is with [`Error::Lagged`].
    pub fn cut_watches(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether everything returns [`Error::Unavailable`] from now on, as if a
    /// remote store could not be reached. Going away ends every watch there is
    /// with [`Error::Lagged`].
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
        if away {
            self.cut_watches();
        }
    }

    /// Whether nothing answers any more, as if a remote store took requests and
    /// was busy for ever. What was asked meanwhile is answered when this ends.
    pub fn set_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    async fn check(&self) -> Result<(), Error> {
        // The sender is this store's own.
        let mut silent = self.silent.subscribe();
        let heard = silent.wait_for(|silent| !silent).await;
        heard.map(drop).map_err(|_| Error::Closed)?;
        if self.away.load(Ordering::SeqCst) {
            let source = std::io::Error::other("etcdserver: request timed out");
            return Err(Error::Unavailable {
                source: Arc::new(source),
            });
        }
        Ok(())
    }
}

/// Takes one of what is left, if any is.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

#[async_trait]
impl Store for FaultyStore {
    async fn revision(&self) -> Result<Revision, Error> {
        self.check().await?;
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.check().await?;
        self.inner.get(key, at).await
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        self.check().await?;
        self.inner.list(list).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        self.check().await?;
        if take(&self.refuse) || self.refuses(&writes) {
            let source = Arc::new(std::io::ErrorKind::StorageFull.into());
            return Err(Error::ReadOnly { source });
        }
        let done = self.inner.commit(writes).await?;
        if take(&self.lose) {
            return Err(Error::Closed);
        }
        Ok(done)
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        self.check().await?;
        let cuts = self.cuts.subscribe();
        let stream = self.inner.watch(prefix, after).await?;
        Ok(futures::stream::unfold(Some((stream, cuts)), next).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.check().await?;
        self.inner.compact(revision).await
    }
}

type Cuttable = Option<(WatchStream, watch::Receiver<u64>)>;

async fn next(state: Cuttable) -> Option<(Result<WatchBatch, Error>, Cuttable)> {
    let (mut stream, mut cuts) = state?;
    tokio::select! {
        biased;
        Ok(()) = cuts.changed() => Some((Err(Error::Lagged), None)),
        batch = stream.next() => Some((batch?, Some((stream, cuts)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore,
        testing::{get, put},
    };

    #[tokio::test]
    async fn a_lost_answer_is_no_lost_commit_and_a_cut_watch_can_be_resumed() {
        let inner: Subject = Arc::new(MemoryStore::new());
        let store = FaultyStore::new(inner.clone());
        let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
        store.lose_answers(1);
        let lost = store.commit(vec![put("a", "1")]).await;
        assert!(matches!(lost, Err(Error::Closed)));
        assert!(get(&inner, "a").await.is_some());
        let seen = watch.next().await.unwrap().unwrap();
        store.cut_watches();
        assert!(matches!(watch.next().await, Some(Err(Error::Lagged))));
        assert!(watch.next().await.is_none());
        store.commit(vec![put("a", "2")]).await.unwrap();
        let mut watch = store.watch(Bytes::new(), seen.revision).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().revision, Revision(3));
        store.set_away(true);
        assert!(matches!(watch.next().await, Some(Err(Error::Lagged))));
        let away = store.commit(vec![]).await;
        assert!(matches!(away, Err(Error::Unavailable { .. })));
        store.set_away(false);
        assert_eq!(store.revision().await.unwrap(), Revision(3));
        store.set_silent(true);
        let mut asked = Box::pin(store.revision());
        assert!(futures::poll!(&mut asked).is_pending());
        store.set_silent(false);
        assert_eq!(asked.await.unwrap(), Revision(3));
    }
}
