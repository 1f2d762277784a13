//! [`DefaultTolerationSeconds`] and [`TaintNodesByCondition`]: taints of nodes that are not well.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use crate::admission::{AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const SECONDS: i64 = 300;

/// Lets every pod stay for five minutes on a node that is not ready or not reachable, unless the pod says
/// otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultTolerationSeconds;

#[async_trait]
impl AdmissionPlugin for DefaultTolerationSeconds {
    fn name(&self) -> &str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = request
            .object_as_mut::<Pod>()
            .and_then(|pod| pod.spec.as_mut())
        else {
            return Ok(());
        };
        for taint in [NOT_READY, UNREACHABLE] {
            let tolerations = spec.tolerations.get_or_insert_default();
            let empty_or = |field: &Option<String>, wanted: &str| {
                field.as_deref().is_none_or(|v| v.is_empty() || v == wanted)
            };
            let tolerated = tolerations
                .iter()
                .any(|t| empty_or(&t.key, taint) && empty_or(&t.effect, "NoExecute"));
            if !tolerated {
                tolerations.push(Toleration {
                    key: Some(taint.to_owned()),
                    operator: Some("Exists".to_owned()),
                    effect: Some("NoExecute".to_owned()),
                    toleration_seconds: Some(SECONDS),
                    ..Toleration::default()
                });
            }
        }
        Ok(())
    }
}

/// Gives every new node the taint `not-ready`, which goes once the node is.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaintNodesByCondition;

#[async_trait]
impl AdmissionPlugin for TaintNodesByCondition {
    fn name(&self) -> &str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "nodes"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "nodes") {
            return Ok(());
        }
        let Some(node) = request.object_as_mut::<Node>() else {
            return Ok(());
        };
        let taints = node
            .spec
            .get_or_insert_default()
            .taints
            .get_or_insert_default();
        if !taints
            .iter()
            .any(|t| t.key == NOT_READY && t.effect == "NoSchedule")
        {
            taints.push(Taint {
                key: NOT_READY.to_owned(),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            });
        }
        Ok(())
    }
}
