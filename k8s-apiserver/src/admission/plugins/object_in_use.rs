//! [`StorageObjectInUseProtection`]: storage in use outlives its deletion.

use async_trait::async_trait;

use crate::admission::{AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step};

/// Gives new volumes, claims and classes of volume attributes the finalizer that a controller removes once nobody uses
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageObjectInUseProtection;

#[async_trait]
impl AdmissionPlugin for StorageObjectInUseProtection {
    fn name(&self) -> &str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        finalizer(group, resource).is_some()
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let Some(finalizer) = finalizer(request.resource.group, request.resource.resource) else {
            return Ok(());
        };
        if request.subresource.is_empty()
            && let Some(object) = &mut request.object
        {
            let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
            if !finalizers.iter().any(|f| f == finalizer) {
                finalizers.push(finalizer.to_owned());
            }
        }
        Ok(())
    }
}

/// The finalizer that new objects of a resource get.
fn finalizer(group: &str, resource: &str) -> Option<&'static str> {
    match (group, resource) {
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}
