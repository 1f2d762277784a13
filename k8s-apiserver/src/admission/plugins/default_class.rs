//! [`DefaultStorageClass`] and [`DefaultIngressClass`]: the class of those that name none.

use std::{cmp::Reverse, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::{
    Metadata, Resource,
    api::{
        core::v1::PersistentVolumeClaim,
        networking::v1::{Ingress, IngressClass},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
    reader::{ObjectReader, ReadError},
};

/// The annotations that make a class the default one, in either spelling.
const STORAGE: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const INGRESS: &[&str] = &["ingressclass.kubernetes.io/is-default-class"];

/// The name of the default class: the newest of those that claim to be.
async fn default_class<K>(
    reader: &dyn ObjectReader,
    annotations: &[&str],
) -> Result<Option<String>, ReadError>
where
    K: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned,
{
    let classes = reader.list::<K>("").await?;
    let mut claiming: Vec<ObjectMeta> = classes
        .into_iter()
        .map(|class| class.metadata().clone())
        .filter(|meta| {
            let set = meta.annotations.as_ref();
            set.is_some_and(|set| {
                let mut values = annotations.iter().filter_map(|name| set.get(*name));
                values.any(|value| value == "true")
            })
        })
        .collect();
    claiming.sort_by_cached_key(|meta| {
        let made = meta.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(made), meta.name.clone())
    });
    Ok(claiming.into_iter().next().and_then(|meta| meta.name))
}

/// Gives new claims to storage that name no class the default one.
#[derive(Debug)]
pub struct DefaultStorageClass(Arc<dyn ObjectReader>);

impl DefaultStorageClass {
    /// Looks classes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        DefaultStorageClass(reader)
    }
}

#[async_trait]
impl AdmissionPlugin for DefaultStorageClass {
    fn name(&self) -> &str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "persistentvolumeclaims"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let Some(claim) = request.object_as_mut::<PersistentVolumeClaim>() else {
            return Ok(());
        };
        let annotations = claim.metadata.annotations.as_ref();
        let spec = claim.spec.get_or_insert_default();
        let chosen = spec.storage_class_name.is_some()
            || annotations
                .is_some_and(|all| all.contains_key("volume.beta.kubernetes.io/storage-class"));
        if !chosen {
            spec.storage_class_name = default_class::<StorageClass>(&*self.0, STORAGE).await?;
        }
        Ok(())
    }
}

/// Gives new Ingresses that name no class the default one.
#[derive(Debug)]
pub struct DefaultIngressClass(Arc<dyn ObjectReader>);

impl DefaultIngressClass {
    /// Looks classes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        DefaultIngressClass(reader)
    }
}

#[async_trait]
impl AdmissionPlugin for DefaultIngressClass {
    fn name(&self) -> &str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("networking.k8s.io", "ingresses"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let Some(ingress) = request.object_as_mut::<Ingress>() else {
            return Ok(());
        };
        let annotations = ingress.metadata.annotations.as_ref();
        let spec = ingress.spec.get_or_insert_default();
        let chosen = spec.ingress_class_name.is_some()
            || annotations.is_some_and(|all| all.contains_key("kubernetes.io/ingress.class"));
        if !chosen {
            spec.ingress_class_name = default_class::<IngressClass>(&*self.0, INGRESS).await?;
        }
        Ok(())
    }
}
