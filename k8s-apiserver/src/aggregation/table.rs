//! [`Table`]: the APIServices as they are now.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backend::Backend;
use crate::admission::reader::RawEvent;

/// The APIServices as they are now. Reading costs nothing to speak of; a change makes a new list.
#[derive(Debug, Default)]
pub(super) struct Table {
    all: Mutex<HashMap<String, Arc<Backend>>>,
    /// Those that other servers serve, the most important first.
    proxied: ArcSwap<Vec<Arc<Backend>>>,
    /// Wakes whoever checks.
    pub(super) changed: Notify,
}

impl Table {
    pub(super) fn proxied(&self) -> arc_swap::Guard<Arc<Vec<Arc<Backend>>>> {
        self.proxied.load()
    }

    pub(super) fn all(&self) -> Vec<Arc<Backend>> {
        self.all.lock().values().cloned().collect()
    }

    /// Whether any of them is behind that Service.
    pub(super) fn uses(&self, namespace: &str, service: &str) -> bool {
        let all = self.proxied.load();
        all.iter().any(|b| b.is_behind(namespace, service))
    }

    pub(super) fn apply(&self, event: RawEvent) {
        let mut all = self.all.lock();
        match event {
            RawEvent::Snapshot(objects) => {
                let before = std::mem::take(&mut *all);
                for json in &objects {
                    put(&mut all, &before, json);
                }
            }
            RawEvent::Applied(json) => {
                let before = all.clone();
                put(&mut all, &before, &json);
            }
            RawEvent::Deleted(json) => {
                if let Some(service) = decode(&json) {
                    all.remove(service.metadata.name.as_deref().unwrap_or_default());
                }
            }
        }
        let mut proxied: Vec<Arc<Backend>> =
            all.values().filter(|b| !b.is_local()).cloned().collect();
        proxied.sort_by(|a, b| a.order(b));
        self.proxied.store(Arc::new(proxied));
        self.changed.notify_one();
    }
}

fn decode(json: &Bytes) -> Option<APIService> {
    serde_json::from_slice(json)
        .inspect_err(|error| tracing::error!(%error, "stored APIService cannot be decoded"))
        .ok()
}

fn put(
    all: &mut HashMap<String, Arc<Backend>>,
    before: &HashMap<String, Arc<Backend>>,
    json: &Bytes,
) {
    if let Some(service) = decode(json) {
        let name = service.metadata.name.clone().unwrap_or_default();
        let backend = Backend::new(service, before.get(&name).map(Arc::as_ref));
        all.insert(name, Arc::new(backend));
    }
}
