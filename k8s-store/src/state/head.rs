//! The data at one revision, and how a batch of writes changes it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Record, Tree};
use crate::{Change, Entry, Error, Expect, Op, Revision, WatchBatch, Write};

/// The data at one revision. Cloning it is O(1).
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) revision: Revision,
    pub(crate) tree: Tree,
}

/// What a write does to a tree.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Set(Arc<Record>),
    Remove(Bytes),
}

impl Default for Head {
    fn default() -> Self {
        Self {
            revision: Revision(1),
            tree: Tree::default(),
        }
    }
}

impl Head {
    /// Evaluates every guard and returns, for each write, what its key has now.
    pub(crate) fn judge(&self, writes: &[Write]) -> Result<Vec<Option<Entry>>, Error> {
        writes
            .iter()
            .map(|write| {
                let found = self.tree.get(&write.key).map(|record| &record.entry);
                let holds = match write.expect {
                    Expect::Any => true,
                    Expect::Absent => found.is_none(),
                    Expect::Present => found.is_some(),
                    Expect::Modified(at) => found.is_some_and(|entry| entry.modified == at),
                };
                if holds {
                    return Ok(found.cloned());
                }
                Err(Error::Conflict {
                    key: write.key[..].into(),
                    expected: write.expect,
                    actual: found.cloned(),
                })
            })
            .collect()
    }

    /// Applies a batch that [`judge`](Self::judge) has let through, at the next
    /// revision. `now` is the time in milliseconds. `edits` is told what it takes
    /// to [`redo`](Self::redo) it elsewhere.
    pub(crate) fn apply(
        &mut self,
        writes: Vec<Write>,
        previous: &[Option<Entry>],
        now: u64,
        mut edits: Option<&mut Vec<Edit>>,
    ) -> WatchBatch {
        let revision = Revision(self.revision.0 + 1);
        let mut apply = |write, previous| {
            let (edit, change) = plan(write, previous, revision, now)?;
            if let Some(edits) = &mut edits {
                edits.push(edit.clone());
            }
            self.edit(edit);
            Some(change)
        };
        let changes: Arc<[Change]> = if writes.len() == 1 {
            // One allocation where collecting a filtered iterator takes two.
            let write = writes.into_iter().next();
            match write.and_then(|write| apply(write, previous[0].clone())) {
                Some(change) => Arc::new([change]),
                None => Arc::new([]),
            }
        } else {
            let mut changes: Vec<_> = writes
                .into_iter()
                .zip(previous)
                .filter_map(|(write, previous)| apply(write, previous.clone()))
                .collect();
            changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            changes.into()
        };
        self.revision = revision;
        WatchBatch { revision, changes }
    }

    /// Does what was done to another head, which had the same data before.
    pub(crate) fn redo(&mut self, edits: Vec<Edit>, leads_to: Revision) {
        for edit in edits {
            self.edit(edit);
        }
        self.revision = leads_to;
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Set(record) => self.tree.insert(record),
            Edit::Remove(key) => self.tree.remove(&key),
        };
    }

    /// The writes that delete those of the keys whose time has passed.
    pub(crate) fn deletions(&self, due: &[(u64, Bytes)]) -> Vec<Write> {
        let mut writes: Vec<Write> = Vec::with_capacity(due.len());
        for (expires, key) in due {
            // A key written again has another expiry, or the same one twice over.
            let record = self
                .tree
                .get(key)
                .filter(|record| record.expires == *expires);
            if let Some(record) = record
                && writes.last().is_none_or(|last| last.key != *key)
            {
                writes.push(Write {
                    key: key.clone(),
                    expect: Expect::Modified(record.entry.modified),
                    op: Op::Delete,
                });
            }
        }
        writes
    }
}

/// What a write does to its key, which has `previous` now.
fn plan(
    write: Write,
    previous: Option<Entry>,
    revision: Revision,
    now: u64,
) -> Option<(Edit, Change)> {
    match write.op {
        Op::Check => None,
        Op::Put { value, ttl } => {
            let expires = expires(now, ttl);
            Some(put(write.key, value, expires, previous, revision))
        }
        Op::Delete => Some(delete(previous?)),
    }
}

/// Sets a key that has `previous` now.
pub(crate) fn put(
    key: Bytes,
    value: Bytes,
    expires: u64,
    previous: Option<Entry>,
    revision: Revision,
) -> (Edit, Change) {
    let entry = Entry {
        // A key that is there already keeps its bytes: one copy for all history.
        key: previous.as_ref().map_or(key, |entry| entry.key.clone()),
        value,
        created: previous.as_ref().map_or(revision, |entry| entry.created),
        modified: revision,
    };
    let record = Record {
        entry: entry.clone(),
        expires,
    };
    let change = Change {
        key: entry.key.clone(),
        current: Some(entry),
        previous,
    };
    (Edit::Set(Arc::new(record)), change)
}

/// Removes what a key has now.
pub(crate) fn delete(previous: Entry) -> (Edit, Change) {
    let change = Change {
        key: previous.key.clone(),
        current: None,
        previous: Some(previous),
    };
    (Edit::Remove(change.key.clone()), change)
}

/// When a key written now ends; 0 is never.
pub(crate) fn expires(now: u64, ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| {
        let millis = ttl.as_nanos().div_ceil(1_000_000);
        now.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
            .max(1)
    })
}
