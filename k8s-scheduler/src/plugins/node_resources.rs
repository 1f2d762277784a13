//! [`NodeResourcesFit`] and [`NodeResourcesBalancedAllocation`].

use std::borrow::Cow;

use crate::{
    framework::{ClusterEvent, Code, CycleState, Filter, MAX_NODE_SCORE, Plugin, Score, Status},
    snapshot::{NodeInfo, PodInfo},
};

/// What a good fill of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    LeastAllocated,
    MostAllocated,
}

/// A pod goes where what it requests is free; among those nodes, by a scoring strategy.
#[derive(Clone, Copy, Debug)]
pub struct NodeResourcesFit {
    strategy: Strategy,
}

impl NodeResourcesFit {
    /// Prefers empty nodes: upstream's default.
    pub fn least_allocated() -> Self {
        Self {
            strategy: Strategy::LeastAllocated,
        }
    }

    /// Prefers full nodes.
    pub fn most_allocated() -> Self {
        Self {
            strategy: Strategy::MostAllocated,
        }
    }
}

fn insufficient(pod: &PodInfo, node: &NodeInfo) -> Vec<Cow<'static, str>> {
    let mut reasons = Vec::new();
    let pods = i64::try_from(node.pods().len()).unwrap_or(i64::MAX);
    if pods.saturating_add(1) > node.allowed_pods {
        reasons.push("Too many pods".into());
    }
    let wanted = &pod.requests;
    let lacks = |wanted: i64, allocatable: i64, taken: i64| {
        wanted > 0 && wanted > allocatable.saturating_sub(taken)
    };
    if lacks(
        wanted.milli_cpu,
        node.allocatable.milli_cpu,
        node.requested.milli_cpu,
    ) {
        reasons.push("Insufficient cpu".into());
    }
    if lacks(
        wanted.memory,
        node.allocatable.memory,
        node.requested.memory,
    ) {
        reasons.push("Insufficient memory".into());
    }
    if lacks(
        wanted.ephemeral_storage,
        node.allocatable.ephemeral_storage,
        node.requested.ephemeral_storage,
    ) {
        reasons.push("Insufficient ephemeral-storage".into());
    }
    for (name, amount) in &wanted.scalar {
        let of = |list: &crate::snapshot::Resources| list.scalar.get(name).copied().unwrap_or(0);
        if lacks(*amount, of(&node.allocatable), of(&node.requested)) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    reasons
}

/// Whether an empty node would not do either.
fn never_fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    let (wanted, has) = (&pod.requests, &node.allocatable);
    wanted.milli_cpu > has.milli_cpu
        || wanted.memory > has.memory
        || wanted.ephemeral_storage > has.ephemeral_storage
        || wanted
            .scalar
            .iter()
            .any(|(name, amount)| *amount > has.scalar.get(name).copied().unwrap_or(0))
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => !never_fits(pod, node),
            ClusterEvent::AssignedPodDelete(_) | ClusterEvent::PodUpdate => true,
        }
    }
}

impl Filter for NodeResourcesFit {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let reasons = insufficient(pod, node);
        if reasons.is_empty() {
            return Ok(());
        }
        let code = if never_fits(pod, node) {
            Code::UnschedulableAndUnresolvable
        } else {
            Code::Unschedulable
        };
        Err(Status {
            code,
            reasons,
            plugin: "",
        })
    }
}

/// A node's capacity and what would be taken of it with the pod there, of CPU and memory.
fn filled(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    [
        (
            node.allocatable.milli_cpu,
            node.non_zero_milli_cpu
                .saturating_add(pod.non_zero_milli_cpu),
        ),
        (
            node.allocatable.memory,
            node.non_zero_memory.saturating_add(pod.non_zero_memory),
        ),
    ]
}

impl Score for NodeResourcesFit {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (mut sum, mut weight) = (0, 0);
        for (capacity, taken) in filled(pod, node) {
            if capacity == 0 {
                continue;
            }
            weight += 1;
            if taken <= capacity {
                let part = match self.strategy {
                    Strategy::LeastAllocated => capacity - taken,
                    Strategy::MostAllocated => taken,
                };
                sum += ratio(part, capacity);
            } else if self.strategy == Strategy::MostAllocated {
                sum += MAX_NODE_SCORE;
            }
        }
        if weight == 0 { 0 } else { sum / weight }
    }
}

fn ratio(part: i64, whole: i64) -> i64 {
    // In 128 bits: bytes times a hundred could overflow.
    i64::try_from(i128::from(part) * i128::from(MAX_NODE_SCORE) / i128::from(whole)).unwrap_or(0)
}

/// Prefers nodes whose CPU and memory would be filled alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
}

impl Score for NodeResourcesBalancedAllocation {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let cpu = (
            node.allocatable.milli_cpu,
            node.requested
                .milli_cpu
                .saturating_add(pod.requests.milli_cpu),
        );
        let memory = (
            node.allocatable.memory,
            node.requested.memory.saturating_add(pod.requests.memory),
        );
        let fraction = |(capacity, taken): (i64, i64)| {
            (capacity > 0).then(|| (taken as f64 / capacity as f64).min(1.0))
        };
        let deviation = match (fraction(cpu), fraction(memory)) {
            (Some(a), Some(b)) => (a - b).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
    }
}
