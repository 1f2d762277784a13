//! [`QueueSet`]: the seats of one priority level, and who waits for them.
//!
//! Fair queuing as upstream does it (KEP-1040): a flow has a hand of queues, a request goes into the one of them with
//! the least work in it, and seats go to the queue that would have finished first if all of them had been served at
//! once, a little at a time. While nobody waits, a request takes its seats at once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    demand::{Demand, Integral},
    roll::Stage,
    shard,
};

/// How long a request is taken to occupy its seats until that is known, in seconds.
const EXPECTED: f64 = 0.003;

/// How requests queue up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queuing {
    /// How many queues; 0 refuses what there is no seat for.
    pub(super) queues: usize,
    /// How many of them a flow has.
    pub(super) hand: usize,
    /// How many requests may wait in one.
    pub(super) length: usize,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no seat, and no queue.
    ConcurrencyLimit,
    /// There is no seat, and no room in the queue.
    QueueFull,
    /// It has waited too long.
    TimeOut,
}

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// Its flow.
    pub(super) flow: u64,
    /// How many seats.
    pub(super) seats: u32,
    /// How long it occupies them after it has been answered.
    pub(super) linger: Duration,
}

impl Want {
    fn work(&self) -> f64 {
        f64::from(self.seats) * (EXPECTED + self.linger.as_secs_f64())
    }
}

/// The seats of a priority level.
#[derive(Debug)]
pub(super) struct QueueSet(Mutex<State>);

#[derive(Debug)]
struct State {
    queuing: Queuing,
    limit: u32,
    /// The most seats that one request takes.
    most_seats: u32,
    queues: Vec<Queue>,
    /// How far a queue that always had work would have got, in seats times seconds.
    progress: f64,
    last: Instant,
    /// The queue that was served last.
    robin: usize,
    /// Queues in which something waits, or from which something is being served.
    active: u32,
    waiting: u32,
    executing: u32,
    seats_used: u32,
    seats_wanted: u32,
    dealt: usize,
    next_id: u64,
    demand: Integral,
}

#[derive(Debug, Default)]
struct Queue {
    /// How far the queue will have got when its first request is served.
    next: f64,
    waiting: VecDeque<Waiting>,
    /// The work of those that wait.
    work: f64,
    executing: u32,
    seats_used: u32,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    want: Want,
    /// The progress when it came.
    arrived: f64,
    grant: oneshot::Sender<Seats>,
}

/// Seats that are occupied until this is dropped.
#[derive(Debug)]
pub(super) struct Seats {
    set: Arc<QueueSet>,
    queue: Option<usize>,
    want: Want,
    since: Instant,
}

impl Seats {
    /// The queue that they are of.
    pub(super) fn queue(&self) -> Option<usize> {
        self.queue
    }

    /// How many they are.
    pub(super) fn count(&self) -> u32 {
        self.want.seats
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.set.finished(self);
    }
}

/// A request that waits for its seats; it leaves the queue when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    set: Arc<QueueSet>,
    queue: usize,
    id: u64,
    seats: u32,
    granted: oneshot::Receiver<Seats>,
}

impl Place {
    /// Where in the queues it is.
    pub(super) fn stage(&self) -> Stage {
        Stage::Waiting {
            queue: self.queue,
            number: self.id,
        }
    }

    /// How many seats it is for.
    pub(super) fn seats(&self) -> u32 {
        self.seats
    }

    /// Waits for the seats, but not for ever.
    pub(super) async fn wait(mut self, longest: Duration) -> Result<Seats, Refused> {
        match tokio::time::timeout(longest, &mut self.granted).await {
            Ok(Ok(seats)) => Ok(seats),
            _ => Err(Refused::TimeOut),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set.left(self.queue, self.id);
    }
}

/// A queue as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueNow {
    pub(super) waiting: usize,
    pub(super) executing: u32,
    pub(super) seats_used: u32,
    /// How far the queue will have got when its first request is served, in seats times seconds.
    pub(super) next: f64,
    /// What those want that wait.
    pub(super) seats_wanted: u32,
    /// Their work, in seats times seconds.
    pub(super) work: f64,
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Entry {
    Seated(Seats),
    Queued(Place),
    Refused(Refused),
}

/// Seats that were given to requests, to be told once the lock is free: who has gone in the meantime gives them back.
type Grants = Vec<(oneshot::Sender<Seats>, Seats)>;

fn tell(grants: Grants) {
    for (grant, seats) in grants {
        let _ = grant.send(seats);
    }
}

impl QueueSet {
    pub(super) fn new(queuing: Queuing, limit: u32) -> Arc<Self> {
        let now = Instant::now();
        let mut state = State {
            queuing,
            limit,
            most_seats: u32::MAX,
            queues: Vec::new(),
            progress: 0.0,
            last: now,
            robin: 0,
            active: 0,
            waiting: 0,
            executing: 0,
            seats_used: 0,
            seats_wanted: 0,
            dealt: 0,
            next_id: 0,
            demand: Integral::new(now),
        };
        state.queues.resize_with(queuing.queues, Queue::default);
        Arc::new(QueueSet(Mutex::new(state)))
    }

    /// Takes effect for those that wait already, too. Queues that are too many go as they become empty.
    pub(super) fn configure(self: &Arc<Self>, queuing: Queuing) {
        let mut state = self.0.lock();
        state.queuing = queuing;
        if state.queues.len() < queuing.queues {
            state.queues.resize_with(queuing.queues, Queue::default);
        }
        state.trim();
    }

    /// Changes the most seats that one request takes.
    pub(super) fn bound(&self, most_seats: u32) {
        self.0.lock().most_seats = most_seats;
    }

    /// Changes how many seats there are.
    pub(super) fn limit(self: &Arc<Self>, limit: u32) {
        let grants = {
            let mut state = self.0.lock();
            let now = state.advance();
            state.limit = limit;
            state.serve(self, now)
        };
        tell(grants);
    }

    /// Ends a period of ten seconds: what was asked for in it.
    pub(super) fn demand(&self, before: Demand) -> Demand {
        self.0.lock().demand.period(Instant::now(), before)
    }

    /// Whether nobody waits, and nobody is served.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.waiting == 0 && state.executing == 0 && state.seats_used == 0
    }

    /// The queues as they are now.
    pub(super) fn now(&self) -> Vec<QueueNow> {
        let state = self.0.lock();
        let now = |queue: &Queue| QueueNow {
            waiting: queue.waiting.len(),
            executing: queue.executing,
            seats_used: queue.seats_used,
            next: queue.next,
            seats_wanted: queue.waiting.iter().map(|waiting| waiting.want.seats).sum(),
            work: queue.work,
        };
        state.queues.iter().map(now).collect()
    }

    /// How many seats are occupied.
    pub(super) fn seats_used(&self) -> u32 {
        self.0.lock().seats_used
    }

    /// Lets a request in, or has it wait, or refuses it.
    pub(super) fn enter(self: &Arc<Self>, mut want: Want) -> Entry {
        let mut state = self.0.lock();
        want.seats = want.seats.min(state.most_seats);
        let now = state.advance();
        if state.queuing.queues == 0 {
            if !state.has_room(want.seats) {
                return Entry::Refused(Refused::ConcurrencyLimit);
            }
            return Entry::Seated(state.seat(self, None, want, now));
        }
        let queue = state.choose(want.flow);
        if state.waiting == 0 && state.has_room(want.seats) {
            state.arrive(queue);
            return Entry::Seated(state.seat(self, Some(queue), want, now));
        }
        if state.seats_used >= state.limit
            && state.queues[queue].waiting.len() >= state.queuing.length
        {
            return Entry::Refused(Refused::QueueFull);
        }
        state.arrive(queue);
        let id = state.next_id;
        state.next_id += 1;
        let (grant, granted) = oneshot::channel();
        let arrived = state.progress;
        state.waiting += 1;
        state.seats_wanted += want.seats;
        let chosen = &mut state.queues[queue];
        chosen.work += want.work();
        chosen.waiting.push_back(Waiting {
            id,
            want,
            arrived,
            grant,
        });
        state.note_demand(now);
        let grants = state.serve(self, now);
        drop(state);
        tell(grants);
        Entry::Queued(Place {
            set: self.clone(),
            queue,
            id,
            seats: want.seats,
            granted,
        })
    }

    /// A request that waited goes away; nothing if it waits no more.
    fn left(self: &Arc<Self>, queue: usize, id: u64) {
        let grants = {
            let mut state = self.0.lock();
            let Some(waited) = state.queues.get_mut(queue) else {
                return;
            };
            let Some(at) = waited.waiting.iter().position(|w| w.id == id) else {
                return;
            };
            let now = state.advance();
            state.unqueue(queue, at);
            state.bound(queue);
            state.rest(queue);
            state.note_demand(now);
            // It may have kept others waiting that want fewer seats.
            state.serve(self, now)
        };
        tell(grants);
    }

    /// A request was answered: its seats are free now, or after they have lingered.
    fn finished(self: &Arc<Self>, seats: &Seats) {
        let linger = seats.want.linger;
        let grants = {
            let mut state = self.0.lock();
            let now = state.advance();
            state.executing -= 1;
            if let Some(at) = seats.queue {
                let took = now.saturating_duration_since(seats.since).as_secs_f64();
                let queue = &mut state.queues[at];
                queue.executing -= 1;
                queue.next -= f64::from(seats.want.seats) * (EXPECTED - took);
                state.bound(at);
            }
            if linger.is_zero() {
                self.release(&mut state, seats.queue, seats.want.seats, now)
            } else {
                Grants::new()
            }
        };
        tell(grants);
        if linger.is_zero() {
            return;
        }
        let (set, queue, seats) = (self.clone(), seats.queue, seats.want.seats);
        let release = move || {
            let grants = {
                let mut state = set.0.lock();
                let now = state.advance();
                set.release(&mut state, queue, seats, now)
            };
            tell(grants);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(linger).await;
                    release();
                });
            }
            // A request that is dropped outside of the runtime is dropped with it.
            Err(_) => release(),
        }
    }

    fn release(
        self: &Arc<Self>,
        state: &mut State,
        queue: Option<usize>,
        seats: u32,
        now: Instant,
    ) -> Grants {
        state.seats_used -= seats;
        if let Some(queue) = queue {
            state.queues[queue].seats_used -= seats;
            state.rest(queue);
        }
        state.note_demand(now);
        let grants = state.serve(self, now);
        state.trim();
        grants
    }
}

impl State {
    /// Brings the progress up to now. To be called before anything changes.
    fn advance(&mut self) -> Instant {
        let now = Instant::now();
        let time = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        if self.active > 0 {
            let busy = (self.seats_used + self.seats_wanted).min(self.limit);
            self.progress += time * f64::from(busy) / f64::from(self.active);
        }
        now
    }

    fn note_demand(&mut self, now: Instant) {
        let demand = f64::from(self.seats_used + self.seats_wanted);
        self.demand.set(demand, now);
    }

    /// Whether that many seats are free. Who wants more than there are gets them when all others have gone.
    fn has_room(&self, seats: u32) -> bool {
        if seats > self.limit {
            self.executing == 0
        } else {
            self.seats_used + seats <= self.limit
        }
    }

    /// The queue of the flow's hand with the least work waiting in it.
    fn choose(&mut self, flow: u64) -> usize {
        let (dealt, hand) = shard::deal(flow, self.queuing.queues, self.queuing.hand);
        let offset = self.dealt % hand;
        self.dealt = self.dealt.wrapping_add(1);
        let order = (0..hand).map(|n| dealt[(offset + n) % hand]);
        order
            .min_by(|a, b| self.queues[*a].work.total_cmp(&self.queues[*b].work))
            .unwrap_or_default()
    }

    /// A request comes to the queue; if nothing was there, the queue begins anew.
    fn arrive(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if queue.waiting.is_empty() && queue.executing == 0 {
            if queue.seats_used == 0 {
                self.active += 1;
            }
            queue.next = self.progress;
        }
    }

    /// A queue that has nothing to do any more does not count.
    fn rest(&mut self, queue: usize) {
        let queue = &self.queues[queue];
        if queue.waiting.is_empty() && queue.executing == 0 && queue.seats_used == 0 {
            self.active -= 1;
        }
    }

    /// What a queue did not use while it was empty is lost: nothing is served before it came.
    fn bound(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if let Some(first) = queue.waiting.front() {
            queue.next = queue.next.max(first.arrived);
        }
    }

    fn unqueue(&mut self, queue: usize, at: usize) -> Option<Waiting> {
        let queue = &mut self.queues[queue];
        let waiting = queue.waiting.remove(at)?;
        queue.work = match queue.waiting.is_empty() {
            true => 0.0,
            false => queue.work - waiting.want.work(),
        };
        self.waiting -= 1;
        self.seats_wanted -= waiting.want.seats;
        Some(waiting)
    }

    fn seat(
        &mut self,
        set: &Arc<QueueSet>,
        queue: Option<usize>,
        want: Want,
        now: Instant,
    ) -> Seats {
        self.executing += 1;
        self.seats_used += want.seats;
        if let Some(at) = queue {
            let queue = &mut self.queues[at];
            queue.executing += 1;
            queue.seats_used += want.seats;
            queue.next += want.work();
            self.bound(at);
        }
        self.note_demand(now);
        Seats {
            set: set.clone(),
            queue,
            want,
            since: now,
        }
    }

    /// Serves as many as there are seats for.
    fn serve(&mut self, set: &Arc<QueueSet>, now: Instant) -> Grants {
        let mut grants = Grants::new();
        while self.waiting > 0 && self.seats_used < self.limit {
            let Some(queue) = self.first_to_finish() else {
                break;
            };
            let Some(want) = self.queues[queue].waiting.front().map(|w| w.want) else {
                break;
            };
            if !self.has_room(want.seats) {
                break;
            }
            let Some(waiting) = self.unqueue(queue, 0) else {
                break;
            };
            self.robin = queue;
            let seats = self.seat(set, Some(queue), want, now);
            grants.push((waiting.grant, seats));
        }
        grants
    }

    /// The queue whose first request would end first. Of several, the next in turn.
    fn first_to_finish(&self) -> Option<usize> {
        let count = self.queues.len();
        let order = (1..=count).map(|n| (self.robin + n) % count);
        order
            .filter_map(|at| {
                let queue = &self.queues[at];
                let first = queue.waiting.front()?;
                Some((at, queue.next + first.want.work()))
            })
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(at, _)| at)
    }

    /// Removes queues that are too many and empty.
    fn trim(&mut self) {
        while self.queues.len() > self.queuing.queues
            && self.queues.last().is_some_and(|queue| {
                queue.waiting.is_empty() && queue.executing == 0 && queue.seats_used == 0
            })
        {
            self.queues.pop();
        }
        self.robin = self.robin.min(self.queues.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
