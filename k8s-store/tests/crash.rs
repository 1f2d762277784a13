//! A store whose process is killed at any moment loses nothing that it
//! acknowledged or showed.
//!
//! The test starts itself again as a child, which commits from several tasks
//! and reports each answer on its standard output. The parent kills it after a
//! random number of reports and checks the directory against them.
#![expect(clippy::unwrap_used, reason = "the helpers are tests as well")]

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use futures::StreamExt;
use k8s_store::{EmbeddedOptions, EmbeddedStore, Expect, Op, Revision, Store, Write};

const ROUNDS: u64 = 40;
const WRITERS: usize = 8;
const DIRECTORY: &str = "K8S_STORE_CRASH_TEST_DIRECTORY";
const TEST: &str = "nothing_acknowledged_or_shown_is_lost_when_the_process_is_killed";

async fn open(dir: &Path) -> EmbeddedStore {
    let options = EmbeddedOptions {
        // A snapshot every few hundred commits, so that kills hit those as well.
        snapshot_after: 32 << 10,
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open_with(dir, options).await.unwrap()
}

fn report(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// The number that a writer wrote last, and the revision of that; both of its
/// keys must agree.
async fn last(store: &EmbeddedStore, writer: usize) -> (u64, Revision) {
    let mut found = Vec::new();
    for key in ["a", "b"] {
        let key = format!("{writer}/{key}");
        let entry = store.get(key.as_bytes(), None).await.unwrap();
        found.push(entry.map_or((0, Revision(0)), |entry| {
            let text = std::str::from_utf8(&entry.value).unwrap();
            let number = text.trim_end_matches('.').parse().unwrap();
            (number, entry.modified)
        }));
    }
    assert_eq!(found[0], found[1], "a batch was applied by half");
    found[0]
}

/// Commits for ever.
async fn child(dir: &Path) {
    let store = open(dir).await;
    let mut watch = store
        .watch(Bytes::new(), store.revision().await.unwrap())
        .await
        .unwrap();
    tokio::spawn(async move {
        while let Some(Ok(batch)) = watch.next().await {
            report(&format!("saw {}", batch.revision));
        }
    });
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut number, mut at) = last(&store, writer).await;
            loop {
                number += 1;
                // Values of many lengths, some longer than a page.
                let dots = if number % 50 == 0 { 9000 } else { number % 40 };
                let value = format!("{number}{}", ".".repeat(dots as usize));
                let write = |key: &str| Write {
                    key: format!("{writer}/{key}").into(),
                    expect: if at.0 == 0 {
                        Expect::Absent
                    } else {
                        Expect::Modified(at)
                    },
                    op: Op::Put {
                        value: value.clone().into(),
                        ttl: None,
                    },
                };
                let done = store.commit(vec![write("a"), write("b")]).await.unwrap();
                at = done.revision;
                report(&format!("wrote {writer} {number} {at}"));
            }
        })
    });
    futures::future::join_all(writers).await;
}

/// Kills its process however the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_shown_is_lost_when_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return child(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut random = 0x5eed_u64;
    let mut before = [(0, Revision(0)); WRITERS];
    for round in 0..ROUNDS {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let reports = 1 + (random >> 33) % 800;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        let output = child.0.stdout.take().unwrap();
        let (mut wrote, mut saw, mut count) = (HashMap::new(), Revision(0), 0);
        for line in BufReader::new(output).lines() {
            let line = line.unwrap();
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>();
            match (words[0], words.len()) {
                // Lines this short go through a pipe whole or not at all.
                ("wrote", 4) if number(3).is_ok() => {
                    let writer = number(1).unwrap() as usize;
                    wrote.insert(writer, (number(2).unwrap(), Revision(number(3).unwrap())));
                }
                ("saw", 2) if number(1).is_ok() => saw = saw.max(Revision(number(1).unwrap())),
                _ => continue,
            }
            count += 1;
            if count == reports {
                child.0.kill().unwrap();
            }
        }
        drop(child);

        let store = open(dir.path()).await;
        let revision = store.revision().await.unwrap();
        assert!(
            revision >= saw,
            "round {round}: {saw} was shown, {revision} is left"
        );
        for (writer, before) in before.iter_mut().enumerate() {
            let now = last(&store, writer).await;
            let acknowledged = wrote.get(&writer).copied().unwrap_or(*before);
            if now != acknowledged {
                // One commit may have been on its way.
                assert_eq!(now.0, acknowledged.0 + 1, "round {round}, writer {writer}");
                assert!(now.1 > acknowledged.1 && now.1 <= revision);
            }
            *before = now;
        }
    }
    assert!(
        before.iter().all(|(number, _)| *number > 0),
        "they all got to write"
    );
}
