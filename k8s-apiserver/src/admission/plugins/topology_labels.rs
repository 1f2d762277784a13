//! [`PodTopologyLabels`]: pods know where their nodes are.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Binding, Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
    reader::{ObjectReader, ReadError},
};

const COPIED: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// Gives a pod that comes to a node the node's zone and region, as labels (KEP-4742).
#[derive(Debug)]
pub struct PodTopologyLabels(Arc<dyn ObjectReader>);

impl PodTopologyLabels {
    /// Looks nodes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        PodTopologyLabels(reader)
    }

    /// Labels something with where a node is. Of a node that is not known, nothing is.
    async fn label(&self, meta: &mut ObjectMeta, node: &str) -> Result<(), ReadError> {
        let node = self.0.get::<Node>("", node).await?;
        let mut labels = node
            .and_then(|node| node.metadata.labels)
            .unwrap_or_default();
        labels.retain(|key, _| COPIED.contains(&key.as_str()));
        if !labels.is_empty() {
            meta.labels.get_or_insert_with(BTreeMap::new).extend(labels);
        }
        Ok(())
    }
}

#[async_trait]
impl AdmissionPlugin for PodTopologyLabels {
    fn name(&self) -> &str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if request.subresource == "binding" {
            let Some(binding) = request.object_as_mut::<Binding>() else {
                return Ok(());
            };
            if binding.target.kind.as_deref() == Some("Node") {
                let node = binding.target.name.clone().unwrap_or_default();
                self.label(&mut binding.metadata, &node).await?;
            }
        } else if request.is("", "pods")
            && let Some(pod) = request.object_as_mut::<Pod>()
        {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            if let Some(node) = node.filter(|node| !node.is_empty()) {
                self.label(&mut pod.metadata, &node).await?;
            }
        }
        Ok(())
    }
}
