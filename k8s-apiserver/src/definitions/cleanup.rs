//! The end of a definition: its objects go before it does.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use k8s_model::custom::{self, CLEANUP_FINALIZER, set_condition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{GROUP, RESOURCE, update};
use crate::{
    Error, Result,
    http::options::{DeleteOptions, ListOptions},
    registry::{Internal, Registry, Row},
};

/// How soon what failed is tried again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

const TERMINATING: &str = "Terminating";

/// Whether a definition is to go when its objects are gone.
pub(super) fn is_going(definition: &CustomResourceDefinition) -> bool {
    let mut finalizers = definition.metadata.finalizers.iter().flatten();
    definition.metadata.deletion_timestamp.is_some()
        && finalizers.any(|finalizer| finalizer == CLEANUP_FINALIZER)
}

/// Deletes all objects of the definition with that UID, waits until they are gone, and lets the definition go. Tries until
/// that is done, here or elsewhere.
pub(super) async fn run(registry: Weak<Registry>, name: String, uid: String) {
    let mut pause = PAUSES.0;
    while let Some(registry) = registry.upgrade() {
        let going = Going {
            registry,
            name: &name,
            uid: &uid,
        };
        let Err(error) = going.clean_up().await else {
            return;
        };
        tracing::warn!(definition = name, %error, "the objects of a custom resource definition cannot be deleted");
        let message = format!("could not delete instances: {error}");
        // If that cannot be written either, the next try says so anew.
        let _ = going
            .say(true, ("InstanceDeletionFailed", &message), |_| {})
            .await;
        drop(going);
        tokio::time::sleep(pause).await;
        pause = PAUSES.1.min(pause * 2);
    }
}

/// A definition on its way out.
struct Going<'a> {
    registry: Arc<Registry>,
    name: &'a str,
    uid: &'a str,
}

impl Going<'_> {
    fn is(&self, definition: &CustomResourceDefinition) -> bool {
        definition.metadata.uid.as_deref() == Some(self.uid) && is_going(definition)
    }

    /// Whether it is still there, as the store has it: another one of the name has objects that are to stay.
    async fn is_there(&self) -> Result<bool> {
        let Some(row) = self.registry.stored_row(GROUP, RESOURCE) else {
            return Ok(false);
        };
        let internal = Internal::new();
        let target = internal.target(&row, "", self.name);
        let Some(stored) = self.registry.read(&target).await? else {
            return Ok(false);
        };
        let object = row.decode_entry(&stored)?;
        Ok(object
            .downcast_ref()
            .is_some_and(|definition| self.is(definition)))
    }

    /// Says how far it is, and changes more of it.
    async fn say(
        &self,
        terminating: bool,
        why: (&str, &str),
        more: impl Fn(&mut CustomResourceDefinition) + Sync,
    ) -> Result<CustomResourceDefinition> {
        let now = k8s_model::metadata::to_second(self.registry.now());
        update(&self.registry, self.name, |definition| {
            if self.is(definition) {
                set_condition(definition, TERMINATING, terminating, why, now.clone());
                more(definition);
            }
        })
        .await
    }

    async fn clean_up(&self) -> Result<()> {
        if !self.is_there().await? {
            return Ok(());
        }
        let why = (
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        );
        let definition = match self.say(true, why, |_| {}).await {
            Ok(definition) if self.is(&definition) => definition,
            Ok(_) => return Ok(()),
            Err(error) => return self.unless_gone(error).await,
        };
        let why = if custom::is_established(&definition) {
            if let Some(row) = self.row(&definition)? {
                self.delete_all(&row).await?;
            }
            ("InstanceDeletionCompleted", "removed all instances")
        } else {
            ("NeverEstablished", "resource was never established")
        };
        let done = self.say(false, why, |definition| {
            if let Some(finalizers) = &mut definition.metadata.finalizers {
                finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
            }
        });
        match done.await {
            Ok(_) => Ok(()),
            Err(error) => self.unless_gone(error).await,
        }
    }

    async fn unless_gone(&self, error: Error) -> Result<()> {
        match self.is_there().await? {
            true => Err(error),
            false => Ok(()),
        }
    }

    /// The row of its objects as they are stored, though that version is not served. `None` if the name is that of a
    /// resource which the server has by itself.
    fn row(&self, definition: &CustomResourceDefinition) -> Result<Option<Arc<Row>>> {
        let (group, plural) = (&definition.spec.group, &definition.spec.names.plural);
        let served = self.registry.served.load_full();
        match served.stored(group, plural) {
            Some(row) if row.custom().is_none() => return Ok(None),
            // Another version would have every object converted, perhaps by a webhook that is gone.
            Some(row) if row.is_storage_version() => return Ok(Some(row.clone())),
            _ => {}
        }
        let mut readable = definition.clone();
        for version in &mut readable.spec.versions {
            version.served |= version.storage;
        }
        let rows = custom::rows(&readable).into_iter().map(Arc::new).collect();
        match served.with(rows).stored(group, plural) {
            Some(row) => Ok(Some(row.clone())),
            None => Err(Error::internal("its objects cannot be read")),
        }
    }

    /// Deletes all objects of a row, and waits for those that have finalizers of their own.
    async fn delete_all(&self, row: &Arc<Row>) -> Result<()> {
        let registry = &self.registry;
        let internal = Internal::new();
        let target = internal.target(row, "", "");
        let prefix = Bytes::copy_from_slice(row.prefix.as_bytes());
        while self.is_there().await? {
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
                if cache.snapshot(&prefix).is_ok_and(|left| left.is_empty()) {
                    return Ok(());
                }
                if wake.changed().await.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}
