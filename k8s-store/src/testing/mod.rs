//! The conformance kit: one test per promise of [`Store`], and
//! [`FaultyStore`] for tests of what uses a store.
//!
//! Give [`store_conformance!`](crate::store_conformance) an async closure that
//! makes a fresh, empty store and a guard, which is dropped after the store (a
//! temporary directory, a server's process). It expands to one `#[tokio::test]`
//! per promise, so put it in a module or a test file of its own. The crate needs
//! `tokio` with the features `macros` and `rt-multi-thread`.
//!
//! ```
//! k8s_store::store_conformance!(async || (k8s_store::MemoryStore::new(), ()));
//! # fn main() {}
//! ```
//!
//! A backend that outlives its process also runs
//! [`durable_store_conformance!`](crate::durable_store_conformance). It takes a
//! closure that makes the place (and is its guard), and one that opens the store
//! there.
//!
//! ```
//! use k8s_store::EmbeddedStore;
//!
//! k8s_store::durable_store_conformance!(
//!     || tempfile::tempdir().expect("a temporary directory"),
//!     async |dir: &tempfile::TempDir| EmbeddedStore::open(dir.path()).await.expect("a store"),
//! );
//! # fn main() {}
//! ```
//!
//! [`check_history`] goes further, and needs no fresh store for each promise:
//! it lets clients loose on one, together with whatever faults its caller makes,
//! and judges all that they saw.
//!
//! [`CrashPoint`] names the places at which to interrupt an
//! [`EmbeddedStore`](crate::EmbeddedStore).
//!
//! Set the store up with a small watch buffer (say 64 batches), or a slow
//! watcher never gets to be slow enough. Everything else works with any options
//! that keep a few thousand revisions.

mod commits;
mod compaction;
mod concurrency;
mod crash;
mod durability;
mod expiry;
mod faulty;
mod history;
mod model;
mod random;
mod reads;
mod watches;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;

pub(crate) use self::random::Random;
pub use self::{
    commits::*, compaction::*, concurrency::*, durability::*, expiry::*, faulty::FaultyStore,
    model::*, reads::*, watches::*,
};
pub use self::{
    crash::CrashPoint,
    history::{HistoryPlan, check_history},
};
use crate::{Change, Entry, Error, Expect, List, Op, Revision, Store, WatchStream, Write};

/// A store under test.
pub type Subject = Arc<dyn Store>;

/// Expands to one test per promise of [`Store`](crate::Store); see
/// [`testing`](crate::testing). `ignore = "reason",` before the closure has them
/// ignored unless asked for.
#[macro_export]
macro_rules! store_conformance {
    (ignore = $reason:literal, $make:expr $(,)?) => {
        $crate::__store_promises! { __store_conformance [[#[ignore = $reason]] [$make]] }
    };
    ($make:expr $(,)?) => {
        $crate::__store_promises! { __store_conformance [[] [$make]] }
    };
}

/// Expands to one test per promise about closing and opening a store again; see
/// [`testing`](crate::testing). `ignore = "reason",` before the closures has them
/// ignored unless asked for.
#[macro_export]
macro_rules! durable_store_conformance {
    (ignore = $reason:literal, $place:expr, $open:expr $(,)?) => {
        $crate::__durable_store_promises! {
            __durable_store_conformance [[#[ignore = $reason]] [$place] [$open]]
        }
    };
    ($place:expr, $open:expr $(,)?) => {
        $crate::__durable_store_promises! {
            __durable_store_conformance [[] [$place] [$open]]
        }
    };
}

/// Hands the promises' names to a macro of this crate, after its arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_promises {
    ($then:ident $arguments:tt) => {
        $crate::$then! { $arguments
            an_empty_store_is_at_revision_one
            every_commit_moves_the_revision_by_one
            a_batch_has_one_revision
            a_batch_is_applied_all_or_none
            expect_absent_holds_only_without_an_entry
            expect_present_holds_only_with_an_entry
            expect_modified_holds_only_at_that_revision
            a_conflict_names_the_key_the_demand_and_the_entry
            of_several_conflicts_the_first_is_named
            a_check_guards_the_batch_and_changes_nothing
            a_commit_returns_what_it_replaced
            an_update_keeps_created_and_a_new_beginning_renews_it
            deleting_an_absent_key_counts_and_changes_nothing
            a_key_twice_in_one_batch_is_rejected
            an_empty_key_is_rejected
            any_bytes_come_back_as_they_were
            a_commit_is_visible_once_it_is_acknowledged
            get_reads_every_kept_revision
            list_is_in_key_order_and_below_the_prefix
            list_goes_on_after_a_key
            list_counts_what_remains
            a_long_list_is_complete
            pages_at_one_revision_fit_together_while_others_write
            a_future_revision_cannot_be_read
            a_watch_yields_every_later_change_once_and_in_order
            a_watch_begins_in_the_past_and_goes_on_without_a_gap
            a_watch_from_a_lists_revision_misses_nothing
            a_watch_sees_its_prefix_and_nothing_else
            a_watch_yields_one_batch_per_revision_in_key_order
            a_watch_shows_the_entry_before_and_after
            a_watch_cannot_begin_in_the_future
            every_watcher_gets_every_change
            a_slow_watcher_is_served_in_full_or_disconnected
            a_dropped_watch_hinders_nobody
            compaction_forgets_what_is_older
            compaction_keeps_the_present_and_later_history
            compaction_may_be_repeated_and_does_not_go_back
            compaction_cannot_reach_into_the_future
            an_expired_key_is_deleted_by_an_ordinary_commit
            a_key_does_not_expire_before_its_time
            a_key_written_again_does_not_expire
            concurrent_commits_get_consecutive_revisions
            concurrent_increments_are_never_lost
            of_concurrent_creators_one_wins
            a_reader_never_sees_half_a_batch
            watches_that_begin_among_writes_miss_and_repeat_nothing
            a_dropped_commit_happened_wholly_or_not_at_all
            random_commits_match_a_simple_model
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __durable_store_promises {
    ($then:ident $arguments:tt) => {
        $crate::$then! { $arguments
            acknowledged_commits_survive_a_restart
            revisions_go_on_after_a_restart
            compacted_history_stays_so_after_a_restart
            a_time_to_live_survives_a_restart
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    ([] $($promise:ident)*) => { &[$(stringify!($promise)),*] };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance {
    ($arguments:tt $($promise:ident)*) => {
        $($crate::__store_promise! { $arguments $promise })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_promise {
    ([[$(#[$attribute:meta])*] [$make:expr]] $promise:ident) => {
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $promise() {
            let make = $make;
            let (store, _guard) = make().await;
            let store: $crate::testing::Subject = ::std::sync::Arc::new(store);
            $crate::testing::$promise(store).await;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __durable_store_conformance {
    ($arguments:tt $($promise:ident)*) => {
        $($crate::__durable_store_promise! { $arguments $promise })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __durable_store_promise {
    ([[$(#[$attribute:meta])*] [$place:expr] [$open:expr]] $promise:ident) => {
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $promise() {
            let place = ($place)();
            let open = $open;
            let open = async || {
                let store: $crate::testing::Subject = ::std::sync::Arc::new(open(&place).await);
                store
            };
            $crate::testing::$promise(open).await;
        }
    };
}

/// The names of the promises that [`store_conformance!`](crate::store_conformance) tests.
pub const PROMISES: &[&str] = __store_promises! { __names [] };

/// The names of the promises that
/// [`durable_store_conformance!`](crate::durable_store_conformance) tests.
pub const DURABLE_PROMISES: &[&str] = __durable_store_promises! { __names [] };

/// How long to wait for what must come; only a broken backend takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn write(key: impl Into<Bytes>, expect: Expect, op: Op) -> Write {
    let key = key.into();
    Write { key, expect, op }
}

fn value(value: impl Into<Bytes>) -> Op {
    Op::Put {
        value: value.into(),
        ttl: None,
    }
}

fn put(key: impl Into<Bytes>, to: impl Into<Bytes>) -> Write {
    write(key, Expect::Any, value(to))
}

fn delete(key: impl Into<Bytes>) -> Write {
    write(key, Expect::Any, Op::Delete)
}

async fn commit(store: &Subject, writes: Vec<Write>) -> Revision {
    store
        .commit(writes)
        .await
        .expect("the commit holds")
        .revision
}

async fn get(store: &Subject, key: &str) -> Option<Entry> {
    store.get(key.as_bytes(), None).await.expect("reads work")
}

async fn revision(store: &Subject) -> Revision {
    store.revision().await.expect("there is a revision")
}

async fn keys(store: &Subject, list: List) -> Vec<Bytes> {
    let page = store.list(list).await.expect("lists work");
    page.entries.into_iter().map(|entry| entry.key).collect()
}

/// Watches everything below a prefix.
async fn watch(store: &Subject, prefix: &str, after: Revision) -> Seen {
    let prefix = Bytes::copy_from_slice(prefix.as_bytes());
    let stream = store.watch(prefix, after).await.expect("the watch begins");
    Seen {
        stream,
        last: after,
    }
}

/// A watch that checks the order of what it yields.
struct Seen {
    stream: WatchStream,
    last: Revision,
}

impl Seen {
    /// The next batch that is no progress notification, or how the watch ended.
    async fn try_next(&mut self) -> Result<(Revision, Arc<[Change]>), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(deadline, self.stream.next()).await;
            let batch = next
                .expect("a batch comes in time")
                .expect("a watch ends only after an error")?;
            if batch.changes.is_empty() {
                assert!(batch.revision >= self.last, "progress never goes back");
                self.last = batch.revision;
                continue;
            }
            assert!(batch.revision > self.last, "revisions ascend");
            self.last = batch.revision;
            return Ok((batch.revision, batch.changes));
        }
    }

    async fn next(&mut self) -> (Revision, Arc<[Change]>) {
        self.try_next().await.expect("the watch goes on")
    }

    /// Collects the revision of every batch up to the one given.
    async fn until(&mut self, end: Revision) -> Vec<Revision> {
        let mut seen = Vec::new();
        while seen.last() != Some(&end) {
            let (revision, _) = self.next().await;
            assert!(revision <= end, "nothing beyond what was written");
            seen.push(revision);
        }
        seen
    }
}
