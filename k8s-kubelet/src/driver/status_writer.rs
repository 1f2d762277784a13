//! Writes one pod's status to the API: always the newest, one write at a time, only what changed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::{context::Context, pod::PodView};

#[derive(Clone, Debug, Default)]
struct Wanted {
    version: u64,
    status: Value,
}

/// The worker's side.
#[derive(Debug)]
pub(crate) struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    seen: watch::Sender<Option<(u64, Value)>>,
    _task: AbortOnDropHandle<()>,
}

impl StatusWriter {
    pub(crate) fn new(cx: Arc<Context>, pod: &PodView) -> Self {
        let (wanted, wanted_rx) = watch::channel(Wanted::default());
        let (written_tx, written) = watch::channel(0);
        let (seen, seen_rx) = watch::channel(None);
        let base = serde_json::to_value(pod.status()).unwrap_or_default();
        let writer = Writer {
            api: Api::namespaced(cx.client.clone(), pod.namespace()),
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            base,
            resource_version: version(&pod.object),
            wanted: wanted_rx,
            seen: seen_rx,
            written: written_tx,
        };
        Self {
            wanted,
            written,
            seen,
            _task: AbortOnDropHandle::new(tokio::spawn(writer.run())),
        }
    }

    /// Wants the API to have this status.
    pub(crate) fn write(&self, status: &PodStatus) {
        let Ok(status) = serde_json::to_value(status) else {
            return;
        };
        self.wanted.send_if_modified(|w| {
            if w.status == status {
                return false;
            }
            w.version += 1;
            w.status = status;
            true
        });
    }

    /// The pod as a watch shows it: where somebody else changed the status, it is written again.
    pub(crate) fn observe(&self, pod: &PodView) {
        let status = serde_json::to_value(pod.status()).unwrap_or_default();
        self.seen.send_replace(Some((version(&pod.object), status)));
    }

    /// Resolves when the API has (or never will have) the status wanted last.
    pub(crate) fn flushed(&self) -> impl Future<Output = ()> + use<> {
        let version = self.wanted.borrow().version;
        let mut written = self.written.clone();
        async move {
            let _ = written.wait_for(|w| *w >= version).await;
        }
    }
}

/// Resource versions of one server grow; anything else counts as old.
fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

struct Writer {
    api: Api<Pod>,
    name: String,
    uid: String,
    /// What the API has, as far as is known.
    base: Value,
    resource_version: u64,
    wanted: watch::Receiver<Wanted>,
    seen: watch::Receiver<Option<(u64, Value)>>,
    written: watch::Sender<u64>,
}

impl Writer {
    async fn run(mut self) {
        let mut delay = Duration::from_millis(50);
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if wanted.version > 0 {
                match self.write(&wanted.status).await {
                    Ok(()) => {
                        delay = Duration::from_millis(50);
                        self.written.send_replace(wanted.version);
                    }
                    Err(Lost::Pod) => {
                        self.written.send_replace(u64::MAX);
                        return;
                    }
                    Err(Lost::Write) => {
                        tokio::time::sleep(delay).await;
                        delay = (delay * 2).min(Duration::from_secs(5));
                        continue;
                    }
                }
            }
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                changed = self.seen.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if let Some((version, status)) = self.seen.borrow_and_update().clone()
                        && version > self.resource_version
                    {
                        self.base = status;
                        self.resource_version = version;
                    }
                }
            }
        }
    }

    async fn write(&mut self, wanted: &Value) -> Result<(), Lost> {
        let Some(status) = difference(&self.base, wanted) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"uid": self.uid}, "status": status});
        match self
            .api
            .patch_status(
                &self.name,
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
        {
            Ok(pod) => {
                self.resource_version = self.resource_version.max(version(&pod));
                self.base = wanted.clone();
                Ok(())
            }
            // It has gone, or another pod of the same name has come; or nothing is served for a while.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                debug!(%status, "status not written");
                match self.api.get_opt(&self.name).await {
                    Ok(Some(pod)) if pod.metadata.uid.as_deref() == Some(&self.uid) => {
                        Err(Lost::Write)
                    }
                    Ok(_) => Err(Lost::Pod),
                    Err(_) => Err(Lost::Write),
                }
            }
            Err(error) => {
                warn!(%error, pod = %self.name, "status not written");
                Err(Lost::Write)
            }
        }
    }
}

enum Lost {
    /// The pod is not there any more.
    Pod,
    /// This write failed; the next may not.
    Write,
}

/// The strategic merge patch that makes `wanted` out of `base`; `None` if nothing differs.
/// Conditions are merged by type, so that those of others stay untouched.
fn difference(base: &Value, wanted: &Value) -> Option<Value> {
    let empty = Map::new();
    let (base, wanted) = (base.as_object().unwrap_or(&empty), wanted.as_object()?);
    let mut out = Map::new();
    for (key, value) in wanted {
        if base.get(key) == Some(value) {
            continue;
        }
        let merged = match key.as_str() {
            "conditions" => keyed(base.get(key), value, "type", false),
            "podIPs" | "hostIPs" => keyed(base.get(key), value, "ip", true),
            _ => Some(value.clone()),
        };
        if let Some(merged) = merged {
            out.insert(key.clone(), merged);
        }
    }
    for key in base.keys().filter(|k| !wanted.contains_key(*k)) {
        // A condition list never goes away as a whole, and what newer servers know is theirs.
        if matches!(
            key.as_str(),
            "reason"
                | "message"
                | "podIP"
                | "podIPs"
                | "initContainerStatuses"
                | "containerStatuses"
        ) {
            out.insert(key.clone(), Value::Null);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn keyed(base: Option<&Value>, wanted: &Value, key: &str, delete: bool) -> Option<Value> {
    let none = Vec::new();
    let base = base.and_then(Value::as_array).unwrap_or(&none);
    let wanted = wanted.as_array()?;
    let mut out: Vec<Value> = wanted
        .iter()
        .filter(|v| !base.contains(v))
        .cloned()
        .collect();
    for item in &mut out {
        // What the old entry had and the new one has not must be taken out by name.
        let old = base
            .iter()
            .find(|b| b.get(key) == item.get(key))
            .and_then(Value::as_object);
        let (Some(old), Some(item)) = (old, item.as_object_mut()) else {
            continue;
        };
        for field in old.keys() {
            if !item.contains_key(field) {
                item.insert(field.clone(), Value::Null);
            }
        }
    }
    if delete {
        for old in base {
            if let Some(value) = old.get(key)
                && !wanted.iter().any(|w| w.get(key) == Some(value))
            {
                out.push(json!({"$patch": "delete", key: value}));
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let base = json!({
            "phase": "Pending", "reason": "x", "qosClass": "BestEffort", "podIPs": [{"ip": "1"}],
            "conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False", "reason": "r"}],
        });
        let wanted = json!({
            "phase": "Running", "qosClass": "BestEffort", "podIPs": [{"ip": "2"}],
            "conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}],
        });
        assert_eq!(
            difference(&base, &wanted).unwrap(),
            json!({
                "phase": "Running", "reason": null,
                "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}],
                "conditions": [{"type": "B", "status": "True", "reason": null}],
            })
        );
        assert_eq!(difference(&wanted, &wanted), None);
    }
}
