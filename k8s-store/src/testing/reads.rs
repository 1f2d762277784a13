//! Promises about reading.

use bytes::Bytes;

use super::{Subject, commit, delete, keys, put};
use crate::{Error, List, Revision};

/// A key can be read as it was at any revision that is kept.
pub async fn get_reads_every_kept_revision(store: Subject) {
    for n in 2..40u64 {
        let write = if n % 7 == 0 {
            delete("a")
        } else {
            put("a", n.to_string())
        };
        let other = put("other", "x");
        assert_eq!(commit(&store, vec![write, other]).await, Revision(n));
    }
    for n in 1..40u64 {
        let entry = store.get(b"a", Some(Revision(n))).await.expect("kept");
        if n == 1 || n % 7 == 0 {
            assert_eq!(entry, None);
        } else {
            let entry = entry.expect("it was there");
            assert_eq!(
                (entry.value, entry.modified),
                (n.to_string().into(), Revision(n))
            );
        }
        let page = List {
            at: Some(Revision(n)),
            ..List::default()
        };
        let page = store.list(page).await.expect("kept");
        assert_eq!(page.revision, Revision(n));
        let there = usize::from(n > 1) + usize::from(n > 1 && n % 7 != 0);
        assert_eq!(page.entries.len(), there);
    }
}

/// A list has every key below the prefix, in ascending byte order, and no other.
pub async fn list_is_in_key_order_and_below_the_prefix(store: Subject) {
    let all = [
        "/b/2",
        "/a",
        "/b/10",
        "/b",
        "/b/1",
        "/c",
        "/b0",
        "/b/\u{e4}",
    ];
    commit(&store, all.map(|key| put(key, key)).to_vec()).await;
    let below = |prefix: &'static str| List {
        prefix: prefix.into(),
        ..List::default()
    };
    assert_eq!(
        keys(&store, below("/b/")).await,
        ["/b/1", "/b/10", "/b/2", "/b/\u{e4}"]
    );
    assert_eq!(keys(&store, below("/c")).await, ["/c"]);
    assert_eq!(keys(&store, below("/d")).await, [""; 0]);
    assert_eq!(keys(&store, below("")).await.len(), all.len());
    let binary = [&[0xff][..], &[0xff, 0xff], &[0xff, 0xff, 0]];
    commit(&store, binary.map(|key| put(key, "")).to_vec()).await;
    let last = List {
        prefix: Bytes::from_static(&[0xff, 0xff]),
        ..List::default()
    };
    assert_eq!(keys(&store, last).await, binary[1..]);
}

/// A list begins after the key given, whether that exists or not.
pub async fn list_goes_on_after_a_key(store: Subject) {
    commit(
        &store,
        ["p/a", "p/b", "p/c", "q"].map(|k| put(k, "")).to_vec(),
    )
    .await;
    let after = |after: &'static str| List {
        prefix: "p/".into(),
        after: Some(after.into()),
        ..List::default()
    };
    assert_eq!(keys(&store, after("p/a")).await, ["p/b", "p/c"]);
    assert_eq!(keys(&store, after("p/aa")).await, ["p/b", "p/c"]);
    assert_eq!(keys(&store, after("p/c")).await, [""; 0]);
    assert_eq!(keys(&store, after("a")).await, ["p/a", "p/b", "p/c"]);
    assert_eq!(keys(&store, after("z")).await, [""; 0]);
}

/// A limited list says how many entries follow.
pub async fn list_counts_what_remains(store: Subject) {
    let batch = (0..100).map(|n| put(format!("p/{n:03}"), ""));
    commit(&store, batch.chain([put("a", ""), put("z", "")]).collect()).await;
    for (limit, after, remaining) in [
        (Some(30), None, 70),
        (Some(100), None, 0),
        (Some(200), None, 0),
        (Some(0), None, 100),
        (None, None, 0),
        (Some(30), Some("p/089"), 0),
        (Some(5), Some("p/089"), 5),
    ] {
        let list = List {
            prefix: "p/".into(),
            after: after.map(|key: &str| Bytes::copy_from_slice(key.as_bytes())),
            limit,
            at: None,
        };
        let page = store.list(list).await.expect("lists work");
        assert_eq!(page.remaining, remaining, "{limit:?} {after:?}");
    }
}

/// A list without a limit has all keys, however many they are.
pub async fn a_long_list_is_complete(store: Subject) {
    let key = |n: usize| format!("p/{n:05}");
    for batch in (0..2500).collect::<Vec<_>>().chunks(100) {
        commit(&store, batch.iter().map(|n| put(key(*n), "x")).collect()).await;
    }
    let list = List {
        prefix: "p/".into(),
        ..List::default()
    };
    let page = store.list(list).await.expect("lists work");
    assert_eq!((page.entries.len(), page.remaining), (2500, 0));
    let all = page.entries.iter().enumerate();
    for (n, entry) in all {
        assert_eq!(entry.key, key(n));
    }
}

/// Pages read at the first one's revision add up to the data at that revision.
pub async fn pages_at_one_revision_fit_together_while_others_write(store: Subject) {
    let key = |n: u32| format!("p/{n:03}");
    commit(&store, (0..100).map(|n| put(key(n), "old")).collect()).await;
    let mut list = List {
        prefix: "p/".into(),
        limit: Some(7),
        ..List::default()
    };
    let mut found = Vec::new();
    loop {
        let page = store
            .list(list.clone())
            .await
            .expect("the revision is kept");
        let at = *list.at.get_or_insert(page.revision);
        assert_eq!(page.revision, at);
        found.extend(page.entries);
        assert_eq!(page.remaining, 100 - found.len());
        if page.remaining == 0 {
            break;
        }
        list.after = found.last().map(|entry| entry.key.clone());
        let n = u32::try_from(found.len()).expect("small");
        let writes = vec![
            put(key(n), "new"),
            delete(key(n + 1)),
            put(format!("p/{n:03}x"), "new"),
        ];
        commit(&store, writes).await;
    }
    let expected: Vec<_> = (0..100).map(key).collect();
    assert!(
        found
            .iter()
            .map(|e| &*e.key)
            .eq(expected.iter().map(|k| k.as_bytes()))
    );
    assert!(found.iter().all(|entry| entry.value == "old"));
}

/// A revision that has not happened is an error, for gets and lists.
pub async fn a_future_revision_cannot_be_read(store: Subject) {
    let current = commit(&store, vec![put("a", "1")]).await;
    let requested = Revision(current.0 + 1);
    let list = List {
        at: Some(requested),
        ..List::default()
    };
    let get = store.get(b"a", Some(requested)).await.map(|_| ());
    let list = store.list(list).await.map(|_| ());
    for outcome in [get, list] {
        match outcome.expect_err("it has not happened") {
            Error::Future {
                requested: r,
                current: c,
            } => assert_eq!((r, c), (requested, current)),
            error => panic!("not in the future: {error}"),
        }
    }
}
