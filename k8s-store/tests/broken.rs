//! Each test of the kit can fail: for every promise there is a store that
//! breaks it, and nothing but the promise's test is asked about it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use k8s_store::{
    Change, Committed, Entry, Error, Expect, List, MemoryStore, Op, Page, Revision, Store,
    WatchBatch, WatchStream, Write,
    testing::{self, Subject},
};
use parking_lot::Mutex;
use tokio::{sync::watch, task::yield_now};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    RevisionOff,
    FailedCommitsCount,
    EachWriteAlone,
    HalfBatches,
    IgnoresAbsent,
    IgnoresPresent,
    IgnoresModified,
    VagueConflicts,
    LastConflict,
    ChecksWrite,
    NoPrevious,
    CreatedIsModified,
    AbsentDeletesAreFree,
    DuplicatesMerge,
    EmptyKeys,
    TextOnly,
    LateVisibility,
    OnlyTheNewest,
    Descending,
    ForgetsAfter,
    NothingRemains,
    ShortLists,
    PagesOfNow,
    FutureIsNow,
    RepeatsBatches,
    WatchesFromNow,
    WatchesOneLate,
    WatchesAll,
    SplitsBatches,
    NothingBefore,
    SkipsBatches,
    OneWatcherOnly,
    DropsAreContagious,
    NeverCompacts,
    CompactsAll,
    CompactsOnce,
    NeverExpires,
    ExpiresEarly,
    ExpiresWhatIsRenewed,
    SkipsRevisions,
}

#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    flaw: Flaw,
    leases: Mutex<HashMap<Bytes, Duration>>,
    compacted: Mutex<BTreeSet<Revision>>,
    watchers: AtomicUsize,
    drops: watch::Sender<u64>,
}

impl Broken {
    fn subject(flaw: Flaw) -> Subject {
        Arc::new(Self {
            inner: MemoryStore::new(),
            flaw,
            leases: Mutex::default(),
            compacted: Mutex::default(),
            watchers: AtomicUsize::new(0),
            drops: watch::Sender::new(0),
        })
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    async fn at(&self, at: Option<Revision>) -> Result<Option<Revision>, Error> {
        let now = self.inner.revision().await?;
        Ok(match (self.flaw, at) {
            (Flaw::OnlyTheNewest, _) => None,
            (Flaw::LateVisibility, None) => Some(Revision(now.0.saturating_sub(1).max(1))),
            (Flaw::FutureIsNow, Some(at)) => Some(at.min(now)),
            _ => at,
        })
    }

    /// What becomes of a write on its way in.
    fn bend(&self, mut write: Write) -> Write {
        write.expect = match (self.flaw, write.expect) {
            (Flaw::IgnoresAbsent, Expect::Absent)
            | (Flaw::IgnoresPresent, Expect::Present)
            | (Flaw::IgnoresModified, Expect::Modified(_)) => Expect::Any,
            (_, expect) => expect,
        };
        if self.is(Flaw::EmptyKeys) && write.key.is_empty() {
            write.key = "empty".into();
        }
        if self.is(Flaw::ChecksWrite) && write.op == Op::Check {
            write.op = Op::Put {
                value: "checked".into(),
                ttl: None,
            };
        }
        let mut leases = self.leases.lock();
        if let Op::Put { value, ttl } = &mut write.op {
            match self.flaw {
                Flaw::TextOnly => *value = String::from_utf8_lossy(value).into_owned().into(),
                Flaw::NeverExpires => *ttl = None,
                Flaw::ExpiresEarly => *ttl = ttl.map(|ttl| ttl / 2),
                Flaw::ExpiresWhatIsRenewed => {
                    let first = leases.get(&write.key).copied();
                    *ttl = first.or(*ttl);
                    leases.extend(ttl.map(|ttl| (write.key.clone(), ttl)));
                }
                _ => {}
            }
        }
        write
    }

    async fn each_alone(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        let mut done = Committed {
            revision: self.inner.revision().await?,
            previous: Vec::new(),
        };
        for write in writes {
            let one = self.inner.commit(vec![write]).await?;
            done.revision = one.revision;
            done.previous.extend(one.previous);
            yield_now().await;
        }
        Ok(done)
    }

    async fn conflicted(&self, writes: Vec<Write>, error: Error) -> Result<Error, Error> {
        let Error::Conflict {
            key,
            expected,
            actual,
        } = error
        else {
            return Ok(error);
        };
        match self.flaw {
            Flaw::FailedCommitsCount => {
                self.inner.commit(Vec::new()).await?;
            }
            Flaw::HalfBatches => {
                let before = writes.into_iter().take_while(|write| *write.key != *key);
                self.inner.commit(before.collect()).await?;
            }
            _ => {}
        }
        Ok(Error::Conflict {
            key,
            expected,
            actual: actual.filter(|_| !self.is(Flaw::VagueConflicts)),
        })
    }

    fn shown(&self, mut entry: Entry) -> Entry {
        if self.is(Flaw::CreatedIsModified) {
            entry.created = entry.modified;
        }
        entry
    }
}

#[async_trait]
impl Store for Broken {
    async fn revision(&self) -> Result<Revision, Error> {
        let revision = self.inner.revision().await?;
        Ok(Revision(revision.0 + u64::from(self.is(Flaw::RevisionOff))))
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        yield_now().await;
        let entry = self.inner.get(key, self.at(at).await?).await?;
        yield_now().await;
        Ok(entry.map(|entry| self.shown(entry)))
    }

    async fn list(&self, mut list: List) -> Result<Page, Error> {
        let asked = list.at;
        list.at = self.at(list.at).await?;
        if self.is(Flaw::ForgetsAfter) {
            list.after = None;
        }
        if self.is(Flaw::PagesOfNow) {
            list.at = None;
        }
        let mut page = self.inner.list(list).await?;
        match self.flaw {
            Flaw::Descending => page.entries.reverse(),
            Flaw::NothingRemains => page.remaining = 0,
            Flaw::ShortLists => page.entries.truncate(1000),
            Flaw::PagesOfNow => page.revision = asked.unwrap_or(page.revision),
            _ => {}
        }
        Ok(page)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        if self.is(Flaw::WatchesFromNow) {
            // So that others get their turn.
            yield_now().await;
        }
        let mut writes: Vec<_> = writes.into_iter().map(|write| self.bend(write)).collect();
        match self.flaw {
            Flaw::EachWriteAlone => return self.each_alone(writes).await,
            Flaw::LastConflict => writes.reverse(),
            Flaw::DuplicatesMerge => {
                let mut seen = BTreeSet::new();
                writes.retain(|write| seen.insert(write.key.clone()));
            }
            Flaw::AbsentDeletesAreFree => {
                let mut absent = true;
                for write in &writes {
                    absent &=
                        write.op == Op::Delete && self.inner.get(&write.key, None).await?.is_none();
                }
                if absent && !writes.is_empty() {
                    return Ok(Committed {
                        revision: self.inner.revision().await?,
                        previous: vec![None; writes.len()],
                    });
                }
            }
            _ => {}
        }
        let mut done = match self.inner.commit(writes.clone()).await {
            Ok(done) => done,
            Err(error) => return Err(self.conflicted(writes, error).await?),
        };
        match self.flaw {
            Flaw::NoPrevious => done.previous.fill(None),
            Flaw::LastConflict => done.previous.reverse(),
            Flaw::SkipsRevisions => {
                self.inner.commit(Vec::new()).await?;
            }
            _ => {}
        }
        Ok(done)
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        let now = self.inner.revision().await?;
        let (prefix, after) = match self.flaw {
            Flaw::WatchesAll => (Bytes::new(), after),
            Flaw::WatchesFromNow => {
                for _ in 0..3 {
                    yield_now().await;
                }
                (prefix, self.inner.revision().await?)
            }
            Flaw::WatchesOneLate => (prefix, now.min(Revision(after.0 + 1))),
            Flaw::FutureIsNow => (prefix, after.min(now)),
            _ => (prefix, after),
        };
        let stream = self.inner.watch(prefix, after).await?;
        let first = self.watchers.fetch_add(1, Ordering::SeqCst) == 0;
        let mut count = 0;
        let flaw = self.flaw;
        let bent = stream.flat_map(move |batch| {
            count += 1;
            let Ok(batch) = batch else {
                return stream::iter(vec![batch]);
            };
            let batches = match flaw {
                Flaw::RepeatsBatches => vec![batch.clone(), batch],
                Flaw::SkipsBatches if count % 7 == 0 => Vec::new(),
                Flaw::OneWatcherOnly if !first => Vec::new(),
                Flaw::SplitsBatches => batch.changes.iter().map(|c| part(&batch, c)).collect(),
                Flaw::NothingBefore => {
                    let changes = batch.changes.iter().cloned();
                    let changes = changes.map(|change| Change {
                        previous: None,
                        ..change
                    });
                    vec![WatchBatch {
                        changes: changes.collect(),
                        ..batch
                    }]
                }
                _ => vec![batch],
            };
            stream::iter(batches.into_iter().map(Ok).collect::<Vec<_>>())
        });
        if !self.is(Flaw::DropsAreContagious) {
            return Ok(bent.boxed());
        }
        let mut dropped = self.drops.subscribe();
        let guard = Contagion(self.drops.clone());
        let sick = stream::once(async move {
            let _ = dropped.changed().await;
            Err(Error::Lagged)
        });
        let both = stream::select(bent.boxed(), sick.boxed());
        Ok(both
            .map(move |batch| {
                let _ = &guard;
                batch
            })
            .boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let now = self.inner.revision().await?;
        match self.flaw {
            Flaw::NeverCompacts => Ok(()),
            Flaw::CompactsAll => self.inner.compact(now).await,
            Flaw::FutureIsNow => self.inner.compact(revision.min(now)).await,
            Flaw::CompactsOnce if !self.compacted.lock().insert(revision) => {
                Err(Error::Compacted {
                    requested: revision,
                    oldest: revision,
                })
            }
            _ => self.inner.compact(revision).await,
        }
    }
}

fn part(batch: &WatchBatch, change: &Change) -> WatchBatch {
    WatchBatch {
        revision: batch.revision,
        changes: Arc::new([change.clone()]),
    }
}

/// Ends the other watches when it is dropped.
struct Contagion(watch::Sender<u64>);

impl Drop for Contagion {
    fn drop(&mut self) {
        self.0.send_modify(|drops| *drops += 1);
    }
}

/// Expands to a test per promise, and the list of them all.
macro_rules! broken {
    ($($promise:ident: $flaw:ident,)*) => {
        $(
            // Paused, so that waiting for what never comes takes no time.
            #[tokio::test(start_paused = true)]
            async fn $promise() {
                let test = tokio::spawn(testing::$promise(Broken::subject(Flaw::$flaw)));
                let outcome = test.await;
                assert!(outcome.is_err(), "{:?} goes unnoticed", Flaw::$flaw);
            }
        )*

        #[test]
        fn every_promise_has_a_store_that_breaks_it() {
            assert_eq!(testing::PROMISES, [$(stringify!($promise)),*]);
        }
    };
}

broken! {
    an_empty_store_is_at_revision_one: RevisionOff,
    every_commit_moves_the_revision_by_one: FailedCommitsCount,
    a_batch_has_one_revision: EachWriteAlone,
    a_batch_is_applied_all_or_none: HalfBatches,
    expect_absent_holds_only_without_an_entry: IgnoresAbsent,
    expect_present_holds_only_with_an_entry: IgnoresPresent,
    expect_modified_holds_only_at_that_revision: IgnoresModified,
    a_conflict_names_the_key_the_demand_and_the_entry: VagueConflicts,
    of_several_conflicts_the_first_is_named: LastConflict,
    a_check_guards_the_batch_and_changes_nothing: ChecksWrite,
    a_commit_returns_what_it_replaced: NoPrevious,
    an_update_keeps_created_and_a_new_beginning_renews_it: CreatedIsModified,
    deleting_an_absent_key_counts_and_changes_nothing: AbsentDeletesAreFree,
    a_key_twice_in_one_batch_is_rejected: DuplicatesMerge,
    an_empty_key_is_rejected: EmptyKeys,
    any_bytes_come_back_as_they_were: TextOnly,
    a_commit_is_visible_once_it_is_acknowledged: LateVisibility,
    get_reads_every_kept_revision: OnlyTheNewest,
    list_is_in_key_order_and_below_the_prefix: Descending,
    list_goes_on_after_a_key: ForgetsAfter,
    list_counts_what_remains: NothingRemains,
    a_long_list_is_complete: ShortLists,
    pages_at_one_revision_fit_together_while_others_write: PagesOfNow,
    a_future_revision_cannot_be_read: FutureIsNow,
    a_watch_yields_every_later_change_once_and_in_order: RepeatsBatches,
    a_watch_begins_in_the_past_and_goes_on_without_a_gap: WatchesFromNow,
    a_watch_from_a_lists_revision_misses_nothing: WatchesOneLate,
    a_watch_sees_its_prefix_and_nothing_else: WatchesAll,
    a_watch_yields_one_batch_per_revision_in_key_order: SplitsBatches,
    a_watch_shows_the_entry_before_and_after: NothingBefore,
    a_watch_cannot_begin_in_the_future: FutureIsNow,
    every_watcher_gets_every_change: OneWatcherOnly,
    a_slow_watcher_is_served_in_full_or_disconnected: SkipsBatches,
    a_dropped_watch_hinders_nobody: DropsAreContagious,
    compaction_forgets_what_is_older: NeverCompacts,
    compaction_keeps_the_present_and_later_history: CompactsAll,
    compaction_may_be_repeated_and_does_not_go_back: CompactsOnce,
    compaction_cannot_reach_into_the_future: FutureIsNow,
    an_expired_key_is_deleted_by_an_ordinary_commit: NeverExpires,
    a_key_does_not_expire_before_its_time: ExpiresEarly,
    a_key_written_again_does_not_expire: ExpiresWhatIsRenewed,
    concurrent_commits_get_consecutive_revisions: SkipsRevisions,
    concurrent_increments_are_never_lost: IgnoresModified,
    of_concurrent_creators_one_wins: IgnoresAbsent,
    a_reader_never_sees_half_a_batch: EachWriteAlone,
    watches_that_begin_among_writes_miss_and_repeat_nothing: WatchesFromNow,
    a_dropped_commit_happened_wholly_or_not_at_all: EachWriteAlone,
    random_commits_match_a_simple_model: IgnoresPresent,
}

/// The checker of histories has eyes of its own.
#[tokio::test(start_paused = true)]
async fn the_checker_of_histories_notices_what_is_broken() {
    for flaw in [
        Flaw::FailedCommitsCount,
        Flaw::EachWriteAlone,
        Flaw::HalfBatches,
        Flaw::IgnoresAbsent,
        Flaw::IgnoresModified,
        Flaw::VagueConflicts,
        Flaw::ChecksWrite,
        Flaw::NoPrevious,
        Flaw::AbsentDeletesAreFree,
        Flaw::LateVisibility,
        Flaw::NothingRemains,
        Flaw::PagesOfNow,
        Flaw::RepeatsBatches,
        Flaw::WatchesAll,
        Flaw::SplitsBatches,
        Flaw::NothingBefore,
        Flaw::SkipsBatches,
        Flaw::SkipsRevisions,
    ] {
        let plan = testing::HistoryPlan {
            pause: Duration::from_millis(1),
            ..testing::HistoryPlan::default()
        };
        let check = tokio::spawn(testing::check_history(Broken::subject(flaw), plan));
        assert!(check.await.is_err(), "{flaw:?} goes unnoticed");
    }
}

/// Expands to a test per promise about restarts: a store in memory keeps none.
macro_rules! forgetful {
    ($($promise:ident,)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $promise() {
                let test = tokio::spawn(testing::$promise(async || {
                    let store: Subject = Arc::new(MemoryStore::new());
                    store
                }));
                assert!(test.await.is_err(), "forgetting everything goes unnoticed");
            }
        )*

        #[test]
        fn every_promise_about_restarts_is_broken_by_forgetting() {
            assert_eq!(testing::DURABLE_PROMISES, [$(stringify!($promise)),*]);
        }
    };
}

forgetful! {
    acknowledged_commits_survive_a_restart,
    revisions_go_on_after_a_restart,
    compacted_history_stays_so_after_a_restart,
    a_time_to_live_survives_a_restart,
}
