//! What the server's own parts read: [`ObjectReader`] on the registry, and a handle to it that is
//! there before the registry is.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::HashMap;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use k8s_store::{List, Revision};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Registry, key, value::Stored};
use crate::{
    admission::reader::{ObjectReader, RawEvent, ReadError},
    cache::{Cache, EventType, Place},
};

/// Reads from a registry that may not be there yet.
///
/// It does not keep the registry alive: the registry keeps the plugins that keep this.
#[derive(Debug)]
pub(crate) struct LateReader {
    registry: watch::Sender<Weak<Registry>>,
    recent: Recent,
}

/// The JSON of what was read lately: plugins read the same few small objects, such as the namespace and the priority
/// classes, for every request.
#[derive(Debug, Default)]
struct Recent(Mutex<HashMap<Bytes, (Revision, Bytes)>>);

impl Recent {
    /// How many objects are remembered, and how long their JSON may be.
    const MOST: usize = 1024;
    const LONGEST: usize = 2 << 10;

    fn json(&self, entry: &k8s_store::Entry) -> Result<Bytes, ReadError> {
        if let Some((modified, json)) = self.0.lock().get(&entry.key)
            && *modified == entry.modified
        {
            return Ok(json.clone());
        }
        let stored = Stored::of(entry).map_err(unavailable)?;
        let json = stored.with_revision(entry.modified.0);
        if json.len() <= Self::LONGEST {
            let mut recent = self.0.lock();
            if recent.len() >= Self::MOST {
                recent.clear();
            }
            recent.insert(entry.key.clone(), (entry.modified, json.clone()));
        }
        Ok(json)
    }
}

impl Default for LateReader {
    fn default() -> Self {
        LateReader {
            registry: watch::Sender::new(Weak::new()),
            recent: Recent::default(),
        }
    }
}

impl LateReader {
    /// Says what to read from.
    pub(crate) fn bind(&self, registry: &Arc<Registry>) {
        self.registry.send_replace(Arc::downgrade(registry));
    }

    fn registry(&self) -> Result<Arc<Registry>, ReadError> {
        let registry = self.registry.borrow().upgrade();
        registry.ok_or_else(|| ReadError::Unavailable("the server is not running".into()))
    }
}

fn unavailable(error: impl std::fmt::Display) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

impl Registry {
    fn readable(&self, group: &str, resource: &str) -> Result<Arc<super::Row>, ReadError> {
        self.stored_row(group, resource).ok_or_else(|| {
            let resource = k8s_model::status::GroupResource::new(group, resource);
            ReadError::NotServed(resource.to_string())
        })
    }

    async fn follow_raw(self: &Arc<Self>, group: &str, resource: &str) -> Option<Follower> {
        let row = self.stored_row(group, resource)?;
        let cache = self.caches.get(&row.prefix).await.ok()?;
        Some(Follower {
            registry: self.clone(),
            prefix: row.prefix.clone(),
            cache,
            place: None,
            queue: Vec::new(),
        })
    }
}

struct Follower {
    registry: Arc<Registry>,
    prefix: String,
    cache: Arc<Cache>,
    place: Option<Place>,
    /// In reverse order.
    queue: Vec<RawEvent>,
}

impl Follower {
    async fn next(&mut self) -> Option<RawEvent> {
        loop {
            if let Some(event) = self.queue.pop() {
                return Some(event);
            }
            let Some(place) = &mut self.place else {
                let prefix = Bytes::from(self.prefix.clone());
                let (entries, place) = self.cache.follow_at_once(&prefix);
                self.place = Some(place);
                let objects = entries
                    .iter()
                    .map(|e| e.stored.with_revision(e.revision))
                    .collect();
                return Some(RawEvent::Snapshot(objects));
            };
            let mut events = Vec::new();
            if place.read(usize::MAX, &mut events).is_err() {
                self.place = None;
                continue;
            }
            if events.is_empty() {
                if self.cache.is_closed() {
                    self.cache = self.registry.caches.get(&self.prefix).await.ok()?;
                    self.place = None;
                } else if place.changed().await.is_err() {
                    return None;
                }
                continue;
            }
            self.queue = events
                .iter()
                .rev()
                .filter_map(
                    |event| match (&event.current, event.object(EventType::Deleted)) {
                        (Some(current), _) => Some(RawEvent::Applied(
                            current.stored.with_revision(event.revision),
                        )),
                        (None, Some(last)) => {
                            Some(RawEvent::Deleted(last.stored.with_revision(event.revision)))
                        }
                        (None, None) => None,
                    },
                )
                .collect();
        }
    }
}

#[async_trait]
impl ObjectReader for LateReader {
    async fn get_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ReadError> {
        let registry = self.registry()?;
        let row = registry.readable(group, resource)?;
        let key = key::object_key(&row.prefix, &row.resource, namespace, name);
        let entry = registry.store.get(&key, None).await.map_err(unavailable)?;
        entry.map(|entry| self.recent.json(&entry)).transpose()
    }

    async fn recent_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ReadError> {
        let registry = self.registry()?;
        let row = registry.readable(group, resource)?;
        let key = key::object_key(&row.prefix, &row.resource, namespace, name);
        let recent = registry.recent(&row, &key);
        if recent.is_none() {
            registry.caches.begin(&row.prefix);
        }
        Ok(recent.map(|entry| entry.stored.with_revision(entry.revision)))
    }

    async fn list_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
    ) -> Result<Vec<Bytes>, ReadError> {
        let registry = self.registry()?;
        let row = registry.readable(group, resource)?;
        let prefix = key::namespace_prefix(&row.prefix, &row.resource, namespace);
        let page = registry
            .store
            .list(List {
                prefix,
                ..List::default()
            })
            .await
            .map_err(unavailable)?;
        let entries = page.entries.iter();
        entries.map(|entry| self.recent.json(entry)).collect()
    }

    fn watch_raw(&self, group: &str, resource: &str) -> BoxStream<'static, RawEvent> {
        let mut bound = self.registry.subscribe();
        let (group, resource) = (group.to_owned(), resource.to_owned());
        stream::once(async move {
            let registry = match bound.wait_for(|r| r.strong_count() > 0).await {
                Ok(registry) => registry.upgrade(),
                Err(_) => None,
            };
            let follower = match registry {
                Some(registry) => registry.follow_raw(&group, &resource).await,
                None => None,
            };
            // Of what is not served there is nothing, and never will be.
            let nothing = follower.is_none().then_some(RawEvent::Snapshot(Vec::new()));
            let events = stream::unfold(follower, |follower| async move {
                let mut follower = follower?;
                let event = follower.next().await?;
                Some((event, Some(follower)))
            });
            stream::iter(nothing).chain(events)
        })
        .flatten()
        .boxed()
    }
}
