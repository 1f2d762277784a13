//! An [`ObjectReader`] over a map, for tests.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::reader::{ObjectReader, RawEvent, ReadError};

/// Group, resource, namespace, name.
type Key = (String, String, String, String);
type Watcher = (String, String, mpsc::UnboundedSender<RawEvent>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, Bytes>,
    watchers: Vec<Watcher>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryReader(Arc<Mutex<State>>);

impl MemoryReader {
    fn key(group: &str, resource: &str, object: &Value) -> Key {
        let field = |name: &str| {
            object["metadata"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (
            group.to_owned(),
            resource.to_owned(),
            field("namespace"),
            field("name"),
        )
    }

    fn tell(state: &State, key: &Key, event: &RawEvent) {
        for (group, resource, sender) in &state.watchers {
            if *group == key.0 && *resource == key.1 {
                let _ = sender.send(event.clone());
            }
        }
    }

    pub(crate) fn put(&self, group: &str, resource: &str, object: Value) {
        let key = Self::key(group, resource, &object);
        let json = Bytes::from(object.to_string());
        let mut state = self.0.lock();
        state.objects.insert(key.clone(), json.clone());
        Self::tell(&state, &key, &RawEvent::Applied(json));
    }

    pub(crate) fn delete(&self, group: &str, resource: &str, namespace: &str, name: &str) {
        let key = [group, resource, namespace, name].map(str::to_owned).into();
        let mut state = self.0.lock();
        if let Some(json) = state.objects.remove(&key) {
            Self::tell(&state, &key, &RawEvent::Deleted(json));
        }
    }
}

#[async_trait]
impl ObjectReader for MemoryReader {
    async fn get_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ReadError> {
        let key = [group, resource, namespace, name].map(str::to_owned).into();
        Ok(self.0.lock().objects.get(&key).cloned())
    }

    async fn list_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
    ) -> Result<Vec<Bytes>, ReadError> {
        let state = self.0.lock();
        Ok(state
            .objects
            .iter()
            .filter(|((g, r, n, _), _)| {
                g == group && r == resource && (namespace.is_empty() || n == namespace)
            })
            .map(|(_, json)| json.clone())
            .collect())
    }

    fn watch_raw(&self, group: &str, resource: &str) -> BoxStream<'static, RawEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.lock();
        let snapshot = state
            .objects
            .iter()
            .filter(|((g, r, _, _), _)| g == group && r == resource)
            .map(|(_, json)| json.clone())
            .collect();
        state
            .watchers
            .push((group.to_owned(), resource.to_owned(), sender));
        let changes = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|event| (event, receiver))
        });
        stream::iter([RawEvent::Snapshot(snapshot)])
            .chain(changes)
            .boxed()
    }
}
