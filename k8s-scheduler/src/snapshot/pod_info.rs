//! [`PodInfo`]: a pod as the scheduler knows it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};

use super::{Interned, NodeShape, PodShape, Resources};

/// A pod, parsed once: who it is, and its [`PodShape`], which pods that are alike share.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    name: Arc<str>,
    uid: Arc<str>,
    node_name: Option<Arc<str>>,
    nominated_node: Option<Arc<str>>,
    start_time: Option<Timestamp>,
    is_terminating: bool,
    is_terminal: bool,
    pub(super) shape: Interned<PodShape>,
    pod: Option<Arc<Pod>>,
}

impl Eq for PodInfo {}

impl From<Arc<Pod>> for PodInfo {
    fn from(pod: Arc<Pod>) -> Self {
        let filled =
            |text: Option<&String>| text.filter(|t| !t.is_empty()).map(|t| t.as_str().into());
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref());
        Self {
            name: pod.metadata.name.as_deref().unwrap_or_default().into(),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            node_name: filled(pod.spec.as_ref().and_then(|s| s.node_name.as_ref())),
            nominated_node: filled(status.and_then(|s| s.nominated_node_name.as_ref())),
            start_time: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            is_terminating: pod.metadata.deletion_timestamp.is_some(),
            is_terminal: matches!(phase, Some("Succeeded" | "Failed")),
            shape: PodShape::of(&pod).into(),
            pod: Some(pod),
        }
    }
}

impl From<Pod> for PodInfo {
    fn from(pod: Pod) -> Self {
        Arc::new(pod).into()
    }
}

impl PodInfo {
    /// The same without the whole object: what is kept of pods that have their node.
    #[must_use]
    pub fn without_pod(&self) -> Self {
        Self {
            pod: None,
            ..self.clone()
        }
    }

    /// The whole object, while it is kept: a pod that waits has it, one that has its node may not.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        self.pod.as_ref()
    }

    /// All that matters for scheduling.
    pub fn shape(&self) -> &Interned<PodShape> {
        &self.shape
    }

    /// What it asks of a node.
    pub fn node_shape(&self) -> &Interned<NodeShape> {
        &self.shape.node
    }

    /// What it requests.
    pub fn requests(&self) -> &Resources {
        &self.shape.node.requests
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.shape.namespace
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.shape.labels
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.shape.priority
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name)
    }

    /// Its UID; empty before it was created.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    pub(crate) fn shared_uid(&self) -> &Arc<str> {
        &self.uid
    }

    /// The node that it is bound to.
    pub fn node_name(&self) -> Option<&str> {
        self.node_name.as_deref()
    }

    /// The node where room is being made for it.
    pub fn nominated_node(&self) -> Option<&str> {
        self.nominated_node.as_deref()
    }

    /// The same, nominated to run on a node, or on none.
    #[must_use]
    pub fn with_nominated_node(mut self, node: Option<&str>) -> Self {
        self.nominated_node = node.map(Into::into);
        self
    }

    /// When its node agent first saw it.
    pub fn start_time(&self) -> Option<Timestamp> {
        self.start_time
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.is_terminating
    }

    /// Whether it has ended and takes nothing any more.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}
