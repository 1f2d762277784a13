//! Clients let loose on a store, and a judgement of all that they saw.
//!
//! What etcd's robustness tests do with a general checker is simpler here,
//! for the store says the order itself: every commit has its revision. What is
//! left is to see whether everything else agrees with that order.

mod judge;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Random, Subject, put, value, write};
use crate::{Committed, Entry, Error, Expect, List, Op, Page, Revision, WatchBatch, Write};

/// How clients are let loose on a store by [`check_history`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPlan {
    /// What all chance comes from, but for the order in which tasks run.
    pub seed: u64,
    /// How many clients there are at once.
    pub clients: usize,
    /// How many requests each makes.
    pub requests: usize,
    /// How many watch at once.
    pub watchers: usize,
    /// How long a client waits after each request.
    pub pause: Duration,
}

impl Default for HistoryPlan {
    fn default() -> Self {
        Self {
            seed: 0,
            clients: 8,
            requests: 200,
            watchers: 6,
            pause: Duration::ZERO,
        }
    }
}

/// Lets clients commit, read, compact and watch at once, then judges what they
/// saw: whether there is one order of all commits and reads, in agreement with
/// time, that explains every answer (strict serializability); whether every
/// watch, across reconnects, has yielded each change once and in order; whether
/// commits without an answer happened as a whole, or not at all, and once.
///
/// Nobody else may write to the store meanwhile. It may have data and history
/// from before, and its caller may disturb it in any way that it promises to
/// bear: errors that leave it open whether a commit happened are taken for that.
/// When the clients have finished, it has to recover.
///
/// # Panics
///
/// If a promise is broken; the message tells how.
pub async fn check_history(store: Subject, plan: HistoryPlan) {
    let run = Arc::new(Run {
        clock: AtomicU64::new(0),
        records: Mutex::default(),
        attempts: AtomicU64::new(0),
        begin: persist(|| store.list(List::default())).await,
        finished: watch::Sender::new(Revision(u64::MAX)),
        plan,
        store,
    });
    let begin = run.begin.revision;
    let positions: Arc<[AtomicU64]> = (0..plan.watchers.max(1))
        .map(|_| AtomicU64::new(begin.0))
        .collect();
    // The first one watches everything, and is what all others are held against.
    let watchers = (0..positions.len()).map(|n| {
        let prefix = Bytes::from_static([&b""[..], b"a/", b"b/", b"a"][n % 4]);
        let run = Arc::clone(&run);
        let positions = Arc::clone(&positions);
        tokio::spawn(async move {
            let seen = run.watch(&prefix, begin, &positions[n]).await;
            (prefix, seen)
        })
    });
    let watchers: Vec<_> = watchers.collect();
    let clients = (0..plan.clients).map(|n| {
        let run = Arc::clone(&run);
        let positions = Arc::clone(&positions);
        tokio::spawn(async move { run.client(n, &positions).await })
    });
    for client in join_all(clients).await {
        client.expect("no client panics");
    }
    let end = run.end().await;
    run.finished.send_replace(end);
    let mut seen = Vec::new();
    for watcher in join_all(watchers).await {
        seen.push(watcher.expect("no watcher panics"));
    }
    let last = persist(|| run.store.list(List::default())).await;
    let records = std::mem::take(&mut *run.records.lock());
    judge::judge(&run.begin, records, &seen, end, &last);
}

/// The keys that the watchers stop at.
const END: [&str; 2] = ["a/~end", "b/~end"];

struct Run {
    store: Subject,
    plan: HistoryPlan,
    begin: Page,
    /// The revision of the last commit, once that was acknowledged: one that was not may have
    /// happened too, and is not where watchers stop.
    finished: watch::Sender<Revision>,
    /// Counts beginnings and ends of requests, in the order of time.
    clock: AtomicU64,
    attempts: AtomicU64,
    records: Mutex<Vec<Record>>,
}

/// One request and its answer.
#[derive(Debug)]
struct Record {
    begun: u64,
    ended: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Commit(Vec<Write>, Result<Committed, Error>),
    Get(Bytes, Result<Option<Entry>, Error>),
    List(List, Result<Page, Error>),
    Revision(Result<Revision, Error>),
    Compact(Revision),
}

impl Run {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes a request and notes what came of it.
    async fn record<T: Clone>(
        &self,
        request: impl Future<Output = T>,
        what: impl FnOnce(T) -> What,
    ) -> T {
        let begun = self.tick();
        let answer = request.await;
        let ended = self.tick();
        let what = what(answer.clone());
        self.records.lock().push(Record { begun, ended, what });
        answer
    }

    async fn client(&self, number: usize, positions: &[AtomicU64]) {
        let mut random = Random::new(self.plan.seed.wrapping_mul(1000) + number as u64);
        let mut known: Vec<Entry> = Vec::new();
        let mut newest = self.begin.revision;
        for _ in 0..self.plan.requests {
            match random.below(20) {
                0..=9 => {
                    let writes = self.writes(&mut random, &known);
                    let commit = self.store.commit(writes.clone());
                    let done = self.record(commit, |done| What::Commit(writes, done)).await;
                    if let Err(Error::Conflict {
                        actual: Some(actual),
                        ..
                    }) = done
                    {
                        known.push(actual);
                    } else if let Ok(done) = done {
                        newest = newest.max(done.revision);
                    }
                }
                10..=14 => {
                    let key = key(&mut random);
                    let get = self.store.get(&key, None);
                    let found = self
                        .record(get, |found| What::Get(key.clone(), found))
                        .await;
                    known.extend(found.ok().flatten());
                }
                15 | 16 => {
                    let list = self.list(&mut random, newest);
                    let page = self.store.list(list.clone());
                    let page = self.record(page, |page| What::List(list, page)).await;
                    if let Ok(page) = page {
                        newest = newest.max(page.revision);
                        known.extend(page.entries);
                    }
                }
                17 | 18 => {
                    let at = self.record(self.store.revision(), What::Revision).await;
                    newest = newest.max(at.unwrap_or(newest));
                }
                _ => self.compact(&mut random, positions).await,
            }
            if known.len() > 20 {
                known.drain(..10);
            }
            if !self.plan.pause.is_zero() {
                tokio::time::sleep(self.plan.pause).await;
            }
        }
    }

    /// A batch that no other client makes.
    fn writes(&self, random: &mut Random, known: &[Entry]) -> Vec<Write> {
        let mut writes: Vec<Write> = Vec::new();
        for _ in 0..random.below(4) {
            let seen = (!known.is_empty()).then(|| &known[random.below(known.len())]);
            let (key, expect) = match (random.below(4), seen) {
                (0 | 1, Some(seen)) => (seen.key.clone(), Expect::Modified(seen.modified)),
                (2, _) => (key(random), Expect::Absent),
                _ => (key(random), Expect::Any),
            };
            if key.ends_with(b"end") || writes.iter().any(|write| write.key == key) {
                continue;
            }
            let number = self.attempts.fetch_add(1, Ordering::Relaxed);
            let op = match random.below(8) {
                0 | 1 => Op::Delete,
                2 => Op::Check,
                _ => value(format!("{}-{number}", self.plan.seed)),
            };
            writes.push(write(key, expect, op));
        }
        writes
    }

    fn list(&self, random: &mut Random, newest: Revision) -> List {
        let back = u64::try_from(random.below(40)).unwrap_or(0);
        let past = Revision(newest.0.saturating_sub(back).max(self.begin.revision.0));
        List {
            prefix: ["", "a/", "b/", "b/1"][random.below(4)].into(),
            after: None,
            at: (random.below(2) == 0).then_some(past),
            limit: (random.below(2) == 0).then(|| 1 + random.below(8)),
        }
    }

    /// Compacts what every watcher has seen.
    async fn compact(&self, random: &mut Random, positions: &[AtomicU64]) {
        let seen = positions.iter().map(|at| at.load(Ordering::SeqCst)).min();
        let seen = seen.unwrap_or(0);
        let back = u64::try_from(random.below(20)).unwrap_or(0);
        let at = Revision(seen.saturating_sub(back));
        if at <= self.begin.revision {
            return;
        }
        // It may happen whatever the answer, so it counts from its beginning.
        let begun = self.tick();
        self.records.lock().push(Record {
            begun,
            ended: begun,
            what: What::Compact(at),
        });
        let _ = self.store.compact(at).await;
    }

    /// Writes what the watchers stop at, and returns when.
    async fn end(&self) -> Revision {
        let ends = || {
            END.map(|key| put(key, format!("{}-end", self.plan.seed)))
                .to_vec()
        };
        // One that had no answer may have happened: then so does this one.
        let commit = || self.record(self.store.commit(ends()), |done| What::Commit(ends(), done));
        persist(commit).await.revision
    }

    /// Watches until the end, again and again if need be.
    async fn watch(&self, prefix: &Bytes, from: Revision, position: &AtomicU64) -> Vec<WatchBatch> {
        let mut batches: Vec<WatchBatch> = Vec::new();
        let mut seen = from;
        let mut deadline = Instant::now() + LONGEST;
        let mut finished = self.finished.subscribe();
        loop {
            let Ok(mut stream) = self.store.watch(prefix.clone(), seen).await else {
                assert!(Instant::now() < deadline, "no watch begins any more");
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            loop {
                if seen >= *finished.borrow_and_update() {
                    return batches;
                }
                let next = tokio::select! {
                    next = tokio::time::timeout_at(deadline, stream.next()) => next,
                    _ = finished.changed() => {
                        deadline = Instant::now() + LONGEST;
                        continue;
                    }
                };
                let Some(next) = next.expect("a watch has news, and comes to the end") else {
                    break;
                };
                match next {
                    Ok(batch) => {
                        assert!(
                            batch.revision >= seen,
                            "a watch went back to {}",
                            batch.revision
                        );
                        if batch.revision > seen {
                            deadline = Instant::now() + LONGEST;
                        }
                        seen = batch.revision;
                        position.store(seen.0, Ordering::SeqCst);
                        if batch.changes.is_empty() {
                            continue;
                        }
                        batches.push(batch);
                    }
                    Err(Error::Compacted { requested, oldest }) => {
                        panic!("what was not seen was compacted: {requested} before {oldest}")
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

fn key(random: &mut Random) -> Bytes {
    format!("{}/{}", ["a", "b", "ab"][random.below(3)], random.below(6)).into()
}

const PAUSE: Duration = Duration::from_millis(10);
/// How long the store may take to recover, and a watch to have news.
const LONGEST: Duration = Duration::from_secs(60);

/// Asks until the store answers.
async fn persist<T, F>(mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let deadline = Instant::now() + LONGEST;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(
                Instant::now() < deadline,
                "the store does not recover: {error}"
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
