//! Whether what clients saw can be explained.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{Record, What};
use crate::{Change, Entry, Error, Expect, List, Op, Page, Revision, WatchBatch, Write};

type Data = BTreeMap<Bytes, Entry>;

/// The data at every revision from the beginning on, as the first watcher saw it.
struct Truth {
    first: u64,
    states: Vec<Data>,
    changes: HashMap<u64, std::sync::Arc<[Change]>>,
    /// When the commit of a revision was first asked for, in ticks; 0 if nobody
    /// is known to have.
    asked: Vec<u64>,
}

pub(super) fn judge(
    begin: &Page,
    records: Vec<Record>,
    seen: &[(Bytes, Vec<WatchBatch>)],
    end: Revision,
    last: &Page,
) {
    let mut truth = Truth::new(begin, &seen[0].1, end);
    assert!(
        last.revision >= end && last.entries.iter().eq(truth.at(end).values()),
        "the data in the end is not what the changes lead to"
    );
    for (prefix, batches) in seen {
        truth.check_watch(prefix, batches);
    }
    truth.check_commits(&records);
    truth.check_order(&records);
}

impl Truth {
    /// Applies what a watch of everything saw, and checks that it fits together.
    fn new(begin: &Page, batches: &[WatchBatch], end: Revision) -> Self {
        let first = begin.revision.0;
        let data: Data = begin
            .entries
            .iter()
            .map(|e| (e.key.clone(), e.clone()))
            .collect();
        let mut truth = Self {
            first,
            states: vec![data],
            changes: HashMap::new(),
            asked: Vec::new(),
        };
        for batch in batches {
            let at = batch.revision;
            assert!(
                at.0 >= first + truth.states.len() as u64,
                "{at} comes twice, or late"
            );
            truth.extend(at.0 - 1);
            let mut data = truth.states.last().cloned().unwrap_or_default();
            for change in batch.changes.iter() {
                let before = data.get(&change.key);
                assert_eq!(
                    before,
                    change.previous.as_ref(),
                    "the entry before, at {at}"
                );
                match &change.current {
                    Some(entry) => {
                        let created = before.map_or(at, |before| before.created);
                        assert_eq!((entry.modified, entry.created), (at, created));
                        data.insert(change.key.clone(), entry.clone());
                    }
                    None => {
                        data.remove(&change.key);
                    }
                }
            }
            truth.states.push(data);
            truth.changes.insert(at.0, batch.changes.clone());
        }
        truth.extend(end.0);
        truth.asked = vec![0; truth.states.len()];
        truth
    }

    /// Nothing changed up to the revision.
    fn extend(&mut self, to: u64) {
        while self.first + (self.states.len() as u64) <= to {
            let same = self.states.last().cloned().unwrap_or_default();
            self.states.push(same);
        }
    }

    fn index(&self, at: Revision) -> usize {
        let index =
            at.0.checked_sub(self.first)
                .and_then(|n| usize::try_from(n).ok());
        index
            .filter(|n| *n < self.states.len())
            .unwrap_or_else(|| panic!("there is no revision {at}"))
    }

    fn at(&self, at: Revision) -> &Data {
        &self.states[self.index(at)]
    }

    fn newest(&self) -> Revision {
        Revision(self.first + self.states.len() as u64 - 1)
    }

    /// A watch saw every change below its prefix, once and in order.
    fn check_watch(&self, prefix: &Bytes, batches: &[WatchBatch]) {
        let mut batches = batches.iter();
        for at in self.first + 1..=self.newest().0 {
            let all = self.changes.get(&at).map_or(&[][..], |changes| changes);
            let below: Vec<_> = all.iter().filter(|c| c.key.starts_with(prefix)).collect();
            if below.is_empty() {
                continue;
            }
            // Who saw the end stopped there.
            let Some(batch) = batches.next() else { return };
            assert_eq!(
                batch.revision.0, at,
                "a watch of {prefix:?} missed one or repeated one"
            );
            assert!(
                batch.changes.iter().eq(below),
                "a watch of {prefix:?} saw otherwise at {at}"
            );
        }
        assert!(
            batches.next().is_none(),
            "a watch of {prefix:?} saw what never was"
        );
    }

    /// Every commit with an answer happened just so, the others once at most,
    /// and nothing else did.
    fn check_commits(&mut self, records: &[Record]) {
        let mut by_revision: HashMap<u64, &[Write]> = HashMap::new();
        let mut unknown: HashMap<&Bytes, (&[Write], u64)> = HashMap::new();
        let mut idle = 0;
        for record in records {
            let What::Commit(writes, answer) = &record.what else {
                continue;
            };
            match answer {
                Ok(done) => {
                    let index = self.index(done.revision);
                    let before = &self.states[index - 1];
                    let taken = by_revision.insert(done.revision.0, writes);
                    assert!(
                        taken.is_none(),
                        "{} was given to two commits",
                        done.revision
                    );
                    assert_eq!(refusal(before, writes), None, "at {}", done.revision);
                    let previous = writes.iter().map(|write| before.get(&write.key));
                    assert!(
                        previous.eq(done.previous.iter().map(Option::as_ref)),
                        "what {} replaced",
                        done.revision
                    );
                    self.check_effect(done.revision, writes);
                    self.asked[index] = record.begun;
                }
                Err(Error::Conflict { .. }) => {}
                Err(_) => {
                    let values = values(writes);
                    idle += usize::from(values.is_empty());
                    for value in values {
                        unknown.entry(value).or_insert((writes, record.begun));
                    }
                }
            }
        }
        let mut orphans = 0;
        for at in self.first + 1..=self.newest().0 {
            if by_revision.contains_key(&at) {
                continue;
            }
            let changes = self.changes.get(&at).map_or(&[][..], |changes| changes);
            let value = changes.iter().find_map(|change| change.current.as_ref());
            let Some(value) = value.map(|entry| &entry.value) else {
                // Of a commit that put nothing, and had no answer.
                orphans += 1;
                continue;
            };
            let Some((writes, begun)) = unknown.get(value).copied() else {
                panic!("nobody asked for what {at} did, or it was done twice");
            };
            // The mark of the end is tried again and again.
            if !value.ends_with(b"-end") {
                for value in values(writes) {
                    unknown.remove(value);
                }
            }
            self.check_effect(Revision(at), writes);
            let index = self.index(Revision(at));
            assert_eq!(refusal(&self.states[index - 1], writes), None, "at {at}");
            self.asked[index] = begun;
        }
        // What only checked or deleted cannot be told apart.
        assert!(orphans <= idle, "{orphans} revisions that nobody asked for");
    }

    fn check_effect(&self, at: Revision, writes: &[Write]) {
        let before = &self.states[self.index(at) - 1];
        let mut after = before.clone();
        for write in writes {
            match &write.op {
                Op::Put { value, .. } => {
                    let entry = Entry {
                        key: write.key.clone(),
                        value: value.clone(),
                        created: before.get(&write.key).map_or(at, |entry| entry.created),
                        modified: at,
                    };
                    after.insert(write.key.clone(), entry);
                }
                Op::Delete => {
                    after.remove(&write.key);
                }
                Op::Check => {}
            }
        }
        assert_eq!(self.at(at), &after, "what the commit at {at} did");
    }

    /// There is a revision for every answer, not before anything that had ended
    /// when it was asked for, and of nothing that was asked for after.
    fn check_order(&self, records: &[Record]) {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (n, record) in records.iter().enumerate() {
            moments.push((record.begun, false, n));
            moments.push((record.ended, true, n));
        }
        moments.sort_unstable();
        let mut floor = Revision(self.first);
        let mut floors = vec![floor; records.len()];
        let mut compacted = Revision(0);
        for (_, ended, n) in moments {
            let record = &records[n];
            if !ended {
                floors[n] = floor;
                if let What::Compact(at) = record.what {
                    compacted = compacted.max(at);
                }
                continue;
            }
            if let Some(at) = self.explain(record, floors[n], compacted) {
                let asked = self.asked[self.index(at)];
                assert!(asked <= record.ended, "{record:?} saw the future");
                floor = floor.max(at);
            }
        }
    }

    /// The earliest revision that an answer can be of; `None` if it says nothing.
    fn explain(&self, record: &Record, floor: Revision, compacted: Revision) -> Option<Revision> {
        let fits = |fit: &dyn Fn(&Data) -> bool| {
            let mut revisions = (floor.0..=self.newest().0).map(Revision);
            let found = revisions.find(|at| fit(self.at(*at)));
            Some(found.unwrap_or_else(|| panic!("nothing since {floor} explains {record:?}")))
        };
        match &record.what {
            What::Commit(_, Ok(done)) => {
                assert!(done.revision > floor, "{record:?} after {floor}");
                Some(done.revision)
            }
            What::Commit(
                writes,
                Err(Error::Conflict {
                    key,
                    expected,
                    actual,
                }),
            ) => {
                fits(&|data| refusal(data, writes) == Some((&key[..], *expected, actual.as_ref())))
            }
            What::Get(key, Ok(found)) => fits(&|data| data.get(key) == found.as_ref()),
            What::List(list, Ok(page)) => {
                match list.at {
                    Some(at) => assert_eq!(page.revision, at),
                    None => assert!(page.revision >= floor, "{record:?} after {floor}"),
                }
                self.check_page(list, page);
                list.at.is_none().then_some(page.revision)
            }
            What::List(list, Err(Error::Compacted { .. })) => {
                let at = list.at.expect("the newest revision is never compacted");
                assert!(at < compacted, "{at} was not compacted");
                None
            }
            What::Revision(Ok(at)) => {
                assert!(*at >= floor, "the revision was {at} after {floor}");
                Some(*at)
            }
            What::Get(_, Err(Error::Compacted { .. } | Error::Future { .. }))
            | What::List(_, Err(Error::Future { .. })) => panic!("{record:?}"),
            _ => None,
        }
    }

    fn check_page(&self, list: &List, page: &Page) {
        let data = self.at(page.revision).values();
        let mut all: Vec<_> = data.filter(|e| e.key.starts_with(&list.prefix)).collect();
        let count = list.limit.unwrap_or(usize::MAX).min(all.len());
        let rest = all.split_off(count);
        assert!(page.entries.iter().eq(all), "{list:?} at {}", page.revision);
        assert_eq!(page.remaining, rest.len(), "{list:?} at {}", page.revision);
    }
}

/// The first demand that does not hold, and what is there instead.
fn refusal<'a>(
    data: &'a Data,
    writes: &'a [Write],
) -> Option<(&'a [u8], Expect, Option<&'a Entry>)> {
    writes.iter().find_map(|write| {
        let found = data.get(&write.key);
        let holds = match write.expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::Modified(at) => found.is_some_and(|entry| entry.modified == at),
        };
        (!holds).then_some((&write.key[..], write.expect, found))
    })
}

/// All that the writes put.
fn values(writes: &[Write]) -> Vec<&Bytes> {
    let values = writes.iter().filter_map(|write| match &write.op {
        Op::Put { value, .. } => Some(value),
        Op::Delete | Op::Check => None,
    });
    values.collect()
}
