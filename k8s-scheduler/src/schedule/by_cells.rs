//! Decisions that look at one node of each kind.

use std::sync::Arc;

use super::{FitError, Placement, Scheduler, card::Card, normalize, plan::Cycle, view::Ranked};
use crate::{
    framework::{Code, Feasible, MAX_NODE_SCORE},
    snapshot::{PodInfo, Snapshot},
};

impl Scheduler {
    /// The labels that all is about that is not in the card; `None` if it is about more than labels.
    fn topologies(
        &self,
        cycle: &Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Option<Vec<Arc<str>>> {
        let state = &cycle.state;
        let mut keys = Vec::new();
        let filters = self.plan.filters(&cycle.skipped_filters);
        for step in filters.filter(|s| !cycle.keeps(s)) {
            keys.extend(step.plugin.topologies(state, pod, snapshot)?);
        }
        for step in self.plan.scores(cycle).filter(|s| !s.is_local) {
            keys.extend(step.plugin.topologies(state, pod, snapshot)?);
        }
        for (i, plugin) in self.plan.pre_scores.iter().enumerate() {
            if !cycle.skipped_scores[i] && !self.plan.is_local_pre_score(i) {
                keys.extend(plugin.topologies(state, pod, snapshot)?);
            }
        }
        keys.sort();
        keys.dedup();
        Some(keys)
    }

    /// Decides by asking about one node of each cell: those that are alike in all labels that matter. `None`
    /// where that can't be done, or no node fits and every one of them is to say why.
    pub(super) fn decide_by_cells(
        &self,
        cycle: &mut Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        card: &mut Card,
        seed: u64,
    ) -> Result<Option<Placement>, FitError> {
        let keys = self.topologies(cycle, snapshot, pod);
        let Some(cells) = keys.and_then(|keys| snapshot.cells(keys)) else {
            return Ok(None);
        };
        let view = card.view(&cells);
        let mut fitting: Vec<(usize, Ranked)> = Vec::with_capacity(cells.len());
        for cell in 0..cells.len() {
            let found = card.views[view].cell(cell);
            if found.feasible > 0 && self.lets_pass(cycle, snapshot, pod, found.first)? {
                fitting.push((cell, found));
            }
        }
        let feasible: usize = fitting.iter().map(|(_, f)| f.feasible as usize).sum();
        if feasible == 0 || !card.holds_for(feasible) {
            return Ok(None);
        }
        let (slot, score) = if feasible == 1 {
            (fitting[0].1.first as usize, 0)
        } else {
            self.add_scores(cycle, snapshot, pod, &mut fitting)?;
            let Some(chosen) = choose(&fitting, card, view, seed) else {
                return Ok(None);
            };
            chosen
        };
        Ok(Some(Placement {
            node: snapshot.slots()[slot].name().to_owned(),
            evaluated: snapshot.len(),
            feasible,
            score,
            state: std::mem::take(&mut cycle.state),
        }))
    }

    fn lets_pass(
        &self,
        cycle: &Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        slot: u32,
    ) -> Result<bool, FitError> {
        let node = &snapshot.slots()[slot as usize];
        let filters = self.plan.filters(&cycle.skipped_filters);
        for step in filters.filter(|s| !cycle.keeps(s)) {
            match step.plugin.filter(&cycle.state, pod, node) {
                Ok(()) => {}
                Err(status) if status.code == Code::Error => {
                    return Err(FitError::plugin(&status.by(step.plugin.name())));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Adds to the totals of cells what the plugins say of one node of each.
    fn add_scores(
        &self,
        cycle: &mut Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        cells: &mut [(usize, Ranked)],
    ) -> Result<(), FitError> {
        let slots: Vec<u32> = cells.iter().map(|(_, found)| found.first).collect();
        let nodes = Feasible {
            snapshot,
            slots: &slots,
        };
        self.pre_score(cycle, pod, &nodes)?;
        let mut column = Vec::with_capacity(slots.len());
        for step in self.plan.scores(cycle).filter(|s| !s.is_local) {
            column.clear();
            step.plugin
                .score_many(&cycle.state, pod, &nodes, &mut column);
            normalize(step, &cycle.state, &nodes, &mut column);
            for ((_, found), score) in cells.iter_mut().zip(&column) {
                found.best += (*score).clamp(0, MAX_NODE_SCORE) * step.weight;
            }
        }
        Ok(())
    }
}

/// The slot of one of the best nodes, and its total.
fn choose(cells: &[(usize, Ranked)], card: &Card, view: usize, seed: u64) -> Option<(usize, i64)> {
    let best = cells.iter().map(|(_, found)| found.best).max()?;
    let winners = || cells.iter().filter(|(_, found)| found.best == best);
    let ties: u32 = winners().map(|(_, found)| found.ties).sum();
    let mut nth = fastrand::Rng::with_seed(seed).u32(..ties.max(1));
    for (cell, found) in winners() {
        if nth < found.ties {
            let slot = card.views[view].nth(*cell, nth, &card.codes, &card.totals)?;
            return Some((slot, best));
        }
        nth -= found.ties;
    }
    None
}
