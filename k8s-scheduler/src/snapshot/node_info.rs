//! [`NodeInfo`]: a node and what the pods on it take.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_model::quantity::Amount;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{PodInfo, Resources};

/// A node, parsed once, with the pods that are or will be on it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// The node; `None` while only pods on it are known.
    node: Option<Arc<Node>>,
    name: String,
    pods: HashMap<String, Arc<PodInfo>>,
    /// What all its pods request.
    pub requested: Resources,
    /// What they count for in scores: millicores.
    pub non_zero_milli_cpu: i64,
    /// What they count for in scores: bytes of memory.
    pub non_zero_memory: i64,
    /// What pods may take.
    pub allocatable: Resources,
    /// How many pods it may have.
    pub allowed_pods: i64,
    /// The images on it, by every name, with their sizes in bytes.
    pub images: BTreeMap<String, i64>,
}

impl PartialEq for NodeInfo {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.node == other.node && self.pods.len() == other.pods.len()
    }
}

impl Eq for NodeInfo {}

impl NodeInfo {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn set_node(&mut self, node: Option<Arc<Node>>) {
        let status = node.as_ref().and_then(|n| n.status.as_ref());
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::from_list).unwrap_or_default();
        self.allowed_pods = allocatable
            .and_then(|a| a.get("pods"))
            .and_then(|q| Amount::try_from(q).ok())
            .map(|amount| amount.value())
            .unwrap_or(0);
        self.images = status
            .into_iter()
            .flat_map(|s| s.images.iter().flatten())
            .flat_map(|i| {
                i.names
                    .iter()
                    .flatten()
                    .map(|n| (n.clone(), i.size_bytes.unwrap_or(0)))
            })
            .collect();
        self.node = node;
    }

    pub(super) fn add(&mut self, pod: Arc<PodInfo>) {
        if let Some(old) = self.pods.insert(pod.uid().to_owned(), pod.clone()) {
            self.subtract(&old);
        }
        self.requested.add(&pod.requests);
        self.non_zero_milli_cpu = self
            .non_zero_milli_cpu
            .saturating_add(pod.non_zero_milli_cpu);
        self.non_zero_memory = self.non_zero_memory.saturating_add(pod.non_zero_memory);
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.subtract(&pod);
        Some(pod)
    }

    fn subtract(&mut self, pod: &PodInfo) {
        self.requested.subtract(&pod.requests);
        self.non_zero_milli_cpu = self
            .non_zero_milli_cpu
            .saturating_sub(pod.non_zero_milli_cpu);
        self.non_zero_memory = self.non_zero_memory.saturating_sub(pod.non_zero_memory);
    }

    pub(super) fn is_unused(&self) -> bool {
        self.node.is_none() && self.pods.is_empty()
    }

    /// The node itself; `None` while only pods on it are known.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pods on it, in no order.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &PodInfo> {
        self.pods.values().map(Arc::as_ref)
    }

    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node()?
            .metadata
            .labels
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.node()
            .and_then(|n| n.spec.as_ref())
            .and_then(|s| s.taints.as_deref())
            .unwrap_or_default()
    }

    /// Whether it is cordoned.
    pub fn is_unschedulable(&self) -> bool {
        self.node()
            .and_then(|n| n.spec.as_ref())
            .and_then(|s| s.unschedulable)
            .unwrap_or(false)
    }
}
