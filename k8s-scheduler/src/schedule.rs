//! [`Scheduler::schedule`]: one decision, as a pure function.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    framework::{Code, CycleState, MAX_NODE_SCORE, Status},
    profile::Profile,
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// Which nodes were ruled out, and why. Nodes that PreFilter narrowed away are not listed.
pub type NodeStatuses = BTreeMap<String, Status>;

/// Where a pod goes.
#[derive(Debug)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them fit.
    pub feasible: usize,
    /// The score of each feasible node; empty if there was only one.
    pub scores: Vec<NodeScore>,
    /// What the plugins remember of this cycle.
    pub state: CycleState,
}

/// A feasible node's score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeScore {
    /// The node.
    pub node: String,
    /// The sum of the plugins' weighted scores.
    pub total: i64,
    /// Each plugin's normalised score, before its weight.
    pub by_plugin: Vec<(&'static str, i64)>,
}

/// Why a pod goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// No node fits. The text is the message of the pod's condition, as upstream words it.
    #[error("{}", describe(*.nodes, .statuses, .pre_filter.as_ref()))]
    Unschedulable {
        /// How many nodes there are.
        nodes: usize,
        /// Why each was ruled out.
        statuses: NodeStatuses,
        /// The verdict of a PreFilter plugin, if one rejected the pod on all nodes.
        pre_filter: Option<Status>,
    },
    /// A plugin failed. Try again.
    #[error("running plugin {plugin:?}: {}", reasons.join(", "))]
    Plugin {
        /// The plugin.
        plugin: &'static str,
        /// What it said.
        reasons: Vec<String>,
    },
}

impl FitError {
    /// The plugins that turned the pod away.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        match self {
            FitError::Unschedulable {
                statuses,
                pre_filter,
                ..
            } => statuses
                .values()
                .chain(pre_filter)
                .map(|s| s.plugin)
                .collect(),
            FitError::Plugin { plugin, .. } => BTreeSet::from([*plugin]),
        }
    }

    fn plugin(status: Status) -> Self {
        FitError::Plugin {
            plugin: status.plugin,
            reasons: status.reasons.into_iter().map(|r| r.into_owned()).collect(),
        }
    }
}

fn describe(nodes: usize, statuses: &NodeStatuses, pre_filter: Option<&Status>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut text = format!("0/{nodes} nodes are available");
    if let Some(status) = pre_filter {
        return format!("{text}: {}.", status.reasons.join(", "));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in statuses.values().flat_map(|s| &s.reasons) {
        *counts.entry(reason).or_default() += 1;
    }
    // Upstream sorts the phrases with their numbers, as text.
    let mut phrases: Vec<String> = counts
        .into_iter()
        .map(|(reason, n)| format!("{n} {reason}"))
        .collect();
    phrases.sort();
    if !phrases.is_empty() {
        text.push_str(": ");
        text.push_str(&phrases.join(", "));
    }
    text.push('.');
    text
}

/// Decides where pods go: a list of plugins, and nothing that changes.
#[derive(Debug)]
pub struct Scheduler {
    profile: Profile,
}

impl Scheduler {
    /// A scheduler with these plugins.
    pub fn new(profile: Profile) -> Self {
        Self { profile }
    }

    /// Its plugins.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where `pod` goes, given the nodes and pods of `snapshot`. Pure: equal arguments give equal
    /// results. The seed chooses among nodes of equal score.
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
        let mut state = CycleState::default();
        let allowed = self.pre_filter(&mut state, snapshot, pod)?;
        let mut statuses = NodeStatuses::new();
        let mut feasible: Vec<&NodeInfo> = Vec::new();
        let mut evaluated = 0;
        for node in snapshot.nodes() {
            if allowed
                .as_ref()
                .is_some_and(|names| !names.contains(node.name()))
            {
                continue;
            }
            evaluated += 1;
            match self.filter(&state, pod, node) {
                Ok(()) => feasible.push(node),
                Err(status) if status.code == Code::Error => return Err(FitError::plugin(status)),
                Err(status) => {
                    statuses.insert(node.name().to_owned(), status);
                }
            }
        }
        match feasible.as_slice() {
            [] => Err(FitError::Unschedulable {
                nodes: snapshot.nodes().count(),
                statuses,
                pre_filter: None,
            }),
            [only] => Ok(Placement {
                node: only.name().to_owned(),
                evaluated,
                feasible: 1,
                scores: Vec::new(),
                state,
            }),
            many => {
                let scores = self.score(&mut state, pod, many)?;
                let node = choose(&scores, seed).to_owned();
                Ok(Placement {
                    node,
                    evaluated,
                    feasible: many.len(),
                    scores,
                    state,
                })
            }
        }
    }

    fn pre_filter(
        &self,
        state: &mut CycleState,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<Option<BTreeSet<String>>, FitError> {
        let mut allowed: Option<BTreeSet<String>> = None;
        for plugin in &self.profile.pre_filter {
            match plugin.pre_filter(state, pod, snapshot) {
                Ok(result) => {
                    if let Some(nodes) = result.nodes {
                        allowed = Some(match allowed {
                            None => nodes,
                            Some(before) => before.intersection(&nodes).cloned().collect(),
                        });
                    }
                }
                Err(status) => {
                    let status = status.by(plugin.name());
                    if status.code == Code::Error {
                        return Err(FitError::plugin(status));
                    }
                    return Err(FitError::Unschedulable {
                        nodes: snapshot.nodes().count(),
                        statuses: NodeStatuses::new(),
                        pre_filter: Some(status),
                    });
                }
            }
        }
        Ok(allowed)
    }

    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        for plugin in &self.profile.filter {
            plugin
                .filter(state, pod, node)
                .map_err(|status| status.by(plugin.name()))?;
        }
        Ok(())
    }

    fn score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
    ) -> Result<Vec<NodeScore>, FitError> {
        for plugin in &self.profile.pre_score {
            plugin
                .pre_score(state, pod, nodes)
                .map_err(|s| FitError::plugin(s.by(plugin.name())))?;
        }
        let mut scores: Vec<NodeScore> = nodes
            .iter()
            .map(|n| NodeScore {
                node: n.name().to_owned(),
                total: 0,
                by_plugin: Vec::with_capacity(self.profile.score.len()),
            })
            .collect();
        let mut column = Vec::with_capacity(nodes.len());
        for (plugin, weight) in &self.profile.score {
            column.clear();
            column.extend(nodes.iter().map(|n| plugin.score(state, pod, n)));
            plugin.normalize(&mut column);
            for (score, value) in scores.iter_mut().zip(&column) {
                let value = (*value).clamp(0, MAX_NODE_SCORE);
                score.total += value * weight;
                score.by_plugin.push((plugin.name(), value));
            }
        }
        Ok(scores)
    }
}

/// One of the nodes with the highest score.
fn choose(scores: &[NodeScore], seed: u64) -> &str {
    let best = scores.iter().map(|s| s.total).max().unwrap_or_default();
    let winners = scores.iter().filter(|s| s.total == best);
    let mut random = fastrand::Rng::with_seed(seed);
    let count = winners.clone().count().max(1);
    winners
        .clone()
        .nth(random.usize(..count))
        .map_or("", |s| &s.node)
}

#[cfg(test)]
mod tests;
