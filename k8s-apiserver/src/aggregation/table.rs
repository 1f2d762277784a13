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
        // What is said of the last check is no reason for another one.
        let mut matters = true;
        match event {
            RawEvent::Snapshot(objects) => {
                let before = std::mem::take(&mut *all);
                for json in &objects {
                    let _ = put(&mut all, &before, json);
                }
            }
            RawEvent::Applied(json) => {
                let before = all.clone();
                matters = put(&mut all, &before, &json);
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
        if matters {
            self.changed.notify_one();
        }
    }
}

fn decode(json: &Bytes) -> Option<APIService> {
    serde_json::from_slice(json)
        .inspect_err(|error| tracing::error!(%error, "stored APIService cannot be decoded"))
        .ok()
}

/// Puts one in its place. Whether more of it than its status is new.
fn put(
    all: &mut HashMap<String, Arc<Backend>>,
    before: &HashMap<String, Arc<Backend>>,
    json: &Bytes,
) -> bool {
    let Some(service) = decode(json) else {
        return false;
    };
    let name = service.metadata.name.clone().unwrap_or_default();
    let known = before.get(&name).map(Arc::as_ref);
    let backend = Backend::new(service, known);
    let differs = known.is_none_or(|known| backend.differs(known));
    all.insert(name, Arc::new(backend));
    differs
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_status_is_no_reason_to_check_again() {
        let table = Table::default();
        let wakes = |object: &Value| {
            table.apply(RawEvent::Applied(Bytes::from(object.to_string())));
            table.changed.notified().now_or_never().is_some()
        };
        let mut object = json!({"metadata": {"name": "v1.example.com", "resourceVersion": "1"},
            "spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                "service": {"namespace": "default", "name": "api", "port": 443}}});
        assert!(wakes(&object));
        let condition =
            json!({"type": "Available", "status": "False", "reason": "ServiceNotFound"});
        object["status"] = json!({"conditions": [condition]});
        object["metadata"]["resourceVersion"] = "2".into();
        assert!(!wakes(&object));
        let known = table.all();
        assert_eq!(known[0].stored.as_ref().unwrap().1, "ServiceNotFound");
        object["metadata"]["labels"] = json!({"touched": "yes"});
        assert!(wakes(&object));
        object["spec"]["service"]["name"] = "other".into();
        assert!(wakes(&object));
    }
}
