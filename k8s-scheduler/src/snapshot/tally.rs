//! [`Tally`]: pods counted by topology domain, kept up to date from the snapshot's log.

use std::{collections::HashMap, sync::Arc};

use super::{
    Cells, Change, Interned, NodeInfo, PodShape, Terms,
    groups::{Group, Groups},
    log::Log,
    objects::Objects,
    terms::Spread,
};
use crate::plugins::{has_untolerated_taint, matches_required_affinity};

/// A node without the topology key.
const NOWHERE: u32 = u32::MAX;
/// A weight that was not computed yet.
const UNKNOWN: i64 = i64::MIN;
/// How many tallies are kept; the least recently used half goes when there are more.
const KEPT: usize = 1024;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// Pods that match all of the terms.
    Matching(Interned<Terms>),
    /// Required anti-affinity terms of pods that match this one.
    Refusing(Interned<PodShape>),
    /// The preference between this one and others: of its own terms, of theirs, and their required
    /// affinity at this weight.
    Preferring(Interned<PodShape>, i64),
    /// The pods that a spread constraint counts, by its position.
    Spread(Interned<Spread>, usize),
}

/// What is counted, and over which topology.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TallyKey {
    /// The node label; `None` for each node by itself.
    pub(crate) topology: Option<Arc<str>>,
    pub(crate) by: By,
}

/// The domains of one topology key.
#[derive(Debug)]
struct Topology {
    /// The domain of each node, by slot.
    domains: Vec<u32>,
    count: usize,
    /// Whether each has one node.
    is_unique: bool,
}

/// Numbers by domain. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    topology: Arc<Topology>,
    counts: Arc<Vec<i64>>,
    /// The domains that have a node that counts; `None` for all.
    eligible: Option<Arc<Vec<bool>>>,
    /// The nodes that count, by slot; `None` for all.
    nodes: Option<Arc<Vec<bool>>>,
    /// How much was counted in all.
    sum: i64,
}

impl Tally {
    /// Whether nothing was counted anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.sum == 0
    }

    /// The number in the domain of a node, by slot; `None` if the node has no such label.
    #[inline]
    pub(crate) fn at(&self, slot: usize) -> Option<i64> {
        let domain = *self.topology.domains.get(slot)?;
        self.counts.get(domain as usize).copied()
    }

    /// Changes the number in a node's domain, if the node counts.
    pub(crate) fn add(&mut self, slot: usize, amount: i64) {
        if let Some(nodes) = &self.nodes
            && !nodes.get(slot).copied().unwrap_or(false)
        {
            return;
        }
        let domain = self.topology.domains.get(slot).copied().unwrap_or(NOWHERE) as usize;
        if amount != 0 && domain < self.counts.len() {
            let count = &mut Arc::make_mut(&mut self.counts)[domain];
            self.sum -= count.abs();
            *count += amount;
            self.sum += count.abs();
        }
    }

    /// The domain of a node, by slot.
    #[inline]
    pub(crate) fn domain(&self, slot: usize) -> Option<usize> {
        let domain = *self.topology.domains.get(slot)?;
        (domain != NOWHERE).then_some(domain as usize)
    }

    /// How many domains there are, whether they count or not.
    pub(crate) fn domains(&self) -> usize {
        self.topology.count
    }

    /// The number of domains that count, and the smallest number in one of them.
    pub(crate) fn fewest(&self) -> (usize, Option<i64>) {
        match &self.eligible {
            None => (self.counts.len(), self.counts.iter().copied().min()),
            Some(eligible) => {
                let counted = || self.counts.iter().zip(&**eligible).filter(|(_, e)| **e);
                (counted().count(), counted().map(|(n, _)| *n).min())
            }
        }
    }
}

/// A tally that follows the log.
#[derive(Debug)]
struct Counter {
    position: u64,
    used: u64,
    tally: Tally,
    /// What one pod of each group counts for.
    weights: Vec<i64>,
}

/// The parts of a snapshot that tallies are made from.
pub(super) struct Source<'a> {
    pub(super) nodes: &'a [Arc<NodeInfo>],
    pub(super) groups: &'a Groups,
    pub(super) log: &'a Log,
    pub(super) objects: &'a Objects,
    /// Changes when domains or the nodes that count could.
    pub(super) epoch: u64,
}

/// All tallies of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    epoch: u64,
    clock: u64,
    topologies: HashMap<Option<Arc<str>>, Arc<Topology>>,
    /// By labels; `None` where there are too many.
    cells: HashMap<Vec<Arc<str>>, Option<Arc<Cells>>>,
    counters: HashMap<TallyKey, Counter>,
}

/// How many partitions into cells are kept.
const PARTITIONS: usize = 256;

impl Tallies {
    fn renew(&mut self, source: &Source<'_>) {
        if self.epoch != source.epoch {
            self.epoch = source.epoch;
            self.topologies.clear();
            self.counters.clear();
            self.cells.clear();
        }
    }

    fn topology(&mut self, key: Option<Arc<str>>, source: &Source<'_>) -> Arc<Topology> {
        let topology = self.topologies.entry(key);
        let made =
            topology.or_insert_with_key(|key| Arc::new(Topology::of(key.as_deref(), source.nodes)));
        made.clone()
    }

    /// Whether no two nodes have the same value of any of these labels.
    pub(super) fn tell_apart(&mut self, keys: Vec<Arc<str>>, source: &Source<'_>) -> bool {
        self.renew(source);
        let mut keys = keys.into_iter();
        keys.all(|key| self.topology(Some(key), source).is_unique)
    }

    /// The nodes by the values of some labels; `None` if there are too many.
    pub(super) fn cells(&mut self, keys: Vec<Arc<str>>, source: &Source<'_>) -> Option<Arc<Cells>> {
        self.renew(source);
        if let Some(cells) = self.cells.get(&keys) {
            return cells.clone();
        }
        let columns: Vec<Arc<Topology>> = keys
            .iter()
            .map(|key| self.topology(Some(key.clone()), source))
            .collect();
        let columns: Vec<&[u32]> = columns.iter().map(|c| c.domains.as_slice()).collect();
        let cells = Cells::of(&columns, source.nodes.len()).map(Arc::new);
        if self.cells.len() >= PARTITIONS {
            self.cells.clear();
        }
        self.cells.insert(keys, cells.clone());
        cells
    }

    pub(super) fn get(&mut self, key: TallyKey, source: &Source<'_>) -> Tally {
        self.renew(source);
        self.clock += 1;
        if let Some(counter) = self.counters.get_mut(&key)
            && counter.catch_up(&key, source)
        {
            counter.used = self.clock;
            return counter.tally.clone();
        }
        if self.counters.len() >= KEPT {
            let mut used: Vec<u64> = self.counters.values().map(|c| c.used).collect();
            let (_, middle, _) = used.select_nth_unstable(KEPT / 2);
            let middle = *middle;
            self.counters.retain(|_, c| c.used > middle);
        }
        let topology = self.topology(key.topology.clone(), source);
        let mut counter = Counter::count(&key, topology, source);
        counter.used = self.clock;
        let tally = counter.tally.clone();
        self.counters.insert(key, counter);
        tally
    }
}

impl Topology {
    fn of(key: Option<&str>, nodes: &[Arc<NodeInfo>]) -> Self {
        let mut values: HashMap<&str, u32> = HashMap::new();
        let mut domains = Vec::with_capacity(nodes.len());
        for (slot, node) in nodes.iter().enumerate() {
            let domain = match key {
                None => u32::try_from(slot).ok(),
                Some(key) => node.label(key).map(|value| {
                    let next = u32::try_from(values.len()).unwrap_or(NOWHERE);
                    *values.entry(value).or_insert(next)
                }),
            };
            domains.push(domain.unwrap_or(NOWHERE));
        }
        let count = if key.is_some() {
            values.len()
        } else {
            nodes.len()
        };
        let members = domains.iter().filter(|d| **d != NOWHERE).count();
        Self {
            is_unique: members == count,
            domains,
            count,
        }
    }
}

impl Counter {
    fn count(key: &TallyKey, topology: Arc<Topology>, source: &Source<'_>) -> Self {
        let nodes = key.by.nodes(source.nodes);
        let eligible = nodes.as_ref().map(|nodes| {
            let mut eligible = vec![false; topology.count];
            for (domain, _) in topology
                .domains
                .iter()
                .zip(nodes)
                .filter(|(_, counts)| **counts)
            {
                if let Some(domain) = eligible.get_mut(*domain as usize) {
                    *domain = true;
                }
            }
            Arc::new(eligible)
        });
        let mut counter = Self {
            position: source.log.position(),
            used: 0,
            tally: Tally {
                counts: Arc::new(vec![0; topology.count]),
                topology,
                eligible,
                nodes: nodes.map(Arc::new),
                sum: 0,
            },
            weights: Vec::new(),
        };
        for (number, group) in source.groups.iter() {
            let weight = counter.weight(key, number, source);
            if weight != 0 {
                for (slot, count) in &group.nodes {
                    counter
                        .tally
                        .add(*slot as usize, weight * i64::from(*count));
                }
            }
        }
        counter
    }

    /// Takes in what changed; false if that is not known any more.
    fn catch_up(&mut self, key: &TallyKey, source: &Source<'_>) -> bool {
        let Some(changes) = source.log.since(self.position) else {
            return false;
        };
        for change in changes {
            match change {
                Change::Pod { slot, group, came } => {
                    let weight = self.weight(key, group, source);
                    if weight != 0 {
                        self.tally
                            .add(slot as usize, if came { weight } else { -weight });
                    }
                }
                Change::Group { group } => {
                    if let Some(weight) = self.weights.get_mut(group as usize) {
                        *weight = UNKNOWN;
                    }
                }
                // Whatever matters here of a node changes the epoch.
                Change::Node { .. } => {}
            }
        }
        self.position = source.log.position();
        true
    }

    fn weight(&mut self, key: &TallyKey, number: u32, source: &Source<'_>) -> i64 {
        let number = number as usize;
        if self.weights.len() <= number {
            self.weights.resize(number + 1, UNKNOWN);
        }
        if self.weights[number] == UNKNOWN {
            let group = u32::try_from(number)
                .ok()
                .and_then(|n| source.groups.get(n));
            self.weights[number] = group.map_or(0, |group| key.weight(group, source.objects));
        }
        self.weights[number]
    }
}

impl By {
    /// The nodes that count.
    fn nodes(&self, nodes: &[Arc<NodeInfo>]) -> Option<Vec<bool>> {
        let By::Spread(spread, position) = self else {
            return None;
        };
        let constraint = &spread.constraints[*position];
        let counts = |node: &NodeInfo| {
            let has_keys = !spread.requires_all_keys
                || spread
                    .constraints
                    .iter()
                    .all(|c| node.label(&c.topology_key).is_some());
            node.is_known()
                && has_keys
                && (!constraint.honors_affinity || matches_required_affinity(&spread.node, node))
                && (!constraint.honors_taints || !has_untolerated_taint(&spread.node, node))
        };
        Some(nodes.iter().map(|n| counts(n)).collect())
    }
}

impl TallyKey {
    /// What one pod of a group counts for.
    fn weight(&self, group: &Group, objects: &Objects) -> i64 {
        let other = &*group.shape;
        match &self.by {
            By::Matching(terms) => {
                let labels = objects.namespace_labels(&other.namespace);
                i64::from(
                    terms
                        .iter()
                        .all(|t| t.matches(&other.namespace, &other.labels, labels)),
                )
            }
            By::Refusing(shape) => self.refusals(other, shape, objects),
            By::Preferring(shape, hard) => {
                if !other.has_terms() && shape.preferred.is_empty() {
                    return 0;
                }
                self.preference(other, shape, *hard, objects)
            }
            By::Spread(spread, position) => {
                let counts = !group.is_terminating
                    && other.namespace == spread.namespace
                    && spread.constraints[*position]
                        .selector
                        .matches(&other.labels);
                i64::from(counts)
            }
        }
    }

    fn is_over(&self, key: &str) -> bool {
        self.topology.as_deref() == Some(key)
    }

    /// How many required anti-affinity terms of `other` match a pod like `shape`.
    fn refusals(&self, other: &PodShape, shape: &PodShape, objects: &Objects) -> i64 {
        let labels = objects.namespace_labels(&shape.namespace);
        let terms = other.anti_affinity.iter().flat_map(|t| t.iter());
        let refusing = terms.filter(|t| {
            self.is_over(&t.topology_key) && t.matches(&shape.namespace, &shape.labels, labels)
        });
        refusing.fold(0, |n, _| n + 1)
    }

    fn preference(&self, other: &PodShape, shape: &PodShape, hard: i64, objects: &Objects) -> i64 {
        let theirs = objects.namespace_labels(&other.namespace);
        let ours = objects.namespace_labels(&shape.namespace);
        let mut sum = 0;
        for (weight, term) in &shape.preferred {
            if self.is_over(&term.topology_key)
                && term.matches(&other.namespace, &other.labels, theirs)
            {
                sum += weight;
            }
        }
        let required = other.affinity.iter().map(|term| (&hard, term));
        let preferred = other.preferred.iter().map(|(weight, term)| (weight, term));
        for (weight, term) in required.chain(preferred) {
            if self.is_over(&term.topology_key)
                && term.matches(&shape.namespace, &shape.labels, ours)
            {
                sum += weight;
            }
        }
        sum
    }

    /// What a pod of that shape would count for: for what-ifs.
    pub(crate) fn weight_of(
        &self,
        shape: &Interned<PodShape>,
        is_terminating: bool,
        objects: &Objects,
    ) -> i64 {
        let group = Group {
            shape: shape.clone(),
            is_terminating,
            nodes: HashMap::new(),
        };
        self.weight(&group, objects)
    }
}
