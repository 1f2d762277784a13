//! [`NodeResourcesFit`] and [`NodeResourcesBalancedAllocation`].

use std::{borrow::Cow, collections::BTreeSet};

use crate::{
    framework::{
        ClusterEvent, Code, CycleState, EventKind, Filter, MAX_NODE_SCORE, Plugin, Scope, Score,
        Status,
    },
    snapshot::{NodeInfo, PodInfo, Resources},
};

/// A point of a utilisation curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtilizationPoint {
    /// How full the resource is, in percent.
    pub utilization: i64,
    /// How good that is, 0 to 10.
    pub score: i64,
}

/// What a good fill of a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoringStrategy {
    /// Empty nodes are better: upstream's default.
    LeastAllocated,
    /// Full nodes are better.
    MostAllocated,
    /// As a curve says, by increasing utilisation.
    RequestedToCapacityRatio(Vec<UtilizationPoint>),
}

/// A pod goes where what it requests is free; among those nodes, by a scoring strategy.
#[derive(Clone, Debug)]
pub struct NodeResourcesFit {
    strategy: ScoringStrategy,
    resources: Vec<(String, i64)>,
    ignored: BTreeSet<String>,
    ignored_groups: BTreeSet<String>,
}

/// CPU and memory count alike.
fn default_resources() -> Vec<(String, i64)> {
    vec![("cpu".into(), 1), ("memory".into(), 1)]
}

impl NodeResourcesFit {
    /// With a scoring strategy over CPU and memory.
    pub fn new(strategy: ScoringStrategy) -> Self {
        Self {
            strategy,
            resources: default_resources(),
            ignored: BTreeSet::new(),
            ignored_groups: BTreeSet::new(),
        }
    }

    /// Prefers empty nodes: upstream's default.
    pub fn least_allocated() -> Self {
        Self::new(ScoringStrategy::LeastAllocated)
    }

    /// Prefers full nodes.
    pub fn most_allocated() -> Self {
        Self::new(ScoringStrategy::MostAllocated)
    }

    /// Scores these resources, each with its weight.
    #[must_use]
    pub fn with_resources(mut self, resources: Vec<(String, i64)>) -> Self {
        self.resources = resources;
        self
    }

    /// Leaves extended resources aside, by name or by the part of their name before the slash.
    #[must_use]
    pub fn ignoring(
        mut self,
        resources: impl IntoIterator<Item = String>,
        groups: impl IntoIterator<Item = String>,
    ) -> Self {
        self.ignored = resources.into_iter().collect();
        self.ignored_groups = groups.into_iter().collect();
        self
    }

    fn is_ignored(&self, name: &str) -> bool {
        let group = name.split_once('/').map(|(group, _)| group);
        self.ignored.contains(name) || group.is_some_and(|g| self.ignored_groups.contains(g))
    }

    fn scalars<'a>(&'a self, requests: &'a Resources) -> impl Iterator<Item = (&'a String, i64)> {
        let scalars = requests.scalar.iter().map(|(name, amount)| (name, *amount));
        scalars.filter(|(name, _)| !self.is_ignored(name))
    }

    fn insufficient(&self, wanted: &Resources, node: &NodeInfo) -> Vec<Cow<'static, str>> {
        let mut reasons = Vec::new();
        let pods = i64::try_from(node.pods().len()).unwrap_or(i64::MAX);
        if pods >= node.allowed_pods {
            reasons.push("Too many pods".into());
        }
        let lacks = |wanted: i64, allocatable: i64, taken: i64| {
            wanted > 0 && wanted > allocatable.saturating_sub(taken)
        };
        let (has, taken) = (&node.allocatable, &node.requested);
        if lacks(wanted.milli_cpu, has.milli_cpu, taken.milli_cpu) {
            reasons.push("Insufficient cpu".into());
        }
        if lacks(wanted.memory, has.memory, taken.memory) {
            reasons.push("Insufficient memory".into());
        }
        if lacks(
            wanted.ephemeral_storage,
            has.ephemeral_storage,
            taken.ephemeral_storage,
        ) {
            reasons.push("Insufficient ephemeral-storage".into());
        }
        for (name, amount) in self.scalars(wanted) {
            if lacks(amount, has.get(name), taken.get(name)) {
                reasons.push(format!("Insufficient {name}").into());
            }
        }
        reasons
    }

    /// Whether an empty node would not do either.
    fn never_fits(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let (wanted, has) = (pod.requests(), &node.allocatable);
        wanted.milli_cpu > has.milli_cpu
            || wanted.memory > has.memory
            || wanted.ephemeral_storage > has.ephemeral_storage
            || self
                .scalars(wanted)
                .any(|(name, amount)| amount > has.get(name))
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn scope(&self) -> Scope {
        Scope::Node
    }

    fn watches(&self, kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::Node
                | EventKind::AssignedPodDelete
                | EventKind::AssignedPodUpdate
                | EventKind::PodUpdate
        )
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdd(node) | ClusterEvent::NodeUpdate(node) => {
                self.insufficient(pod.requests(), node).is_empty()
            }
            _ => true,
        }
    }
}

impl Filter for NodeResourcesFit {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let reasons = self.insufficient(pod.requests(), node);
        if reasons.is_empty() {
            return Ok(());
        }
        let code = if self.never_fits(pod, node) {
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

/// A node's capacity of a resource and what would be taken of it with the pod there; `None` if the
/// resource does not count. `as_requested` takes what pods request as it is; otherwise
/// containers without a request count for a little CPU and memory.
fn filled(name: &str, as_requested: bool, pod: &PodInfo, node: &NodeInfo) -> Option<(i64, i64)> {
    let (shape, has, taken) = (pod.node_shape(), &node.allocatable, &node.requested);
    let (capacity, taken) = match name {
        "cpu" if as_requested => (has.milli_cpu, (taken.milli_cpu, shape.requests.milli_cpu)),
        "memory" if as_requested => (has.memory, (taken.memory, shape.requests.memory)),
        "cpu" => (
            has.milli_cpu,
            (node.non_zero_milli_cpu, shape.non_zero_milli_cpu),
        ),
        "memory" => (has.memory, (node.non_zero_memory, shape.non_zero_memory)),
        "ephemeral-storage" => {
            let wanted = shape.requests.ephemeral_storage;
            (has.ephemeral_storage, (taken.ephemeral_storage, wanted))
        }
        name => {
            let wanted = shape.requests.get(name);
            if wanted == 0 {
                return None;
            }
            (has.get(name), (taken.get(name), wanted))
        }
    };
    (capacity != 0).then(|| (capacity, taken.0.saturating_add(taken.1)))
}

impl Score for NodeResourcesFit {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for (name, weight) in &self.resources {
            let Some((capacity, taken)) = filled(name, false, pod, node) else {
                continue;
            };
            match &self.strategy {
                ScoringStrategy::LeastAllocated => {
                    if taken <= capacity {
                        sum += percent(capacity - taken, capacity) * weight;
                    }
                    weights += weight;
                }
                ScoringStrategy::MostAllocated => {
                    sum += percent(taken.min(capacity), capacity) * weight;
                    weights += weight;
                }
                ScoringStrategy::RequestedToCapacityRatio(shape) => {
                    let utilization = if taken > capacity {
                        100
                    } else {
                        percent(taken, capacity)
                    };
                    let score = on_curve(shape, utilization);
                    if score > 0 {
                        sum += score * weight;
                        weights += weight;
                    }
                }
            }
        }
        match (&self.strategy, weights) {
            (_, 0) => 0,
            (ScoringStrategy::RequestedToCapacityRatio(_), _) => {
                (sum as f64 / weights as f64).round() as i64
            }
            _ => sum / weights,
        }
    }
}

/// The curve's value, of 100, between its points.
fn on_curve(points: &[UtilizationPoint], utilization: i64) -> i64 {
    let scaled = |p: &UtilizationPoint| p.score * (MAX_NODE_SCORE / 10);
    let Some(next) = points.iter().position(|p| utilization <= p.utilization) else {
        return points.last().map_or(0, scaled);
    };
    if next == 0 {
        return scaled(&points[0]);
    }
    let (a, b) = (&points[next - 1], &points[next]);
    scaled(a)
        + (scaled(b) - scaled(a)) * (utilization - a.utilization) / (b.utilization - a.utilization)
}

fn percent(part: i64, whole: i64) -> i64 {
    match part.checked_mul(MAX_NODE_SCORE) {
        Some(scaled) => scaled / whole,
        // Bytes times a hundred can overflow.
        None => i64::try_from(i128::from(part) * i128::from(MAX_NODE_SCORE) / i128::from(whole))
            .unwrap_or(0),
    }
}

/// Prefers nodes whose resources would be filled alike.
#[derive(Clone, Debug)]
pub struct NodeResourcesBalancedAllocation {
    resources: Vec<String>,
}

impl Default for NodeResourcesBalancedAllocation {
    fn default() -> Self {
        Self::new(["cpu".into(), "memory".into()])
    }
}

impl NodeResourcesBalancedAllocation {
    /// With these resources.
    pub fn new(resources: impl IntoIterator<Item = String>) -> Self {
        Self {
            resources: resources.into_iter().collect(),
        }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn scope(&self) -> Scope {
        Scope::Node
    }
}

impl Score for NodeResourcesBalancedAllocation {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let fractions = self.resources.iter().filter_map(|name| {
            let (capacity, taken) = filled(name, true, pod, node)?;
            Some((taken as f64 / capacity as f64).min(1.0))
        });
        let deviation = match fractions.clone().count() {
            0 | 1 => 0.0,
            2 => {
                let mut fractions = fractions;
                let pair = (fractions.next(), fractions.next());
                (pair.0.unwrap_or(0.0) - pair.1.unwrap_or(0.0)).abs() / 2.0
            }
            n => {
                let mean = fractions.clone().sum::<f64>() / n as f64;
                let squares: f64 = fractions.map(|f| (f - mean) * (f - mean)).sum();
                (squares / n as f64).sqrt()
            }
        };
        ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
    }
}
