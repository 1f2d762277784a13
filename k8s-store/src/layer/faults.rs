//! Faults on purpose, from a seed.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tower_layer::Layer;

use crate::{
    Committed, Entry, Error, List, Page, Revision, Store, WatchBatch, WatchStream, Write,
    testing::Random,
};

/// Which faults a [`FaultLayer`] makes, and how often: shares are of 1, and 0 is
/// never. The default makes none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultPlan {
    /// What all chance comes from: the same calls in the same order meet the
    /// same faults.
    pub seed: u64,
    /// The share of requests, and of a watch's batches, that are delayed…
    pub delays: f64,
    /// …and for how long at most.
    pub delay: Duration,
    /// The share of requests that do not happen and return [`Error::Unavailable`].
    pub errors_before: f64,
    /// The share of commits that happen and return [`Error::Unavailable`].
    pub errors_after: f64,
    /// The share of a watch's batches instead of which it ends with
    /// [`Error::Lagged`].
    pub watch_drops: f64,
    /// The share of a watch's batches that it yields twice. No store may do
    /// that, and the conformance kit says so.
    pub watch_duplicates: f64,
    /// Crash at a commit.
    pub crash: Option<Crash>,
}

/// When to crash. From then on everything returns [`Error::Closed`], as if the
/// process were gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Instead of the nth commit, counted from 1.
    Before(u64),
    /// When the nth commit has happened, before its answer.
    After(u64),
}

/// Makes faults on purpose, for tests of what uses a store.
///
/// ```
/// use k8s_store::{Error, MemoryStore, Store, layer::{FaultLayer, FaultPlan}};
/// use tower_layer::Layer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let plan = FaultPlan { seed: 7, errors_after: 1.0, ..FaultPlan::default() };
/// let store = FaultLayer::new(plan).layer(MemoryStore::new());
/// let lost = store.commit(vec![]).await;
/// assert!(matches!(lost, Err(Error::Unavailable { .. })));
/// assert_eq!(store.revision().await.expect("reads work").0, 2);
/// # }
/// ```
#[derive(Clone)]
pub struct FaultLayer {
    shared: Arc<Shared>,
}

struct Shared {
    plan: FaultPlan,
    random: Mutex<Random>,
    commits: AtomicU64,
    crashed: AtomicBool,
    /// What else to do when it comes to the crash.
    on_crash: Box<dyn Fn() + Send + Sync>,
}

impl FaultLayer {
    /// A layer that follows the plan.
    pub fn new(plan: FaultPlan) -> Self {
        Self::on_crash(plan, || {})
    }

    /// A layer that, when the plan has it crash, does this first: end the
    /// process, for one.
    pub fn on_crash(plan: FaultPlan, crash: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                plan,
                random: Mutex::new(Random::new(plan.seed)),
                commits: AtomicU64::new(0),
                crashed: AtomicBool::new(false),
                on_crash: Box::new(crash),
            }),
        }
    }
}

impl fmt::Debug for FaultLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultLayer")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = FaultedStore<S>;

    fn layer(&self, inner: S) -> FaultedStore<S> {
        FaultedStore {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// The store that [`FaultLayer`] makes.
#[derive(Clone, Debug)]
pub struct FaultedStore<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl Shared {
    fn happens(&self, share: f64) -> bool {
        share > 0.0 && self.random.lock().unit() < share
    }

    async fn dawdle(&self) {
        if self.happens(self.plan.delays) {
            let part = self.random.lock().unit();
            tokio::time::sleep(self.plan.delay.mul_f64(part)).await;
        }
    }

    /// What may happen before any request.
    async fn before(&self) -> Result<(), Error> {
        self.check()?;
        self.dawdle().await;
        if self.happens(self.plan.errors_before) {
            return Err(unavailable());
        }
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        if self.crashed.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        Ok(())
    }

    fn crash_at(&self, now: Crash) -> Result<(), Error> {
        if self.plan.crash == Some(now) {
            self.crashed.store(true, Ordering::SeqCst);
            (self.on_crash)();
        }
        self.check()
    }
}

fn unavailable() -> Error {
    Error::Unavailable {
        source: Arc::new(io::Error::other("a fault made on purpose")),
    }
}

#[async_trait]
impl<S: Store> Store for FaultedStore<S> {
    async fn revision(&self) -> Result<Revision, Error> {
        self.shared.before().await?;
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.shared.before().await?;
        self.inner.get(key, at).await
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        self.shared.before().await?;
        self.inner.list(list).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        self.shared.before().await?;
        let number = self.shared.commits.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.crash_at(Crash::Before(number))?;
        let done = self.inner.commit(writes).await?;
        self.shared.crash_at(Crash::After(number))?;
        if self.shared.happens(self.shared.plan.errors_after) {
            return Err(unavailable());
        }
        Ok(done)
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        self.shared.before().await?;
        let stream = self.inner.watch(prefix, after).await?;
        let state = Some((stream, None, Arc::clone(&self.shared)));
        Ok(stream::unfold(state, next).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.shared.before().await?;
        self.inner.compact(revision).await
    }
}

type Watch = Option<(WatchStream, Option<WatchBatch>, Arc<Shared>)>;

async fn next(state: Watch) -> Option<(Result<WatchBatch, Error>, Watch)> {
    let (mut stream, again, shared) = state?;
    if let Some(batch) = again {
        return Some((Ok(batch), Some((stream, None, shared))));
    }
    let batch = stream.next().await?;
    shared.dawdle().await;
    if let Err(error) = shared.check() {
        return Some((Err(error), None));
    }
    if shared.happens(shared.plan.watch_drops) {
        return Some((Err(Error::Lagged), None));
    }
    let twice = shared.happens(shared.plan.watch_duplicates);
    let again = batch.as_ref().ok().filter(|_| twice).cloned();
    Some((batch, Some((stream, again, shared))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore,
        testing::{self, Subject},
    };

    async fn outcomes(plan: FaultPlan) -> Vec<bool> {
        let store = FaultLayer::new(plan).layer(MemoryStore::new());
        let mut outcomes = Vec::new();
        for _ in 0..100 {
            outcomes.push(store.commit(vec![]).await.is_ok());
        }
        outcomes
    }

    #[tokio::test(start_paused = true)]
    async fn the_seed_decides() {
        let plan = |seed| FaultPlan {
            seed,
            errors_before: 0.2,
            errors_after: 0.2,
            delays: 0.5,
            delay: Duration::from_secs(60),
            ..FaultPlan::default()
        };
        let first = outcomes(plan(1)).await;
        assert!(first.contains(&true) && first.contains(&false));
        assert_eq!(outcomes(plan(1)).await, first);
        assert_ne!(outcomes(plan(2)).await, first);
    }

    #[tokio::test]
    async fn a_crash_comes_before_or_after_the_commit_and_is_final() {
        for (crash, left) in [
            (Crash::Before(3), Revision(3)),
            (Crash::After(3), Revision(4)),
        ] {
            let inner = MemoryStore::new();
            let called = Arc::new(AtomicBool::new(false));
            let plan = FaultPlan {
                crash: Some(crash),
                ..FaultPlan::default()
            };
            let tell = Arc::clone(&called);
            let layer = FaultLayer::on_crash(plan, move || tell.store(true, Ordering::SeqCst));
            let store = layer.layer(inner.clone());
            let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
            for n in 1..=5 {
                assert_eq!(store.commit(vec![]).await.is_ok(), n < 3);
            }
            assert!(called.load(Ordering::SeqCst));
            assert!(matches!(store.revision().await, Err(Error::Closed)));
            assert_eq!(inner.revision().await.unwrap(), left);
            drop(inner);
            drop(store);
            assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
        }
    }

    #[tokio::test]
    async fn an_error_before_is_a_commit_that_did_not_happen_and_one_after_is_one_that_did() {
        for (errors_before, errors_after, left) in
            [(1.0, 0.0, Revision(1)), (0.0, 1.0, Revision(2))]
        {
            let inner = MemoryStore::new();
            let plan = FaultPlan {
                errors_before,
                errors_after,
                ..FaultPlan::default()
            };
            let store = FaultLayer::new(plan).layer(inner.clone());
            let lost = store.commit(vec![]).await;
            assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
            assert_eq!(inner.revision().await.unwrap(), left);
            // Reads fail before, or not at all.
            assert_eq!(store.revision().await.is_ok(), errors_before == 0.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_batches_are_delayed_and_never_for_longer_than_the_plan_says() {
        let plan = FaultPlan {
            delays: 0.5,
            delay: Duration::from_secs(60),
            ..FaultPlan::default()
        };
        let store = FaultLayer::new(plan).layer(MemoryStore::new());
        let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
        let (mut late, mut prompt) = (0, 0);
        let mut waited = |begun: tokio::time::Instant| {
            let took = begun.elapsed();
            assert!(took <= plan.delay, "{took:?}");
            *(if took.is_zero() {
                &mut prompt
            } else {
                &mut late
            }) += 1;
        };
        for n in 0..50 {
            let begun = tokio::time::Instant::now();
            let op = crate::Op::Put {
                value: n.to_string().into(),
                ttl: None,
            };
            let put = Write {
                key: "a".into(),
                expect: crate::Expect::Any,
                op,
            };
            store.commit(vec![put]).await.unwrap();
            waited(begun);
            let begun = tokio::time::Instant::now();
            watch.next().await.unwrap().unwrap();
            waited(begun);
        }
        assert!(late > 20 && prompt > 20, "{late} late, {prompt} in time");
    }

    #[tokio::test]
    async fn a_watch_that_is_dropped_goes_on_after_the_last_revision_seen() {
        let plan = FaultPlan {
            watch_drops: 0.2,
            ..FaultPlan::default()
        };
        let inner = MemoryStore::new();
        let store = FaultLayer::new(plan).layer(inner.clone());
        for n in 0..100 {
            let op = crate::Op::Put {
                value: n.to_string().into(),
                ttl: None,
            };
            let put = Write {
                key: "a".into(),
                expect: crate::Expect::Any,
                op,
            };
            inner.commit(vec![put]).await.unwrap();
        }
        let (mut seen, mut drops) = (Revision(1), 0);
        while seen < Revision(101) {
            let mut watch = store.watch(Bytes::new(), seen).await.unwrap();
            let mut ended = false;
            while let Some(batch) = watch.next().await {
                assert!(!ended, "nothing comes after the error");
                match batch {
                    Ok(batch) => {
                        assert_eq!(batch.revision.0, seen.0 + 1, "neither gap nor repetition");
                        seen = batch.revision;
                        if seen == Revision(101) {
                            break;
                        }
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Lagged), "{error}");
                        (ended, drops) = (true, drops + 1);
                    }
                }
            }
        }
        assert!(drops > 5, "only {drops} drops");
    }

    #[tokio::test(start_paused = true)]
    async fn the_kit_refuses_duplicates() {
        let plan = FaultPlan {
            watch_duplicates: 0.1,
            ..FaultPlan::default()
        };
        let store: Subject = Arc::new(FaultLayer::new(plan).layer(MemoryStore::new()));
        let test = testing::a_watch_yields_every_later_change_once_and_in_order(store);
        assert!(tokio::spawn(test).await.is_err());
    }
}
