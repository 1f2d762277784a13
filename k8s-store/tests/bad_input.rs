//! What makes no sense is refused with a reason of its own, and the store goes on as if nothing had been.
#![expect(clippy::unwrap_used, reason = "the helpers are tests as well")]

use std::sync::Arc;

use bytes::Bytes;
use k8s_store::{
    EmbeddedOptions, EmbeddedStore, Error, Expect, Limits, List, MemoryOptions, MemoryStore, Op,
    Revision, Store, Write,
};

const LIMITS: Limits = Limits {
    key_bytes: 10,
    value_bytes: 100,
    batch_bytes: 250,
};

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write {
        key: key.into(),
        expect: Expect::Any,
        op: Op::Put {
            value: value.into(),
            ttl: None,
        },
    }
}

/// The store still commits and reads, and nothing has happened to it.
async fn is_usable(store: &Arc<dyn Store>, revision: &mut Revision) {
    assert_eq!(store.revision().await.unwrap(), *revision);
    let done = store.commit(vec![put("k", "v")]).await.unwrap();
    *revision = Revision(revision.0 + 1);
    assert_eq!(done.revision, *revision);
    let found = store.get(b"k", None).await.unwrap().unwrap();
    assert_eq!(found.modified, *revision);
}

async fn refuses(store: Arc<dyn Store>) {
    let mut now = Revision(1);
    is_usable(&store, &mut now).await;
    let at_the_limit = vec![
        put(vec![1; 10], vec![0; 100]),
        put(vec![2; 10], vec![0; 100]),
    ];
    now = store.commit(at_the_limit).await.unwrap().revision;

    for (key, length) in [(vec![], 0), (vec![1; 11], 11)] {
        let error = store.commit(vec![put(key, "v")]).await.unwrap_err();
        assert!(
            matches!(error, Error::KeyTooLarge { bytes, limit: 10 } if bytes == length),
            "{error}"
        );
        is_usable(&store, &mut now).await;
    }

    let error = store
        .commit(vec![put("a", vec![0; 101])])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::ValueTooLarge { key, bytes: 101, limit: 100 } if **key == *b"a"),
        "{error}"
    );
    is_usable(&store, &mut now).await;

    let large = ["a", "b", "c"].map(|key| put(key, vec![0; 90])).to_vec();
    let error = store.commit(large).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::BatchTooLarge {
                bytes: 273,
                limit: 250
            }
        ),
        "{error}"
    );
    assert_eq!(store.get(b"a", None).await.unwrap(), None);
    is_usable(&store, &mut now).await;

    for count in [2, 12] {
        let mut twice: Vec<_> = (1..count).map(|n| put(format!("k{n}"), "v")).collect();
        twice.push(put("k1", "w"));
        let error = store.commit(twice).await.unwrap_err();
        assert!(
            matches!(&error, Error::DuplicateKey { key } if **key == *b"k1"),
            "{error}"
        );
        is_usable(&store, &mut now).await;
    }

    store.compact(Revision(now.0 - 1)).await.unwrap();
    for (asked, late) in [(Revision(now.0 - 2), true), (Revision(now.0 + 5), false)] {
        let list = List {
            at: Some(asked),
            ..List::default()
        };
        let errors = [
            store.get(b"k", Some(asked)).await.unwrap_err(),
            store.list(list).await.unwrap_err(),
            store.watch(Bytes::new(), asked).await.err().unwrap(),
            store.compact(asked).await.unwrap_err(),
        ];
        for error in errors {
            match error {
                Error::Compacted { requested, oldest } if late => {
                    assert_eq!((requested, oldest), (asked, Revision(asked.0 + 1)));
                }
                Error::Future { requested, current } if !late => {
                    assert_eq!((requested, current), (asked, now));
                }
                other => panic!("{other}"),
            }
        }
    }
    is_usable(&store, &mut now).await;
}

#[tokio::test]
async fn the_memory_store_refuses_what_makes_no_sense_and_goes_on() {
    let options = MemoryOptions {
        limits: LIMITS,
        ..MemoryOptions::default()
    };
    refuses(Arc::new(MemoryStore::with_options(options))).await;
}

#[tokio::test]
async fn the_embedded_store_refuses_what_makes_no_sense_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        limits: LIMITS,
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open_with(dir.path(), options).await.unwrap();
    refuses(Arc::new(store.clone())).await;
    let revision = store.revision().await.unwrap();
    store.close().await.unwrap();
    // What was refused left nothing on disk either.
    let store = EmbeddedStore::open(dir.path()).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), revision);
    let page = store.list(List::default()).await.unwrap();
    assert_eq!(page.entries.len(), 3);
}

#[tokio::test]
async fn a_path_that_cannot_be_a_store_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    std::fs::write(&file, "x").unwrap();
    let error = EmbeddedStore::open(&file).await.unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path.starts_with(&file)),
        "{error}"
    );
    // A directory of something else is left as it is.
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Version { found, .. } if found == "none"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}
