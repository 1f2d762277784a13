//! [`PodResizeValidator`]: a pod is not resized beyond what its node could ever give.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::{pods::resource_requests, quantity::Amount};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::StatusCause,
};

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
};

/// Refuses to resize pods in place beyond what their nodes have for pods, and on nodes that cannot do it. See KEP-1287.
#[derive(Debug)]
pub struct PodResizeValidator(Arc<dyn ObjectReader>);

impl PodResizeValidator {
    /// Looks nodes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        PodResizeValidator(reader)
    }
}

/// The node of a pod that is about to change.
pub(super) async fn node(reader: &dyn ObjectReader, name: &str) -> Result<Node, AdmissionError> {
    match reader.get::<Node>("", name).await {
        Ok(Some(node)) => Ok(node),
        Ok(None) => Err(AdmissionError::forbidden(format!(
            "node {name:?} not found"
        ))),
        Err(error) => Err(AdmissionError::forbidden(format!(
            "failed to get node {name:?}: {error}"
        ))),
    }
}

fn refusal(message: String, cause: &str) -> AdmissionError {
    AdmissionError::Forbidden {
        message,
        causes: vec![StatusCause {
            reason: Some(cause.to_owned()),
            ..StatusCause::default()
        }],
    }
}

/// The node's operating system, if it is one on which nothing can be resized. Old nodes do not tell.
fn other_system(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    let system = labels.get("kubernetes.io/os")?;
    (system != "linux").then_some(system)
}

/// A resource, and its amounts in the units in which they are told.
type Unit = (&'static str, fn(&Amount) -> i64);

const UNITS: [Unit; 2] = [("cpu", Amount::milli_value), ("memory", Amount::value)];

/// What the pod requests beyond all that the node has for pods, in upstream's words.
fn beyond(pod: &Pod, node: &Node) -> Vec<String> {
    let requests = resource_requests(pod);
    let status = node.status.as_ref();
    let has = status.and_then(|status| status.allocatable.as_ref());
    UNITS
        .into_iter()
        .filter_map(|(name, in_units)| {
            let requested = requests.get(name).copied().unwrap_or_default();
            let allocatable = has.and_then(|has| Amount::try_from(has.get(name)?).ok());
            let allocatable = allocatable.unwrap_or_default();
            (requested > allocatable).then(|| {
                format!(
                    "{name}, requested: {}, allocatable: {}",
                    in_units(&requested),
                    in_units(&allocatable)
                )
            })
        })
        .collect()
}

#[async_trait]
impl AdmissionPlugin for PodResizeValidator {
    fn name(&self) -> &str {
        "PodResizeValidator"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods"))
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if request.subresource != "resize" {
            return Ok(());
        }
        let (Some(pod), Some(old)) = (request.object_as::<Pod>(), request.old_as::<Pod>()) else {
            return Ok(());
        };
        let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        if pod.spec == old.spec {
            return Ok(());
        }
        let node = node(&*self.0, name).await?;
        if let Some(system) = other_system(&node) {
            return Err(refusal(
                format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}"),
                "UnsupportedPlatform",
            ));
        }
        let beyond = beyond(pod, &node);
        if beyond.is_empty() {
            return Ok(());
        }
        Err(refusal(
            format!(
                "node didn't have enough allocatable resources: {}",
                beyond.join("; ")
            ),
            "NodeCapacity",
        ))
    }
}
