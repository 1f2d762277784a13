//! A power cut at any moment: the disk has lost what was not synced, or parts of
//! it, in any order, torn within pages.
//!
//! `K8S_STORE_POWER_ROUNDS=100 cargo nextest run -p k8s-store power` is a longer run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::future::join_all;

use super::trace::{self, Step};
use crate::{
    EmbeddedOptions, EmbeddedStore, Entry, Expect, List, Op, Revision, Store, Write,
    testing::Random,
};

/// What a disk writes at once.
const SECTOR: u64 = 512;

/// A file as far as it is on disk, and what may be.
#[derive(Clone, Debug, Default)]
struct File {
    disk: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

fn apply(data: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write(at, bytes) => {
            let at = usize::try_from(*at).unwrap();
            if data.len() < at + bytes.len() {
                data.resize(at + bytes.len(), 0);
            }
            data[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Pending::Truncate(length) => data.resize(usize::try_from(*length).unwrap(), 0),
    }
}

/// A disk, and which names are not on it yet, or not gone from it.
#[derive(Clone, Debug, Default)]
struct Disk {
    files: BTreeMap<PathBuf, File>,
    placed: BTreeMap<PathBuf, Option<File>>,
    removed: BTreeMap<PathBuf, File>,
    acknowledged: Revision,
}

impl Disk {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(name, at, bytes) => {
                let file = self.files.entry(name.clone()).or_default();
                // Each sector by itself, as the disk does it.
                let mut at = *at;
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    let room = usize::try_from(SECTOR - at % SECTOR).unwrap();
                    let (now, rest) = bytes.split_at(room.min(bytes.len()));
                    file.pending.push(Pending::Write(at, now.to_vec()));
                    at += now.len() as u64;
                    bytes = rest;
                }
            }
            Step::Truncate(name, length) => {
                let file = self.files.entry(name.clone()).or_default();
                file.pending.push(Pending::Truncate(*length));
            }
            Step::Sync(name) => {
                let file = self.files.entry(name.clone()).or_default();
                for pending in std::mem::take(&mut file.pending) {
                    apply(&mut file.disk, &pending);
                }
            }
            Step::Place(name, contents) => {
                let file = File {
                    disk: contents.clone(),
                    pending: Vec::new(),
                };
                let before = self.files.insert(name.clone(), file);
                self.placed.entry(name.clone()).or_insert(before);
            }
            Step::Remove(name) => {
                if let Some(file) = self.files.remove(name) {
                    self.removed.insert(name.clone(), file);
                }
            }
            Step::SyncNames => {
                self.placed.clear();
                self.removed.clear();
            }
            Step::Acknowledged(revision) => self.acknowledged = *revision,
        }
    }

    /// What is there when the power comes back: one of many outcomes.
    fn survive(&self, random: &mut Random, to: &Path) {
        let mut files = self.files.clone();
        for (name, before) in &self.placed {
            if random.below(2) == 0 {
                match before {
                    Some(before) => files.insert(name.clone(), before.clone()),
                    None => files.remove(name),
                };
            }
        }
        for (name, file) in &self.removed {
            if random.below(2) == 0 {
                files.insert(name.clone(), file.clone());
            }
        }
        for (name, file) in files {
            let mut data = file.disk;
            // Now almost nothing arrived, now almost everything.
            let share = random.unit();
            for pending in &file.pending {
                if random.unit() < share {
                    apply(&mut data, pending);
                }
            }
            fs::write(to.join(name), data).unwrap();
        }
    }
}

fn put(key: String, value: Vec<u8>) -> Write {
    Write {
        key: key.into(),
        expect: Expect::Any,
        op: Op::Put {
            value: value.into(),
            ttl: None,
        },
    }
}

type Data = BTreeMap<Bytes, Entry>;

async fn data(store: &EmbeddedStore) -> (Revision, Data) {
    let page = store.list(List::default()).await.unwrap();
    let entries = page.entries.into_iter();
    (page.revision, entries.map(|e| (e.key.clone(), e)).collect())
}

/// Writes in groups, with snapshots in between; returns the data at every revision.
async fn work(dir: &Path, seed: u64) -> Vec<Data> {
    let mut random = Random::new(seed);
    let options = EmbeddedOptions {
        snapshot_after: 6_000,
        ..EmbeddedOptions::default()
    };
    let mut states = vec![Data::new()];
    let store = EmbeddedStore::open_with(dir, options).await.unwrap();
    for round in 0..40 {
        let commits = (0..=random.below(6)).map(|n| {
            let length = [10, 300, 2000][random.below(3)];
            let batch = (0..=random.below(3)).map(|k| {
                put(
                    format!("{}", (n * 7 + k) % 20),
                    vec![b'a' + round % 26; length],
                )
            });
            store.commit(batch.collect())
        });
        let commits: Vec<_> = commits.collect();
        for done in join_all(commits).await {
            done.unwrap();
        }
        let newest = store.revision().await.unwrap();
        for at in states.len() as u64 + 1..=newest.0 {
            let list = List {
                at: Some(Revision(at)),
                ..List::default()
            };
            let page = store.list(list).await.unwrap();
            states.push(
                page.entries
                    .into_iter()
                    .map(|e| (e.key.clone(), e))
                    .collect(),
            );
        }
        trace::note(dir, || Step::Acknowledged(newest));
    }
    store.close().await.unwrap();
    states
}

#[tokio::test]
async fn after_a_power_cut_at_any_moment_everything_acknowledged_is_there_and_nothing_by_half() {
    let rounds = std::env::var("K8S_STORE_POWER_ROUNDS");
    let rounds = rounds.map_or(2, |rounds| rounds.parse().expect("a number of rounds"));
    for seed in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        trace::begin(dir.path());
        let states = work(dir.path(), seed).await;
        let steps = trace::end(dir.path());
        assert!(
            steps.iter().any(|step| matches!(step, Step::Remove(_))),
            "old logs were removed"
        );
        let mut random = Random::new(seed);
        let mut disk = Disk::default();
        let mut outcomes = 0;
        for step in &steps {
            disk.step(step);
            for _ in 0..2 {
                let copy = tempfile::tempdir().unwrap();
                disk.survive(&mut random, copy.path());
                let store = match EmbeddedStore::open(copy.path()).await {
                    Ok(store) => store,
                    Err(error) => panic!("seed {seed}, {step:?}: {error}"),
                };
                let (revision, data) = data(&store).await;
                assert!(
                    revision >= disk.acknowledged,
                    "seed {seed}: {revision} is left of {}",
                    disk.acknowledged
                );
                let expected = &states[usize::try_from(revision.0 - 1).unwrap()];
                assert_eq!(&data, expected, "seed {seed}, at {revision}");
                // And it goes on from there.
                let next = store
                    .commit(vec![put("next".into(), vec![1])])
                    .await
                    .unwrap();
                assert_eq!(next.revision.0, revision.0 + 1);
                outcomes += 1;
            }
        }
        assert!(outcomes > 200, "only {outcomes} outcomes");
    }
}
