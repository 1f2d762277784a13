//! [`NodeDeclaredFeatureValidator`]: a pod is changed only in ways that its node says it can follow.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::quantity::Amount;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, ResourceRequirements};

use super::pod_resize::node;
use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
};

/// Refuses changes of pods that need what their nodes do not declare among their features. See KEP-5328.
#[derive(Debug)]
pub struct NodeDeclaredFeatureValidator(Arc<dyn ObjectReader>);

impl NodeDeclaredFeatureValidator {
    /// Looks nodes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        NodeDeclaredFeatureValidator(reader)
    }
}

/// A feature, and whether a change of a pod needs it.
type Feature = (&'static str, fn(&PodSpec, &PodSpec) -> bool);

/// In the order of their names.
const FEATURES: [Feature; 2] = [
    (
        "InPlacePodLevelResourcesVerticalScaling",
        resizes_as_a_whole,
    ),
    (
        "InPlacePodVerticalScalingInitContainers",
        resizes_init_containers,
    ),
];

fn resizes_as_a_whole(old: &PodSpec, new: &PodSpec) -> bool {
    old.resources.is_some() != new.resources.is_some()
        || !is_same(old.resources.as_ref(), new.resources.as_ref())
}

/// Those that run beside the others are resized like them.
fn resizes_init_containers(old: &PodSpec, new: &PodSpec) -> bool {
    let ends = |container: &Container| container.restart_policy.as_deref() != Some("Always");
    let (old, new) = (old.init_containers.iter(), new.init_containers.iter());
    old.flatten()
        .zip(new.flatten())
        .filter(|(old, _)| ends(old))
        .any(|(old, new)| !is_same(old.resources.as_ref(), new.resources.as_ref()))
}

/// Whether the same is asked for, however it is written.
fn is_same(old: Option<&ResourceRequirements>, new: Option<&ResourceRequirements>) -> bool {
    let lists = |resources: Option<&ResourceRequirements>| {
        let lists = resources.map(|resources| [&resources.requests, &resources.limits]);
        lists.map(|lists| {
            lists.map(|list| {
                let amounts = list.iter().flatten();
                let amounts =
                    amounts.map(|(name, amount)| (name.clone(), Amount::try_from(amount)));
                amounts.collect::<Vec<_>>()
            })
        })
    };
    let claims = |resources: Option<&ResourceRequirements>| {
        let claims = resources.and_then(|resources| resources.claims.clone());
        claims.unwrap_or_default()
    };
    lists(old).unwrap_or_default() == lists(new).unwrap_or_default() && claims(old) == claims(new)
}

k8s_openapi::k8s_if_ge_1_35! {
    fn declares(node: &Node, feature: &str) -> bool {
        let status = node.status.as_ref();
        let declared = status.and_then(|status| status.declared_features.as_ref());
        declared.is_some_and(|declared| declared.iter().any(|name| name == feature))
    }
}

k8s_openapi::k8s_if_le_1_34! {
    /// Nodes declare nothing yet.
    fn declares(_node: &Node, _feature: &str) -> bool {
        true
    }
}

#[async_trait]
impl AdmissionPlugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &str {
        "NodeDeclaredFeatureValidator"
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
        if !matches!(request.subresource, "" | "resize") {
            return Ok(());
        }
        let (Some(pod), Some(old)) = (request.object_as::<Pod>(), request.old_as::<Pod>()) else {
            return Ok(());
        };
        let (Some(new), Some(old)) = (&pod.spec, &old.spec) else {
            return Ok(());
        };
        let name = new.node_name.as_deref().unwrap_or_default();
        let mut needed: Vec<&str> = FEATURES
            .iter()
            .filter(|(_, needs)| !name.is_empty() && needs(old, new))
            .map(|(feature, _)| *feature)
            .collect();
        if needed.is_empty() {
            return Ok(());
        }
        let node = node(&*self.0, name).await?;
        needed.retain(|feature| !declares(&node, feature));
        if needed.is_empty() {
            return Ok(());
        }
        Err(AdmissionError::forbidden(format!(
            "pod update requires features {} which are not available on node {name:?}",
            needed.join(", ")
        )))
    }
}
