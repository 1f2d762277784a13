//! Deletes keys whose time to live has passed.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

use super::Clock;
use crate::Error;

/// The most keys that one commit deletes.
const MOST_AT_ONCE: usize = 1000;
/// How long to wait after a commit that did not succeed.
const RETRY: Duration = Duration::from_secs(1);

type Hint = (u64, Bytes);

/// Deletes the keys that are due, by an ordinary commit.
#[async_trait]
pub(crate) trait Expire: Send + Sync + 'static {
    /// Takes what [`Timer::take_due`] returns, deletes what has indeed expired
    /// and, if that does not succeed, gives it back with [`Timer::note`].
    async fn expire(&self) -> Result<(), Error>;
}

/// Knows when the next key may have to go.
///
/// It keeps hints, not facts: a key that was written again or deleted leaves a
/// hint behind that no longer agrees with the key's record.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) clock: Clock,
    hints: Mutex<Hints>,
    wake: Notify,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Hints {
    heap: Arc<BinaryHeap<Reverse<Hint>>>,
    /// What was taken last. Its keys may still be there when a fork is made.
    taken: Vec<Hint>,
}

impl Timer {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            hints: Mutex::default(),
            wake: Notify::new(),
            task: Mutex::default(),
        }
    }

    /// A timer with the same clock and the same hints, without a task.
    pub(crate) fn fork(&self) -> Self {
        let fork = Self::new(self.clock);
        let hints = self.hints.lock();
        fork.hints.lock().heap = Arc::clone(&hints.heap);
        for (expires, key) in &hints.taken {
            fork.note(*expires, key.clone());
        }
        fork
    }

    pub(crate) fn note(&self, expires: u64, key: Bytes) {
        let mut hints = self.hints.lock();
        let first = hints.heap.peek().is_none_or(|next| expires < next.0.0);
        Arc::make_mut(&mut hints.heap).push(Reverse((expires, key)));
        drop(hints);
        if first {
            self.wake.notify_one();
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.hints.lock().heap.is_empty()
    }

    /// Starts the task on the current runtime, unless it runs or there is none.
    pub(crate) fn start<T: Expire>(self: &Arc<Self>, target: Weak<T>) {
        let mut task = self.task.lock();
        // A task ends with its runtime, which the store may outlive.
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            *task = Some(runtime.spawn(Arc::clone(self).run(target)));
        }
    }

    pub(crate) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    async fn run<T: Expire>(self: Arc<Self>, target: Weak<T>) {
        loop {
            let next = self.hints.lock().heap.peek().map(|next| next.0.0);
            match next {
                None => self.wake.notified().await,
                Some(next) if next > self.clock.millis() => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(self.clock.instant(next)) => {}
                },
                Some(_) => {
                    let Some(target) = target.upgrade() else {
                        return;
                    };
                    let outcome = target.expire().await;
                    drop(target);
                    match outcome {
                        Ok(()) => {}
                        Err(Error::Closed | Error::Poisoned { .. }) => return,
                        Err(error) => {
                            tracing::debug!(%error, "expired keys stay for now");
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                }
            }
        }
    }

    /// Takes the keys that may have to go now, some of them if there are many.
    pub(crate) fn take_due(&self) -> Vec<Hint> {
        let now = self.clock.millis();
        let mut hints = self.hints.lock();
        let heap = Arc::make_mut(&mut hints.heap);
        let mut due = Vec::new();
        while due.len() < MOST_AT_ONCE
            && heap.peek().is_some_and(|next| next.0.0 <= now)
            && let Some(Reverse(hint)) = heap.pop()
        {
            due.push(hint);
        }
        hints.taken.clone_from(&due);
        due
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}
