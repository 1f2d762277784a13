//! [`StorageObjectInUseProtection`]: storage in use outlives its deletion.

use async_trait::async_trait;

use crate::admission::{AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step};

/// Gives new volumes and claims the finalizer that a controller removes once nobody uses them.
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
        matches!(
            (group, resource),
            ("", "persistentvolumes" | "persistentvolumeclaims")
        )
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let finalizer = if request.is("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if request.is("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else {
            return Ok(());
        };
        if let Some(object) = &mut request.object {
            let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
            if !finalizers.iter().any(|f| f == finalizer) {
                finalizers.push(finalizer.to_owned());
            }
        }
        Ok(())
    }
}
