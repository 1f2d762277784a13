//! What extenders say, among the plugins' verdicts and scores.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Filters, FitError, Judged, Scheduler};
use crate::{
    framework::{ABSENT, Extender, FITS, Filtered, MAX_NODE_SCORE, Status, Victims},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// The highest score of an extender.
const MAX_EXTENDER_SCORE: i64 = 10;
/// Who turned a pod away, where an extender did.
const EXTENDER: &str = "Extender";

impl Scheduler {
    /// The same, with extenders that have a say.
    #[must_use]
    pub fn with_extenders(mut self, extenders: Vec<Arc<dyn Extender>>) -> Self {
        self.extenders = extenders;
        self
    }

    /// Whether an extender is asked about a pod: then scheduling it may block, and its result is not that
    /// of the arguments alone.
    pub fn is_extended(&self, pod: &PodInfo) -> bool {
        interested(&self.extenders, pod).next().is_some()
    }

    /// Takes away the nodes that extenders do not let pass.
    pub(super) fn ask_extenders(
        &self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        judged: &mut Judged,
    ) -> Result<(), FitError> {
        for extender in interested(&self.extenders, pod) {
            let slots = snapshot.slots().iter().zip(&judged.codes);
            let nodes: Vec<&NodeInfo> = slots
                .filter(|(_, code)| **code == FITS)
                .map(|(node, _)| &**node)
                .collect();
            if nodes.is_empty() {
                break;
            }
            match extender
                .filter(pod, &nodes)
                .and_then(|filtered| rule_out(extender, &nodes, filtered, judged))
            {
                Ok(()) => {}
                Err(error) if extender.is_ignorable() => {
                    tracing::warn!(
                        extender = extender.name(),
                        error,
                        "going on without extender"
                    );
                }
                Err(error) => {
                    return Err(FitError::Extender {
                        extender: extender.name().to_owned(),
                        text: error,
                    });
                }
            }
        }
        Ok(())
    }

    /// Adds the extenders' scores.
    pub(super) fn add_extenders_scores(
        &self,
        snapshot: &Snapshot,
        pod: &PodInfo,
        slots: &[u32],
        totals: &mut [i64],
    ) {
        for extender in interested(&self.extenders, pod) {
            let nodes: Vec<&NodeInfo> = slots
                .iter()
                .map(|slot| &*snapshot.slots()[*slot as usize])
                .collect();
            let scores = match extender.prioritize(pod, &nodes) {
                Ok(scores) => scores,
                Err(error) => {
                    tracing::warn!(
                        extender = extender.name(),
                        error,
                        "scoring without extender"
                    );
                    continue;
                }
            };
            let mut by_node: HashMap<String, i64> = HashMap::new();
            for (node, score) in scores {
                let sum = by_node.entry(node).or_default();
                *sum = sum.saturating_add(score);
            }
            let factor = extender
                .weight()
                .saturating_mul(MAX_NODE_SCORE / MAX_EXTENDER_SCORE);
            for (total, node) in totals.iter_mut().zip(&nodes) {
                let score = by_node.get(node.name()).copied().unwrap_or(0);
                *total = total.saturating_add(score.saturating_mul(factor));
            }
        }
    }
}

fn interested<'a>(
    extenders: &'a [Arc<dyn Extender>],
    pod: &'a PodInfo,
) -> impl Iterator<Item = &'a Arc<dyn Extender>> {
    extenders.iter().filter(|e| e.is_interested(pod))
}

/// Notes what an extender said of the nodes that it was asked about.
fn rule_out(
    extender: &Arc<dyn Extender>,
    nodes: &[&NodeInfo],
    filtered: Filtered,
    judged: &mut Judged,
) -> Result<(), String> {
    let asked: HashMap<&str, usize> = nodes.iter().map(|n| (n.name(), n.slot())).collect();
    if let Some(stranger) = filtered
        .nodes
        .iter()
        .find(|n| !asked.contains_key(n.as_str()))
    {
        return Err(format!(
            "extender {:?} claims a filtered node {stranger:?} which is not found in the input node list",
            extender.name()
        ));
    }
    for node in nodes {
        judged.codes[node.slot()] = ABSENT;
    }
    let failed = filtered.failed.into_iter();
    let failed = failed.map(|(node, text)| (node, Status::unschedulable(text)));
    let unresolvable = filtered.unresolvable.into_iter();
    // A node that is in both lists is what the second one says.
    let unresolvable = unresolvable.map(|(node, text)| (node, Status::unresolvable(text)));
    for (node, status) in failed.chain(unresolvable) {
        if let Some(slot) = asked.get(node.as_str()) {
            judged.codes[*slot] = judged.table.code(status.by(EXTENDER));
        }
    }
    for node in &filtered.nodes {
        judged.codes[asked[node.as_str()]] = FITS;
    }
    Ok(())
}

impl Filters<'_> {
    /// Whether anybody is to be asked by [`Filters::ask_extenders`].
    pub fn has_extenders(&self) -> bool {
        !self.extenders.is_empty()
    }

    /// What the extenders leave of the nodes where evictions would make room.
    ///
    /// # Errors
    ///
    /// What an extender said that is not ignorable.
    pub fn ask_extenders(
        &self,
        pod: &PodInfo,
        mut victims: BTreeMap<String, Victims>,
    ) -> Result<BTreeMap<String, Victims>, String> {
        for extender in interested(self.extenders, pod).filter(|e| e.preempts()) {
            if victims.is_empty() {
                break;
            }
            match self.left_by(extender, pod, &victims) {
                Ok(left) => victims = left,
                Err(error) if extender.is_ignorable() => {
                    tracing::warn!(
                        extender = extender.name(),
                        error,
                        "going on without extender"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(victims)
    }

    fn left_by(
        &self,
        extender: &Arc<dyn Extender>,
        pod: &PodInfo,
        victims: &BTreeMap<String, Victims>,
    ) -> Result<BTreeMap<String, Victims>, String> {
        let mut left = BTreeMap::new();
        for (node, ids) in extender.preempt(pod, victims)? {
            if ids.uids.is_empty() {
                if extender.is_ignorable() {
                    continue;
                }
                return Err(format!("expected at least one victim pod on node {node:?}"));
            }
            let Some(info) = self.snapshot.node(&node) else {
                return Err(format!("nodeinfo not found for node name {node:?}"));
            };
            let find = |uid: &String| {
                let pod = info.pods().iter().find(|p| p.uid() == uid).cloned();
                pod.ok_or_else(|| {
                    format!(
                        "extender: {} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found on that node",
                        extender.name()
                    )
                })
            };
            let pods: Result<Vec<_>, String> = ids.uids.iter().map(find).collect();
            let victims = Victims {
                pods: pods?,
                violations: ids.violations,
            };
            left.insert(node, victims);
        }
        Ok(left)
    }
}
