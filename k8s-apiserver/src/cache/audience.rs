//! [`Audience`]: those who are to hear of the same changes. A change wakes the audiences that it concerns,
//! found by look-up; who watches something else costs it nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use k8s_model::Resource;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::entry::{Entry, Event};

/// Which changes of a resource somebody is to hear of, as far as a look-up can tell.
#[derive(Clone, Debug)]
pub(crate) enum Interest {
    /// All.
    All,
    /// Those of keys that begin so, up to the last slash in them.
    Below(Bytes),
    /// Those of one key.
    One(Bytes),
    /// Those of objects that have, or had, a value in a field that can be selected by.
    Field(Field),
}

/// A field of objects that are stored as such a resource, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) resource: Arc<Resource>,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Those who are to hear of the same changes.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) interest: Interest,
    /// Whether it is left alone for a while after it was woken, when it is large.
    paced: bool,
    wake: watch::Sender<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    members: usize,
    /// The numbers of the changes that concern it, of those in the ring; kept unless that is all.
    numbers: VecDeque<u64>,
    /// From which number on they are known.
    known_from: u64,
    /// The last one that has left the ring.
    lost: Option<u64>,
    /// The number after the latest change that concerns it.
    end: u64,
    /// How far it was told to read when it was woken last.
    told: u64,
    pace: Pace,
}

/// When the audience is woken next. Waking many costs more than the change that they are told of, so
/// that they get the changes of a burst together.
#[derive(Debug)]
struct Pace {
    not_before: Instant,
    /// It has not been told of the latest changes.
    due: bool,
}

/// How long several watchers are left alone after they were woken: several times as long as they take to
/// send what they were woken for, so that writers get their turn, and many changes go out in one piece. The first
/// change after a pause is told at once.
fn pause(watchers: usize) -> Duration {
    const EACH: Duration = Duration::from_micros(200);
    const SEVERAL: usize = 10;
    const MOST: Duration = Duration::from_millis(50);
    if watchers < SEVERAL {
        return Duration::ZERO;
    }
    u32::try_from(watchers).map_or(MOST, |n| EACH.saturating_mul(n).min(MOST))
}

impl Audience {
    pub(super) fn new(interest: Interest, end: u64) -> Arc<Self> {
        Self::made(interest, end, true)
    }

    /// One of every change that is told at once, however many it is: for the server's own parts, which are to know
    /// no later than its clients do.
    pub(super) fn at_once() -> Arc<Self> {
        Self::made(Interest::All, 0, false)
    }

    fn made(interest: Interest, end: u64, paced: bool) -> Arc<Self> {
        Arc::new(Audience {
            interest,
            paced,
            wake: watch::Sender::new(()),
            state: Mutex::new(State {
                members: 0,
                numbers: VecDeque::new(),
                known_from: end,
                lost: None,
                end,
                told: end,
                pace: Pace {
                    not_before: Instant::now(),
                    due: false,
                },
            }),
        })
    }

    /// How many there are.
    pub(super) fn size(&self) -> usize {
        self.wake.receiver_count()
    }

    /// Tells when there is news.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    /// Notes a change, of those in the ring from `first` on. True if the audience is to be woken and was
    /// not before.
    pub(super) fn note(&self, number: u64, first: u64) -> bool {
        let mut state = self.state.lock();
        if !matches!(self.interest, Interest::All) {
            state.forget_before(first);
            state.numbers.push_back(number);
        }
        state.end = number + 1;
        !std::mem::replace(&mut state.pace.due, true)
    }

    /// Makes known the changes from a place in the ring on.
    pub(super) fn look_back(&self, from: u64, ring: &VecDeque<Arc<Event>>, first: u64) {
        let mut state = self.state.lock();
        let known = state.known_from;
        for number in (from..known).rev() {
            let event = (number.checked_sub(first)).and_then(|at| ring.get(at as usize));
            if event.is_some_and(|event| self.interest.concerns(event)) {
                state.numbers.push_front(number);
            }
        }
        state.known_from = known.min(from);
    }

    /// The numbers from one on of the changes in the ring, which are those from `first` to `end`. Nothing
    /// if it concerned the audience and is in the ring no more.
    pub(super) fn numbers(
        &self,
        from: u64,
        first: u64,
        end: u64,
        limit: usize,
        out: &mut Vec<u64>,
    ) -> Option<()> {
        if matches!(self.interest, Interest::All) {
            out.extend((from..end).take(limit));
            return (from >= first).then_some(());
        }
        let mut state = self.state.lock();
        state.forget_before(first);
        if state.lost.is_some_and(|lost| lost >= from) {
            return None;
        }
        let start = state.numbers.partition_point(|n| *n < from);
        let numbers = state.numbers.range(start..).take_while(|n| **n < end);
        out.extend(numbers.take(limit));
        Some(())
    }

    /// Wakes those who wait if it is time to; says when it will be if not.
    pub(super) fn wake_if_due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        if now < state.pace.not_before {
            return Some(state.pace.not_before);
        }
        state.pace.due = false;
        if self.paced {
            state.pace.not_before = now + pause(self.size());
        }
        state.told = state.end;
        drop(state);
        self.wake.send_modify(|()| {});
        None
    }

    /// Wakes all, whether it is time to or not.
    pub(super) fn wake(&self) {
        let mut state = self.state.lock();
        state.told = state.end;
        drop(state);
        self.wake.send_modify(|()| {});
    }

    /// Up to which number its members are to read: they all stop at the same change, so that what the first of them
    /// writes serves all, and nobody chases after what the others are not told yet.
    pub(super) fn told(&self) -> u64 {
        self.state.lock().told
    }
}

impl State {
    fn forget_before(&mut self, first: u64) {
        while let Some(number) = self.numbers.front().filter(|n| **n < first) {
            self.lost = Some(*number);
            self.numbers.pop_front();
        }
    }
}

impl Interest {
    fn concerns(&self, event: &Event) -> bool {
        match self {
            Interest::All => true,
            Interest::Below(prefix) => event.key().starts_with(prefix),
            Interest::One(key) => event.key() == key,
            // Of what cannot be read nobody knows the fields.
            Interest::Field(_) if event.fault().is_some() => true,
            Interest::Field(field) => [&event.current, &event.previous]
                .into_iter()
                .flatten()
                .any(|entry| value_of(&field.resource, &field.name, entry) == field.value),
        }
    }
}

/// The value of a field; one that is not there is empty.
fn value_of<'e>(resource: &Resource, name: &str, entry: &'e Entry) -> &'e str {
    entry.index(resource).field(name).unwrap_or_default()
}

/// All audiences of a resource but that of everything, to be found by what changes.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    below: HashMap<Bytes, Arc<Audience>>,
    one: HashMap<Bytes, Arc<Audience>>,
    fields: Vec<ByField>,
}

#[derive(Debug)]
struct ByField {
    resource: Arc<Resource>,
    name: String,
    values: HashMap<String, Arc<Audience>>,
}

impl Audiences {
    /// Joins the audience of an interest, which comes into being with its first member.
    pub(super) fn join(&mut self, interest: &Interest, end: u64) -> Option<Arc<Audience>> {
        let new = || Audience::new(interest.clone(), end);
        let audience = match interest {
            Interest::All => return None,
            Interest::Below(prefix) => self.below.entry(prefix.clone()).or_insert_with(new),
            Interest::One(key) => self.one.entry(key.clone()).or_insert_with(new),
            Interest::Field(field) => {
                let at = self.fields.iter().position(|by| by.name == field.name);
                let at = at.unwrap_or_else(|| {
                    self.fields.push(ByField {
                        resource: field.resource.clone(),
                        name: field.name.clone(),
                        values: HashMap::new(),
                    });
                    self.fields.len() - 1
                });
                let values = &mut self.fields[at].values;
                values.entry(field.value.clone()).or_insert_with(new)
            }
        };
        audience.state.lock().members += 1;
        Some(audience.clone())
    }

    /// Leaves an audience, which ends with its last member.
    pub(super) fn leave(&mut self, audience: &Audience) {
        let mut state = audience.state.lock();
        state.members = state.members.saturating_sub(1);
        if state.members > 0 {
            return;
        }
        match &audience.interest {
            Interest::All => {}
            Interest::Below(prefix) => drop(self.below.remove(prefix)),
            Interest::One(key) => drop(self.one.remove(key)),
            Interest::Field(field) => {
                for by in &mut self.fields {
                    if by.name == field.name {
                        by.values.remove(&field.value);
                    }
                }
                self.fields.retain(|by| !by.values.is_empty());
            }
        }
    }

    /// Reads those fields of an object that somebody selects by.
    pub(super) fn read_fields(&self, entry: &Entry) {
        if let Some(by) = self.fields.first() {
            entry.index(&by.resource);
        }
    }

    /// The audiences that an event concerns, each once.
    pub(super) fn concerned(&self, event: &Event, mut each: impl FnMut(&Arc<Audience>)) {
        let key = event.key();
        if let Some(audience) = self.one.get(key) {
            each(audience);
        }
        if !self.below.is_empty()
            && let Some(slash) = memchr::memrchr(b'/', key)
            && let Some(audience) = self.below.get(&key[..=slash])
        {
            each(audience);
        }
        for by in &self.fields {
            if event.fault().is_some() {
                by.values.values().for_each(&mut each);
                continue;
            }
            let value = |entry: &'_ Option<Arc<Entry>>| {
                let entry = entry.as_ref()?;
                by.values.get(value_of(&by.resource, &by.name, entry))
            };
            let (now, before) = (value(&event.current), value(&event.previous));
            if let Some(audience) = now {
                each(audience);
            }
            if let Some(audience) = before
                && !now.is_some_and(|now| Arc::ptr_eq(now, audience))
            {
                each(audience);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Audience>> {
        let fields = self.fields.iter().flat_map(|by| by.values.values());
        self.below.values().chain(self.one.values()).chain(fields)
    }
}
