//! [`Snapshot`]: all nodes.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Node;

use super::{NodeInfo, PodInfo};

/// The nodes of a cluster and the pods on them.
///
/// Kept up to date change by change; a change costs what it touches. Cloning shares all nodes that
/// do not change afterwards, so a what-if simulation starts from a clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    index: HashMap<String, usize>,
    /// The node that each known pod is on, by UID.
    placed: HashMap<String, String>,
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

    fn entry(&mut self, name: &str) -> &mut NodeInfo {
        let position = match self.index.get(name) {
            Some(position) => *position,
            None => {
                self.nodes.push(Arc::new(NodeInfo::named(name)));
                self.index.insert(name.to_owned(), self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        Arc::make_mut(&mut self.nodes[position])
    }

    fn drop_unused(&mut self, name: &str) {
        let Some(position) = self.index.get(name).copied() else {
            return;
        };
        if self.nodes[position].is_unused() {
            self.index.remove(name);
            self.nodes.swap_remove(position);
            if let Some(moved) = self.nodes.get(position) {
                self.index.insert(moved.name().to_owned(), position);
            }
        }
    }

    /// Adds or replaces a node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.entry(&name).set_node(Some(node));
    }

    /// Removes a node. The pods on it stay known until they are removed themselves.
    pub fn remove_node(&mut self, name: &str) {
        if self.index.contains_key(name) {
            self.entry(name).set_node(None);
            self.drop_unused(name);
        }
    }

    /// Puts a pod on a node, and takes it from the one that it was on before.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        if let Some(before) = self.placed.insert(pod.uid().to_owned(), node.to_owned())
            && before != node
        {
            self.entry(&before).remove(pod.uid());
            self.drop_unused(&before);
        }
        self.entry(node).add(pod);
    }

    /// Takes a pod away, by UID.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let node = self.placed.remove(uid)?;
        let pod = self.entry(&node).remove(uid);
        self.drop_unused(&node);
        pod
    }

    /// The node that a pod is on, by UID.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.placed.get(uid).map(String::as_str)
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index
            .get(name)
            .map(|i| self.nodes[*i].as_ref())
            .filter(|n| n.node().is_some())
    }

    /// The nodes, in an order that changes only when nodes come and go.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes
            .iter()
            .map(Arc::as_ref)
            .filter(|n| n.node().is_some())
    }

    /// The pods on all nodes.
    pub fn pods(&self) -> impl Iterator<Item = &PodInfo> {
        self.nodes.iter().flat_map(|n| n.pods())
    }
}
