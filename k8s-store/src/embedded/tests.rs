//! What a disk, a crash and a careless administrator can do to a store.

use std::{
    fs,
    io::ErrorKind::{Other, StorageFull},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use futures::StreamExt;

use super::{faults::Fault, *};
use crate::{Expect, Op};

fn put(key: &str, value: &str) -> Write {
    Write {
        key: Bytes::copy_from_slice(key.as_bytes()),
        expect: Expect::Any,
        op: Op::Put {
            value: Bytes::copy_from_slice(value.as_bytes()),
            ttl: None,
        },
    }
}

async fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir).await.unwrap()
}

async fn value(store: &EmbeddedStore, key: &str) -> Option<Bytes> {
    store
        .get(key.as_bytes(), None)
        .await
        .unwrap()
        .map(|entry| entry.value)
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    files.sort();
    files
}

/// Where the records of a log lie.
fn records(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = log::HEADER as usize;
    let mut records = Vec::new();
    while let Some(record) = record::Record::first(&bytes[at..]) {
        records.push(at..at + record.len());
        at += record.len();
    }
    records
}

/// A store's directory after a crash: the commits are there, and neither the
/// closing record nor what was written ahead.
async fn crashed(keys: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path()).await;
    for key in keys {
        store.commit(vec![put(key, "value")]).await.unwrap();
    }
    for name in ["FORMAT", "0000000000000002.log"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let log = copy.path().join("0000000000000002.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes.truncate(
        records(&bytes)
            .last()
            .map_or(log::HEADER as usize, |r| r.end),
    );
    fs::write(&log, bytes).unwrap();
    (copy, log)
}

#[tokio::test]
async fn a_closed_store_opens_again_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store
        .commit(vec![put("a", "1"), put("b", "1")])
        .await
        .unwrap();
    store.commit(vec![put("a", "2")]).await.unwrap();
    let delete = Write {
        key: "b".into(),
        expect: Expect::Present,
        op: Op::Delete,
    };
    store.commit(vec![delete]).await.unwrap();
    let before = store.list(List::default()).await.unwrap();
    store.close().await.unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.list(List::default()).await.unwrap(), before);
    let old = store.get(b"b", Some(Revision(3))).await.unwrap();
    assert_eq!(old.unwrap().created, Revision(2), "history is back, too");
}

#[tokio::test]
async fn compaction_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for n in 0..5 {
        store.commit(vec![put("a", &n.to_string())]).await.unwrap();
    }
    store.compact(Revision(4)).await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    let error = store.get(b"a", Some(Revision(3))).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Compacted {
                oldest: Revision(4),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn compaction_alone_never_replaces_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        snapshot_after: 1,
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open_with(dir.path(), options).await.unwrap();
    store.commit(vec![put("a", "1")]).await.unwrap();
    for _ in 0..100 {
        store.compact(Revision(2)).await.unwrap();
    }
    store.commit(vec![put("a", "2")]).await.unwrap();
    store.close().await.unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.revision().await.unwrap(), Revision(3));
    assert!(store.get(b"a", Some(Revision(1))).await.is_err());
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    match EmbeddedStore::open(dir.path()).await.unwrap_err() {
        Error::Locked { dir: named, pid } => {
            assert_eq!(
                (named.as_path(), pid),
                (dir.path(), Some(std::process::id()))
            );
        }
        error => panic!("{error}"),
    }
    drop(store);
    open(dir.path()).await;
}

#[tokio::test]
async fn closing_frees_the_directory_while_handles_remain() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    open(dir.path()).await;
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    assert!(matches!(store.commit(vec![]).await, Err(Error::Closed)));
    assert!(matches!(store.revision().await, Err(Error::Closed)));
}

#[tokio::test]
async fn another_format_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    fs::write(dir.path().join("FORMAT"), "k8s-store 9\n").unwrap();
    match EmbeddedStore::open(dir.path()).await.unwrap_err() {
        Error::Version { found, .. } => assert_eq!(found, "9"),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn nobody_else_reads_a_store() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data/store");
    let store = open(&dir).await;
    store.commit(vec![put("a", "b")]).await.unwrap();
    let backup = parent.path().join("backup");
    store.backup(&backup).await.unwrap();
    store.close().await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert!(files(&dir, "").len() >= 3);
    for file in files(&dir, "").iter().chain([&backup]) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
    assert!(files(dir.path(), ".log").is_empty());
}

#[tokio::test]
async fn a_store_whose_format_file_went_missing_is_not_overwritten() {
    let (dir, _) = crashed(&["a"]).await;
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
}

#[tokio::test]
async fn a_torn_tail_is_dropped_wherever_it_is_torn() {
    let (dir, log) = crashed(&["a", "b", "c"]).await;
    let whole = fs::read(&log).unwrap();
    let record = (whole.len() - log::HEADER as usize) / 3;
    for cut in 1..=record {
        fs::write(&log, &whole[..whole.len() - cut]).unwrap();
        let store = open(dir.path()).await;
        let found = [value(&store, "b").await, value(&store, "c").await];
        assert_eq!(
            (found[0].is_some(), found[1].is_some()),
            (true, false),
            "cut {cut}"
        );
        store.commit(vec![put("c", "again")]).await.unwrap();
        drop(store);
        assert_eq!(value(&open(dir.path()).await, "c").await.unwrap(), "again");
    }
}

/// The disk may write the pages of an unfinished group in any order.
#[tokio::test]
async fn a_hole_in_the_last_group_is_a_torn_tail_and_one_before_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let keys: Vec<_> = (0..100).map(|n| format!("k{n}")).collect();
    let commits = keys.iter().map(|key| store.commit(vec![put(key, "value")]));
    for done in futures::future::join_all(commits).await {
        done.unwrap();
    }
    let whole = fs::read(dir.path().join("0000000000000002.log")).unwrap();
    let mut groups = std::collections::BTreeMap::<u64, Vec<usize>>::new();
    for at in records(&whole) {
        let record = record::Record::first(&whole[at.clone()]).unwrap();
        groups.entry(record.durable).or_default().push(at.start);
    }
    assert!(
        groups.values().any(|group| group.len() > 1),
        "commits shared a sync"
    );
    let last = *groups.keys().last().unwrap();
    for (durable, group) in groups {
        let (copy, log) = crashed(&[]).await;
        let mut bytes = whole.clone();
        bytes[group[0]..group[0] + 30].fill(0);
        fs::write(&log, bytes).unwrap();
        let opened = EmbeddedStore::open(copy.path()).await;
        if durable == last {
            let kept = 100 - group.len() as u64;
            assert_eq!(
                opened.unwrap().revision().await.unwrap(),
                Revision(1 + kept)
            );
        } else {
            assert!(matches!(opened, Err(Error::Corrupt { offset, .. }) if offset == durable));
        }
    }
}

#[tokio::test]
async fn zeros_and_garbage_after_the_last_record_are_dropped() {
    for tail in [
        vec![0; 5000],
        vec![0xf7; 5000],
        b"\xf7rec\xff\xff\xff\xff".to_vec(),
    ] {
        let (dir, log) = crashed(&["a"]).await;
        let mut bytes = fs::read(&log).unwrap();
        bytes.extend(tail);
        fs::write(&log, bytes).unwrap();
        let store = open(dir.path()).await;
        assert_eq!(store.revision().await.unwrap(), Revision(2));
    }
}

#[tokio::test]
async fn a_flipped_bit_in_what_was_acknowledged_is_found_and_named() {
    let (dir, log) = crashed(&["a", "b", "c"]).await;
    let whole = fs::read(&log).unwrap();
    let header = log::HEADER as usize;
    let record = (whole.len() - header) / 3;
    for at in 0..header + 2 * record {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log, &bytes).unwrap();
        match EmbeddedStore::open(dir.path()).await.unwrap_err() {
            Error::Corrupt { file, offset, .. } => {
                assert_eq!(file, log);
                assert!((offset..offset + record as u64).contains(&(at as u64)));
            }
            error => panic!("{at}: {error}"),
        }
        assert_eq!(fs::read(&log).unwrap(), bytes, "nothing was touched");
    }
}

#[tokio::test]
async fn after_a_clean_close_even_the_last_commit_is_guarded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.commit(vec![put("a", "1")]).await.unwrap();
    store.close().await.unwrap();
    let log = &files(dir.path(), ".log")[0];
    let mut bytes = fs::read(log).unwrap();
    bytes[log::HEADER as usize + 30] ^= 1;
    fs::write(log, bytes).unwrap();
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_makes_the_store_read_only_until_there_is_space() {
    for fault in [Fault::Write(StorageFull), Fault::Sync(StorageFull)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        store.commit(vec![put("a", "1")]).await.unwrap();
        store.handle.faults.set(fault);
        let many = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(vec![put("a", &n.to_string())]).await })
        });
        for outcome in futures::future::join_all(many).await {
            let error = outcome.unwrap().unwrap_err();
            assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
        }
        assert_eq!(store.revision().await.unwrap(), Revision(2));
        assert_eq!(value(&store, "a").await.unwrap(), "1");
        store.handle.faults.set(Fault::None);
        let done = store.commit(vec![put("b", "2")]).await.unwrap();
        assert_eq!(done.revision, Revision(3));
        drop(store);
        let store = open(dir.path()).await;
        assert_eq!(value(&store, "a").await.unwrap(), "1");
        assert_eq!(value(&store, "b").await.unwrap(), "2");
    }
}

#[tokio::test]
async fn an_unknown_disk_error_disables_commits_but_not_reads() {
    for fault in [Fault::Sync(Other), Fault::Write(Other), Fault::TakeBack] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        store.commit(vec![put("a", "1")]).await.unwrap();
        store.handle.faults.set(fault);
        for _ in 0..2 {
            let error = store.commit(vec![put("a", "2")]).await.unwrap_err();
            assert!(matches!(error, Error::Poisoned { .. }), "{error}");
            store.handle.faults.set(Fault::None);
        }
        assert_eq!(value(&store, "a").await.unwrap(), "1");
        assert!(matches!(store.close().await, Err(Error::Poisoned { .. })));
        open(dir.path()).await;
    }
}

#[tokio::test]
async fn snapshots_replace_old_logs_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        snapshot_after: 2000,
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open_with(dir.path(), options).await.unwrap();
    let mut n = 0;
    while files(dir.path(), ".snapshot").is_empty() || n < 2000 {
        store
            .commit(vec![put(&format!("k{:03}", n % 100), &n.to_string())])
            .await
            .unwrap();
        n += 1;
    }
    let before = store.list(List::default()).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(files(dir.path(), ".tmp"), Vec::<PathBuf>::new());
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let log_bytes: u64 = files(dir.path(), ".log").iter().map(size).sum();
    assert!(
        log_bytes < 2000 * 60,
        "old logs are gone: {log_bytes} bytes remain"
    );
    let store = open(dir.path()).await;
    assert_eq!(store.list(List::default()).await.unwrap(), before);
    let oldest = store.get(b"k000", Some(Revision(1))).await.unwrap_err();
    assert!(matches!(oldest, Error::Compacted { .. }), "{oldest}");
    drop(store);

    let snapshot = files(dir.path(), ".snapshot").pop().unwrap();
    let whole = fs::read(&snapshot).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&snapshot, &bytes).unwrap();
        let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{at}: {error}");
    }
}

#[tokio::test]
async fn a_missing_log_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    fs::remove_file(&files(dir.path(), ".log")[0]).unwrap();
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_time_to_live_goes_on_while_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |hours| EmbeddedOptions {
        now: Some(UNIX_EPOCH + Duration::from_hours(hours)),
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open_with(dir.path(), at(500)).await.unwrap();
    let mut lease = put("lease", "x");
    lease.op = Op::Put {
        value: "x".into(),
        ttl: Some(Duration::from_hours(2)),
    };
    store.commit(vec![lease]).await.unwrap();
    store.close().await.unwrap();
    let store = EmbeddedStore::open_with(dir.path(), at(501)).await.unwrap();
    assert!(value(&store, "lease").await.is_some());
    store.close().await.unwrap();
    let store = EmbeddedStore::open_with(dir.path(), at(503)).await.unwrap();
    let mut watch = store.watch("lease".into(), Revision(2)).await.unwrap();
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.changes[0].current, None);
    assert_eq!(value(&store, "lease").await, None);
}

#[tokio::test]
async fn a_fork_lives_in_memory_and_leaves_the_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.commit(vec![put("a", "1")]).await.unwrap();
    let fork = store.fork();
    fork.commit(vec![put("a", "2")]).await.unwrap();
    assert_eq!(value(&store, "a").await.unwrap(), "1");
    drop(store);
    assert_eq!(fork.get(b"a", None).await.unwrap().unwrap().value, "2");
    assert_eq!(value(&open(dir.path()).await, "a").await.unwrap(), "1");
}
