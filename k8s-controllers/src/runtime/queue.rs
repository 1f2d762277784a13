//! [`WorkQueue`]: keys waiting for a worker.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::RateLimiter;

/// Keys waiting for a worker, with the semantics of client-go's rate-limiting work queue.
///
/// - **Fair**: first in, first out.
/// - **Deduplicating**: a key is in the queue at most once.
/// - **Never twice at a time**: a key that is added between [`get`](Self::get) and
///   [`done`](Self::done) is queued again when it is done.
/// - **Delayed adds** wait for their time; of several for one key the earliest counts.
///
/// Clones share one queue. Adding never blocks, so an informer's handler may do it; the queue
/// grows with the number of distinct keys and no further.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    state: Mutex<State<K>>,
    /// A worker has something to look at.
    wake: Notify,
    /// The last running key is done.
    idle: Notify,
}

struct State<K> {
    queue: VecDeque<K>,
    /// What needs work: the queue, and what was added again while it is processed.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    delayed: BTreeMap<(Instant, u64), K>,
    delayed_at: HashMap<K, (Instant, u64)>,
    sequence: u64,
    closed: bool,
    limiter: RateLimiter<K>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue {
            inner: self.inner.clone(),
        }
    }
}

impl<K> fmt::Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.lock();
        f.debug_struct("WorkQueue")
            .field("queued", &state.queue.len())
            .field("processing", &state.processing.len())
            .field("delayed", &state.delayed.len())
            .finish()
    }
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue with the default [`RateLimiter`].
    pub fn new() -> Self {
        Self::with_rate_limiter(RateLimiter::default())
    }

    /// An empty queue with a rate limiter of one's own.
    pub fn with_rate_limiter(limiter: RateLimiter<K>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BTreeMap::new(),
            delayed_at: HashMap::new(),
            sequence: 0,
            closed: false,
            limiter,
        };
        WorkQueue {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                wake: Notify::new(),
                idle: Notify::new(),
            }),
        }
    }

    /// Marks `key` as needing work.
    pub fn add(&self, key: K) {
        if self.inner.state.lock().add(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Marks `key` as needing work after `delay`.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let Some(at) = Instant::now().checked_add(delay) else {
            return;
        };
        let mut state = self.inner.state.lock();
        if state.closed {
            return;
        }
        if let Some(&old) = state.delayed_at.get(&key) {
            if old.0 <= at {
                return;
            }
            state.delayed.remove(&old);
        }
        state.sequence += 1;
        let slot = (at, state.sequence);
        state.delayed.insert(slot, key.clone());
        state.delayed_at.insert(key, slot);
        drop(state);
        self.inner.wake.notify_one();
    }

    /// Marks `key` as needing work when the rate limiter allows: the way back after a failure.
    pub fn add_rate_limited(&self, key: K) {
        let delay = self
            .inner
            .state
            .lock()
            .limiter
            .when(key.clone(), Instant::now());
        self.add_after(key, delay);
    }

    /// Forgets the failures of `key`: the next one waits the shortest time again.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().limiter.forget(key);
    }

    /// How often `key` has failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().limiter.failures(key)
    }

    /// The next key, once there is one; `None` when the queue is shut down. Whoever gets a key
    /// must call [`done`](Self::done) with it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn get(&self) -> Option<K> {
        loop {
            let mut woken = std::pin::pin!(self.inner.wake.notified());
            woken.as_mut().enable();
            let next = {
                let mut state = self.inner.state.lock();
                if state.closed {
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.queue.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    // One wake-up may stand for several adds, and this worker no longer watches
                    // the earliest delayed key.
                    if !state.queue.is_empty() || !state.delayed.is_empty() {
                        self.inner.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.keys().next().map(|(at, _)| *at)
            };
            match next {
                Some(at) => tokio::select! {
                    () = &mut woken => {}
                    () = sleep_until(at) => {}
                },
                None => woken.await,
            }
        }
    }

    /// Says that the work on `key` is over, for better or worse.
    pub fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.processing.remove(key);
        let again = state.dirty.contains(key);
        if again {
            state.queue.push_back(key.clone());
        }
        let idle = state.processing.is_empty();
        drop(state);
        if again {
            self.inner.wake.notify_one();
        }
        if idle {
            self.inner.idle.notify_waiters();
        }
    }

    /// How many keys wait, without the delayed ones.
    pub fn len(&self) -> usize {
        self.inner.state.lock().queue.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands out no more keys and takes no more. Keys that wait are dropped.
    pub fn shut_down(&self) {
        let mut state = self.inner.state.lock();
        state.closed = true;
        state.queue.clear();
        state.dirty.clear();
        state.delayed.clear();
        state.delayed_at.clear();
        drop(state);
        self.inner.wake.notify_waiters();
    }

    /// Waits until no key is being processed.
    pub async fn drained(&self) {
        loop {
            let mut idle = std::pin::pin!(self.inner.idle.notified());
            idle.as_mut().enable();
            if self.inner.state.lock().processing.is_empty() {
                return;
            }
            idle.await;
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Marks a key dirty; says whether it went into the queue.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.queue.push_back(key);
        true
    }

    /// Moves the delayed keys whose time has come into the queue.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.delayed_at.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests;
