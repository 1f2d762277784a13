//! [`PodTopologySpread`].

use std::{collections::BTreeMap, sync::Arc};

use k8s_model::labels::{Requirement, Selector};

use crate::{
    framework::{
        ClusterEvent, CycleState, EventKind, Feasible, Filter, MAX_NODE_SCORE, Normalization,
        Plugin, PreFilter, PreFilterResult, PreScore, Score, Status, Verdicts,
    },
    snapshot::{
        By, Interned, NodeInfo, PodInfo, PodShape, Snapshot, Spread, SpreadConstraint, Tally,
        TallyKey,
    },
};

const SKEW: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// How pods are spread that do not say so themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DefaultConstraints {
    /// Over hosts (skew 3) and zones (skew 5) if possible: upstream's default (KEP-1258).
    #[default]
    System,
    /// By these constraints, whose selectors are filled in.
    List(Vec<SpreadConstraint>),
}

/// `spec.topologySpreadConstraints`.
#[derive(Clone, Debug, Default)]
pub struct PodTopologySpread {
    defaults: DefaultConstraints,
}

impl PodTopologySpread {
    /// With what holds for pods without constraints. Their selectors come from the Services and the
    /// controller that the pod belongs to.
    pub fn new(defaults: DefaultConstraints) -> Self {
        Self { defaults }
    }

    /// The constraints of one kind that hold for a pod; `None` for none.
    fn constraints(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
        is_hard: bool,
    ) -> Option<Interned<Spread>> {
        let shape = pod.shape();
        if shape.spreads() {
            let own = if is_hard {
                &shape.hard_spread
            } else {
                &shape.soft_spread
            };
            return (!own.constraints.is_empty()).then(|| own.clone());
        }
        // The system's defaults are soft, and so are the cached ones: hard ones are rare.
        let make = || Spread {
            constraints: self.defaults_for(shape, snapshot, is_hard),
            requires_all_keys: self.defaults != DefaultConstraints::System,
            namespace: shape.namespace.clone(),
            node: shape.node.clone(),
        };
        let spread = match (&self.defaults, is_hard) {
            (DefaultConstraints::System, true) => return None,
            (DefaultConstraints::List(list), true) => {
                if !list.iter().any(|c| c.is_hard) {
                    return None;
                }
                make().into()
            }
            (_, false) => snapshot.default_spread(shape, make),
        };
        (!spread.constraints.is_empty()).then_some(spread)
    }

    fn defaults_for(
        &self,
        shape: &PodShape,
        snapshot: &Snapshot,
        is_hard: bool,
    ) -> Vec<SpreadConstraint> {
        let selector = default_selector(shape, snapshot);
        if selector.is_everything() {
            return Vec::new();
        }
        let system = |key: &str, max_skew| SpreadConstraint {
            topology_key: key.into(),
            max_skew,
            min_domains: 1,
            selector: selector.clone(),
            honors_affinity: true,
            honors_taints: false,
            is_hard: false,
        };
        match &self.defaults {
            DefaultConstraints::System => vec![system(HOSTNAME, 3), system(ZONE, 5)],
            DefaultConstraints::List(list) => {
                let list = list.iter().filter(|c| c.is_hard == is_hard);
                let filled = |c: &SpreadConstraint| SpreadConstraint {
                    selector: selector.clone(),
                    ..c.clone()
                };
                list.map(filled).collect()
            }
        }
    }
}

/// The pods among which one is spread by default: those of its Services and of its controller.
fn default_selector(shape: &PodShape, snapshot: &Snapshot) -> Selector {
    let objects = snapshot.objects();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for service in objects.services(&shape.namespace) {
        if service
            .iter()
            .all(|(key, value)| shape.labels.get(key) == Some(value))
        {
            labels.extend(service.clone());
        }
    }
    let mut requirements: Vec<Requirement> = Selector::from_labels(&labels).requirements().to_vec();
    if let Some(owner) = &shape.controller {
        let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => "ReplicationController",
            ("apps/v1", "ReplicaSet") => "ReplicaSet",
            ("apps/v1", "StatefulSet") => "StatefulSet",
            _ => return Selector::new(requirements),
        };
        if let Some(selector) = objects.controller_selector(kind, &shape.namespace, &owner.name) {
            for requirement in selector.requirements() {
                if !requirements.contains(requirement) {
                    requirements.push(requirement.clone());
                }
            }
        }
    }
    Selector::new(requirements)
}

/// One constraint with what PreFilter counted for it.
#[derive(Clone, Debug)]
struct Counted {
    key: TallyKey,
    tally: Tally,
    /// What the pod itself adds to its domain.
    own: i64,
    max_skew: i64,
    min_domains: usize,
}

impl Counted {
    /// The most that a domain may have before the pod comes.
    fn limit(&self) -> i64 {
        let (domains, fewest) = self.tally.fewest();
        let fewest = if domains < self.min_domains {
            0
        } else {
            fewest.unwrap_or(0)
        };
        self.max_skew + fewest - self.own
    }
}

#[derive(Clone, Debug)]
struct Hard(Vec<Counted>);

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn topologies(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<Vec<Arc<str>>> {
        let mut keys = Vec::new();
        for is_hard in [true, false] {
            let spread = self.constraints(pod, snapshot, is_hard);
            for constraint in spread.iter().flat_map(|s| &s.constraints) {
                // As a preference, hosts are counted one by one, whatever their labels say.
                if &*constraint.topology_key == HOSTNAME && !is_hard {
                    return None;
                }
                keys.push(constraint.topology_key.clone());
            }
        }
        Some(keys)
    }

    fn watches(&self, kind: EventKind) -> bool {
        !matches!(
            kind,
            EventKind::Storage | EventKind::Permit | EventKind::Object
        )
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        let shape = pod.shape();
        if !shape.spreads() {
            return true;
        }
        let constraints = &shape.hard_spread.constraints;
        match event {
            ClusterEvent::AssignedPodAdd(other)
            | ClusterEvent::AssignedPodUpdate(other)
            | ClusterEvent::AssignedPodDelete(other) => {
                other.namespace() == pod.namespace()
                    && constraints
                        .iter()
                        .any(|c| c.selector.matches(other.labels()))
            }
            ClusterEvent::NodeAdd(node)
            | ClusterEvent::NodeUpdate(node)
            | ClusterEvent::NodeDelete(node) => {
                let mut keys = constraints.iter().map(|c| &c.topology_key);
                keys.all(|key| node.label(key).is_some())
                    // Its labels may be what changed.
                    || matches!(event, ClusterEvent::NodeUpdate(_))
            }
            _ => true,
        }
    }
}

impl PreFilter for PodTopologySpread {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        if let Some(text) = &pod.shape().invalid {
            return Err(Status::unresolvable(format!("parsing pod: {text}")));
        }
        let Some(spread) = self.constraints(pod, snapshot, true) else {
            return Ok(PreFilterResult::skip());
        };
        let counted = spread
            .constraints
            .iter()
            .enumerate()
            .map(|(i, constraint)| {
                let key = TallyKey {
                    topology: Some(constraint.topology_key.clone()),
                    by: By::Spread(spread.clone(), i),
                };
                Counted {
                    tally: snapshot.tally(key.clone()),
                    key,
                    own: i64::from(constraint.selector.matches(pod.labels())),
                    max_skew: constraint.max_skew,
                    min_domains: constraint.min_domains,
                }
            });
        state.put(Hard(counted.collect()));
        Ok(PreFilterResult::all())
    }

    fn add_pod(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        added: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) {
        change(state, added, node, snapshot, 1);
    }

    fn remove_pod(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        removed: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) {
        change(state, removed, node, snapshot, -1);
    }
}

fn change(
    state: &mut CycleState,
    other: &PodInfo,
    node: &NodeInfo,
    snapshot: &Snapshot,
    sign: i64,
) {
    for counted in state
        .get_mut::<Hard>()
        .into_iter()
        .flat_map(|hard| &mut hard.0)
    {
        let terminating = other.is_terminating();
        let weight = counted
            .key
            .weight_of(other.shape(), terminating, snapshot.objects());
        counted.tally.add(node.slot(), sign * weight);
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        for counted in state.get::<Hard>().into_iter().flat_map(|hard| &hard.0) {
            match counted.tally.at(node.slot()) {
                None => return Err(Status::unresolvable(NO_LABEL)),
                Some(count) if count > counted.limit() => return Err(Status::unschedulable(SKEW)),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn filter_many(&self, state: &CycleState, _: &PodInfo, nodes: &mut Verdicts<'_>) {
        for counted in state.get::<Hard>().into_iter().flat_map(|hard| &hard.0) {
            let limit = counted.limit();
            nodes.reject(Status::unresolvable(NO_LABEL), |slot| {
                counted.tally.domain(slot).is_none()
            });
            nodes.reject(Status::unschedulable(SKEW), |slot| {
                counted.tally.at(slot).is_some_and(|count| count > limit)
            });
        }
    }
}

/// One constraint with what PreScore counted for it.
#[derive(Clone, Debug)]
struct Weighed {
    tally: Tally,
    max_skew: i64,
    /// The weight of the topology, by its size.
    weight: f64,
    /// Whether each node is its own domain, whatever its label says.
    is_host: bool,
    /// The domains by label, where they differ from those of the tally.
    labels: Option<Tally>,
}

#[derive(Clone, Debug)]
struct Soft {
    constraints: Vec<Weighed>,
    requires_all_keys: bool,
}

impl Weighed {
    fn has_label(&self, slot: usize) -> bool {
        self.labels
            .as_ref()
            .unwrap_or(&self.tally)
            .domain(slot)
            .is_some()
    }

    #[inline]
    fn score(&self, slot: usize) -> f64 {
        if !self.has_label(slot) {
            return 0.0;
        }
        let count = self.tally.at(slot).unwrap_or(0);
        count as f64 * self.weight + (self.max_skew - 1) as f64
    }
}

impl Soft {
    fn ignores(&self, slot: usize) -> bool {
        self.requires_all_keys && !self.constraints.iter().all(|c| c.has_label(slot))
    }

    fn score(&self, slot: usize) -> i64 {
        if self.ignores(slot) {
            return 0;
        }
        let sum: f64 = self.constraints.iter().map(|c| c.score(slot)).sum();
        // Rounds half away from zero, as upstream does; sums are never negative.
        let whole = sum as i64;
        whole + i64::from(sum - whole as f64 >= 0.5)
    }
}

impl PreScore for PodTopologySpread {
    fn applies(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        self.constraints(pod, snapshot, false).is_some()
    }

    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Feasible<'_>,
    ) -> Result<bool, Status> {
        let snapshot = nodes.snapshot();
        let Some(spread) = self.constraints(pod, snapshot, false) else {
            return Ok(false);
        };
        let count = |topology: Option<Arc<str>>, position| {
            let by = By::Spread(spread.clone(), position);
            snapshot.tally(TallyKey { topology, by })
        };
        let weigh = |(i, constraint): (usize, &SpreadConstraint)| {
            let key = Some(constraint.topology_key.clone());
            let is_host = &*constraint.topology_key == HOSTNAME;
            Weighed {
                tally: count(key.clone().filter(|_| !is_host), i),
                labels: is_host.then(|| count(key, i)),
                max_skew: constraint.max_skew,
                weight: 0.0,
                is_host,
            }
        };
        let mut soft = Soft {
            constraints: spread.constraints.iter().enumerate().map(weigh).collect(),
            requires_all_keys: spread.requires_all_keys,
        };
        let counted: Vec<usize> = nodes.slots().filter(|slot| !soft.ignores(*slot)).collect();
        for constraint in &mut soft.constraints {
            let size = if constraint.is_host {
                counted.len()
            } else {
                sizes(&constraint.tally, &counted)
            };
            constraint.weight = ((size + 2) as f64).ln();
        }
        state.put(soft);
        Ok(true)
    }
}

/// How many domains some nodes are in; those without the label are one more.
fn sizes(tally: &Tally, slots: &[usize]) -> usize {
    let mut seen = vec![false; tally.domains() + 1];
    for slot in slots {
        seen[tally.domain(*slot).unwrap_or(tally.domains())] = true;
    }
    seen.into_iter().filter(|seen| *seen).count()
}

impl Score for PodTopologySpread {
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        state
            .get::<Soft>()
            .map_or(0, |soft| soft.score(node.slot()))
    }

    fn score_many(
        &self,
        state: &CycleState,
        _: &PodInfo,
        nodes: &Feasible<'_>,
        scores: &mut Vec<i64>,
    ) {
        match state.get::<Soft>() {
            Some(soft) => scores.extend(nodes.slots().map(|slot| soft.score(slot))),
            None => scores.extend(nodes.slots().map(|_| 0)),
        }
    }

    fn normalization(&self) -> Normalization {
        Normalization::Custom
    }

    fn normalize(&self, state: &CycleState, nodes: &Feasible<'_>, scores: &mut [i64]) {
        let Some(soft) = state.get::<Soft>() else {
            return;
        };
        let (mut lowest, mut highest) = (i64::MAX, 0);
        for (score, slot) in scores.iter().zip(nodes.slots()) {
            if !soft.ignores(slot) {
                lowest = lowest.min(*score);
                highest = highest.max(*score);
            }
        }
        let mut last = (i64::MIN, 0);
        for (score, slot) in scores.iter_mut().zip(nodes.slots()) {
            *score = if soft.ignores(slot) {
                0
            } else if highest == 0 {
                MAX_NODE_SCORE
            } else {
                if last.0 != *score {
                    last = (
                        *score,
                        MAX_NODE_SCORE * (highest + lowest - *score) / highest,
                    );
                }
                last.1
            };
        }
    }
}
