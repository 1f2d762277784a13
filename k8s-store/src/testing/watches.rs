//! Promises about watching.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::{Subject, commit, delete, put, revision, watch};
use crate::{Error, List, Revision};

/// A watch yields every change after its revision, once each, in order.
pub async fn a_watch_yields_every_later_change_once_and_in_order(store: Subject) {
    let after = commit(&store, vec![put("a", "before")]).await;
    let mut seen = watch(&store, "", after).await;
    let mut written = Vec::new();
    for n in 0..200 {
        written.push(commit(&store, vec![put(format!("k{}", n % 10), "x")]).await);
    }
    let end = *written.last().expect("some were written");
    assert_eq!(seen.until(end).await, written);
}

/// A watch from an older revision yields what happened since, and goes on live.
pub async fn a_watch_begins_in_the_past_and_goes_on_without_a_gap(store: Subject) {
    let mut written = vec![Revision(1)];
    for n in 0..50 {
        written.push(commit(&store, vec![put("a", n.to_string())]).await);
    }
    let mut watches = Vec::new();
    for (from, after) in written.iter().enumerate() {
        watches.push((from, watch(&store, "a", *after).await));
    }
    for n in 0..50 {
        written.push(commit(&store, vec![put("a", n.to_string())]).await);
    }
    let end = revision(&store).await;
    for (from, mut seen) in watches {
        assert_eq!(seen.until(end).await, written[from + 1..]);
    }
}

/// A list, and a watch from its revision: what the watch yields, applied to
/// what the list has, leads to what there is.
pub async fn a_watch_from_a_lists_revision_misses_nothing(store: Subject) {
    let mut lists = Vec::new();
    for n in 0..60 {
        if n % 10 == 0 {
            let page = store.list(List::default()).await.expect("lists work");
            lists.push(page);
        }
        commit(&store, vec![put(format!("k{}", n % 7), n.to_string())]).await;
    }
    let end = store.list(List::default()).await.expect("lists work");
    for page in lists {
        let mut data: BTreeMap<_, _> = page
            .entries
            .into_iter()
            .map(|e| (e.key.clone(), e))
            .collect();
        let mut seen = watch(&store, "", page.revision).await;
        for _ in page.revision.0..end.revision.0 {
            for change in seen.next().await.1.iter() {
                assert_eq!(data.get(&change.key), change.previous.as_ref());
                data.extend(
                    change
                        .current
                        .clone()
                        .map(|entry| (entry.key.clone(), entry)),
                );
            }
        }
        assert!(data.into_values().eq(end.entries.iter().cloned()));
    }
}

/// Watchers of one prefix all get every change to it.
pub async fn every_watcher_gets_every_change(store: Subject) {
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(watch(&store, "k", Revision(1)).await);
    }
    let mut written = Vec::new();
    for n in 0..20 {
        written.push(commit(&store, vec![put("k", n.to_string())]).await);
    }
    for mut seen in watches {
        assert_eq!(seen.until(written[19]).await, written);
    }
}

/// A watch yields only changes to keys that start with its prefix; watches of
/// overlapping prefixes all get theirs.
pub async fn a_watch_sees_its_prefix_and_nothing_else(store: Subject) {
    let prefixes = ["", "/p", "/p/", "/p/a", "/p/a/b", "/q/"];
    let keys = ["/p/a/b", "/p/b", "/p", "/q/a", "/px", "/o", "/r"];
    let mut watches = Vec::new();
    for prefix in prefixes {
        watches.push((prefix, watch(&store, prefix, Revision(1)).await));
    }
    for key in keys {
        commit(&store, vec![put(key, "x")]).await;
    }
    commit(&store, keys.map(|key| put(key, "y")).to_vec()).await;
    commit(
        &store,
        prefixes[1..]
            .iter()
            .map(|p| put(format!("{p}\u{7f}end"), "z"))
            .collect(),
    )
    .await;
    for (prefix, mut seen) in watches {
        let below: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        for key in &below {
            let (_, changes) = seen.next().await;
            assert_eq!(changes.len(), 1);
            assert_eq!(changes[0].key, key.as_bytes(), "watching {prefix}");
        }
        if !below.is_empty() {
            let (_, changes) = seen.next().await;
            assert_eq!(changes.len(), below.len(), "watching {prefix}");
        }
        let (_, changes) = seen.next().await;
        assert!(changes.iter().all(|c| c.key.starts_with(prefix.as_bytes())));
    }
}

/// All that one revision changed comes in one batch, in key order.
pub async fn a_watch_yields_one_batch_per_revision_in_key_order(store: Subject) {
    let mut seen = watch(&store, "", Revision(1)).await;
    let shuffled = (0..50u32).map(|n| put(format!("{:02}", n * 37 % 50), "x"));
    let at = commit(&store, shuffled.collect()).await;
    let (revision, changes) = seen.next().await;
    assert_eq!((revision, changes.len()), (at, 50));
    assert!(changes.is_sorted_by(|a, b| a.key < b.key));
    let mut again = watch(&store, "", Revision(1)).await;
    assert_eq!(again.next().await, (revision, changes), "live or later");
}

/// A change carries the entry before and the entry after.
pub async fn a_watch_shows_the_entry_before_and_after(store: Subject) {
    let mut seen = watch(&store, "a", Revision(1)).await;
    commit(&store, vec![put("a", "1")]).await;
    let first = store.get(b"a", None).await.expect("reads work");
    commit(&store, vec![put("a", "2")]).await;
    let second = store.get(b"a", None).await.expect("reads work");
    commit(&store, vec![delete("a")]).await;
    for (previous, current) in [
        (None, first.clone()),
        (first, second.clone()),
        (second, None),
    ] {
        let (_, changes) = seen.next().await;
        assert_eq!(changes[0].key, "a");
        assert_eq!(changes[0].previous, previous);
        assert_eq!(changes[0].current, current);
    }
}

/// A watch after a revision that has not happened is an error.
pub async fn a_watch_cannot_begin_in_the_future(store: Subject) {
    let outcome = store.watch("a".into(), Revision(2)).await.map(|_| ());
    let error = outcome.expect_err("revision 2 has not happened");
    assert!(matches!(error, Error::Future { .. }), "{error}");
}

/// A watcher that does not read in time misses nothing before it is
/// disconnected, and slows nobody down.
pub async fn a_slow_watcher_is_served_in_full_or_disconnected(store: Subject) {
    let mut seen = watch(&store, "k", Revision(1)).await;
    for _ in 0..20 {
        let burst = (0..100).map(|n| store.commit(vec![put(format!("k{n}"), "x")]));
        for done in join_all(burst).await {
            done.expect("the commit holds");
        }
    }
    let end = revision(&store).await;
    for expected in 2..=end.0 {
        match seen.try_next().await {
            Ok((revision, _)) => assert_eq!(revision, Revision(expected)),
            Err(Error::Lagged) => return,
            Err(error) => panic!("neither served nor disconnected: {error}"),
        }
    }
}

/// Watches may be dropped at any time.
pub async fn a_dropped_watch_hinders_nobody(store: Subject) {
    let mut kept = watch(&store, "k", Revision(1)).await;
    for _ in 0..100 {
        let mut dropped = watch(&store, "k", Revision(1)).await;
        commit(&store, vec![put("k", "x")]).await;
        dropped.next().await;
    }
    let end = revision(&store).await;
    assert_eq!(kept.until(end).await.len(), 100);
}
