//! [`Scheduler::schedule`]: one decision, as a pure function.

mod by_cells;
mod card;
mod explain;
mod extenders;
mod filters;
mod fit_error;
mod plan;
mod room;
mod view;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use card::{Card, CardKey};
use filters::rivals;
use plan::{Cycle, Plan};

use crate::{
    framework::{
        ABSENT, Code, CycleState, Extender, FITS, Feasible, MAX_NODE_SCORE, Normalization, Status,
        StatusTable, Verdicts,
    },
    metrics::{Metrics, Point, ProfileMetrics, is_sampled},
    profile::Profile,
    snapshot::{PodInfo, Snapshot},
};

pub use explain::{Explanation, NodeScore};
pub use filters::Filters;
pub use fit_error::{FitError, NodeStatuses};

pub(crate) use card::Cards;
pub(crate) use plan::guarded;

/// Where a pod goes.
#[derive(Debug)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them fit.
    pub feasible: usize,
    /// The sum of the plugins' weighted scores; 0 if only one node fits.
    /// [`Scheduler::explain`] has the scores of all.
    pub score: i64,
    /// What the plugins remember of this cycle.
    pub state: CycleState,
}

/// Decides where pods go: a list of plugins, and nothing that changes.
#[derive(Debug)]
pub struct Scheduler {
    profile: Profile,
    plan: Plan,
    extenders: Vec<Arc<dyn Extender>>,
    metrics: Option<(Arc<Metrics>, Arc<ProfileMetrics>)>,
}

/// The verdicts on all nodes, by slot.
struct Judged {
    codes: Vec<u32>,
    table: StatusTable,
    evaluated: usize,
}

impl Scheduler {
    /// A scheduler with these plugins.
    pub fn new(profile: Profile) -> Self {
        Self {
            plan: Plan::new(&profile),
            profile,
            extenders: Vec::new(),
            metrics: None,
        }
    }

    /// The same, which counts.
    #[must_use]
    pub(crate) fn with_metrics(mut self, metrics: &Arc<Metrics>) -> Self {
        let profile = metrics.profile(self.profile.scheduler_name());
        self.metrics = profile.map(|profile| (metrics.clone(), profile.clone()));
        self
    }

    /// A decision took so long.
    pub(crate) fn note_algorithm(&self, time: Duration) {
        if let Some((metrics, _)) = &self.metrics {
            metrics.algorithm(time);
        }
    }

    /// Counts a run of an extension point.
    fn note(&self, point: Point, outcome: Option<Code>, start: Instant) {
        if let Some((_, metrics)) = &self.metrics {
            metrics.point(point, outcome, start.elapsed());
        }
    }

    /// Runs a plugin. In some cycles it is counted how long that takes.
    fn timed<T>(
        &self,
        is_sampled: bool,
        point: Point,
        plugin: &'static str,
        run: impl FnOnce() -> Result<T, Status>,
    ) -> Result<T, Status> {
        let Some((metrics, _)) = self.metrics.as_ref().filter(|_| is_sampled) else {
            return run();
        };
        let start = Instant::now();
        let result = run();
        let outcome = result.as_ref().err().map(|status| status.code);
        metrics.plugin(point, plugin, outcome, start.elapsed());
        result
    }

    /// Its plugins.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where `pod` goes, given the nodes and pods of `snapshot`. Pure, unless an extender is asked: equal
    /// arguments give equal results. The seed chooses among nodes of equal score. A node where room was made for the pod
    /// is taken if the pod fits on it.
    ///
    /// What was computed for a pod is remembered in the snapshot, so that the next one that is like it costs
    /// what has changed since.
    ///
    /// # Errors
    ///
    /// [`FitError`] says, for every node, why not.
    pub fn schedule(
        &self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        seed: u64,
    ) -> Result<Placement, FitError> {
        let mut cycle = self.plan.begin();
        cycle.state.is_sampled = is_sampled(seed);
        let start = Instant::now();
        let allowed = self.pre_filter(&mut cycle, snapshot, pod);
        self.note(Point::PreFilter, allowed.as_ref().err().map(code), start);
        let allowed = allowed?;
        if let Some(slot) = self.nominated(&cycle, snapshot, pod) {
            return Ok(Placement {
                node: snapshot.slots()[slot].name().to_owned(),
                evaluated: 1,
                feasible: 1,
                score: 0,
                state: cycle.state,
            });
        }
        if let Some(allowed) = allowed {
            let judged = self.judge_some(&cycle, snapshot, pod, &allowed)?;
            return self.decide(cycle, snapshot, pod, judged, None, seed);
        }
        self.pre_score_locally(&mut cycle, snapshot, pod)?;
        let start = Instant::now();
        let key = self.key(&mut cycle, snapshot, pod);
        let card = Cards::take(snapshot.cards(), &key);
        let mut card = Card::current(card, &self.plan, &cycle, snapshot, pod)?;
        let is_alone = !self.is_extended(pod) && !has_rivals(snapshot, pod);
        let result = if is_alone && self.is_local(&cycle) {
            let result = self.decide_by_card(cycle, snapshot, &card, seed);
            self.note(Point::Filter, result.as_ref().err().map(code), start);
            result
        } else if is_alone
            && let Some(placement) =
                self.decide_by_cells(&mut cycle, snapshot, pod, &mut card, seed)?
        {
            self.note(Point::Filter, None, start);
            Ok(placement)
        } else {
            let judged = Judged {
                codes: card.codes.clone(),
                table: card.table.clone(),
                evaluated: snapshot.len(),
            };
            self.decide(cycle, snapshot, pod, judged, Some(&card), seed)
        };
        Cards::put(snapshot.cards(), key, card);
        result
    }

    fn pre_filter(
        &self,
        cycle: &mut Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<Option<BTreeSet<String>>, FitError> {
        let mut allowed: Option<BTreeSet<String>> = None;
        let mut narrowed_by = Vec::new();
        for (i, plugin) in self.plan.pre_filters.iter().enumerate() {
            let is_sampled = cycle.state.is_sampled;
            let result = self.timed(is_sampled, Point::PreFilter, plugin.name(), || {
                plugin.pre_filter(&mut cycle.state, pod, snapshot)
            });
            match result {
                Ok(result) => {
                    cycle.skipped_filters[i] = result.skip;
                    if let Some(nodes) = result.nodes {
                        narrowed_by.push(plugin.name());
                        allowed = Some(match allowed {
                            None => nodes,
                            Some(before) => before.intersection(&nodes).cloned().collect(),
                        });
                    }
                }
                Err(status) => {
                    return Err(FitError::pre_filter(snapshot, status.by(plugin.name())));
                }
            }
        }
        if let Some(first) = narrowed_by.first()
            && allowed.as_ref().is_some_and(BTreeSet::is_empty)
        {
            let plugins = narrowed_by.join(", ");
            let text = format!("node(s) didn't satisfy plugin(s) [{plugins}] simultaneously");
            return Err(FitError::pre_filter(
                snapshot,
                Status::unresolvable(text).by(first),
            ));
        }
        Ok(allowed)
    }

    /// The slot of the node where room was made for a pod, if it fits there by now.
    fn nominated(&self, cycle: &Cycle, snapshot: &Snapshot, pod: &PodInfo) -> Option<usize> {
        let node = snapshot.node(pod.nominated_node()?)?;
        let filters = Filters {
            plan: &self.plan,
            skipped: &cycle.skipped_filters,
            snapshot,
            extenders: &self.extenders,
        };
        filters.judge_with_nominated(&cycle.state, pod, node).ok()?;
        let slot = node.slot();
        if self.is_extended(pod) {
            let mut judged = Judged {
                codes: vec![ABSENT; snapshot.slots().len()],
                table: StatusTable::default(),
                evaluated: 1,
            };
            judged.codes[slot] = FITS;
            self.ask_extenders(snapshot, pod, &mut judged).ok()?;
            return (judged.codes[slot] == FITS).then_some(slot);
        }
        Some(slot)
    }

    /// Which card a pod goes by: that of its node shape; or, where that can hold more verdicts, its very own, once
    /// several pods of its shape have come.
    fn key(&self, cycle: &mut Cycle, snapshot: &Snapshot, pod: &PodInfo) -> CardKey {
        self.plan.own(cycle, snapshot, pod);
        let mut key = CardKey {
            plan: self.plan.id,
            node: pod.node_shape().clone(),
            own: None,
        };
        if cycle.own_filters.contains(&true) {
            if Cards::comes_often(snapshot.cards(), pod.shape()) {
                let filters = cycle.own_filters.clone();
                key.own = Some((pod.shape().clone(), snapshot.epoch(), filters));
            } else {
                cycle.own_filters.fill(false);
            }
        }
        key
    }

    /// Runs the PreScore plugins whose scores are kept.
    fn pre_score_locally(
        &self,
        cycle: &mut Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<(), FitError> {
        for (i, plugin) in self.plan.pre_scores.iter().enumerate() {
            if self.plan.is_local_pre_score(i) {
                let nodes = Feasible {
                    snapshot,
                    slots: &[],
                };
                let is_sampled = cycle.state.is_sampled;
                let scores = self.timed(is_sampled, Point::PreScore, plugin.name(), || {
                    plugin.pre_score(&mut cycle.state, pod, &nodes)
                });
                let scores = scores.map_err(|s| FitError::plugin(&s.by(plugin.name())))?;
                cycle.skipped_scores[i] = !scores;
            } else if !plugin.applies(pod, snapshot) {
                cycle.skipped_scores[i] = true;
            }
        }
        Ok(())
    }

    /// Whether a card has all the answers.
    fn is_local(&self, cycle: &Cycle) -> bool {
        let mut filters = self.plan.filters(&cycle.skipped_filters);
        filters.all(|step| cycle.keeps(step))
            && self.plan.scores(cycle).all(|step| step.is_local)
            && (0..self.plan.pre_scores.len())
                .all(|i| cycle.skipped_scores[i] || self.plan.is_local_pre_score(i))
    }

    fn decide_by_card(
        &self,
        cycle: Cycle,
        snapshot: &Snapshot,
        card: &Card,
        seed: u64,
    ) -> Result<Placement, FitError> {
        let Some((slot, score)) = card.best(seed) else {
            return Err(FitError::Unschedulable {
                nodes: snapshot.len(),
                statuses: NodeStatuses::new(snapshot, card.codes.clone(), card.table.clone()),
                pre_filter: None,
            });
        };
        Ok(Placement {
            node: snapshot.slots()[slot].name().to_owned(),
            evaluated: snapshot.len(),
            feasible: card.feasible,
            score: if card.feasible == 1 { 0 } else { score },
            state: cycle.state,
        })
    }

    /// The verdicts on a few nodes.
    fn judge_some(
        &self,
        cycle: &Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        allowed: &BTreeSet<String>,
    ) -> Result<Judged, FitError> {
        let mut judged = Judged {
            codes: vec![ABSENT; snapshot.slots().len()],
            table: StatusTable::default(),
            evaluated: 0,
        };
        let slots = allowed.iter().filter_map(|name| snapshot.slot_of(name));
        for slot in slots {
            let node = &snapshot.slots()[slot];
            if !node.is_known() {
                continue;
            }
            judged.evaluated += 1;
            judged.codes[slot] = match self.plan.filter_locally(cycle, pod, node) {
                Ok(()) => FITS,
                Err(status) if status.code == Code::Error => return Err(FitError::plugin(&status)),
                Err(status) => judged.table.code(status),
            };
        }
        Ok(judged)
    }

    /// Asks the plugins whose verdicts are not kept.
    fn filter(
        &self,
        cycle: &Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        judged: &mut Judged,
    ) -> Result<(), FitError> {
        for step in self
            .plan
            .filters(&cycle.skipped_filters)
            .filter(|s| !cycle.keeps(s))
        {
            let mut verdicts = Verdicts {
                snapshot,
                plugin: step.plugin.name(),
                codes: &mut judged.codes,
                table: &mut judged.table,
                error: None,
            };
            let name = step.plugin.name();
            let judged = self.timed(cycle.state.is_sampled, Point::Filter, name, || {
                step.plugin.filter_many(&cycle.state, pod, &mut verdicts);
                verdicts.error.take().map_or(Ok(()), Err)
            });
            judged.map_err(|status| FitError::plugin(&status))?;
        }
        let filters = Filters {
            plan: &self.plan,
            skipped: &cycle.skipped_filters,
            snapshot,
            extenders: &self.extenders,
        };
        for (name, _) in snapshot.nominated() {
            let slot = snapshot.slot_of(name).filter(|s| judged.codes[*s] == FITS);
            if let Some(slot) = slot
                && rivals(snapshot, pod, name).next().is_some()
                && let Err(status) =
                    filters.judge_with_nominated(&cycle.state, pod, &snapshot.slots()[slot])
            {
                judged.codes[slot] = judged.table.code(status);
            }
        }
        Ok(())
    }

    fn decide(
        &self,
        mut cycle: Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        mut judged: Judged,
        card: Option<&Card>,
        seed: u64,
    ) -> Result<Placement, FitError> {
        let start = Instant::now();
        let filtered = self.filter(&cycle, snapshot, pod, &mut judged);
        self.note(Point::Filter, filtered.as_ref().err().map(code), start);
        filtered?;
        self.ask_extenders(snapshot, pod, &mut judged)?;
        let feasible: Vec<u32> = (0u32..)
            .zip(&judged.codes)
            .filter_map(|(slot, code)| (*code == FITS).then_some(slot))
            .collect();
        let (chosen, score) = match feasible.as_slice() {
            [] => {
                return Err(FitError::Unschedulable {
                    nodes: snapshot.len(),
                    statuses: NodeStatuses::new(snapshot, judged.codes, judged.table),
                    pre_filter: None,
                });
            }
            [only] => (*only, 0),
            many => {
                let start = Instant::now();
                let totals = self.score(&mut cycle, snapshot, pod, many, card);
                self.note(Point::Score, totals.as_ref().err().map(code), start);
                let mut totals = totals?;
                self.add_extenders_scores(snapshot, pod, many, &mut totals);
                let (position, score) = choose(&totals, seed);
                (many[position], score)
            }
        };
        Ok(Placement {
            node: snapshot.slots()[chosen as usize].name().to_owned(),
            evaluated: judged.evaluated,
            feasible: feasible.len(),
            score,
            state: cycle.state,
        })
    }

    /// The weighted sums of all scores.
    fn score(
        &self,
        cycle: &mut Cycle,
        snapshot: &Snapshot,
        pod: &PodInfo,
        slots: &[u32],
        card: Option<&Card>,
    ) -> Result<Vec<i64>, FitError> {
        let nodes = Feasible { snapshot, slots };
        if card.is_none() {
            self.pre_score_locally(cycle, snapshot, pod)?;
        }
        self.pre_score(cycle, pod, &nodes)?;
        let mut totals = match card {
            Some(card) => card.totals(slots),
            None => vec![0; slots.len()],
        };
        let mut column = Vec::with_capacity(slots.len());
        let steps = self.plan.scores(cycle);
        for step in steps.filter(|s| card.is_none() || !s.is_local) {
            column.clear();
            let name = step.plugin.name();
            let scored = self.timed(cycle.state.is_sampled, Point::Score, name, || {
                step.plugin
                    .score_many(&cycle.state, pod, &nodes, &mut column);
                normalize(step, &cycle.state, &nodes, &mut column);
                Ok(())
            });
            scored.map_err(|status| FitError::plugin(&status))?;
            for (total, score) in totals.iter_mut().zip(&column) {
                *total += (*score).clamp(0, MAX_NODE_SCORE) * step.weight;
            }
        }
        Ok(totals)
    }

    /// Runs the PreScore plugins whose scores are not kept.
    fn pre_score(
        &self,
        cycle: &mut Cycle,
        pod: &PodInfo,
        nodes: &Feasible<'_>,
    ) -> Result<(), FitError> {
        for (i, plugin) in self.plan.pre_scores.iter().enumerate() {
            if !self.plan.is_local_pre_score(i) && !cycle.skipped_scores[i] {
                let is_sampled = cycle.state.is_sampled;
                let scores = self.timed(is_sampled, Point::PreScore, plugin.name(), || {
                    plugin.pre_score(&mut cycle.state, pod, nodes)
                });
                let scores = scores.map_err(|s| FitError::plugin(&s.by(plugin.name())))?;
                cycle.skipped_scores[i] = !scores;
            }
        }
        Ok(())
    }
}

/// Whether room is being made for others that the pod may not take.
fn has_rivals(snapshot: &Snapshot, pod: &PodInfo) -> bool {
    let mut nominated = snapshot.nominated();
    nominated.any(|(node, _)| rivals(snapshot, pod, node).next().is_some())
}

/// The outcome of an extension point that came to this.
fn code(error: &FitError) -> Code {
    match error {
        FitError::Unschedulable { .. } => Code::Unschedulable,
        FitError::Plugin { .. } | FitError::Extender { .. } => Code::Error,
    }
}

/// Brings a column of raw scores to 0..=100.
fn normalize(step: &plan::ScoreStep, state: &CycleState, nodes: &Feasible<'_>, column: &mut [i64]) {
    match step.normalization {
        Normalization::None => {}
        Normalization::Custom => step.plugin.normalize(state, nodes, column),
        kind => {
            let highest = column.iter().copied().max().unwrap_or(0);
            for score in column {
                *score = card::stretch(*score, highest, kind == Normalization::Lowest);
            }
        }
    }
}

/// The position of one of the highest totals, and that total.
fn choose(totals: &[i64], seed: u64) -> (usize, i64) {
    let best = totals.iter().copied().max().unwrap_or_default();
    let ties = totals.iter().filter(|t| **t == best).count();
    let nth = fastrand::Rng::with_seed(seed).usize(..ties.max(1));
    let mut winners = totals.iter().enumerate().filter(|(_, t)| **t == best);
    (winners.nth(nth).map_or(0, |(i, _)| i), best)
}

#[cfg(test)]
mod tests;
