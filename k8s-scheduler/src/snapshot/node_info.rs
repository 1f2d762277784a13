//! [`NodeInfo`]: a node and what the pods on it take.

use std::sync::Arc;

use k8s_model::quantity::Amount;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{
    HostPort, PodInfo, Resources,
    facts::{Facts, Strings, find},
};

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
    /// `None` while only pods on it are known.
    facts: Option<Arc<Facts>>,
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

    pub(super) fn set_node(&mut self, node: Option<Arc<Node>>, strings: &mut Strings) {
        let status = node.as_ref().and_then(|n| n.status.as_ref());
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::from_list).unwrap_or_default();
        self.allowed_pods = allocatable
            .and_then(|a| a.get("pods"))
            .and_then(|q| Amount::try_from(q).ok())
            .map(|amount| amount.value())
            .unwrap_or(0);
        self.facts = node.map(|node| Arc::new(Facts::new(node, strings)));
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

    /// Whether the node itself is known, and not only pods on it.
    pub fn is_known(&self) -> bool {
        self.facts.is_some()
    }

    /// The node itself; `None` while only pods on it are known. Without its images and managed fields.
    ///
    /// It is kept packed, so this takes several microseconds: labels, taints and what pods may take
    /// are better asked for by themselves.
    pub fn to_node(&self) -> Option<Node> {
        self.facts.as_ref()?.unpack()
    }

    /// The same in JSON.
    pub(crate) fn packed(&self) -> Option<&[u8]> {
        Some(self.facts.as_ref()?.packed())
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

    /// The images on it, by every name, with their sizes in bytes. In the order of the names.
    pub fn images(&self) -> &[(Arc<str>, i64)] {
        self.facts.as_ref().map_or(&[], |f| &f.images)
    }

    /// The size in bytes of an image on it, by one of its names.
    pub fn image_size(&self, name: &str) -> Option<i64> {
        find(self.images(), name).copied()
    }

    /// Its labels, in the order of their keys.
    pub fn labels(&self) -> &[(Arc<str>, Arc<str>)] {
        self.facts.as_ref().map_or(&[], |f| &f.labels)
    }

    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        find(self.labels(), key).map(|value| &**value)
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.facts.as_ref().map_or(&[], |f| &f.taints)
    }

    /// Whether it is cordoned.
    pub fn is_unschedulable(&self) -> bool {
        self.facts.as_ref().is_some_and(|f| f.unschedulable)
    }
}
