//! [`NamespaceLifecycle`]: nothing is made where there is no namespace, or where one is going away.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use memchr::memmem::Finder;
use serde::Deserialize;

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
    reader::{ObjectReader, ReadError},
};

/// Namespaces that cannot be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// What is to be found in those that are on their way out. Made once: to make it takes longer than to look.
static TERMINATING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"Terminating\""));

/// Refuses to make objects in namespaces that don't exist or are terminating, and to delete the
/// namespaces that every cluster needs.
#[derive(Debug)]
pub struct NamespaceLifecycle(Arc<dyn ObjectReader>);

impl NamespaceLifecycle {
    /// Looks namespaces up there, at each write: a namespace that was deleted a moment ago is
    /// known to be.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        NamespaceLifecycle(reader)
    }
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
}

#[async_trait]
impl AdmissionPlugin for NamespaceLifecycle {
    fn name(&self) -> &str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        // What a user may do there may be asked of any namespace.
        if request.is("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let is_namespace =
            request.resource.group.is_empty() && request.resource.resource == "namespaces";
        if is_namespace {
            return if request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
                Err(AdmissionError::forbidden(
                    "this namespace may not be deleted",
                ))
            } else {
                Ok(())
            };
        }
        if request.namespace.is_empty()
            || request.operation == Operation::Delete
            // To say more about the namespace would tell more than the asker may know.
            || request.resource.resource == "localsubjectaccessreviews"
        {
            return Ok(());
        }
        let name = request.namespace;
        let Some(json) = self.0.get_raw("", "namespaces", "", name).await? else {
            return Err(AdmissionError::NotFound {
                group: String::new(),
                resource: "namespaces".to_owned(),
                name: name.to_owned(),
            });
        };
        // Most namespaces stay, and saying so needs no parsing.
        if TERMINATING.find(&json).is_none() {
            return Ok(());
        }
        let namespace: Namespace =
            serde_json::from_slice(&json).map_err(|source| ReadError::Decode {
                resource: "namespaces".to_owned(),
                namespace: String::new(),
                name: name.to_owned(),
                source,
            })?;
        if request.operation == Operation::Create && namespace.status.phase == "Terminating" {
            return Err(AdmissionError::Forbidden {
                message: format!(
                    "unable to create new content in namespace {name} because it is being terminated"
                ),
                causes: vec![StatusCause {
                    reason: Some("NamespaceTerminating".to_owned()),
                    message: Some(format!("namespace {name} is being terminated")),
                    field: Some("metadata.namespace".to_owned()),
                }],
            });
        }
        Ok(())
    }
}
