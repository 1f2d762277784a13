//! History is true as far back as it reaches, and reaches only so far.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use k8s_store::{
    Error, Expect, HistoryLimits, List, MemoryOptions, MemoryStore, Op, Revision, Store,
    WatchLimits, Write,
};
use proptest::prelude::*;

fn put(key: String, value: String) -> Write {
    Write {
        key: key.into(),
        expect: Expect::Any,
        op: Op::Put {
            value: value.into(),
            ttl: None,
        },
    }
}

fn delete(key: String) -> Write {
    Write {
        key: key.into(),
        expect: Expect::Any,
        op: Op::Delete,
    }
}

fn store(revisions: usize, bytes: usize) -> MemoryStore {
    MemoryStore::with_options(MemoryOptions {
        history: HistoryLimits { revisions, bytes },
        ..MemoryOptions::default()
    })
}

/// `true` puts a key, `false` deletes it.
fn batches() -> impl Strategy<Value = Vec<Vec<(u8, bool)>>> {
    let batch = prop::collection::vec((0..20u8, prop::bool::weighted(0.7)), 0..4);
    prop::collection::vec(batch, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_revision_kept_reads_as_it_was(
        batches in batches(),
        revisions in 1..100usize,
        bytes in 1_000..100_000usize,
    ) {
        let store = store(revisions, bytes);
        let read = |at| {
            let list = List { at, ..List::default() };
            store.list(list).now_or_never().expect("memory does not wait")
        };
        let mut pages = vec![read(None).expect("the newest revision is there")];
        for (n, mut batch) in batches.into_iter().enumerate() {
            batch.sort_unstable();
            batch.dedup_by_key(|(key, _)| *key);
            let writes = batch.into_iter().map(|(key, there)| {
                let key = format!("k{key}");
                if there { put(key, format!("{n}")) } else { delete(key) }
            });
            let commit = store.commit(writes.collect());
            commit.now_or_never().expect("memory does not wait").expect("no guards");
            pages.push(read(None).expect("the newest revision is there"));
        }
        let mut kept = 0;
        for page in &pages {
            match read(Some(page.revision)) {
                Ok(then) => {
                    prop_assert_eq!(&then, page);
                    kept += 1;
                    for entry in &page.entries {
                        let found = store.get(&entry.key, Some(page.revision));
                        let found = found.now_or_never().expect("memory does not wait");
                        prop_assert_eq!(found.expect("kept"), Some(entry.clone()));
                    }
                }
                Err(Error::Compacted { oldest, .. }) => {
                    prop_assert_eq!(kept, 0, "what is forgotten is the oldest");
                    prop_assert!(oldest > page.revision);
                }
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(kept <= revisions + revisions / 8 + 2, "{kept} are kept");
        if bytes >= 100 * 1000 {
            prop_assert!(kept >= pages.len().min(revisions * 7 / 8));
        }
    }
}

#[tokio::test]
async fn large_values_are_forgotten_by_their_bytes() {
    let store = store(1 << 20, 1 << 20);
    for n in 0..100 {
        let value = "x".repeat(100_000) + &n.to_string();
        store.commit(vec![put("k".into(), value)]).await.unwrap();
    }
    let old = store.get(b"k", Some(Revision(60))).await.unwrap_err();
    assert!(matches!(old, Error::Compacted { .. }), "{old}");
    assert!(store.get(b"k", Some(Revision(95))).await.is_ok());
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_disconnected_after_what_it_was_promised() {
    let store = MemoryStore::with_options(MemoryOptions {
        watch: WatchLimits {
            buffer: 10,
            progress: None,
        },
        ..MemoryOptions::default()
    });
    let watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    for n in 0..11 {
        store
            .commit(vec![put("k".into(), n.to_string())])
            .await
            .unwrap();
    }
    let seen: Vec<_> = watch.collect().await;
    assert_eq!(seen.len(), 11);
    for (n, batch) in seen[..10].iter().enumerate() {
        assert_eq!(batch.as_ref().unwrap().revision, Revision(n as u64 + 2));
    }
    assert!(matches!(seen[10], Err(Error::Lagged)));
}

#[tokio::test]
async fn dropping_the_store_ends_its_watches() {
    let store = MemoryStore::new();
    let watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    drop(store);
    let seen: Vec<_> = watch.collect().await;
    assert!(matches!(seen[..], [Err(Error::Closed)]));
}

#[tokio::test(start_paused = true)]
async fn an_idle_watcher_hears_how_far_it_is() {
    let store = MemoryStore::new();
    let mut watch = store.watch("a".into(), Revision(1)).await.unwrap();
    store
        .commit(vec![put("b".into(), "1".into())])
        .await
        .unwrap();
    let start = tokio::time::Instant::now();
    for _ in 0..2 {
        let batch = watch.next().await.unwrap().unwrap();
        assert_eq!((batch.revision, batch.changes.len()), (Revision(2), 0));
    }
    assert_eq!(start.elapsed().as_secs(), 20);
    store
        .commit(vec![put("a".into(), "1".into())])
        .await
        .unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().changes.len(), 1);
}

fn lease(key: &str, ttl: Duration) -> Write {
    Write {
        key: Bytes::copy_from_slice(key.as_bytes()),
        expect: Expect::Any,
        op: Op::Put {
            value: Bytes::new(),
            ttl: Some(ttl),
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_decides_when_keys_expire_in_a_store_and_its_fork() {
    let store = MemoryStore::new();
    let hour = Duration::from_hours(1);
    store
        .commit(vec![lease("short", hour), lease("long", 3 * hour)])
        .await
        .unwrap();
    let fork = store.fork();
    tokio::time::sleep(hour - Duration::from_millis(1)).await;
    assert!(store.get(b"short", None).await.unwrap().is_some());
    for store in [&store, &fork] {
        let mut watch = store.watch("short".into(), Revision(2)).await.unwrap();
        while watch.next().await.unwrap().unwrap().changes.is_empty() {}
        assert!(store.get(b"short", None).await.unwrap().is_none());
        assert!(store.get(b"long", None).await.unwrap().is_some());
        assert_eq!(store.revision().await.unwrap(), Revision(3));
    }
}

#[tokio::test]
async fn a_fork_goes_its_own_way_with_the_history_so_far() {
    let store = MemoryStore::new();
    for n in 0..1000 {
        store
            .commit(vec![put(format!("k{n}"), "x".into())])
            .await
            .unwrap();
    }
    let mut watch = store.watch(Bytes::new(), Revision(1001)).await.unwrap();
    let fork = store.fork();
    fork.commit(vec![put("fork".into(), "x".into())])
        .await
        .unwrap();
    assert_eq!(store.get(b"fork", None).await.unwrap(), None);
    assert_eq!(watch.next().now_or_never().map(|_| ()), None);
    assert_eq!(fork.get(b"k500", Some(Revision(501))).await.unwrap(), None);
    let since = fork.watch(Bytes::new(), Revision(1)).await.unwrap();
    assert_eq!(since.take(1001).count().await, 1001);
}
