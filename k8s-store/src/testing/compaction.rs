//! Promises about forgetting history.

use super::{Subject, commit, put, revision, watch};
use crate::{Error, List, Revision};

async fn ten(store: &Subject) -> Revision {
    for n in 0..10 {
        commit(store, vec![put("a", n.to_string())]).await;
    }
    revision(store).await
}

/// After compaction, reads and watches from before are refused distinguishably.
pub async fn compaction_forgets_what_is_older(store: Subject) {
    ten(&store).await;
    let oldest = Revision(6);
    store.compact(oldest).await.expect("it is in the past");
    let requested = Revision(5);
    let list = List {
        at: Some(requested),
        ..List::default()
    };
    let outcomes = [
        store.get(b"a", Some(requested)).await.map(|_| ()),
        store.list(list).await.map(|_| ()),
        store.watch("a".into(), requested).await.map(|_| ()),
    ];
    for outcome in outcomes {
        match outcome.expect_err("it is forgotten") {
            Error::Compacted {
                requested: r,
                oldest: o,
            } => assert_eq!((r, o), (requested, oldest)),
            error => panic!("not compacted: {error}"),
        }
    }
}

/// Compaction changes neither data nor revision, nor what is newer; a watch
/// that has begun goes on.
pub async fn compaction_keeps_the_present_and_later_history(store: Subject) {
    let mut begun = watch(&store, "a", Revision(1)).await;
    let end = ten(&store).await;
    let before = store.list(List::default()).await.expect("lists work");
    store.compact(Revision(6)).await.expect("it is in the past");
    assert_eq!(
        store.list(List::default()).await.expect("lists work"),
        before
    );
    for at in 6..=end.0 {
        let entry = store.get(b"a", Some(Revision(at))).await.expect("kept");
        assert_eq!(entry.expect("it was there").modified, Revision(at));
    }
    let mut since = watch(&store, "a", Revision(6)).await;
    assert_eq!(since.until(end).await.len(), 5);
    assert_eq!(begun.until(end).await.len(), 10);
}

/// Compacting at the same revision again is fine, before it is an error.
pub async fn compaction_may_be_repeated_and_does_not_go_back(store: Subject) {
    let end = ten(&store).await;
    store
        .compact(end)
        .await
        .expect("the newest revision will do");
    store.compact(end).await.expect("again");
    let error = store.compact(Revision(3)).await.expect_err("forgotten");
    assert!(matches!(error, Error::Compacted { .. }), "{error}");
    let mut seen = watch(&store, "a", end).await;
    let next = commit(&store, vec![put("a", "x")]).await;
    assert_eq!(seen.until(next).await, [next]);
}

/// Compacting at a revision that has not happened is an error.
pub async fn compaction_cannot_reach_into_the_future(store: Subject) {
    let end = ten(&store).await;
    let error = store.compact(Revision(end.0 + 1)).await;
    let error = error.expect_err("it has not happened");
    assert!(matches!(error, Error::Future { .. }), "{error}");
    assert!(store.get(b"a", Some(Revision(2))).await.is_ok());
}
