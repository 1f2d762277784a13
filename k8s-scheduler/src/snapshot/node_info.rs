//! [`NodeInfo`]: a node and what the pods on it take.

use std::{collections::BTreeMap, sync::Arc};

use k8s_model::quantity::Amount;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{HostPort, PodInfo, Resources};

/// A node, parsed once, with the pods that are or will be on it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// What pods may take.
    pub allocatable: Resources,
    /// What all its pods request.
    pub requested: Resources,
    /// What they count for in scores: millicores.
    pub non_zero_milli_cpu: i64,
    /// What they count for in scores: bytes of memory.
    pub non_zero_memory: i64,
    /// How many pods it may have.
    pub allowed_pods: i64,
    pods: Vec<Arc<PodInfo>>,
    /// The ports that its pods take.
    ports: Vec<HostPort>,
    name: Arc<str>,
    slot: usize,
    /// The node; `None` while only pods on it are known.
    node: Option<Arc<Node>>,
    /// The images on it, by every name, with their sizes in bytes.
    images: Arc<BTreeMap<String, i64>>,
}

impl NodeInfo {
    pub(super) fn new(name: Arc<str>, slot: usize) -> Self {
        Self {
            name,
            slot,
            ..Self::default()
        }
    }

    /// Its place in the snapshot's columns.
    pub(crate) fn slot(&self) -> usize {
        self.slot
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
        let images: BTreeMap<String, i64> = status
            .into_iter()
            .flat_map(|s| s.images.iter().flatten())
            .flat_map(|i| {
                i.names
                    .iter()
                    .flatten()
                    .map(|n| (n.clone(), i.size_bytes.unwrap_or(0)))
            })
            .collect();
        if *self.images != images {
            self.images = Arc::new(images);
        }
        // The largest parts of a node, which nothing here asks for again.
        self.node = node.map(|mut node| {
            let heavy = node.metadata.managed_fields.is_some()
                || node.status.as_ref().is_some_and(|s| s.images.is_some());
            if heavy {
                let node = Arc::make_mut(&mut node);
                node.metadata.managed_fields = None;
                if let Some(status) = &mut node.status {
                    status.images = None;
                }
            }
            node
        });
    }

    /// Puts a pod on it, for a what-if; [`Snapshot::place`](super::Snapshot::place) does it for good.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        let shape = pod.node_shape();
        self.requested.add(&shape.requests);
        self.non_zero_milli_cpu = self
            .non_zero_milli_cpu
            .saturating_add(shape.non_zero_milli_cpu);
        self.non_zero_memory = self.non_zero_memory.saturating_add(shape.non_zero_memory);
        self.ports.extend_from_slice(&shape.host_ports);
        self.pods.push(pod);
    }

    /// Takes a pod away, by UID.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let position = self.pods.iter().position(|p| p.uid() == uid)?;
        let pod = self.pods.swap_remove(position);
        let shape = pod.node_shape();
        if self.pods.is_empty() {
            // Saturated sums would not come back to nothing.
            self.requested = Resources::default();
            (self.non_zero_milli_cpu, self.non_zero_memory) = (0, 0);
        } else if self.is_saturated() {
            self.recount();
        } else {
            self.requested.subtract(&shape.requests);
            self.non_zero_milli_cpu -= shape.non_zero_milli_cpu;
            self.non_zero_memory -= shape.non_zero_memory;
        }
        for port in &shape.host_ports {
            if let Some(i) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(i);
            }
        }
        Some(pod)
    }

    /// Replaces a pod by one of the same shape.
    pub(super) fn replace(&mut self, pod: Arc<PodInfo>) {
        if let Some(old) = self.pods.iter_mut().find(|p| p.uid() == pod.uid()) {
            *old = pod;
        }
    }

    fn is_saturated(&self) -> bool {
        let sums = [
            self.requested.milli_cpu,
            self.requested.memory,
            self.requested.ephemeral_storage,
            self.non_zero_milli_cpu,
            self.non_zero_memory,
        ];
        sums.iter()
            .chain(self.requested.scalar.values())
            .any(|n| *n == i64::MAX)
    }

    fn recount(&mut self) {
        self.requested = Resources::default();
        (self.non_zero_milli_cpu, self.non_zero_memory) = (0, 0);
        for pod in &self.pods {
            let shape = pod.node_shape();
            self.requested.add(&shape.requests);
            self.non_zero_milli_cpu = self
                .non_zero_milli_cpu
                .saturating_add(shape.non_zero_milli_cpu);
            self.non_zero_memory = self.non_zero_memory.saturating_add(shape.non_zero_memory);
        }
    }

    /// The node itself; `None` while only pods on it are known. Without its images and managed fields.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pods on it, in no order.
    pub fn pods(&self) -> &[Arc<PodInfo>] {
        &self.pods
    }

    /// The ports that its pods take.
    pub fn ports(&self) -> &[HostPort] {
        &self.ports
    }

    /// The images on it, by every name, with their sizes in bytes.
    pub fn images(&self) -> &BTreeMap<String, i64> {
        &self.images
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
