//! Compaction: how long the store keeps history.
//!
//! As upstream's server does, with its default of five minutes: whatever the backend, a list can be continued and a watch
//! resumed for that long, and for less than twice as long. Without, an etcd would keep every revision for ever.
//! Several servers on one store need not agree: each forgets only what is older than its own interval.

use std::{sync::Arc, time::Duration};

use k8s_store::{Error, Revision, Store};
use tokio_util::sync::CancellationToken;

/// Upstream's default of `--etcd-compaction-interval`.
pub(crate) const INTERVAL: Duration = Duration::from_secs(300);

/// Makes the store forget, once in an interval, what was old when the last one ended. Runs until it is stopped.
pub(crate) async fn run(store: Arc<dyn Store>, interval: Duration, stop: CancellationToken) {
    let mut past = store.revision().await.ok();
    let mut oldest = Revision(0);
    let wait = || stop.run_until_cancelled(tokio::time::sleep(interval));
    while wait().await.is_some() {
        let now = match store.revision().await {
            Ok(now) => now,
            Err(error) => {
                tracing::debug!(%error, "the store does not say its revision; compacting later");
                continue;
            }
        };
        // Nothing is written where nothing has changed.
        let due = past.replace(now).filter(|past| *past > oldest);
        let Some(revision) = due else { continue };
        match store.compact(revision).await {
            // Another server on this store may have been first.
            Ok(()) | Err(Error::Compacted { .. }) => oldest = revision,
            Err(error) => {
                tracing::warn!(%error, revision = revision.0, "the store was not compacted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use k8s_store::{Expect, List, MemoryStore, Op, Write};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn put(store: &dyn Store) -> Revision {
        let write = Write {
            key: Bytes::from_static(b"/registry/a"),
            expect: Expect::Any,
            op: Op::Put {
                value: Bytes::from_static(b"v"),
                ttl: None,
            },
        };
        store.commit(vec![write]).await.unwrap().revision
    }

    async fn readable(store: &dyn Store, at: Revision) -> bool {
        let list = List {
            at: Some(at),
            ..List::default()
        };
        match store.list(list).await {
            Ok(_) => true,
            Err(Error::Compacted { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_kept_for_one_interval_and_not_for_two() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(store.clone(), INTERVAL, stop.clone()));
        tokio::time::sleep(MINUTE).await;
        let first = put(&*store).await;
        put(&*store).await;
        tokio::time::sleep(INTERVAL).await;
        assert!(readable(&*store, first).await, "after six minutes");
        tokio::time::sleep(INTERVAL).await;
        assert!(!readable(&*store, first).await, "after eleven minutes");
        let newest = store.revision().await.unwrap();
        tokio::time::sleep(INTERVAL * 3).await;
        assert!(readable(&*store, newest).await, "nothing has come since");
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn servers_on_one_store_do_not_get_in_each_others_way() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let stop = CancellationToken::new();
        let spawn = || tokio::spawn(run(store.clone(), INTERVAL, stop.clone()));
        let one = spawn();
        tokio::time::sleep(MINUTE).await;
        let two = spawn();
        for _ in 0..20 {
            let written = put(&*store).await;
            tokio::time::sleep(INTERVAL - MINUTE).await;
            assert!(readable(&*store, written).await);
        }
        stop.cancel();
        one.await.unwrap();
        two.await.unwrap();
    }
}
