//! [`Filters`]: the Filter plugins of a cycle, for what-ifs.

use std::sync::Arc;

use super::plan::Plan;
use crate::{
    framework::{CycleState, Extender, Status},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

/// Asks the Filter plugins about nodes as they might be: with other pods on them than there are.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    pub(super) plan: &'a Plan,
    pub(super) skipped: &'a [bool],
    pub(super) snapshot: &'a Snapshot,
    pub(super) extenders: &'a [Arc<dyn Extender>],
}

impl Filters<'_> {
    /// Whether a pod fits on a node as it is given.
    ///
    /// # Errors
    ///
    /// The verdict of the first plugin that says no.
    pub fn judge(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        for step in self.plan.filters(self.skipped) {
            step.plugin
                .filter(state, pod, node)
                .map_err(|status| status.by(step.plugin.name()))?;
        }
        Ok(())
    }

    /// The same, where it must also fit beside the pods of no lower priority that room
    /// is being made for there.
    ///
    /// # Errors
    ///
    /// The verdict of the first plugin that says no.
    pub fn judge_with_nominated(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let others: Vec<&Arc<PodInfo>> = rivals(self.snapshot, pod, node.name()).collect();
        if !others.is_empty() {
            let (mut state, mut node) = (state.clone(), node.clone());
            for other in others {
                self.add_pod(&mut state, pod, other, &node);
                node.add(other.clone());
            }
            self.judge(&state, pod, &node)?;
        }
        self.judge(state, pod, node)
    }

    /// Takes into account in the plugins' state that a pod is put on a node.
    pub fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, added: &PodInfo, node: &NodeInfo) {
        for (plugin, skipped) in self.plan.pre_filters.iter().zip(self.skipped) {
            if !skipped {
                plugin.add_pod(state, pod, added, node, self.snapshot);
            }
        }
    }

    /// Takes into account in the plugins' state that a pod is taken from a node.
    pub fn remove_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        removed: &PodInfo,
        node: &NodeInfo,
    ) {
        for (plugin, skipped) in self.plan.pre_filters.iter().zip(self.skipped) {
            if !skipped {
                plugin.remove_pod(state, pod, removed, node, self.snapshot);
            }
        }
    }
}

/// The pods that room is being made for on a node, and that `pod` may not take it from.
pub(super) fn rivals<'a>(
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
    node: &str,
) -> impl Iterator<Item = &'a Arc<PodInfo>> {
    snapshot
        .nominated_to(node)
        .iter()
        .filter(|other| other.priority() >= pod.priority() && other.uid() != pod.uid())
}
