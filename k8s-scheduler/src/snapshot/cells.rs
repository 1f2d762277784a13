//! [`Cells`]: nodes that are alike in some labels.

use std::{collections::HashMap, ops::Range};

/// How many nodes share a block.
pub(crate) const BLOCK: usize = 64;

/// The nodes, by slot, sorted into cells: those of one cell have the same values of some labels. Each cell is cut into
/// blocks.
#[derive(Debug)]
pub(crate) struct Cells {
    /// All slots, cell by cell.
    order: Vec<u32>,
    /// The block of each slot.
    block_of: Vec<u32>,
    /// Where in `order` each block begins, and where the last one ends.
    blocks: Vec<u32>,
    /// The first block of each cell, and the number of blocks.
    cells: Vec<u32>,
}

/// There are far fewer slots than that.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Cells {
    /// Sorts slots by what is given for each. `None` if that makes too many cells to be of use.
    pub(crate) fn of<'a>(columns: &[impl AsRef<[u32]> + 'a], slots: usize) -> Option<Self> {
        let most = (slots / 8).max(BLOCK);
        let mut numbers: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        let mut values = Vec::with_capacity(columns.len());
        for slot in 0..slots {
            values.clear();
            values.extend(columns.iter().map(|c| c.as_ref()[slot]));
            let cell = match numbers.get(&values) {
                Some(cell) => *cell,
                None if members.len() == most => return None,
                None => {
                    numbers.insert(values.clone(), members.len());
                    members.push(Vec::new());
                    members.len() - 1
                }
            };
            members[cell].push(narrow(slot));
        }
        let mut made = Self {
            order: Vec::with_capacity(slots),
            block_of: vec![0; slots],
            blocks: Vec::new(),
            cells: Vec::with_capacity(members.len() + 1),
        };
        for slots in members {
            made.cells.push(narrow(made.blocks.len()));
            for block in slots.chunks(BLOCK) {
                for slot in block {
                    made.block_of[*slot as usize] = narrow(made.blocks.len());
                }
                made.blocks.push(narrow(made.order.len()));
                made.order.extend_from_slice(block);
            }
        }
        made.cells.push(narrow(made.blocks.len()));
        made.blocks.push(narrow(made.order.len()));
        Some(made)
    }

    /// How many cells there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len() - 1
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.order.len()
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len() - 1
    }

    /// The blocks of a cell.
    pub(crate) fn blocks_of(&self, cell: usize) -> Range<usize> {
        self.cells[cell] as usize..self.cells[cell + 1] as usize
    }

    /// The block of a slot.
    pub(crate) fn block_of(&self, slot: usize) -> usize {
        self.block_of[slot] as usize
    }

    /// The slots of a block.
    pub(crate) fn members(&self, block: usize) -> &[u32] {
        &self.order[self.blocks[block] as usize..self.blocks[block + 1] as usize]
    }
}
