//! The changes that led to the newest revision, as far back as they are kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{Head, Record, Tree};
use crate::{Entry, Error, Revision, WatchBatch};

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

/// The most batches in a segment: reading at an old revision undoes at most so many.
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
    /// The data after the last batch, once there will be no further one.
    end: Option<Head>,
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

    /// Appends the batches that led to `head`.
    pub(crate) fn extend(&mut self, batches: impl IntoIterator<Item = WatchBatch>, head: &Head) {
        if self.segments.back().is_none_or(|tail| tail.end.is_some()) {
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
            tail.end = Some(head.clone());
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
        let tree = match self.since(at).next() {
            Some(segment) => {
                for batch in segment.after(at) {
                    let change = batch.changes.binary_search_by(|c| (*c.key).cmp(key));
                    if let Ok(change) = change {
                        return batch.changes[change].previous.clone();
                    }
                }
                segment.end.as_ref().map_or(&head.tree, |end| &end.tree)
            }
            None => &head.tree,
        };
        tree.get(key).map(|record| record.entry.clone())
    }

    /// What it takes to rebuild the data at a revision.
    pub(crate) fn past(&self, head: &Head, at: Revision) -> Past {
        let segment = self.since(at).next().cloned();
        let end = segment.as_ref().and_then(|segment| segment.end.as_ref());
        Past {
            tree: end.unwrap_or(head).tree.clone(),
            at,
            segment,
        }
    }
}

/// Data newer than the revision wanted, and the batches to undo.
#[derive(Debug)]
pub(crate) struct Past {
    tree: Tree,
    at: Revision,
    segment: Option<Arc<Segment>>,
}

impl Past {
    /// The data below a prefix as it was; other keys are of any age.
    pub(crate) fn rebuild(self, prefix: &[u8]) -> Tree {
        let mut tree = self.tree;
        let mut before: BTreeMap<&Bytes, &Option<Entry>> = BTreeMap::new();
        let batches = self.segment.iter().flat_map(|s| s.after(self.at));
        for change in batches.flat_map(|batch| batch.changes.iter()) {
            if change.key.starts_with(prefix) {
                before.entry(&change.key).or_insert(&change.previous);
            }
        }
        for (key, entry) in before {
            match entry {
                Some(entry) => {
                    tree.insert(Arc::new(Record {
                        entry: entry.clone(),
                        expires: 0,
                    }));
                }
                None => {
                    tree.remove(key);
                }
            }
        }
        tree
    }
}

fn weight(batch: &WatchBatch) -> usize {
    let changes = batch.changes.iter().map(|change| {
        let value = change.previous.as_ref().map_or(0, |p| p.value.len());
        CHANGE_BYTES + change.key.len() + value
    });
    BATCH_BYTES + changes.sum::<usize>()
}
