//! Promises about single commits.

use bytes::Bytes;

use super::{Subject, commit, delete, get, put, revision, value, watch, write};
use crate::{Error, Expect, Op, Revision};

/// An empty store is at revision 1 and holds nothing.
pub async fn an_empty_store_is_at_revision_one(store: Subject) {
    assert_eq!(revision(&store).await, Revision(1));
    let page = store.list(Default::default()).await.expect("lists work");
    assert_eq!((page.revision, page.entries.len()), (Revision(1), 0));
    assert_eq!(get(&store, "a").await, None);
}

/// Every successful commit takes the next revision, a failed one takes none.
pub async fn every_commit_moves_the_revision_by_one(store: Subject) {
    assert_eq!(commit(&store, vec![put("a", "1")]).await, Revision(2));
    let refused = store.commit(vec![write("a", Expect::Absent, value("2"))]);
    refused.await.expect_err("the key exists");
    assert_eq!(revision(&store).await, Revision(2));
    assert_eq!(commit(&store, vec![]).await, Revision(3));
    assert_eq!(commit(&store, vec![delete("a")]).await, Revision(4));
    assert_eq!(revision(&store).await, Revision(4));
}

/// All writes of a batch have the batch's revision.
pub async fn a_batch_has_one_revision(store: Subject) {
    let at = commit(&store, vec![put("a", "1"), put("b", "2"), put("c", "3")]).await;
    assert_eq!(at, Revision(2));
    for key in ["a", "b", "c"] {
        let entry = get(&store, key).await.expect("it was written");
        assert_eq!((entry.created, entry.modified), (at, at));
    }
}

/// One demand that does not hold keeps the whole batch from being applied.
pub async fn a_batch_is_applied_all_or_none(store: Subject) {
    commit(&store, vec![put("b", "1")]).await;
    let batch = vec![
        put("a", "2"),
        write("b", Expect::Absent, value("2")),
        delete("c"),
    ];
    let error = store.commit(batch).await.expect_err("b exists");
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(get(&store, "a").await, None);
    assert_eq!(get(&store, "b").await.expect("untouched").value, "1");
}

/// `Expect::Absent` holds only if there is no entry.
pub async fn expect_absent_holds_only_without_an_entry(store: Subject) {
    let create = || vec![write("a", Expect::Absent, value("1"))];
    commit(&store, create()).await;
    let error = store.commit(create()).await.expect_err("it exists");
    assert!(matches!(
        error,
        Error::Conflict {
            actual: Some(_),
            ..
        }
    ));
    commit(&store, vec![delete("a")]).await;
    commit(&store, create()).await;
}

/// `Expect::Present` holds only if there is an entry.
pub async fn expect_present_holds_only_with_an_entry(store: Subject) {
    let remove = || vec![write("a", Expect::Present, Op::Delete)];
    let error = store.commit(remove()).await.expect_err("it is absent");
    assert!(matches!(error, Error::Conflict { actual: None, .. }));
    commit(&store, vec![put("a", "1")]).await;
    commit(&store, remove()).await;
    assert_eq!(get(&store, "a").await, None);
}

/// `Expect::Modified` holds only if the entry was last written at that revision.
pub async fn expect_modified_holds_only_at_that_revision(store: Subject) {
    let first = commit(&store, vec![put("a", "1")]).await;
    let update = |at| vec![write("a", Expect::Modified(at), value("2"))];
    let second = commit(&store, update(first)).await;
    for wrong in [first, Revision(second.0 + 1), Revision(0)] {
        let error = store.commit(update(wrong)).await.expect_err("not that one");
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
    }
    commit(&store, vec![delete("a")]).await;
    let error = store.commit(update(second)).await.expect_err("deleted");
    assert!(matches!(error, Error::Conflict { actual: None, .. }));
}

/// A conflict says which demand did not hold and what was there instead.
pub async fn a_conflict_names_the_key_the_demand_and_the_entry(store: Subject) {
    commit(&store, vec![put("b", "there")]).await;
    let wrong = Expect::Modified(Revision(99));
    let batch = vec![put("a", "1"), write("b", wrong, Op::Delete)];
    match store.commit(batch).await.expect_err("b is elsewhere") {
        Error::Conflict {
            key,
            expected,
            actual,
        } => {
            assert_eq!((&*key, expected), (&b"b"[..], wrong));
            assert_eq!(actual, get(&store, "b").await);
        }
        error => panic!("not a conflict: {error}"),
    }
}

/// If several demands do not hold, the conflict is the first one's in batch order.
pub async fn of_several_conflicts_the_first_is_named(store: Subject) {
    commit(&store, vec![put("a", "1"), put("z", "1")]).await;
    let absent = |key: &'static str| write(key, Expect::Absent, value("2"));
    let present = |key: &'static str| write(key, Expect::Present, value("2"));
    for (batch, first) in [
        (
            vec![put("b", "2"), absent("z"), absent("a"), present("c")],
            "z",
        ),
        (vec![present("a"), present("c"), absent("z")], "c"),
    ] {
        match store.commit(batch).await.expect_err("three do not hold") {
            Error::Conflict { key, .. } => assert_eq!(&*key, first.as_bytes()),
            error => panic!("not a conflict: {error}"),
        }
    }
}

/// A check takes part in the guard and leaves its key alone.
pub async fn a_check_guards_the_batch_and_changes_nothing(store: Subject) {
    let owner = commit(&store, vec![put("owner", "1")]).await;
    let guarded = |at, to: &'static str| {
        let check = write("owner", Expect::Modified(at), Op::Check);
        vec![check, put("owned", to)]
    };
    let mut seen = watch(&store, "", owner).await;
    let done = store.commit(guarded(owner, "1")).await.expect("it holds");
    assert_eq!(done.previous[0].as_ref().map(|e| e.modified), Some(owner));
    assert_eq!(get(&store, "owner").await.expect("kept").modified, owner);
    assert_eq!(seen.next().await.1.len(), 1, "a check is no change");
    let wrong = store.commit(guarded(Revision(77), "2")).await;
    wrong.expect_err("the guard does not hold");
    assert_eq!(get(&store, "owned").await.expect("kept").value, "1");
}

/// A commit returns, for each write in order, the entry that was there before.
pub async fn a_commit_returns_what_it_replaced(store: Subject) {
    commit(&store, vec![put("b", "old")]).await;
    let before = get(&store, "b").await;
    let batch = vec![put("c", "1"), put("b", "new"), put("a", "1")];
    let done = store.commit(batch).await.expect("it holds");
    assert_eq!(done.previous, [None, before, None]);
    let before = get(&store, "b").await;
    let done = store.commit(vec![delete("b")]).await.expect("it holds");
    assert_eq!(done.previous, [before]);
}

/// `created` stays through updates and begins anew after a deletion.
pub async fn an_update_keeps_created_and_a_new_beginning_renews_it(store: Subject) {
    let first = commit(&store, vec![put("a", "1")]).await;
    let second = commit(&store, vec![put("a", "2")]).await;
    let entry = get(&store, "a").await.expect("it is there");
    assert_eq!((entry.created, entry.modified), (first, second));
    commit(&store, vec![delete("a")]).await;
    let again = commit(&store, vec![put("a", "3")]).await;
    let entry = get(&store, "a").await.expect("it is there again");
    assert_eq!((entry.created, entry.modified), (again, again));
}

/// Deleting an absent key succeeds, takes a revision and is no change.
pub async fn deleting_an_absent_key_counts_and_changes_nothing(store: Subject) {
    let mut seen = watch(&store, "", Revision(1)).await;
    let done = store.commit(vec![delete("a")]).await.expect("it holds");
    assert_eq!((done.revision, done.previous), (Revision(2), vec![None]));
    let at = commit(&store, vec![put("b", "1"), delete("a")]).await;
    let (revision, changes) = seen.next().await;
    assert_eq!((revision, changes.len()), (at, 1));
}

/// Two writes to one key in a batch are an error, not an order.
pub async fn a_key_twice_in_one_batch_is_rejected(store: Subject) {
    let mut batch: Vec<_> = (0..20).map(|n| put(format!("k{n}"), "1")).collect();
    batch.push(delete("k7"));
    match store.commit(batch).await.expect_err("k7 is there twice") {
        Error::DuplicateKey { key } => assert_eq!(&*key, b"k7"),
        error => panic!("not a duplicate key: {error}"),
    }
    assert_eq!(revision(&store).await, Revision(1));
}

/// The empty key cannot be written.
pub async fn an_empty_key_is_rejected(store: Subject) {
    let error = store.commit(vec![put("", "1")]).await;
    let error = error.expect_err("the key is empty");
    assert!(matches!(error, Error::KeyTooLarge { .. }), "{error}");
    assert_eq!(revision(&store).await, Revision(1));
}

/// Keys and values are any bytes, and values may be empty.
pub async fn any_bytes_come_back_as_they_were(store: Subject) {
    let all: Vec<u8> = (0..=255).collect();
    let large = vec![0xa5; 1 << 20];
    let pairs: [(&[u8], &[u8]); 5] = [
        (&[0], &[]),
        (&[0xff, 0xff], &all),
        (&all, b"\0"),
        (b"plain", &large),
        ("schl\u{fc}ssel".as_bytes(), "w\u{e4}rt".as_bytes()),
    ];
    let puts = pairs.map(|(k, v)| put(Bytes::copy_from_slice(k), Bytes::copy_from_slice(v)));
    commit(&store, puts.to_vec()).await;
    for (key, value) in pairs {
        let entry = store.get(key, None).await.expect("reads work");
        let entry = entry.expect("it was written");
        assert_eq!((&*entry.key, &*entry.value), (key, value));
    }
}

/// Whoever has the answer to a commit, and whoever asks after, sees it.
pub async fn a_commit_is_visible_once_it_is_acknowledged(store: Subject) {
    for n in 0..50 {
        let at = commit(&store, vec![put("a", n.to_string())]).await;
        assert!(revision(&store).await >= at);
        let entry = get(&store, "a").await.expect("it was written");
        assert_eq!(entry.value, n.to_string());
        let page = store.list(Default::default()).await.expect("lists work");
        assert_eq!(page.entries, [entry]);
    }
}
