//! [`Verdicts`] and [`Feasible`]: many nodes at once.

use std::sync::Arc;

use super::{Code, Status};
use crate::snapshot::{NodeInfo, Snapshot};

/// The code of a node that fits.
pub(crate) const FITS: u32 = 0;
/// The code of a slot without a node, or with one that is not looked at.
pub(crate) const ABSENT: u32 = 1;
const FIRST: u32 = 2;

/// Statuses by code: many nodes share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusTable {
    statuses: Vec<Arc<Status>>,
}

impl StatusTable {
    /// The code that stands for a status.
    pub(crate) fn code(&mut self, status: Status) -> u32 {
        // From the end: the same reason tends to come again soon.
        let known = self.statuses.iter().rposition(|s| **s == status);
        let position = known.unwrap_or_else(|| {
            self.statuses.push(Arc::new(status));
            self.statuses.len() - 1
        });
        u32::try_from(position).map_or(u32::MAX, |p| p + FIRST)
    }

    pub(crate) fn get(&self, code: u32) -> Option<&Arc<Status>> {
        self.statuses.get(code.checked_sub(FIRST)? as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.statuses.len()
    }
}

/// The nodes that a Filter plugin is to judge: those that every plugin before it let pass.
#[derive(Debug)]
pub struct Verdicts<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) plugin: &'static str,
    pub(crate) codes: &'a mut [u32],
    pub(crate) table: &'a mut StatusTable,
    /// The first failure of a plugin.
    pub(crate) error: Option<Status>,
}

impl Verdicts<'_> {
    /// Asks `filter` about each node.
    pub fn judge(&mut self, mut filter: impl FnMut(&NodeInfo) -> Result<(), Status>) {
        for (code, node) in self.codes.iter_mut().zip(self.snapshot.slots()) {
            if *code != FITS {
                continue;
            }
            if let Err(status) = filter(node) {
                let status = status.by(self.plugin);
                if status.code == Code::Error {
                    self.error = Some(status);
                    return;
                }
                *code = self.table.code(status);
            }
        }
    }

    /// Rules out, for one reason, the nodes that `rejects` says, by their position in the columns.
    pub(crate) fn reject(&mut self, status: Status, rejects: impl Fn(usize) -> bool) {
        let reason = self.table.code(status.by(self.plugin));
        for (slot, code) in self.codes.iter_mut().enumerate() {
            if *code == FITS && rejects(slot) {
                *code = reason;
            }
        }
    }
}

/// The nodes that a pod fits on.
#[derive(Clone, Copy, Debug)]
pub struct Feasible<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) slots: &'a [u32],
}

impl<'a> Feasible<'a> {
    /// The nodes, in the order of their scores.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &'a NodeInfo> + use<'a> {
        let nodes = self.snapshot.slots();
        self.slots.iter().map(|slot| nodes[*slot as usize].as_ref())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The snapshot that they are part of.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = usize> + use<'a> {
        self.slots.iter().map(|slot| *slot as usize)
    }
}
