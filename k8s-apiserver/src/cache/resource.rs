//! [`Cache`]: the newest objects of one resource, and its latest changes.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, time::Instant};

use super::entry::{Entry, Event};

/// How many changes of a resource are kept for watchers. One that falls further behind is
/// disconnected, and one that wants to start further back reads the store's history.
pub(crate) const RING: usize = 4096;

/// The newest objects of one resource, and its latest changes.
///
/// Watchers keep a position in the ring of changes and read from it at their own pace: a slow one
/// costs nobody anything.
#[derive(Debug)]
pub(crate) struct Cache {
    state: RwLock<State>,
    /// The number of changes so far; wakes watchers.
    changes: watch::Sender<u64>,
    pace: Mutex<Pace>,
    ready: watch::Sender<Readiness>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Loading,
    Ready,
    /// It missed changes, or the server is going down; its watchers end.
    Closed,
}

/// When the watchers are woken next. Waking many of them costs more than the change that they are told
/// of, so that they get the changes of a burst together.
#[derive(Debug)]
struct Pace {
    not_before: Instant,
    /// They have not been told of the latest changes.
    due: bool,
}

/// How long many watchers are left alone after they were woken: twice as long as they take to
/// send what they were woken for, so that writers get their turn.
fn pause(watchers: usize) -> Duration {
    const EACH: Duration = Duration::from_micros(40);
    const MANY: usize = 50;
    const MOST: Duration = Duration::from_millis(50);
    if watchers < MANY {
        return Duration::ZERO;
    }
    u32::try_from(watchers).map_or(MOST, |n| EACH.saturating_mul(n).min(MOST))
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Bytes, Arc<Entry>>,
    ring: VecDeque<Arc<Event>>,
    /// The number of the first change in the ring.
    first: u64,
    /// All changes after this revision are in the ring.
    complete_after: u64,
    /// Changes that arrived while the objects were being listed.
    early: Option<Vec<(u64, Vec<k8s_store::Change>)>>,
}

/// A watcher's place in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

/// The watcher has fallen out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lagged;

impl Cache {
    pub(crate) fn loading() -> Self {
        Cache {
            state: RwLock::new(State {
                early: Some(Vec::new()),
                ..State::default()
            }),
            changes: watch::Sender::new(0),
            pace: Mutex::new(Pace {
                not_before: Instant::now(),
                due: false,
            }),
            ready: watch::Sender::new(Readiness::Loading),
        }
    }

    /// Puts in the objects as of a revision, and the changes that have come in since.
    pub(crate) fn load(&self, entries: Vec<k8s_store::Entry>, revision: u64) {
        {
            let mut state = self.state.write();
            for entry in &entries {
                if let Some(entry) = parse(entry) {
                    state.objects.insert(entry.key.clone(), entry);
                }
            }
            state.complete_after = revision;
            for (at, changes) in state.early.take().unwrap_or_default() {
                if at > revision {
                    changes.iter().for_each(|change| state.apply(change, at));
                }
            }
        }
        self.ready.send_replace(Readiness::Ready);
        self.wake();
    }

    /// Takes in the changes of one revision, those below this cache's prefix.
    pub(crate) fn apply(&self, revision: u64, changes: &[k8s_store::Change]) {
        let mut state = self.state.write();
        if let Some(early) = &mut state.early {
            early.push((revision, changes.to_vec()));
            return;
        }
        changes
            .iter()
            .for_each(|change| state.apply(change, revision));
        drop(state);
        self.pace.lock().due = true;
    }

    /// Wakes the watchers if there is news for them; says when to do so if that is not yet.
    pub(crate) fn wake_if_due(&self, now: Instant) -> Option<Instant> {
        let mut pace = self.pace.lock();
        if !pace.due {
            return None;
        }
        if now < pace.not_before {
            return Some(pace.not_before);
        }
        pace.due = false;
        pace.not_before = now + pause(self.changes.receiver_count());
        drop(pace);
        self.wake();
        None
    }

    fn wake(&self) {
        let state = self.state.read();
        let end = state.first + state.ring.len() as u64;
        drop(state);
        self.changes.send_replace(end);
    }

    pub(crate) fn close(&self) {
        self.ready.send_replace(Readiness::Closed);
        self.changes.send_modify(|_| {});
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.ready.borrow() == Readiness::Closed
    }

    /// Waits until the objects are there. False if it was closed before.
    pub(crate) async fn wait_ready(&self) -> bool {
        let mut ready = self.ready.subscribe();
        let state = ready.wait_for(|r| *r != Readiness::Loading).await;
        matches!(state.as_deref(), Ok(Readiness::Ready))
    }

    /// Tells of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The objects below a prefix, in key order, and the place in the ring that follows them.
    pub(crate) fn snapshot(&self, prefix: &Bytes) -> (Vec<Arc<Entry>>, Cursor) {
        let state = self.state.read();
        let entries = state
            .objects
            .range::<Bytes, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry.clone())
            .collect();
        (entries, Cursor(state.first + state.ring.len() as u64))
    }

    /// The object under a key, and the place in the ring that follows it.
    pub(crate) fn get(&self, key: &Bytes) -> (Option<Arc<Entry>>, Cursor) {
        let state = self.state.read();
        (
            state.objects.get(key).cloned(),
            Cursor(state.first + state.ring.len() as u64),
        )
    }

    /// The place in the ring after all changes up to a revision, if the ring still has what follows.
    pub(crate) fn cursor_after(&self, revision: u64) -> Option<Cursor> {
        let state = self.state.read();
        if revision < state.complete_after {
            return None;
        }
        let skip = state
            .ring
            .partition_point(|event| event.revision <= revision);
        Some(Cursor(state.first + skip as u64))
    }

    /// Reads on from a place, at most `limit` changes.
    pub(crate) fn read(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        out: &mut Vec<Arc<Event>>,
    ) -> Result<(), Lagged> {
        let state = self.state.read();
        let skip = cursor.0.checked_sub(state.first).ok_or(Lagged)? as usize;
        out.extend(state.ring.iter().skip(skip).take(limit).cloned());
        cursor.0 += out.len() as u64;
        Ok(())
    }
}

impl State {
    fn apply(&mut self, change: &k8s_store::Change, revision: u64) {
        let current = change.current.as_ref().and_then(parse);
        let previous = match &current {
            Some(entry) => self.objects.insert(entry.key.clone(), entry.clone()),
            None => self.objects.remove(&change.key),
        };
        if current.is_none() && previous.is_none() {
            return;
        }
        if self.ring.len() == RING
            && let Some(gone) = self.ring.pop_front()
        {
            self.first += 1;
            self.complete_after = gone.revision;
        }
        self.ring
            .push_back(Arc::new(Event::new(revision, current, previous)));
    }
}

fn parse(entry: &k8s_store::Entry) -> Option<Arc<Entry>> {
    match Entry::new(entry) {
        Ok(entry) => Some(Arc::new(entry)),
        Err(error) => {
            tracing::error!(key = %entry.key.escape_ascii(), %error, "a stored object cannot be read");
            None
        }
    }
}
