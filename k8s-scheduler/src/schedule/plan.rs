//! [`Plan`]: a profile's plugins, arranged for the cycle.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    framework::{
        CycleState, Filter, Normalization, Plugin, PreFilter, PreScore, Scope, Score, Status,
    },
    profile::Profile,
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// A Filter plugin.
#[derive(Debug)]
pub(super) struct FilterStep {
    pub(super) plugin: Arc<dyn Filter>,
    position: usize,
    /// The PreFilter plugin that can skip it.
    pre: Option<usize>,
    /// Whether its verdicts are kept.
    pub(super) is_local: bool,
}

/// A Score plugin.
#[derive(Debug)]
pub(super) struct ScoreStep {
    pub(super) plugin: Arc<dyn Score>,
    pub(super) weight: i64,
    pub(super) normalization: Normalization,
    /// The PreScore plugin that can skip it.
    pre: Option<usize>,
    /// Whether its scores are kept.
    pub(super) is_local: bool,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// Tells the cards of one scheduler from those of another.
    pub(super) id: u64,
    pub(super) pre_filters: Vec<Arc<dyn PreFilter>>,
    pub(super) filters: Vec<FilterStep>,
    pub(super) pre_scores: Vec<Arc<dyn PreScore>>,
    pub(super) scores: Vec<ScoreStep>,
}

/// What one cycle found out so far.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) state: CycleState,
    /// The PreFilter plugins that said to skip their Filter.
    pub(super) skipped_filters: Vec<bool>,
    /// The PreScore plugins that said to skip their Score.
    pub(super) skipped_scores: Vec<bool>,
    /// The Filter plugins whose verdicts are kept for pods of this very shape.
    pub(super) own_filters: Vec<bool>,
}

impl Cycle {
    /// Whether a card has the verdicts of a Filter plugin.
    pub(super) fn keeps(&self, step: &FilterStep) -> bool {
        step.is_local || self.own_filters[step.position]
    }
}

static IDS: AtomicU64 = AtomicU64::new(0);

fn is_local(plugin: &(impl Plugin + ?Sized)) -> bool {
    plugin.scope() == Scope::Node
}

impl Plan {
    pub(super) fn new(profile: &Profile) -> Self {
        let filter = |(position, plugin): (usize, &Arc<dyn Filter>)| FilterStep {
            position,
            pre: profile
                .pre_filter
                .iter()
                .position(|p| p.name() == plugin.name()),
            is_local: is_local(&**plugin),
            plugin: plugin.clone(),
        };
        let score = |(plugin, weight): &(Arc<dyn Score>, i64)| ScoreStep {
            pre: profile
                .pre_score
                .iter()
                .position(|p| p.name() == plugin.name()),
            normalization: plugin.normalization(),
            is_local: is_local(&**plugin) && plugin.normalization() != Normalization::Custom,
            weight: *weight,
            plugin: plugin.clone(),
        };
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            pre_filters: profile.pre_filter.clone(),
            filters: profile.filter.iter().enumerate().map(filter).collect(),
            pre_scores: profile.pre_score.clone(),
            scores: profile.score.iter().map(score).collect(),
        }
    }

    pub(super) fn begin(&self) -> Cycle {
        Cycle {
            state: CycleState::default(),
            skipped_filters: vec![false; self.pre_filters.len()],
            skipped_scores: vec![false; self.pre_scores.len()],
            own_filters: vec![false; self.filters.len()],
        }
    }

    /// Has the card of this very shape keep the verdicts of the plugins that allow it.
    pub(super) fn own(&self, cycle: &mut Cycle, snapshot: &Snapshot, pod: &PodInfo) {
        for step in &self.filters {
            let is_on = step.pre.is_none_or(|pre| !cycle.skipped_filters[pre]);
            if !is_on || step.is_local {
                continue;
            }
            let state = &cycle.state;
            let keys = step.plugin.topologies(state, pod, snapshot);
            let is_own = step.plugin.is_about_own_pods(pod)
                && keys.is_some_and(|keys| snapshot.tell_nodes_apart(keys));
            // Whoever comes after one that is not kept must not be blamed before it.
            if !is_own {
                return;
            }
            cycle.own_filters[step.position] = true;
        }
    }

    /// The Filter plugins that have something to say.
    pub(super) fn filters<'a>(
        &'a self,
        skipped: &'a [bool],
    ) -> impl Iterator<Item = &'a FilterStep> {
        let is_on = |pre: Option<usize>| pre.is_none_or(|pre| !skipped[pre]);
        self.filters.iter().filter(move |step| is_on(step.pre))
    }

    /// The Score plugins that have something to say, with their positions.
    pub(super) fn scores<'a>(&'a self, cycle: &'a Cycle) -> impl Iterator<Item = &'a ScoreStep> {
        let is_on = |pre: Option<usize>| pre.is_none_or(|pre| !cycle.skipped_scores[pre]);
        self.scores.iter().filter(move |step| is_on(step.pre))
    }

    /// Whether a PreScore plugin goes with a Score plugin whose scores are kept.
    pub(super) fn is_local_pre_score(&self, position: usize) -> bool {
        let mut steps = self.scores.iter().filter(|s| s.pre == Some(position));
        steps.next().is_some_and(|first| first.is_local)
    }

    /// What the Filter plugins whose verdicts are kept say of a node.
    pub(super) fn filter_locally(
        &self,
        cycle: &Cycle,
        pod: &PodInfo,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let filters = self.filters(&cycle.skipped_filters);
        for step in filters.filter(|s| cycle.keeps(s)) {
            step.plugin
                .filter(&cycle.state, pod, node)
                .map_err(|status| status.by(step.plugin.name()))?;
        }
        Ok(())
    }
}

/// Calls a plugin; if it panics, that is its failure and nobody else's.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|t| (*t).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("panicked: {}", text.unwrap_or_default())
    })
}
