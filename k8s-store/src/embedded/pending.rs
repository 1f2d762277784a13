//! Commits on their way to the disk.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use tokio::sync::{oneshot, watch};

use super::{crash_point, log::Failure, record};
use crate::{
    Committed, Error, Limits, Op, Revision, WatchBatch, Write,
    state::{Edit, Expire, Head, Timer, View, expires},
};

/// From how many commits in a group on the next is gathered.
const SEVERAL: usize = 8;
/// With so many, a sync costs each of them little.
const ENOUGH: usize = 16;
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_micros(600);

/// What the handles, the writer's thread and the expiry task have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) timer: Arc<Timer>,
    /// What is on disk, and so may be seen. Locked after `pending`, never before.
    pub(crate) view: RwLock<View>,
    pending: Mutex<Pending>,
    /// Wakes the writer.
    work: Condvar,
    /// How closing went, once it has.
    pub(crate) closed: watch::Sender<Option<Result<(), Error>>>,
}

/// What is not on disk yet.
#[derive(Debug)]
struct Pending {
    /// The data with every commit that was let through, in order: each one's
    /// guards see all that came before, though nobody else does yet. It has a
    /// tree of its own: two heads that share nodes copy what they write to.
    head: Head,
    group: Group,
    /// Where in its log file the group's first record will be: everything
    /// before is on disk when the group is written.
    base: u64,
    /// The writer has a group in hand.
    busy: bool,
    /// The writer waits until the group has so many commits.
    wanted: Option<usize>,
    closing: bool,
    failed: Option<Failure>,
}

/// The commits that share one sync.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) records: Vec<u8>,
    pub(crate) batches: Vec<WatchBatch>,
    /// What the batches do to the view's tree.
    edits: Vec<Edit>,
    waiting: Vec<Waiting>,
    compact: Option<Revision>,
}

#[derive(Debug)]
struct Waiting {
    outcome: Result<Committed, Error>,
    reply: oneshot::Sender<Result<Committed, Error>>,
}

impl Group {
    /// How many commits wait for it.
    pub(crate) fn size(&self) -> usize {
        self.waiting.len()
    }
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write the group.
    Group(Group),
    /// There will be no further group.
    Close,
}

/// The answer to a commit: known, or to come.
type Submitted = Result<oneshot::Receiver<Result<Committed, Error>>, Error>;

impl Shared {
    pub(crate) fn new(limits: Limits, timer: Timer, view: View, base: u64) -> Self {
        Self {
            limits,
            timer: Arc::new(timer),
            pending: Mutex::new(Pending {
                head: view.head.clone(),
                group: Group::default(),
                base,
                busy: false,
                wanted: None,
                closing: false,
                failed: None,
            }),
            view: RwLock::new(view),
            work: Condvar::new(),
            closed: watch::Sender::new(None),
        }
    }

    /// Judges a batch and, if it holds, puts it in the next group.
    pub(crate) fn submit(&self, writes: Vec<Write>) -> Submitted {
        self.limits.check(&writes)?;
        let now = self.timer.clock.stamp();
        let mut pending = self.pending.lock();
        pending.check()?;
        pending.submit(writes, now, &self.timer, &self.work)
    }

    /// Forgets the history before a revision once that is on disk.
    pub(crate) fn compact(&self, revision: Revision) -> Submitted {
        let mut pending = self.pending.lock();
        pending.check()?;
        self.view.read().check_compact(revision)?;
        let base = pending.base;
        record::compact(&mut pending.group.records, base, revision);
        pending.group.compact = pending.group.compact.max(Some(revision));
        let done = Committed {
            revision,
            previous: Vec::new(),
        };
        Ok(pending.wait(Ok(done), &self.work))
    }

    /// Lets no further commit in; the writer ends when it has written the others.
    pub(crate) fn close(&self) {
        self.pending.lock().closing = true;
        self.work.notify_one();
    }

    /// Waits for work. `plan` is told the length of the group that comes
    /// and the revision it leads to, and answers where the group after it begins. `spare` is an empty buffer for
    /// that one, and `last` the number of commits in the group before.
    pub(crate) fn next(
        &self,
        spare: Vec<u8>,
        last: usize,
        plan: impl FnOnce(u64, Revision) -> u64,
    ) -> Work {
        let mut pending = self.pending.lock();
        pending.busy = false;
        self.gather(&mut pending, last);
        while pending.group.waiting.is_empty() {
            if pending.closing {
                return Work::Close;
            }
            pending.wanted = Some(1);
            self.work.wait(&mut pending);
            pending.wanted = None;
        }
        pending.busy = true;
        let group = mem::take(&mut pending.group);
        pending.group.records = spare;
        pending.base = plan(group.records.len() as u64, pending.head.revision);
        Work::Group(group)
    }

    /// After a group of several commits, waits until there are several again. When the processors are busy, they
    /// come so slowly that each would have a sync nearly to itself, which costs as much as the commit.
    fn gather(&self, pending: &mut MutexGuard<'_, Pending>, last: usize) {
        if last < SEVERAL {
            return;
        }
        // Those who were just answered, and those who wait, are likely to be all that there are.
        let wanted = ENOUGH.min((last + pending.group.waiting.len()) * 4 / 5);
        let until = Instant::now() + PATIENCE;
        while pending.group.waiting.len() < wanted && !pending.closing {
            pending.wanted = Some(wanted);
            if self.work.wait_until(pending, until).timed_out() {
                break;
            }
        }
        pending.wanted = None;
    }

    /// Makes a group visible that is on disk now, and answers its commits.
    pub(crate) fn publish(&self, group: Group) {
        let mut view = self.view.write();
        if let Some(last) = group.batches.last() {
            view.head.redo(group.edits, last.revision);
        }
        // Before the watchers: they are many, and the callers wait already. Who reads now waits for the lock.
        crash_point!(Published);
        for waiting in group.waiting {
            // A caller that no longer waits does not want to know.
            let _ = waiting.reply.send(waiting.outcome);
        }
        if !group.batches.is_empty() {
            view.publish(&group.batches);
        }
        if let Some(revision) = group.compact {
            view.compact(revision);
        }
    }

    /// Answers every commit on its way with an error, and begins anew from what
    /// is on disk. The next group will be written at `base`.
    pub(crate) fn fail(&self, group: Group, failure: &Failure, base: u64) {
        let mut pending = self.pending.lock();
        let behind = mem::take(&mut pending.group);
        pending.head = self.view.read().head.clone();
        pending.base = base;
        if matches!(failure, Failure::Unknown(_)) {
            pending.failed = Some(failure.clone());
        }
        drop(pending);
        for waiting in group.waiting.into_iter().chain(behind.waiting) {
            let _ = waiting.reply.send(Err(failure.clone().into()));
        }
    }

    /// Whether it is known what is on disk.
    pub(crate) fn check_disk(&self) -> Result<(), Error> {
        match &self.pending.lock().failed {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// Ends everything, whether the writer closed the store or died.
    pub(crate) fn end(&self, outcome: Result<(), Error>) {
        let mut pending = self.pending.lock();
        pending.closing = true;
        // Dropping the other end tells the callers.
        pending.group = Group::default();
        drop(pending);
        self.view.write().close();
        self.closed.send_replace(Some(outcome));
    }
}

impl Pending {
    fn check(&self) -> Result<(), Error> {
        if self.closing {
            return Err(Error::Closed);
        }
        match &self.failed {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    fn submit(&mut self, writes: Vec<Write>, now: u64, timer: &Timer, work: &Condvar) -> Submitted {
        let outcome = match self.head.judge(&writes) {
            Ok(previous) => {
                let revision = Revision(self.head.revision.0 + 1);
                let records = &mut self.group.records;
                record::commit(records, self.base, revision, &writes, &previous, now);
                for write in &writes {
                    if let Op::Put {
                        ttl: ttl @ Some(_), ..
                    } = write.op
                    {
                        timer.note(expires(now, ttl), write.key.clone());
                    }
                }
                let edits = Some(&mut self.group.edits);
                let batch = self.head.apply(writes, &previous, now, edits);
                self.group.batches.push(batch);
                crash_point!(CommitQueued);
                Ok(Committed { revision, previous })
            }
            // Nothing is on its way that the judgement could rest on.
            Err(error) if !self.busy && self.group.waiting.is_empty() => return Err(error),
            // It may rest on commits that never happened, if the disk fails now.
            Err(error) => Err(error),
        };
        Ok(self.wait(outcome, work))
    }

    fn wait(
        &mut self,
        outcome: Result<Committed, Error>,
        work: &Condvar,
    ) -> oneshot::Receiver<Result<Committed, Error>> {
        let (reply, answer) = oneshot::channel();
        self.group.waiting.push(Waiting { outcome, reply });
        let waiting = self.group.waiting.len();
        if self.wanted.take_if(|wanted| *wanted <= waiting).is_some() {
            work.notify_one();
        }
        answer
    }
}

#[async_trait::async_trait]
impl Expire for Shared {
    async fn expire(&self) -> Result<(), Error> {
        let due: Vec<(u64, Bytes)> = self.timer.take_due();
        let submitted = {
            let mut pending = self.pending.lock();
            pending.check().and_then(|()| {
                let writes = pending.head.deletions(&due);
                if writes.is_empty() {
                    return Ok(None);
                }
                pending.submit(writes, 0, &self.timer, &self.work).map(Some)
            })
        };
        let outcome = match submitted {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => answer.await.unwrap_or(Err(Error::Closed)).map(|_| ()),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            for (expires, key) in due {
                self.timer.note(expires, key);
            }
        }
        outcome
    }
}
