//! Promises about time to live. Real time passes here, but only a little.

use std::time::Duration;

use tokio::time::Instant;

use super::{Subject, commit, get, put, revision, watch, write};
use crate::{Expect, Op, Revision};

fn lease(key: &'static str, millis: u64) -> crate::Write {
    let op = Op::Put {
        value: "x".into(),
        ttl: Some(Duration::from_millis(millis)),
    };
    write(key, Expect::Any, op)
}

/// A key whose time has passed is deleted, with a revision and a watch event.
pub async fn an_expired_key_is_deleted_by_an_ordinary_commit(store: Subject) {
    let mut seen = watch(&store, "lease", Revision(1)).await;
    let at = commit(&store, vec![lease("lease", 20), put("other", "x")]).await;
    let (_, changes) = seen.next().await;
    let entry = changes[0].current.clone();
    let (gone, changes) = seen.next().await;
    assert_eq!(
        (changes[0].previous.clone(), changes[0].current.clone()),
        (entry, None)
    );
    assert!(gone > at && revision(&store).await >= gone);
    assert_eq!(get(&store, "lease").await, None);
    assert!(get(&store, "other").await.is_some());
    let before = store.get(b"lease", Some(at)).await.expect("kept");
    assert!(before.is_some(), "history keeps it");
}

/// A key is there until its time has passed.
pub async fn a_key_does_not_expire_before_its_time(store: Subject) {
    let ttl = Duration::from_millis(300);
    let mut seen = watch(&store, "lease", Revision(1)).await;
    let begun = Instant::now();
    commit(&store, vec![lease("lease", 300)]).await;
    seen.next().await;
    let (_, changes) = seen.next().await;
    assert_eq!(changes[0].current, None);
    assert!(begun.elapsed() >= ttl, "after {:?}", begun.elapsed());
}

/// Writing a key again replaces its time to live, or ends it.
pub async fn a_key_written_again_does_not_expire(store: Subject) {
    let first = vec![lease("kept", 20), lease("renewed", 20), lease("gone", 20)];
    let at = commit(&store, first).await;
    let mut seen = watch(&store, "", at).await;
    commit(&store, vec![put("kept", "y")]).await;
    commit(&store, vec![lease("renewed", 3_600_000)]).await;
    commit(&store, vec![lease("last", 100)]).await;
    while get(&store, "last").await.is_some() || get(&store, "gone").await.is_some() {
        seen.next().await;
    }
    // Everything due before `last` has been looked at by now. The first leases
    // may have ended before they were written again, but not after.
    assert!(get(&store, "kept").await.is_some());
    assert!(get(&store, "renewed").await.is_some());
}
