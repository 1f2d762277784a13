//! [`Explanation`]: how a decision comes about, node by node.

use std::fmt;

use super::{FitError, NodeStatuses, Scheduler, normalize};
use crate::{
    framework::{FITS, Feasible, MAX_NODE_SCORE},
    snapshot::{PodInfo, Snapshot},
};

/// A feasible node's score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeScore {
    /// The node.
    pub node: String,
    /// The sum of the plugins' weighted scores.
    pub total: i64,
    /// Each plugin's normalised score, before its weight. Plugins that have nothing to say are not listed.
    pub by_plugin: Vec<(&'static str, i64)>,
}

/// What every plugin says of every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The nodes that fit, best first.
    pub scores: Vec<NodeScore>,
    /// Why the others do not.
    pub statuses: NodeStatuses,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for score in &self.scores {
            write!(f, "{}: {}", score.node, score.total)?;
            for (plugin, points) in &score.by_plugin {
                write!(f, ", {plugin} {points}")?;
            }
            writeln!(f)?;
        }
        for (node, status) in self.statuses.iter() {
            writeln!(
                f,
                "{node}: {}: {}",
                status.plugin,
                status.reasons.join(", ")
            )?;
        }
        Ok(())
    }
}

impl Scheduler {
    /// What [`Scheduler::schedule`] goes by, in full: for people, and for tests. It is computed anew, node by node.
    ///
    /// # Errors
    ///
    /// Where a plugin rejects the pod before any node is looked at, or fails.
    pub fn explain(&self, snapshot: &Snapshot, pod: &PodInfo) -> Result<Explanation, FitError> {
        let mut cycle = self.plan.begin();
        let allowed = self.pre_filter(&mut cycle, snapshot, pod)?;
        let allowed =
            allowed.unwrap_or_else(|| snapshot.nodes().map(|n| n.name().to_owned()).collect());
        let mut judged = self.judge_some(&cycle, snapshot, pod, &allowed)?;
        self.filter(&cycle, snapshot, pod, &mut judged)?;
        let slots: Vec<u32> = (0u32..)
            .zip(&judged.codes)
            .filter_map(|(slot, code)| (*code == FITS).then_some(slot))
            .collect();
        let nodes = Feasible {
            snapshot,
            slots: &slots,
        };
        self.pre_score_locally(&mut cycle, snapshot, pod)?;
        self.pre_score(&mut cycle, pod, &nodes)?;
        let score = |node: &str| NodeScore {
            node: node.to_owned(),
            total: 0,
            by_plugin: Vec::new(),
        };
        let mut scores: Vec<NodeScore> = nodes.nodes().map(|n| score(n.name())).collect();
        let mut column = Vec::new();
        for step in self.plan.scores(&cycle) {
            column.clear();
            column.extend(
                nodes
                    .nodes()
                    .map(|n| step.plugin.score(&cycle.state, pod, n)),
            );
            normalize(step, &cycle.state, &nodes, &mut column);
            for (score, value) in scores.iter_mut().zip(&column) {
                let value = (*value).clamp(0, MAX_NODE_SCORE);
                score.total += value * step.weight;
                score.by_plugin.push((step.plugin.name(), value));
            }
        }
        scores.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.node.cmp(&b.node)));
        Ok(Explanation {
            scores,
            statuses: NodeStatuses::new(snapshot, judged.codes, judged.table),
        })
    }
}
