//! The changes that led to the newest revision, as far back as they are kept.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{Head, Tree};
use crate::{Change, Entry, Error, Revision, WatchBatch};

/// How much history a store keeps for reads and watches from older revisions.
///
/// What exceeds either bound is forgotten by itself, as if by
/// [`Store::compact`](crate::Store::compact), in steps of about an eighth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// About how many revisions to keep. Default: 65,536.
    pub revisions: usize,
    /// About how many bytes to keep, counting replaced and deleted values and
    /// the bookkeeping. Default: 64 MiB.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            revisions: 65_536,
            bytes: 64 << 20,
        }
    }
}

/// The most batches in a segment. Only finished ones can be searched by key.
const SEGMENT: usize = 512;
/// What a batch weighs without its keys and values: allocations and slots.
const BATCH_BYTES: usize = 64;
/// The same for one change.
const CHANGE_BYTES: usize = 224;

/// Every batch after the oldest readable revision, up to the newest one.
#[derive(Clone, Debug)]
pub(crate) struct History {
    limits: HistoryLimits,
    oldest: Revision,
    batches: usize,
    bytes: usize,
    segments: VecDeque<Arc<Segment>>,
}

/// A run of batches, one per revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) batches: Vec<WatchBatch>,
    bytes: usize,
    /// There will be no further batch.
    finished: bool,
    /// What undoing a finished segment does to each of its keys, in key order.
    /// Made when somebody first reads the past: commits do without it.
    undo: OnceLock<Box<[Undo]>>,
}

/// A key in a segment: its first and its last change, by batch and place therein.
#[derive(Clone, Copy, Debug)]
struct Undo {
    first: (u32, u32),
    last: (u32, u32),
}

/// How a key was at some revision, if it has changed since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a> {
    pub(crate) key: &'a Bytes,
    /// The entry that it had.
    pub(crate) entry: Option<&'a Entry>,
    /// Whether there is an entry after the changes.
    pub(crate) exists: bool,
}

impl<'a> Before<'a> {
    fn of(first: &'a Change, last: &Change) -> Self {
        Self {
            key: &first.key,
            entry: first.previous.as_ref(),
            exists: last.current.is_some(),
        }
    }
}

impl Segment {
    /// The newest revision in the segment.
    fn last(&self) -> Revision {
        self.batches.last().map_or(Revision(0), |b| b.revision)
    }

    /// The batches after a revision.
    pub(crate) fn after(&self, revision: Revision) -> &[WatchBatch] {
        let from = self.batches.partition_point(|b| b.revision <= revision);
        &self.batches[from..]
    }

    fn change(&self, (batch, place): (u32, u32)) -> &Change {
        &self.batches[batch as usize].changes[place as usize]
    }

    /// The index by key, if the whole segment is after a revision and finished.
    fn undo(&self, after: Revision) -> Option<&[Undo]> {
        if !self.finished || self.batches.first()?.revision <= after {
            return None;
        }
        Some(self.undo.get_or_init(|| {
            let mut all: Vec<Undo> = Vec::new();
            for (batch, changes) in (0..).zip(&self.batches) {
                all.extend((0..changes.changes.len() as u32).map(|place| Undo {
                    first: (batch, place),
                    last: (batch, place),
                }));
            }
            // Changes of one key stay in their order.
            all.sort_by_key(|undo| &self.change(undo.first).key);
            all.dedup_by(|later, kept| {
                let same = self.change(later.first).key == self.change(kept.first).key;
                if same {
                    kept.last = later.last;
                }
                same
            });
            all.into()
        }))
    }

    /// What the key had before its first change after a revision, if there is one.
    fn before(&self, key: &[u8], after: Revision) -> Option<&Change> {
        if let Some(undo) = self.undo(after) {
            let found = undo.binary_search_by(|undo| (*self.change(undo.first).key).cmp(key));
            return found.ok().map(|at| self.change(undo[at].first));
        }
        self.after(after).iter().find_map(|batch| {
            let found = batch.changes.binary_search_by(|c| (*c.key).cmp(key));
            found.ok().map(|at| &batch.changes[at])
        })
    }

    /// Appends how the keys below a prefix were, those that changed after a
    /// revision: in key order or in order of time.
    fn below<'a>(&'a self, prefix: &[u8], after: Revision, into: &mut Vec<Before<'a>>) {
        if let Some(undo) = self.undo(after) {
            let from = undo.partition_point(|undo| *self.change(undo.first).key < *prefix);
            let ends = undo[from..]
                .iter()
                .map(|undo| (self.change(undo.first), self.change(undo.last)));
            into.extend(
                ends.take_while(|(first, _)| first.key.starts_with(prefix))
                    .map(|(first, last)| Before::of(first, last)),
            );
        } else {
            let changes = self.after(after).iter().flat_map(|b| b.changes.iter());
            into.extend(
                changes
                    .filter(|change| change.key.starts_with(prefix))
                    .map(|change| Before::of(change, change)),
            );
        }
    }
}

impl History {
    /// The history of a store that has none before this revision.
    pub(crate) fn starting_at(oldest: Revision, limits: HistoryLimits) -> Self {
        Self {
            limits,
            oldest,
            batches: 0,
            bytes: 0,
            segments: VecDeque::new(),
        }
    }

    /// Appends batches.
    pub(crate) fn extend(&mut self, batches: impl IntoIterator<Item = WatchBatch>) {
        if self.segments.back().is_none_or(|tail| tail.finished) {
            self.segments.push_back(Arc::default());
        }
        let tail = self.segments.back_mut().expect("one was just made sure of");
        let tail = Arc::make_mut(tail);
        for batch in batches {
            let bytes = weight(&batch);
            self.batches += 1;
            self.bytes += bytes;
            tail.bytes += bytes;
            tail.batches.push(batch);
        }
        let full = SEGMENT.min(self.limits.revisions / 8).max(1);
        if tail.batches.len() >= full || tail.bytes >= self.limits.bytes / 8 {
            tail.batches.shrink_to_fit();
            tail.finished = true;
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.segments.len() > 1
            && (self.batches > self.limits.revisions || self.bytes > self.limits.bytes)
        {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(front) = self.segments.pop_front() {
            self.oldest = self.oldest.max(front.last());
            self.batches -= front.batches.len();
            self.bytes -= front.bytes;
        }
    }

    /// Forgets everything before the revision, which the caller has checked.
    pub(crate) fn compact(&mut self, revision: Revision) {
        while self
            .segments
            .front()
            .is_some_and(|front| front.last() <= revision)
        {
            self.drop_front();
        }
        self.oldest = self.oldest.max(revision);
    }

    /// Checks that a revision can be read and watched from.
    pub(crate) fn check(&self, requested: Revision, current: Revision) -> Result<(), Error> {
        if requested > current {
            return Err(Error::Future { requested, current });
        }
        let oldest = self.oldest;
        if requested < oldest {
            return Err(Error::Compacted { requested, oldest });
        }
        Ok(())
    }

    /// The segments that hold the batches after a revision.
    pub(crate) fn since(&self, revision: Revision) -> impl Iterator<Item = &Arc<Segment>> {
        let from = self.segments.partition_point(|s| s.last() <= revision);
        self.segments.range(from..)
    }

    /// What a key had at a revision.
    pub(crate) fn get(&self, head: &Head, key: &[u8], at: Revision) -> Option<Entry> {
        let change = self.since(at).find_map(|segment| segment.before(key, at));
        match change {
            Some(change) => change.previous.clone(),
            None => head.tree.get(key).map(|record| record.entry.clone()),
        }
    }

    /// What it takes to see the data as they were at a revision.
    pub(crate) fn past(&self, head: &Head, at: Revision) -> Past {
        Past {
            tree: head.tree.clone(),
            at,
            segments: self.since(at).cloned().collect(),
        }
    }
}

/// Data newer than the revision wanted, and what has happened since.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) tree: Tree,
    pub(crate) at: Revision,
    segments: Vec<Arc<Segment>>,
}

impl Past {
    /// How the keys below a prefix were that have changed since, in key order.
    pub(crate) fn before(&self, prefix: &[u8]) -> Vec<Before<'_>> {
        let mut all = Vec::new();
        for segment in &self.segments {
            segment.below(prefix, self.at, &mut all);
        }
        // Stable: the changes of one key stay in their order. And quick, as most
        // of it consists of runs that are in order.
        all.sort_by_key(|before| before.key);
        all.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                kept.exists = later.exists;
            }
            same
        });
        all
    }
}

fn weight(batch: &WatchBatch) -> usize {
    let changes = batch.changes.iter().map(|change| {
        let value = change.previous.as_ref().map_or(0, |p| p.value.len());
        CHANGE_BYTES + change.key.len() + value
    });
    BATCH_BYTES + changes.sum::<usize>()
}
