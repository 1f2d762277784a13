//! A store whose process is killed at any moment loses nothing that it
//! acknowledged or showed.
//!
//! The test starts itself again as a child, which commits from several tasks,
//! closes the store, opens it again, and so on, and reports each answer on its
//! standard output. The parent kills it after a random number of reports, or the
//! child kills itself at a named [`CrashPoint`]; then the parent checks the
//! directory against the reports.
//!
//! `K8S_STORE_CRASH_ROUNDS=10000 cargo nextest run -p k8s-store --test crash` is a longer
//! run: so many rounds for each of the two.
#![expect(clippy::unwrap_used, reason = "the helpers are tests as well")]

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead, BufReader, Write as _},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use futures::StreamExt;
use k8s_store::{
    EmbeddedOptions, EmbeddedStore, Expect, Op, Revision, Store, Write, testing::CrashPoint,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Rounds that end at random, and rounds that end at a named point.
const ROUNDS: u64 = 150;
const WRITERS: usize = 8;
/// After so many commits, more or less, the child closes the store.
const COMMITS: u64 = 300;
/// A point that was not reached after so many reports is not reached at all.
const MOST_REPORTS: u64 = 20_000;
const DIRECTORY: &str = "K8S_STORE_CRASH_TEST_DIRECTORY";
const POINT: &str = "K8S_STORE_CRASH_TEST_POINT";
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

/// Commits for ever, and closes and opens the store every now and then.
async fn child(dir: &Path) {
    if let Ok(point) = std::env::var(POINT) {
        let (name, nth) = point.split_once(':').unwrap();
        let point = CrashPoint::named(name).unwrap();
        point.arm(nth.parse().unwrap(), || {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        });
    }
    loop {
        let store = open(dir).await;
        report(&format!("opened {}", store.revision().await.unwrap()));
        let mut watch = store
            .watch(Bytes::new(), store.revision().await.unwrap())
            .await
            .unwrap();
        let watcher = tokio::spawn(async move {
            while let Some(Ok(batch)) = watch.next().await {
                report(&format!("saw {}", batch.revision));
            }
        });
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer)));
        futures::future::join_all(writers).await;
        store.close().await.unwrap();
        watcher.await.unwrap();
    }
}

/// One writer's share of the commits.
async fn write(store: EmbeddedStore, writer: usize) {
    let (mut number, mut at) = last(&store, writer).await;
    for _ in 0..COMMITS / WRITERS as u64 {
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
}

/// Kills its process however the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a round ends.
enum End {
    /// After so many reports.
    Reports(u64),
    /// When the child reaches a point for the nth time.
    Point(CrashPoint, u64),
}

/// What a child reported.
struct Reports {
    /// The last number that each writer wrote, and at which revision.
    wrote: HashMap<usize, (u64, Revision)>,
    /// The newest revision that it showed.
    saw: Revision,
    /// It ended by itself, as it was told to.
    at_the_point: bool,
}

/// Lets a child commit until it ends. `newest` is what the directory holds.
fn run(dir: &Path, end: &End, newest: Revision) -> Reports {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]);
    command.env(DIRECTORY, dir).stdout(Stdio::piped());
    let most = match end {
        End::Reports(count) => *count,
        End::Point(point, nth) => {
            command.env(POINT, format!("{point:?}:{nth}"));
            MOST_REPORTS
        }
    };
    let mut child = Killed(command.spawn().unwrap());
    let output = child.0.stdout.take().unwrap();
    let (mut wrote, mut saw, mut count) = (HashMap::new(), newest, 0);
    for line in BufReader::new(output).lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>();
        match (words[0], words.len()) {
            // Lines this short go through a pipe whole or not at all.
            ("wrote", 4) if number(3).is_ok() => {
                let at = Revision(number(3).unwrap());
                assert!(at > newest, "revision {at} was taken before");
                wrote.insert(number(1).unwrap() as usize, (number(2).unwrap(), at));
            }
            ("saw", 2) if number(1).is_ok() => saw = saw.max(Revision(number(1).unwrap())),
            ("opened", 2) if number(1).is_ok() => {
                let opened = Revision(number(1).unwrap());
                assert!(opened >= saw, "{saw} was shown, {opened} is left");
                saw = opened;
            }
            _ => continue,
        }
        count += 1;
        if count == most {
            child.0.kill().unwrap();
        }
    }
    let status = child.0.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the child failed: {status}");
    Reports {
        wrote,
        saw,
        at_the_point: matches!(end, End::Point(..)) && count < most,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_shown_is_lost_when_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return child(Path::new(&dir)).await;
    }
    let rounds = std::env::var("K8S_STORE_CRASH_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let dir = tempfile::tempdir().unwrap();
    let mut random = 0x5eed_u64;
    let mut chance = |most: u64| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        1 + (random >> 33) % most
    };
    let mut before = [(0, Revision(0)); WRITERS];
    let mut newest = Revision(1);
    let mut reached = HashSet::new();
    let points = CrashPoint::ALL.into_iter().cycle().take(rounds as usize);
    let ends = points.flat_map(|point| [None, Some(point)]);
    for (round, point) in ends.enumerate() {
        let end = match point {
            None => End::Reports(chance(800)),
            // Some points are reached with every commit, some with every few hundred.
            Some(
                point @ (CrashPoint::CommitQueued
                | CrashPoint::RecordsTorn
                | CrashPoint::RecordsWritten
                | CrashPoint::RecordsSynced
                | CrashPoint::Published),
            ) => End::Point(point, chance(300)),
            Some(point) => End::Point(point, chance(5)),
        };
        let reports = run(dir.path(), &end, newest);
        if let (true, Some(point)) = (reports.at_the_point, point) {
            reached.insert(point);
        }

        let store = open(dir.path()).await;
        newest = store.revision().await.unwrap();
        let saw = reports.saw;
        assert!(
            newest >= saw,
            "round {round}: {saw} was shown, {newest} is left"
        );
        for (writer, before) in before.iter_mut().enumerate() {
            let now = last(&store, writer).await;
            let acknowledged = reports.wrote.get(&writer).copied().unwrap_or(*before);
            if now != acknowledged {
                // One commit may have been on its way.
                assert_eq!(now.0, acknowledged.0 + 1, "round {round}, writer {writer}");
                assert!(now.1 > acknowledged.1 && now.1 <= newest);
            }
            *before = now;
        }
        if point.is_none() {
            store.close().await.unwrap();
        }
    }
    for point in CrashPoint::ALL {
        assert!(reached.contains(&point), "{point:?} was never reached");
    }
    assert!(
        before.iter().all(|(number, _)| *number > 0),
        "they all got to write"
    );
}
