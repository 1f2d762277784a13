//! [`View`]: a card seen by cells.

use std::sync::Arc;

use crate::{framework::FITS, snapshot::Cells};

/// The feasible nodes of a block or a cell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ranked {
    /// The highest total.
    pub(super) best: i64,
    /// How many have it.
    pub(super) ties: u32,
    /// How many there are.
    pub(super) feasible: u32,
    /// The slot of one of them.
    pub(super) first: u32,
}

/// The best nodes of each block of each cell, as one card has them.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cells: Arc<Cells>,
    blocks: Vec<Ranked>,
}

impl View {
    pub(super) fn new(cells: Arc<Cells>, codes: &[u32], totals: &[i64]) -> Self {
        let mut view = Self {
            blocks: vec![Ranked::default(); cells.blocks()],
            cells,
        };
        view.rank_all(codes, totals);
        view
    }

    pub(super) fn rank_all(&mut self, codes: &[u32], totals: &[i64]) {
        for block in 0..self.blocks.len() {
            self.rank(block, codes, totals);
        }
    }

    /// Looks again at the block of a slot.
    pub(super) fn rank_slot(&mut self, slot: usize, codes: &[u32], totals: &[i64]) {
        self.rank(self.cells.block_of(slot), codes, totals);
    }

    fn rank(&mut self, block: usize, codes: &[u32], totals: &[i64]) {
        let mut found = Ranked::default();
        for slot in self.cells.members(block) {
            if codes[*slot as usize] != FITS {
                continue;
            }
            found.feasible += 1;
            let total = totals[*slot as usize];
            if found.ties == 0 || total > found.best {
                (found.best, found.ties, found.first) = (total, 1, *slot);
            } else if total == found.best {
                found.ties += 1;
            }
        }
        self.blocks[block] = found;
    }

    /// All of a cell.
    pub(super) fn cell(&self, cell: usize) -> Ranked {
        let mut found = Ranked::default();
        for block in &self.blocks[self.cells.blocks_of(cell)] {
            if block.feasible == 0 {
                continue;
            }
            let feasible = found.feasible + block.feasible;
            if found.ties == 0 || block.best > found.best {
                found = *block;
            } else if block.best == found.best {
                found.ties += block.ties;
            }
            found.feasible = feasible;
        }
        found
    }

    /// The slot of the nth of those with the highest total in a cell.
    pub(super) fn nth(
        &self,
        cell: usize,
        mut nth: u32,
        codes: &[u32],
        totals: &[i64],
    ) -> Option<usize> {
        let best = self.cell(cell).best;
        for block in self.cells.blocks_of(cell) {
            let found = &self.blocks[block];
            if found.feasible == 0 || found.best != best {
                continue;
            }
            if nth >= found.ties {
                nth -= found.ties;
                continue;
            }
            let members = self.cells.members(block).iter().map(|s| *s as usize);
            let mut winners = members.filter(|s| codes[*s] == FITS && totals[*s] == best);
            return winners.nth(nth as usize);
        }
        None
    }
}
