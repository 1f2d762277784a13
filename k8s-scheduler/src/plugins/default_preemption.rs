//! [`DefaultPreemption`].

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::jiff::Timestamp;

use crate::{
    framework::{Code, CycleState, Nominated, Plugin, PostFilter, Status, Victims},
    schedule::{Filters, NodeStatuses},
    snapshot::{NodeInfo, PodInfo, Snapshot},
};

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Makes room for a pod by evicting pods of lower priority: on the node where that does the least harm.
#[derive(Clone, Copy, Debug)]
pub struct DefaultPreemption {
    min_candidates_percent: usize,
    min_candidates: usize,
}

impl Default for DefaultPreemption {
    fn default() -> Self {
        Self::new(10, 100)
    }
}

impl DefaultPreemption {
    /// Looks for candidates until there are so many percent of the nodes, and at least so many
    /// (`minCandidateNodesPercentage`, 10 by default, and `minCandidateNodesAbsolute`, 100).
    pub fn new(min_candidates_percent: usize, min_candidates: usize) -> Self {
        Self {
            min_candidates_percent,
            min_candidates,
        }
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }
}

/// A node where evictions would make room.
#[derive(Clone, Debug)]
struct Candidate {
    node: String,
    /// By importance, the most important first.
    victims: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    violations: usize,
}

impl PostFilter for DefaultPreemption {
    fn post_filter(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        statuses: &NodeStatuses,
        filters: &Filters<'_>,
        seed: u64,
    ) -> Result<Nominated, Status> {
        let refuse = |text: &str| Err(Status::unschedulable(format!("preemption: {text}")));
        if !pod.shape().may_preempt {
            return refuse("not eligible due to preemptionPolicy=Never.");
        }
        if waits_for_victims(pod, snapshot, statuses) {
            return refuse("not eligible due to a terminating pod on the nominated node.");
        }
        let mut verdicts = NodeStatuses::none(snapshot);
        let mut potential: Vec<&Arc<NodeInfo>> = Vec::new();
        for node in snapshot.slots().iter().filter(|n| n.is_known()) {
            match statuses.at(node.slot()).map(|s| s.code) {
                Some(Code::Unschedulable) => potential.push(node),
                _ => verdicts.set(node.slot(), Status::unresolvable(NOT_HELPFUL)),
            }
        }
        let candidates = self.candidates(
            state,
            pod,
            snapshot,
            &potential,
            filters,
            seed,
            &mut verdicts,
        );
        let found = !candidates.is_empty();
        let candidates = left_by_extenders(pod, candidates, filters)?;
        if found && candidates.is_empty() {
            return refuse("no candidate node for preemption");
        }
        let Some(best) = pick(candidates) else {
            return Ok(Nominated {
                message: Some(format!(
                    "preemption: 0/{} nodes are available: {}.",
                    snapshot.len(),
                    verdicts.reasons()
                )),
                ..Nominated::default()
            });
        };
        let displaced = snapshot.nominated_to(&best.node).iter();
        Ok(Nominated {
            displaced: displaced
                .filter(|other| other.priority() < pod.priority())
                .cloned()
                .collect(),
            node: Some(best.node),
            victims: best.victims,
            message: None,
            deallocate: Vec::new(),
        })
    }
}

/// The candidates that the extenders leave.
fn left_by_extenders(
    pod: &PodInfo,
    candidates: Vec<Candidate>,
    filters: &Filters<'_>,
) -> Result<Vec<Candidate>, Status> {
    if !filters.has_extenders() {
        return Ok(candidates);
    }
    let victims = candidates.into_iter().map(|candidate| {
        let victims = Victims {
            pods: candidate.victims,
            violations: i64::try_from(candidate.violations).unwrap_or(i64::MAX),
        };
        (candidate.node, victims)
    });
    let left = filters
        .ask_extenders(pod, victims.collect())
        .map_err(|text| Status::error(format!("preemption: {text}")))?;
    let candidate = |(node, victims): (String, Victims)| Candidate {
        node,
        victims: victims.pods,
        violations: usize::try_from(victims.violations).unwrap_or(0),
    };
    Ok(left.into_iter().map(candidate).collect())
}

/// Whether room is being made for the pod already.
fn waits_for_victims(pod: &PodInfo, snapshot: &Snapshot, statuses: &NodeStatuses) -> bool {
    let Some(node) = pod.nominated_node().and_then(|name| snapshot.node(name)) else {
        return false;
    };
    let verdict = statuses.at(node.slot()).map(|s| s.code);
    verdict != Some(Code::UnschedulableAndUnresolvable)
        && node
            .pods()
            .iter()
            .any(|p| p.is_terminating() && p.priority() < pod.priority())
}

impl DefaultPreemption {
    #[allow(clippy::too_many_arguments, reason = "the parts of one cycle")]
    fn candidates(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        potential: &[&Arc<NodeInfo>],
        filters: &Filters<'_>,
        seed: u64,
        verdicts: &mut NodeStatuses,
    ) -> Vec<Candidate> {
        let count = potential.len();
        let enough = (count * self.min_candidates_percent / 100)
            .max(self.min_candidates)
            .min(count);
        let offset = fastrand::Rng::with_seed(seed).usize(..count.max(1));
        let mut candidates = Vec::new();
        let mut harmless = 0;
        for i in 0..count {
            // Some that would break a budget are no reason to stop: a harmless one may follow.
            if candidates.len() >= enough && harmless > 0 {
                break;
            }
            let node = potential[(offset + i) % count];
            match victims_on(state, pod, snapshot, node, filters) {
                Ok(candidate) => {
                    harmless += usize::from(candidate.violations == 0);
                    candidates.push(candidate);
                }
                Err(status) => verdicts.set(node.slot(), status),
            }
        }
        candidates
    }
}

/// More important pods have a higher priority, or started earlier.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    let started = pod.start_time().unwrap_or(Timestamp::MAX);
    (Reverse(pod.priority()), started)
}

/// The fewest and least important pods whose eviction makes room on a node.
fn victims_on(
    state: &CycleState,
    pod: &PodInfo,
    snapshot: &Snapshot,
    node: &Arc<NodeInfo>,
    filters: &Filters<'_>,
) -> Result<Candidate, Status> {
    let lower = node.pods().iter().filter(|p| p.priority() < pod.priority());
    let mut lower: Vec<Arc<PodInfo>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(Status::unresolvable(NO_VICTIMS));
    }
    lower.sort_by_key(|p| importance(p));
    let (mut state, mut node) = (state.clone(), NodeInfo::clone(node));
    for victim in &lower {
        node.remove(victim.uid());
        filters.remove_pod(&mut state, pod, victim, &node);
    }
    filters.judge_with_nominated(&state, pod, &node)?;
    let (protected, others) = by_budget(lower, snapshot);
    let (mut victims, mut violations) = (Vec::new(), 0);
    let count = protected.len();
    for (i, candidate) in protected.into_iter().chain(others).enumerate() {
        filters.add_pod(&mut state, pod, &candidate, &node);
        node.add(candidate.clone());
        if filters.judge_with_nominated(&state, pod, &node).is_err() {
            node.remove(candidate.uid());
            filters.remove_pod(&mut state, pod, &candidate, &node);
            victims.push(candidate);
            violations += usize::from(i < count);
        }
    }
    victims.sort_by_key(|p| importance(p));
    Ok(Candidate {
        node: node.name().to_owned(),
        victims,
        violations,
    })
}

/// Splits pods into those whose eviction would break a disruption budget and the others.
fn by_budget(
    pods: Vec<Arc<PodInfo>>,
    snapshot: &Snapshot,
) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let budgets = snapshot.objects().budgets();
    let mut budgets: Vec<_> = budgets.map(|b| (b, i64::from(b.allowed))).collect();
    pods.into_iter().partition(|pod| {
        let mut breaks = false;
        for (budget, left) in &mut budgets {
            let protects = budget.namespace == pod.namespace()
                && !pod.labels().is_empty()
                && !budget.selector.is_everything()
                && budget.selector.matches(pod.labels())
                && !budget.disrupted.contains(pod.name());
            if protects {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    })
}

/// The candidate that does the least harm: the fewest broken budgets; then the least important most
/// important victim; the lowest sum of priorities; the fewest victims; the latest start of the
/// most important ones; the first.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    let harm = |candidate: &Candidate| {
        let victims = &candidate.victims;
        let highest = victims
            .iter()
            .map(|v| v.priority())
            .max()
            .unwrap_or(i32::MIN);
        // So that many pods of negative priority weigh more than few.
        let weight = |v: &Arc<PodInfo>| i64::from(v.priority()) + i64::from(i32::MAX) + 1;
        let sum = victims.iter().map(weight).fold(0i64, i64::saturating_add);
        let top = victims.iter().filter(|v| v.priority() == highest);
        let earliest = top.filter_map(|v| v.start_time()).min();
        let earliest = earliest.unwrap_or(Timestamp::MAX);
        (
            candidate.violations,
            highest,
            sum,
            victims.len(),
            Reverse(earliest),
        )
    };
    candidates.into_iter().min_by_key(harm)
}
