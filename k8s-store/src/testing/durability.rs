//! Promises about stores that outlive their process.

use std::time::Duration;

use super::{Subject, commit, delete, get, put, revision, value, watch, write};
use crate::{Error, Expect, List, Op, Revision};

/// What was acknowledged is there after the store was dropped and opened again.
pub async fn acknowledged_commits_survive_a_restart(open: impl AsyncFn() -> Subject) {
    let mut expected = Default::default();
    for round in 0..5 {
        let store = open().await;
        let page = store.list(List::default()).await.expect("lists work");
        if round > 0 {
            assert_eq!(page, expected);
        }
        for n in 0..50 {
            commit(&store, vec![put(format!("k{n}"), format!("{round}-{n}"))]).await;
        }
        commit(
            &store,
            vec![delete(format!("k{round}")), put("long", vec![7; 100_000])],
        )
        .await;
        expected = store.list(List::default()).await.expect("lists work");
    }
}

/// No revision is ever given twice.
pub async fn revisions_go_on_after_a_restart(open: impl AsyncFn() -> Subject) {
    for round in 0..5 {
        let store = open().await;
        assert_eq!(revision(&store).await, Revision(1 + 3 * round));
        let at = commit(&store, vec![put("a", "x")]).await;
        commit(&store, vec![]).await;
        let guard = Expect::Modified(at);
        commit(&store, vec![write("a", guard, value("y"))]).await;
    }
}

/// What was compacted does not come back.
pub async fn compacted_history_stays_so_after_a_restart(open: impl AsyncFn() -> Subject) {
    let store = open().await;
    for n in 0..10 {
        commit(&store, vec![put("a", n.to_string())]).await;
    }
    store.compact(Revision(8)).await.expect("it is in the past");
    drop(store);
    let store = open().await;
    let error = store.get(b"a", Some(Revision(7))).await;
    let error = error.expect_err("it is forgotten");
    assert!(matches!(error, Error::Compacted { .. }), "{error}");
    assert!(get(&store, "a").await.is_some());
}

/// A key expires though the store was closed in between.
pub async fn a_time_to_live_survives_a_restart(open: impl AsyncFn() -> Subject) {
    let lease = |key: &'static str, ttl| {
        let op = Op::Put {
            value: "x".into(),
            ttl: Some(ttl),
        };
        write(key, Expect::Any, op)
    };
    let store = open().await;
    let short = lease("short", Duration::from_millis(200));
    let at = commit(
        &store,
        vec![short, lease("long", Duration::from_secs(86_400))],
    )
    .await;
    drop(store);
    let store = open().await;
    let now = revision(&store).await;
    if now == at {
        let mut seen = watch(&store, "short", now).await;
        assert_eq!(seen.next().await.1[0].current, None);
    }
    assert_eq!(get(&store, "short").await, None);
    assert!(get(&store, "long").await.is_some());
}
