//! The end of a definition: its objects go before it does.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use k8s_model::custom::{self, CLEANUP_FINALIZER, set_condition};

use super::update;
use crate::{
    Error, Result,
    http::options::{DeleteOptions, ListOptions},
    registry::{Internal, Registry, Row},
};

/// Why a definition is terminating while its objects are.
pub(super) const IN_PROGRESS: &str = "InstanceDeletionInProgress";

const TERMINATING: &str = "Terminating";

/// Deletes all objects of a definition, waits until they are gone, and lets the definition go.
pub(super) async fn run(registry: Weak<Registry>, name: String) {
    let Some(registry) = registry.upgrade() else {
        return;
    };
    if let Err(error) = clean_up(&registry, &name).await
        && error.code() != 404
    {
        tracing::warn!(definition = name, %error, "the objects of a custom resource definition cannot be deleted");
        let now = k8s_model::metadata::to_second(registry.now());
        let message = format!("could not delete instances: {error}");
        let _ = update(&registry, &name, |definition| {
            let why = ("InstanceDeletionFailed", message.as_str());
            set_condition(definition, TERMINATING, true, why, now.clone());
        })
        .await;
    }
}

async fn clean_up(registry: &Arc<Registry>, name: &str) -> Result<()> {
    let now = || k8s_model::metadata::to_second(registry.now());
    let definition = update(registry, name, |definition| {
        let why = (IN_PROGRESS, "CustomResource deletion is in progress");
        set_condition(definition, TERMINATING, true, why, now());
    })
    .await?;
    let why = if custom::is_established(&definition) {
        let spec = &definition.spec;
        if let Some(row) = registry.stored_row(&spec.group, &spec.names.plural)
            && row.custom().is_some()
        {
            delete_all(registry, &row).await?;
        }
        ("InstanceDeletionCompleted", "removed all instances")
    } else {
        ("NeverEstablished", "resource was never established")
    };
    update(registry, name, |definition| {
        set_condition(definition, TERMINATING, false, why, now());
        if let Some(finalizers) = &mut definition.metadata.finalizers {
            finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
        }
    })
    .await
    .map(drop)
}

/// Deletes all objects of a row, and waits for those that have finalizers of their own.
async fn delete_all(registry: &Registry, row: &Arc<Row>) -> Result<()> {
    let internal = Internal::new();
    let target = internal.target(row, "", "");
    let prefix = Bytes::copy_from_slice(row.prefix.as_bytes());
    loop {
        registry
            .delete_collection(&target, &ListOptions::default(), &DeleteOptions::default())
            .await?;
        let cache = registry.caches.get(&row.prefix).await?;
        let mut wake = cache.subscribe();
        registry
            .caches
            .wait_for(registry.store.revision().await.map_err(Error::from)?.0)
            .await?;
        loop {
            if cache.is_closed() {
                // Another one takes its place.
                break;
            }
            if cache.snapshot(&prefix).is_empty() {
                return Ok(());
            }
            if wake.changed().await.is_err() {
                break;
            }
        }
    }
}
