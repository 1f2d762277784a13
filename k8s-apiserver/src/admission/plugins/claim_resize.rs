//! [`PersistentVolumeClaimResize`]: only storage that can grow is asked to.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::quantity::Amount;
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass};

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
};

/// Refuses to enlarge claims that are not bound, or whose class doesn't allow it.
#[derive(Debug)]
pub struct PersistentVolumeClaimResize(Arc<dyn ObjectReader>);

impl PersistentVolumeClaimResize {
    /// Looks storage classes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        PersistentVolumeClaimResize(reader)
    }

    async fn can_grow(
        &self,
        new: &PersistentVolumeClaim,
        old: &PersistentVolumeClaim,
    ) -> Result<bool, AdmissionError> {
        let name = class(new);
        if name.is_empty() || name != class(old) {
            return Ok(false);
        }
        let class = self.0.get::<StorageClass>("", name).await?;
        Ok(class.and_then(|class| class.allow_volume_expansion) == Some(true))
    }
}

fn class(claim: &PersistentVolumeClaim) -> &str {
    let annotations = claim.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"))
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_ref())
        .map_or("", String::as_str)
}

fn size(claim: &PersistentVolumeClaim) -> Amount {
    let spec = claim.spec.as_ref();
    let requests = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|requests| requests.get("storage"))
        .and_then(|quantity| Amount::try_from(quantity).ok())
        .unwrap_or_default()
}

#[async_trait]
impl AdmissionPlugin for PersistentVolumeClaimResize {
    fn name(&self) -> &str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "persistentvolumeclaims"))
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let (Some(new), Some(old)) = (
            request.object_as::<PersistentVolumeClaim>(),
            request.old_as::<PersistentVolumeClaim>(),
        ) else {
            return Ok(());
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        let phase = old.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase != Some("Bound") {
            return Err(AdmissionError::forbidden(
                "Only bound persistent volume claims can be expanded",
            ));
        }
        if !self.can_grow(new, old).await? {
            return Err(AdmissionError::forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ));
        }
        Ok(())
    }
}
