//! What watchers and selectors read: the newest objects and latest changes, per resource.
//!
//! One task follows the whole store and deals its changes out to the caches, so there is
//! one number that says how far all of them are. A resource's cache comes into being when
//! somebody first watches it or selects from it.

pub(crate) mod audience;
pub(crate) mod entry;
pub(crate) mod place;
pub(crate) mod resource;

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use k8s_store::{List, Revision, Store};
use parking_lot::RwLock;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    audience::{Field, Interest},
    entry::{Entry, Event, EventType},
    place::Place,
    resource::Cache,
};
use crate::{Error, Result, registry::value::Corrupt};

/// How long a reader waits for the caches to catch up; upstream's `blockTimeout`.
const CATCH_UP: Duration = Duration::from_secs(3);
/// How long a store is left alone that does not answer.
const RETRY: Duration = Duration::from_millis(100);

/// All caches of a server.
#[derive(Debug)]
pub(crate) struct Caches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    caches: RwLock<BTreeMap<String, Arc<Cache>>>,
    /// The revision up to which all caches are complete.
    applied: watch::Sender<u64>,
    stop: CancellationToken,
    /// Nobody follows the store any more: it is closed, or the server stops.
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Caches {
    /// Starts to follow the store, in a task that ends with `stop`.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<Self, k8s_store::Error> {
        let revision = store.revision().await?;
        let shared = Arc::new(Shared {
            store,
            caches: RwLock::default(),
            applied: watch::Sender::new(revision.0),
            stop: stop.clone(),
            ended: CancellationToken::new(),
            tasks: tasks.clone(),
        });
        let stream = shared.store.watch(Bytes::new(), revision).await?;
        let follower = shared.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follower.follow(stream) => {}
            }
            // First, so that a cache that is asked for meanwhile is given to nobody.
            follower.ended.cancel();
            follower.close_all();
        });
        Ok(Caches { shared })
    }

    /// The revision up to which all caches are complete.
    pub(crate) fn applied(&self) -> u64 {
        *self.shared.applied.borrow()
    }

    /// Waits until the caches have taken in a revision.
    ///
    /// # Errors
    /// Upstream's `Too large resource version` after three seconds.
    pub(crate) async fn wait_for(&self, revision: u64) -> Result<()> {
        let mut applied = self.shared.applied.subscribe();
        if *applied.borrow() >= revision {
            return Ok(());
        }
        match tokio::time::timeout(CATCH_UP, applied.wait_for(|a| *a >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::service_unavailable("the server is shutting down")),
            Err(_) => Err(Error::too_large_resource_version(revision, self.applied())),
        }
    }

    /// How often stored values could not be read, by the prefixes below which they are.
    pub(crate) fn failures(&self) -> Vec<(String, u64)> {
        let caches = self.shared.caches.read();
        let failures = caches
            .iter()
            .map(|(prefix, cache)| (prefix.clone(), cache.failures()));
        failures.filter(|(_, failures)| *failures > 0).collect()
    }

    /// Wakes all watchers, so that they look whether they are to end.
    pub(crate) fn wake(&self) {
        self.shared
            .caches
            .read()
            .values()
            .for_each(|cache| cache.wake());
    }

    /// The cache of the objects below a prefix, started if need be.
    ///
    /// # Errors
    /// 503 once the store is closed for good, or the server stops.
    pub(crate) async fn get(&self, prefix: &str) -> Result<Arc<Cache>> {
        loop {
            let found = self.shared.caches.read().get(prefix).cloned();
            let cache = found.unwrap_or_else(|| self.start_cache(prefix));
            let ready = cache.wait_ready().await;
            if self.shared.ended.is_cancelled() {
                let why = match self.shared.stop.is_cancelled() {
                    true => "the server is shutting down",
                    false => "the store is closed",
                };
                return Err(Error::service_unavailable(why));
            }
            if ready {
                return Ok(cache);
            }
            tokio::task::yield_now().await;
        }
    }

    /// The cache of the objects below a prefix, if it is there and complete up to a revision.
    pub(crate) fn at_hand(&self, prefix: &str, revision: u64) -> Option<Arc<Cache>> {
        let found = self.shared.caches.read().get(prefix).cloned();
        found.filter(|cache| self.applied() >= revision && cache.is_ready())
    }

    /// Starts the cache of the objects below a prefix, unless it is there: for who asks later.
    pub(crate) fn begin(&self, prefix: &str) {
        self.start_cache(prefix);
    }

    /// Reads from the cache of the objects below a prefix once it has all that the store has, and no less than was asked
    /// for; says up to which revision that is. Who asks for zero is satisfied with what the cache has.
    pub(crate) async fn read<T>(
        &self,
        prefix: &str,
        asked: Option<u64>,
        read: impl Fn(&Arc<Cache>) -> Result<T, Corrupt> + Send + Sync,
    ) -> Result<(u64, T)> {
        loop {
            let cache = self.get(prefix).await?;
            if asked != Some(0) {
                let newest = self.shared.store.revision().await?.0;
                self.wait_for(newest.max(asked.unwrap_or(0))).await?;
            }
            let revision = self.applied();
            let found = read(&cache);
            // Before that revision came to be known, one that missed changes was closed: another one has them.
            if !cache.is_closed() {
                return Ok((revision, found?));
            }
        }
    }

    /// Ends the watches of the objects below a prefix. Who asks for their cache again gets a new one.
    pub(crate) fn close(&self, prefix: &str) {
        let cache = self.shared.caches.write().remove(prefix);
        if let Some(cache) = cache {
            cache.close();
        }
    }

    fn start_cache(&self, prefix: &str) -> Arc<Cache> {
        let mut caches = self.shared.caches.write();
        if let Some(cache) = caches.get(prefix) {
            return cache.clone();
        }
        let cache = Arc::new(Cache::loading());
        caches.insert(prefix.to_owned(), cache.clone());
        drop(caches);
        // In a task of its own: a reader who goes away must not leave a cache half loaded.
        let (shared, loading, prefix) = (self.shared.clone(), cache.clone(), prefix.to_owned());
        self.shared.tasks.spawn(async move {
            let list = List {
                prefix: Bytes::from(prefix.clone()),
                ..List::default()
            };
            match shared.store.list(list).await {
                Ok(page) => loading.load(page.entries, page.revision.0),
                Err(error) => {
                    tracing::error!(prefix, %error, "objects cannot be listed");
                    // Who waits for them asks again at once.
                    tokio::time::sleep(RETRY).await;
                    shared.forget(&prefix, &loading);
                }
            }
        });
        cache
    }
}

impl Shared {
    fn forget(&self, prefix: &str, cache: &Arc<Cache>) {
        let mut caches = self.caches.write();
        if caches.get(prefix).is_some_and(|c| Arc::ptr_eq(c, cache)) {
            caches.remove(prefix);
        }
        cache.close();
    }

    /// Ends all watches. Who asks for a cache again gets a new one.
    fn close_all(&self) {
        for cache in std::mem::take(&mut *self.caches.write()).values() {
            cache.close();
        }
    }

    async fn follow(&self, mut stream: k8s_store::WatchStream) {
        let mut wake_at: Option<Instant> = None;
        loop {
            let error = loop {
                let next = match wake_at {
                    None => Ok(stream.next().await),
                    Some(at) => tokio::time::timeout_at(at, stream.next()).await,
                };
                match next {
                    Ok(Some(Ok(batch))) => {
                        let later = self.deal_out(batch.revision.0, &batch.changes);
                        wake_at = wake_at.into_iter().chain(later).min();
                    }
                    Ok(Some(Err(error))) => break error,
                    Ok(None) => break k8s_store::Error::Closed,
                    Err(_) => {}
                }
                if let Some(at) = wake_at {
                    let now = Instant::now();
                    if at <= now {
                        wake_at = self.wake_late(now);
                    }
                }
            };
            let (after, anew) = match error {
                k8s_store::Error::Closed => return,
                k8s_store::Error::Lagged => (Revision(*self.applied.borrow()), false),
                // What is known stays known, and may be read, while a remote store is away.
                k8s_store::Error::Unavailable { .. } => {
                    tracing::debug!(%error, "the store's changes are followed from where they were lost");
                    tokio::time::sleep(RETRY).await;
                    (Revision(*self.applied.borrow()), false)
                }
                error => {
                    // What was missed cannot be had any more: start anew from what is there now.
                    tracing::warn!(%error, "the store's changes cannot be followed; reading all objects again");
                    self.close_all();
                    match self.newest().await {
                        Some(revision) => (revision, true),
                        None => return,
                    }
                }
            };
            stream = match self.store.watch(Bytes::new(), after).await {
                Ok(stream) => stream,
                Err(k8s_store::Error::Closed) => return,
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            };
            if anew {
                // One that was loaded in the meantime may be of before that revision: it would never hear of what came
                // between.
                self.close_all();
            }
            self.applied.send_if_modified(|a| {
                let ahead = after.0 > *a;
                *a = (*a).max(after.0);
                ahead
            });
            tokio::task::yield_now().await;
        }
    }

    /// The newest revision, once the store answers; `None` if it is closed for good.
    async fn newest(&self) -> Option<Revision> {
        loop {
            match self.store.revision().await {
                Ok(revision) => return Some(revision),
                Err(k8s_store::Error::Closed) => return None,
                Err(error) => tracing::debug!(%error, "the store does not answer yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Wakes all watchers that were to be woken by now; says when to look again.
    fn wake_late(&self, now: Instant) -> Option<Instant> {
        let caches = self.caches.read();
        caches
            .values()
            .filter_map(|cache| cache.wake_if_due(now))
            .min()
    }

    /// Gives each cache its share of a revision's changes, which are in key order. Says when to wake
    /// watchers that are not to be woken yet.
    fn deal_out(&self, revision: u64, mut changes: &[k8s_store::Change]) -> Option<Instant> {
        let now = Instant::now();
        let mut later = None;
        {
            let caches = self.caches.read();
            while let Some(first) = changes.first() {
                let key = String::from_utf8_lossy(&first.key);
                let found = caches
                    .range::<str, _>((Bound::Unbounded, Bound::Included(key.as_ref())))
                    .next_back()
                    .filter(|(prefix, _)| key.starts_with(prefix.as_str()));
                let share = match found {
                    Some((prefix, cache)) => {
                        let n = changes
                            .iter()
                            .take_while(|c| c.key.starts_with(prefix.as_bytes()))
                            .count();
                        cache.apply(revision, &changes[..n]);
                        later = later.into_iter().chain(cache.wake_if_due(now)).min();
                        n
                    }
                    None => 1,
                };
                changes = &changes[share..];
            }
        }
        self.applied.send_replace(revision);
        later
    }
}

#[cfg(test)]
mod tests;
