//! [`Log`]: the last changes of a snapshot.

use std::collections::VecDeque;

/// How many changes are kept. Whoever is further behind starts anew.
const LENGTH: usize = 1 << 15;

/// What changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// The node in this slot, or there is another one.
    Node { slot: u32 },
    /// A pod came to a node or left it.
    Pod { slot: u32, group: u32, came: bool },
    /// This number stands for other pods from here on.
    Group { group: u32 },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    first: u64,
    changes: VecDeque<Change>,
}

impl Log {
    pub(super) fn push(&mut self, change: Change) {
        if self.changes.len() == LENGTH {
            self.changes.pop_front();
            self.first += 1;
        }
        self.changes.push_back(change);
    }

    /// The number of changes so far.
    pub(super) fn position(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// The changes after a position; `None` if they are not all there any more.
    pub(super) fn since(
        &self,
        position: u64,
    ) -> Option<impl ExactSizeIterator<Item = Change> + '_> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        (skip <= self.changes.len()).then(|| self.changes.range(skip..).copied())
    }
}
