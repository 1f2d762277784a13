//! [`Card`]: what a pod of one node shape scores on each node, kept for the next pod of that shape.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    fit_error::FitError,
    plan::{Cycle, Plan},
    view::View,
};
use crate::{
    framework::{ABSENT, Code, FITS, MAX_NODE_SCORE, Normalization, StatusTable},
    snapshot::{BLOCK, Cells, Change, Interned, NodeInfo, NodeShape, PodInfo, PodShape, Snapshot},
};

/// How many views a card keeps.
const VIEWS: usize = 4;
/// How many cards a snapshot keeps.
const KEPT: usize = 32;
/// With more statuses than this, a card is made anew: most of them are out of date.
const MOST_STATUSES: usize = 4096;

/// The best of some nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    best: i64,
    ties: u32,
}

/// A Score plugin's raw scores that are stretched over all feasible nodes.
#[derive(Debug)]
struct Stretched {
    lowest_wins: bool,
    weight: i64,
    raw: Vec<i64>,
    /// How many feasible nodes have each raw score.
    histogram: BTreeMap<i64, u32>,
    /// The highest raw score, as the totals count it.
    highest: i64,
}

/// Verdicts and scores by slot, of the plugins whose scope is the node.
#[derive(Debug, Default)]
pub(crate) struct Card {
    position: u64,
    images_epoch: u64,
    pub(super) codes: Vec<u32>,
    pub(super) table: StatusTable,
    pub(super) feasible: usize,
    /// The weighted sum of the scores that stand by themselves.
    fixed: Vec<i64>,
    stretched: Vec<Stretched>,
    pub(super) totals: Vec<i64>,
    blocks: Vec<Block>,
    /// The same by cells, for topologies that were asked for.
    pub(super) views: Vec<View>,
}

/// Whose verdicts and scores a card has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CardKey {
    /// The scheduler.
    pub(super) plan: u64,
    /// What the pods ask of a node.
    pub(super) node: Interned<NodeShape>,
    /// For pods of this very shape, as of an epoch of the snapshot, with the Filter plugins whose verdicts it has
    /// beside the local ones.
    pub(super) own: Option<(Interned<PodShape>, u64, Vec<bool>)>,
}

/// How many pods back a shape must have come for a card of its own.
const RECENT: usize = 8;

/// The cards of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Cards {
    clock: u64,
    cards: HashMap<CardKey, (u64, Box<Card>)>,
    /// The last shapes that asked for a card of their own.
    recent: VecDeque<Interned<PodShape>>,
}

impl Cards {
    /// Takes a card out: whoever panics with it in hand loses it, and nothing else.
    pub(super) fn take(cards: &Mutex<Self>, key: &CardKey) -> Option<Box<Card>> {
        let mut cards = cards.lock().unwrap_or_else(PoisonError::into_inner);
        cards.cards.remove(key).map(|(_, card)| card)
    }

    /// Whether pods of a shape come often enough for a card of their own to pay.
    pub(super) fn comes_often(cards: &Mutex<Self>, shape: &Interned<PodShape>) -> bool {
        let mut cards = cards.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cards.recent.contains(shape);
        if cards.recent.len() == RECENT {
            cards.recent.pop_front();
        }
        cards.recent.push_back(shape.clone());
        known
    }

    pub(super) fn put(cards: &Mutex<Self>, key: CardKey, card: Box<Card>) {
        let mut cards = cards.lock().unwrap_or_else(PoisonError::into_inner);
        cards.clock += 1;
        if cards.cards.len() >= KEPT
            && let Some(oldest) = cards.cards.values().map(|(used, _)| *used).min()
        {
            cards.cards.retain(|_, (used, _)| *used != oldest);
        }
        let now = cards.clock;
        cards.cards.insert(key, (now, card));
    }
}

/// A raw score stretched so that the highest becomes the maximum, or 0.
pub(super) fn stretch(score: i64, highest: i64, lowest_wins: bool) -> i64 {
    let stretched = match highest {
        0 => 0,
        highest => score * MAX_NODE_SCORE / highest,
    };
    if lowest_wins {
        MAX_NODE_SCORE - stretched
    } else {
        stretched
    }
}

impl Stretched {
    fn part(&self, score: i64, highest: i64) -> i64 {
        stretch(score, highest, self.lowest_wins).clamp(0, MAX_NODE_SCORE) * self.weight
    }
}

impl Card {
    fn new(plan: &Plan, cycle: &Cycle, snapshot: &Snapshot) -> Self {
        let stretched = plan
            .scores(cycle)
            .filter(|s| s.is_local && s.normalization != Normalization::None);
        Self {
            position: snapshot.position(),
            images_epoch: snapshot.images_epoch(),
            stretched: stretched
                .map(|step| Stretched {
                    lowest_wins: step.normalization == Normalization::Lowest,
                    weight: step.weight,
                    raw: Vec::new(),
                    histogram: BTreeMap::new(),
                    highest: 0,
                })
                .collect(),
            ..Self::default()
        }
    }

    /// The card brought up to date, or a new one.
    pub(super) fn current(
        before: Option<Box<Self>>,
        plan: &Plan,
        cycle: &Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<Box<Self>, FitError> {
        if let Some(mut card) = before
            && card.images_epoch == snapshot.images_epoch()
            && card.table.len() <= MOST_STATUSES
            && let Some(changes) = snapshot.changes(card.position)
            && changes.len() < snapshot.slots().len().max(1024)
        {
            let changed = changes.filter_map(|change| match change {
                Change::Node { slot } | Change::Pod { slot, .. } => Some(slot as usize),
                Change::Group { .. } => None,
            });
            let changed: Vec<usize> = changed.collect();
            card.update(&changed, plan, cycle, snapshot, pod)?;
            card.position = snapshot.position();
            return Ok(card);
        }
        let mut card = Box::new(Self::new(plan, cycle, snapshot));
        let all: Vec<usize> = (0..snapshot.slots().len()).collect();
        card.update(&all, plan, cycle, snapshot, pod)?;
        Ok(card)
    }

    fn update(
        &mut self,
        changed: &[usize],
        plan: &Plan,
        cycle: &Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<(), FitError> {
        let nodes = snapshot.slots();
        self.codes.resize(nodes.len(), ABSENT);
        self.fixed.resize(nodes.len(), 0);
        self.totals.resize(nodes.len(), 0);
        for column in &mut self.stretched {
            column.raw.resize(nodes.len(), 0);
        }
        // Those of other nodes are of no use any more.
        self.views.retain(|view| view.cells.slots() == nodes.len());
        for slot in changed {
            self.judge(*slot, &nodes[*slot], plan, cycle, pod)?;
        }
        let mut is_restretched = false;
        for column in &mut self.stretched {
            let highest = column
                .histogram
                .last_key_value()
                .map_or(0, |(score, _)| *score);
            is_restretched |= highest != column.highest;
            column.highest = highest;
        }
        self.blocks
            .resize(nodes.len().div_ceil(BLOCK), Block::default());
        if is_restretched || changed.len() >= nodes.len() {
            for slot in 0..nodes.len() {
                self.total(slot);
            }
            for block in 0..self.blocks.len() {
                self.rank(block);
            }
            for view in &mut self.views {
                view.rank_all(&self.codes, &self.totals);
            }
        } else {
            for slot in changed {
                self.total(*slot);
            }
            for slot in changed {
                self.rank(slot / BLOCK);
                for view in &mut self.views {
                    view.rank_slot(*slot, &self.codes, &self.totals);
                }
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        slot: usize,
        node: &Arc<NodeInfo>,
        plan: &Plan,
        cycle: &Cycle,
        pod: &PodInfo,
    ) -> Result<(), FitError> {
        if self.codes[slot] == FITS {
            self.feasible -= 1;
            for column in &mut self.stretched {
                let score = column.raw[slot];
                if let Some(count) = column.histogram.get_mut(&score) {
                    *count -= 1;
                    if *count == 0 {
                        column.histogram.remove(&score);
                    }
                }
            }
        }
        self.codes[slot] = ABSENT;
        if !node.is_known() {
            return Ok(());
        }
        if let Err(status) = plan.filter_locally(cycle, pod, node) {
            if status.code == Code::Error {
                return Err(FitError::plugin(&status));
            }
            self.codes[slot] = self.table.code(status);
            return Ok(());
        }
        self.codes[slot] = FITS;
        self.feasible += 1;
        self.fixed[slot] = 0;
        let mut columns = self.stretched.iter_mut();
        for step in plan.scores(cycle).filter(|s| s.is_local) {
            let score = step.plugin.score(&cycle.state, pod, node);
            if step.normalization == Normalization::None {
                self.fixed[slot] += score.clamp(0, MAX_NODE_SCORE) * step.weight;
            } else if let Some(column) = columns.next() {
                column.raw[slot] = score;
                *column.histogram.entry(score).or_default() += 1;
            }
        }
        Ok(())
    }

    fn total(&mut self, slot: usize) {
        let mut total = self.fixed[slot];
        for column in &self.stretched {
            total += column.part(column.raw[slot], column.highest);
        }
        self.totals[slot] = total;
    }

    fn rank(&mut self, block: usize) {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.codes.len());
        let mut found = Block::default();
        for (code, total) in self.codes[start..end].iter().zip(&self.totals[start..end]) {
            if *code != FITS {
                continue;
            }
            if found.ties == 0 || *total > found.best {
                found = Block {
                    best: *total,
                    ties: 1,
                };
            } else if *total == found.best {
                found.ties += 1;
            }
        }
        self.blocks[block] = found;
    }

    /// One of the nodes with the highest total, and that total.
    pub(super) fn best(&self, seed: u64) -> Option<(usize, i64)> {
        let open = || self.blocks.iter().enumerate().filter(|(_, b)| b.ties > 0);
        let best = open().map(|(_, b)| b.best).max()?;
        let ties: u32 = open()
            .filter(|(_, b)| b.best == best)
            .map(|(_, b)| b.ties)
            .sum();
        let mut nth = fastrand::Rng::with_seed(seed).u32(..ties);
        for (block, found) in open().filter(|(_, b)| b.best == best) {
            if nth >= found.ties {
                nth -= found.ties;
                continue;
            }
            let start = block * BLOCK;
            let end = (start + BLOCK).min(self.codes.len());
            let mut winners =
                (start..end).filter(|s| self.codes[*s] == FITS && self.totals[*s] == best);
            return Some((winners.nth(nth as usize)?, best));
        }
        None
    }

    /// The position of the view by these cells, made if there is none.
    pub(super) fn view(&mut self, cells: &Arc<Cells>) -> usize {
        let known = self.views.iter().position(|v| Arc::ptr_eq(&v.cells, cells));
        known.unwrap_or_else(|| {
            if self.views.len() == VIEWS {
                self.views.remove(0);
            }
            let view = View::new(cells.clone(), &self.codes, &self.totals);
            self.views.push(view);
            self.views.len() - 1
        })
    }

    /// Whether the totals are right where only so many of its feasible nodes are feasible.
    pub(super) fn holds_for(&self, feasible: usize) -> bool {
        let is_constant = |column: &Stretched| column.histogram.len() <= 1;
        feasible == self.feasible || self.stretched.iter().all(is_constant)
    }

    /// The totals of some of the feasible nodes, as they are when only those are feasible.
    pub(super) fn totals(&self, slots: &[u32]) -> Vec<i64> {
        let at = |column: &[i64], slot: &u32| column[*slot as usize];
        if self.holds_for(slots.len()) {
            return slots.iter().map(|s| at(&self.totals, s)).collect();
        }
        let mut totals: Vec<i64> = slots.iter().map(|s| at(&self.fixed, s)).collect();
        for column in &self.stretched {
            let highest = slots.iter().map(|s| at(&column.raw, s)).max().unwrap_or(0);
            for (total, slot) in totals.iter_mut().zip(slots) {
                *total += column.part(at(&column.raw, slot), highest);
            }
        }
        totals
    }
}
