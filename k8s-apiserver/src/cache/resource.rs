//! [`Cache`]: the newest objects of one resource, and its latest changes.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, time::Instant};

use super::{
    audience::{Audience, Audiences, Interest},
    entry::{Entry, Event},
    place::{Place, Written},
};
use crate::registry::value::Corrupt;

/// How many changes of a resource are kept for watchers. One that falls further behind is
/// disconnected, and one that wants to start further back reads the store's history.
pub(crate) const RING: usize = 4096;

/// The newest objects of one resource, and its latest changes.
///
/// Watchers keep a [`Place`] in the ring of changes and read from it at their own pace: a slow one
/// costs nobody anything.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(super) state: RwLock<State>,
    /// Those who are to hear of every change.
    all: Arc<Audience>,
    /// Those of them who are parts of the server.
    own: Arc<Audience>,
    /// The audiences that have news which they were not woken for.
    due: Mutex<Vec<Arc<Audience>>>,
    ready: watch::Sender<Readiness>,
    /// What watchers wrote last, for others who want the same.
    pub(super) written: Mutex<VecDeque<Written>>,
    /// How often a stored value could not be read.
    failures: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Loading,
    Ready,
    /// It missed changes, or the server is going down; its watchers end.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// As they could be read last.
    objects: BTreeMap<Bytes, Arc<Entry>>,
    /// Those that cannot be read now: by a server of an older version, on the same etcd, or when they are damaged. Who
    /// asks for all must not think that they are gone.
    unreadable: BTreeMap<Bytes, Corrupt>,
    pub(super) ring: VecDeque<Arc<Event>>,
    /// The number of the first change in the ring.
    pub(super) first: u64,
    /// All changes after this revision are in the ring.
    complete_after: u64,
    /// Changes that arrived while the objects were being listed.
    early: Option<Vec<(u64, Vec<k8s_store::Change>)>>,
    audiences: Audiences,
}

impl Cache {
    pub(crate) fn loading() -> Self {
        Cache {
            state: RwLock::new(State {
                early: Some(Vec::new()),
                ..State::default()
            }),
            all: Audience::new(Interest::All, 0),
            own: Audience::at_once(),
            due: Mutex::default(),
            ready: watch::Sender::new(Readiness::Loading),
            written: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Puts in the objects as of a revision, and the changes that have come in since.
    pub(crate) fn load(&self, entries: Vec<k8s_store::Entry>, revision: u64) {
        {
            let mut state = self.state.write();
            for entry in &entries {
                match self.parse(entry) {
                    Ok(entry) => drop(state.objects.insert(entry.key.clone(), entry)),
                    Err(error) => drop(state.unreadable.insert(entry.key.clone(), error)),
                }
            }
            state.complete_after = revision;
            for (at, changes) in state.early.take().unwrap_or_default() {
                if at > revision {
                    for change in &changes {
                        let current = change.current.as_ref().map(|entry| self.parse(entry));
                        self.take(&mut state, change, current, at);
                    }
                }
            }
        }
        // One that was closed meanwhile is dealt no changes any more: it must not look as if it were.
        self.ready.send_if_modified(|readiness| {
            let loading = *readiness == Readiness::Loading;
            if loading {
                *readiness = Readiness::Ready;
            }
            loading
        });
        self.own.wake();
        self.all.wake();
    }

    /// Takes in the changes of one revision, those below this cache's prefix.
    pub(crate) fn apply(&self, revision: u64, changes: &[k8s_store::Change]) {
        for change in changes {
            let current = change.current.as_ref().map(|entry| self.parse(entry));
            if let Some(Ok(entry)) = &current {
                // Before the lock that keeps everybody out.
                self.state.read().audiences.read_fields(entry);
            }
            let mut state = self.state.write();
            if let Some(early) = &mut state.early {
                early.push((revision, changes.to_vec()));
                return;
            }
            self.take(&mut state, change, current, revision);
        }
    }

    fn parse(&self, entry: &k8s_store::Entry) -> Result<Arc<Entry>, Corrupt> {
        let read = Entry::new(entry).map(Arc::new);
        read.inspect_err(|error| {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(key = %entry.key.escape_ascii(), %error, "a stored object cannot be read");
        })
    }

    /// How often a stored value could not be read.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn take(
        &self,
        state: &mut State,
        change: &k8s_store::Change,
        current: Option<Result<Arc<Entry>, Corrupt>>,
        revision: u64,
    ) {
        let Some(number) = state.apply(change, current, revision) else {
            return;
        };
        let Some(event) = state.ring.back() else {
            return;
        };
        let first = state.first;
        let note = |audience: &Arc<Audience>| {
            if audience.note(number, first) {
                self.due.lock().push(audience.clone());
            }
        };
        // First, so that who asks the server for what it has just heard of finds that the server has heard of it.
        if self.own.size() > 0 {
            note(&self.own);
        }
        note(&self.all);
        state.audiences.concerned(event, note);
    }

    /// Wakes the audiences that there is news for; says when to do so for those whose time is not yet.
    pub(crate) fn wake_if_due(&self, now: Instant) -> Option<Instant> {
        let mut later = None;
        self.due.lock().retain(|audience| {
            let at = audience.wake_if_due(now);
            later = later.into_iter().chain(at).min();
            at.is_some()
        });
        later
    }

    pub(crate) fn close(&self) {
        self.ready.send_replace(Readiness::Closed);
        self.wake();
    }

    /// Wakes all watchers, whether there is news for them or not.
    pub(crate) fn wake(&self) {
        self.own.wake();
        self.all.wake();
        self.state.read().audiences.iter().for_each(|a| a.wake());
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.ready.borrow() == Readiness::Closed
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow() == Readiness::Ready
    }

    /// Waits until the objects are there. False if it was closed before.
    pub(crate) async fn wait_ready(&self) -> bool {
        let mut ready = self.ready.subscribe();
        let state = ready.wait_for(|r| *r != Readiness::Loading).await;
        matches!(state.as_deref(), Ok(Readiness::Ready))
    }

    /// Tells when there are changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.all.subscribe()
    }

    /// The objects below a prefix, in key order. An error if one of them cannot be read.
    pub(crate) fn snapshot(&self, prefix: &Bytes) -> Result<Vec<Arc<Entry>>, Corrupt> {
        let state = self.state.read();
        state.check(prefix)?;
        Ok(state.below(prefix))
    }

    /// The object with that key, if it is there and can be read.
    pub(crate) fn one(&self, key: &Bytes) -> Option<Arc<Entry>> {
        let state = self.state.read();
        let readable = !state.unreadable.contains_key(key);
        state.objects.get(key).filter(|_| readable).cloned()
    }

    /// The objects below a prefix, in key order, and the place after them, for who wants to hear of such
    /// changes. An error if one of the objects cannot be read.
    pub(crate) fn follow(
        self: &Arc<Self>,
        prefix: &Bytes,
        interest: &Interest,
    ) -> Result<(Vec<Arc<Entry>>, Place), Corrupt> {
        let mut state = self.state.write();
        let entries = match interest {
            Interest::One(key) => match state.unreadable.get(key) {
                Some(error) => return Err(error.clone()),
                None => state.objects.get(key).cloned().into_iter().collect(),
            },
            _ => {
                state.check(prefix)?;
                state.below(prefix)
            }
        };
        let end = state.end();
        Ok((entries, self.place(&mut state, interest, end)))
    }

    /// The objects below a prefix, and the place after them, for a part of the server that is to hear of every change.
    /// One that cannot be read is as it was last.
    pub(crate) fn follow_at_once(self: &Arc<Self>, prefix: &Bytes) -> (Vec<Arc<Entry>>, Place) {
        let state = self.state.write();
        let end = state.end();
        let place = Place::new(self.clone(), self.own.clone(), end, end);
        (state.below(prefix), place)
    }

    /// The place after all changes up to a revision, if the ring still has what follows.
    pub(crate) fn follow_after(
        self: &Arc<Self>,
        revision: u64,
        interest: &Interest,
    ) -> Option<Place> {
        let mut state = self.state.write();
        if revision < state.complete_after {
            return None;
        }
        let skip = state
            .ring
            .partition_point(|event| event.revision <= revision);
        let next = state.first + skip as u64;
        Some(self.place(&mut state, interest, next))
    }

    fn place(self: &Arc<Self>, state: &mut State, interest: &Interest, next: u64) -> Place {
        let end = state.end();
        let joined = state.audiences.join(interest, end);
        let audience = joined.unwrap_or_else(|| self.all.clone());
        audience.look_back(next, &state.ring, state.first);
        Place::new(self.clone(), audience, next, end)
    }

    /// How many audiences there are besides that of everything.
    #[cfg(test)]
    pub(super) fn audiences(&self) -> usize {
        self.state.read().audiences.iter().count()
    }

    /// That a place is given up.
    pub(super) fn leave(&self, audience: &Audience) {
        if !matches!(audience.interest, Interest::All) {
            self.state.write().audiences.leave(audience);
        }
    }
}

impl State {
    /// The number of the next change.
    pub(super) fn end(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    fn below(&self, prefix: &Bytes) -> Vec<Arc<Entry>> {
        self.objects
            .range::<Bytes, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// Makes sure that all objects below a prefix can be read.
    fn check(&self, prefix: &Bytes) -> Result<(), Corrupt> {
        let mut from =
            (self.unreadable).range::<Bytes, _>((Bound::Included(prefix), Bound::Unbounded));
        match from.next() {
            Some((key, error)) if key.starts_with(prefix) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Puts a change into the ring; says which number it has there, unless it changes nothing.
    fn apply(
        &mut self,
        change: &k8s_store::Change,
        current: Option<Result<Arc<Entry>, Corrupt>>,
        revision: u64,
    ) -> Option<u64> {
        let key = &change.key;
        let event = match current {
            Some(Err(error)) => {
                self.unreadable.insert(key.clone(), error.clone());
                Event::unreadable(revision, key.clone(), error)
            }
            readable => {
                self.unreadable.remove(key);
                let current = readable.and_then(Result::ok);
                let previous = match &current {
                    Some(entry) => self.objects.insert(entry.key.clone(), entry.clone()),
                    None => Some(self.objects.remove(key)?),
                };
                Event::new(revision, current, previous)
            }
        };
        if self.ring.len() == RING
            && let Some(gone) = self.ring.pop_front()
        {
            self.first += 1;
            self.complete_after = gone.revision;
        }
        let number = self.end();
        self.ring.push_back(Arc::new(event));
        Some(number)
    }
}
