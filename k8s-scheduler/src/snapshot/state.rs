//! [`Snapshot`]: all nodes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_model::labels::Selector;
use k8s_openapi::api::core::v1::Node;

use super::{
    Cells, Change, Interned, NodeInfo, Object, Objects, PodInfo, PodShape, Spread, Tally, TallyKey,
    facts::Strings,
    groups::Groups,
    log::Log,
    objects::Effect,
    tally::{Source, Tallies},
};
use crate::schedule::Cards;

/// The nodes of a cluster and the pods on them.
///
/// Kept up to date change by change; a change costs what it touches. Cloning shares all nodes that
/// do not change afterwards, so a what-if simulation starts from a clone.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// By slot. A slot without a node and without pods is free.
    nodes: Vec<Arc<NodeInfo>>,
    names: Arc<Vec<Arc<str>>>,
    free: Vec<usize>,
    index: HashMap<Arc<str>, usize>,
    count: usize,
    /// The slot of the node that each known pod is on, by UID.
    placed: HashMap<Arc<str>, usize>,
    groups: Groups,
    log: Log,
    /// Changes with the nodes' labels, taints and number.
    epoch: u64,
    /// Changes with the images on nodes, and with their number.
    images_epoch: u64,
    images: HashMap<Arc<str>, usize>,
    strings: Strings,
    objects: Arc<Objects>,
    /// Changes with the selectors of Services and controllers.
    selectors_epoch: u64,
    /// The pods that room is being made for, by node.
    nominated: BTreeMap<Arc<str>, Vec<Arc<PodInfo>>>,
    memo: Memo,
}

/// By shape, each as of an epoch of the selectors.
type DefaultSpreads = HashMap<Interned<PodShape>, (u64, Interned<Spread>)>;

/// What was computed of a snapshot and may be computed again. A clone starts without.
#[derive(Default)]
struct Memo {
    tallies: Mutex<Tallies>,
    cards: Mutex<Cards>,
    default_spreads: Mutex<DefaultSpreads>,
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("nodes", &self.count)
            .field("pods", &self.placed.len())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// A snapshot of these nodes and pods. Pods that are on no node, or have ended, are left out.
    pub fn new(
        nodes: impl IntoIterator<Item = Node>,
        pods: impl IntoIterator<Item = PodInfo>,
    ) -> Self {
        let mut snapshot = Self::default();
        for node in nodes {
            snapshot.set_node(Arc::new(node));
        }
        for pod in pods.into_iter().filter(|p| !p.is_terminal()) {
            if let Some(node) = pod.node_name().map(str::to_owned) {
                snapshot.place(Arc::new(pod), &node);
            }
        }
        snapshot
    }

    /// The slot of a node, made if there is none.
    fn slot(&mut self, name: &str) -> usize {
        if let Some(slot) = self.index.get(name) {
            return *slot;
        }
        let name = self.strings.get(name);
        let slot = self.free.pop().unwrap_or(self.nodes.len());
        let node = Arc::new(NodeInfo::new(name.clone(), slot));
        let names = Arc::make_mut(&mut self.names);
        if slot == self.nodes.len() {
            self.nodes.push(node);
            names.push(name.clone());
        } else {
            self.nodes[slot] = node;
            names[slot] = name.clone();
        }
        self.index.insert(name, slot);
        self.epoch += 1;
        slot
    }

    fn node_mut(&mut self, slot: usize) -> &mut NodeInfo {
        Arc::make_mut(&mut self.nodes[slot])
    }

    fn drop_unused(&mut self, slot: usize) {
        let node = &self.nodes[slot];
        if !node.is_known() && node.pods().is_empty() && self.index.remove(node.name()).is_some() {
            self.nodes[slot] = Arc::new(NodeInfo::new("".into(), slot));
            Arc::make_mut(&mut self.names)[slot] = "".into();
            self.free.push(slot);
            self.epoch += 1;
        }
    }

    /// Adds or replaces a node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.replace_node(&name, Some(node));
    }

    /// Removes a node. The pods on it stay known until they are removed themselves.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(slot) = self.index.get(name).copied() {
            self.replace_node(name, None);
            self.drop_unused(slot);
        }
    }

    fn replace_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        let slot = self.slot(name);
        let before = self.nodes[slot].clone();
        Arc::make_mut(&mut self.nodes[slot]).set_node(node, &mut self.strings);
        let after = self.nodes[slot].clone();
        let is_there = usize::from(after.is_known());
        let was_there = usize::from(before.is_known());
        self.count = self.count + is_there - was_there;
        if is_there != was_there
            || before.labels() != after.labels()
            || before.taints() != after.taints()
        {
            self.epoch += 1;
        }
        if is_there != was_there || before.images() != after.images() {
            for (image, _) in before.images() {
                if let Some(count) = self.images.get_mut(image) {
                    *count -= 1;
                    if *count == 0 {
                        self.images.remove(image);
                    }
                }
            }
            for (image, _) in after.images() {
                *self.images.entry(image.clone()).or_default() += 1;
            }
            self.images_epoch += 1;
        }
        self.log.push(Change::Node { slot: narrow(slot) });
    }

    /// Puts a pod on a node, and takes it from the one that it was on before.
    pub fn place(&mut self, mut pod: Arc<PodInfo>, node: &str) {
        if let Some(known) = self.groups.known(pod.shape())
            && !known.is_same(pod.shape())
        {
            // All pods of a workload share one shape in memory.
            Arc::make_mut(&mut pod).shape = known.clone();
        }
        if let Some(slot) = self.placed.get(pod.uid()).copied() {
            let there = &self.nodes[slot];
            let old = there.pods().iter().find(|p| p.uid() == pod.uid());
            let is_alike = old.is_some_and(|old| {
                old.shape() == pod.shape() && old.is_terminating() == pod.is_terminating()
            });
            if is_alike && there.name() == node {
                self.node_mut(slot).replace(pod);
                return;
            }
            self.remove_pod(pod.uid());
        }
        let slot = self.slot(node);
        self.placed.insert(pod.shared_uid().clone(), slot);
        let (group, is_new) = self
            .groups
            .enter(pod.shape(), pod.is_terminating(), narrow(slot));
        if is_new {
            self.log.push(Change::Group { group });
        }
        self.node_mut(slot).add(pod);
        self.log.push(Change::Pod {
            slot: narrow(slot),
            group,
            came: true,
        });
    }

    /// Takes a pod away, by UID.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let slot = self.placed.remove(uid)?;
        let pod = self.node_mut(slot).remove(uid)?;
        let group = self
            .groups
            .leave(pod.shape(), pod.is_terminating(), narrow(slot));
        self.log.push(Change::Pod {
            slot: narrow(slot),
            group,
            came: false,
        });
        self.drop_unused(slot);
        Some(pod)
    }

    /// Adds or replaces one of the other objects.
    pub fn set(&mut self, object: Object) {
        let effect = Arc::make_mut(&mut self.objects).set(object);
        self.take_effect(effect);
    }

    /// Removes one of the other objects.
    pub fn unset(&mut self, object: &Object) {
        let effect = Arc::make_mut(&mut self.objects).remove(object);
        self.take_effect(effect);
    }

    fn take_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Namespaces => self.epoch += 1,
            Effect::Selectors => self.selectors_epoch += 1,
        }
    }

    /// The objects that are neither nodes nor pods.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn shared_objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// Notes that room on a node is being made for a pod: others of lower priority leave it that.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.forget_nomination(pod.uid());
        self.nominated.entry(node.into()).or_default().push(pod);
    }

    /// Drops such a note, by UID.
    pub fn forget_nomination(&mut self, uid: &str) {
        if self.nominated.is_empty() {
            return;
        }
        self.nominated.retain(|_, pods| {
            pods.retain(|p| p.uid() != uid);
            !pods.is_empty()
        });
    }

    /// The nodes with pods that room is being made for.
    pub fn nominated(&self) -> impl Iterator<Item = (&str, &[Arc<PodInfo>])> {
        self.nominated
            .iter()
            .map(|(node, pods)| (&**node, pods.as_slice()))
    }

    /// The pods that room is being made for on a node.
    pub fn nominated_to(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated
            .get(node)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// A known pod, by UID.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        let slot = *self.placed.get(uid)?;
        self.nodes[slot].pods().iter().find(|p| p.uid() == uid)
    }

    /// The node that a pod is on, by UID.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.placed.get(uid).map(|slot| self.nodes[*slot].name())
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index
            .get(name)
            .map(|slot| self.nodes[*slot].as_ref())
            .filter(|n| n.is_known())
    }

    /// The nodes, in an order that changes only when nodes come and go.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().map(Arc::as_ref).filter(|n| n.is_known())
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many pods are on nodes.
    pub(crate) fn count(&self) -> usize {
        self.placed.len()
    }

    /// The pods on all nodes.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.nodes.iter().flat_map(|n| n.pods())
    }

    /// How many pods of a namespace that have a place, and are not being deleted, have such labels.
    pub fn count_pods(&self, namespace: &str, selector: &Selector) -> usize {
        let groups = self.groups.iter().map(|(_, group)| group);
        let alike = groups.filter(|g| {
            !g.is_terminating && g.shape.namespace == namespace && selector.matches(&g.shape.labels)
        });
        alike
            .flat_map(|g| g.nodes.values())
            .map(|n| *n as usize)
            .sum()
    }

    /// How many nodes have an image, by one of its names.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    pub(crate) fn shared_node(&self, name: &str) -> Option<Arc<NodeInfo>> {
        let node = &self.nodes[*self.index.get(name)?];
        node.is_known().then(|| node.clone())
    }

    pub(crate) fn slots(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    pub(crate) fn slot_of(&self, node: &str) -> Option<usize> {
        self.index.get(node).copied()
    }

    pub(crate) fn names(&self) -> &Arc<Vec<Arc<str>>> {
        &self.names
    }

    pub(crate) fn images_epoch(&self) -> u64 {
        self.images_epoch
    }

    pub(crate) fn position(&self) -> u64 {
        self.log.position()
    }

    /// The changes after a position; `None` if they are not all known any more.
    pub(crate) fn changes(&self, since: u64) -> Option<impl ExactSizeIterator<Item = Change> + '_> {
        self.log.since(since)
    }

    /// The topology keys of required anti-affinity terms of pods here.
    pub(crate) fn anti_affinity_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.anti_keys()
    }

    /// The topology keys of required affinity terms, and of preferred terms of both kinds, of pods here.
    pub(crate) fn affinity_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.other_keys()
    }

    /// Pods counted by domain.
    pub(crate) fn tally(&self, key: TallyKey) -> Tally {
        let tallies = &self.memo.tallies;
        let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.get(key, &self.source())
    }

    fn source(&self) -> Source<'_> {
        Source {
            nodes: &self.nodes,
            groups: &self.groups,
            log: &self.log,
            objects: &self.objects,
            epoch: self.epoch,
        }
    }

    /// Whether no two nodes have the same value of any of these labels.
    pub(crate) fn tell_nodes_apart(&self, keys: Vec<Arc<str>>) -> bool {
        let tallies = &self.memo.tallies;
        let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.tell_apart(keys, &self.source())
    }

    /// Changes with the nodes' labels, taints and number, and with namespaces.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The nodes by the values of some labels; `None` if there are so many that it is of no use.
    pub(crate) fn cells(&self, keys: Vec<Arc<str>>) -> Option<Arc<Cells>> {
        let tallies = &self.memo.tallies;
        let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.cells(keys, &self.source())
    }

    /// Remembers how pods of a shape are spread where they don't say so themselves.
    pub(crate) fn default_spread(
        &self,
        shape: &Interned<PodShape>,
        make: impl FnOnce() -> Spread,
    ) -> Interned<Spread> {
        let spreads = &self.memo.default_spreads;
        let mut spreads = spreads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((epoch, spread)) = spreads.get(shape)
            && *epoch == self.selectors_epoch
        {
            return spread.clone();
        }
        if spreads.len() >= 1024 {
            spreads.clear();
        }
        let spread = Interned::from(make());
        spreads.insert(shape.clone(), (self.selectors_epoch, spread.clone()));
        spread
    }

    pub(crate) fn cards(&self) -> &Mutex<Cards> {
        &self.memo.cards
    }
}

fn narrow(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}
