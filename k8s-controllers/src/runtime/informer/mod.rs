//! [`Informer`]: a local, indexed, always current copy of all objects of one kind.

mod cache;
mod factory;
mod source;

use std::{collections::BTreeSet, fmt, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{
    Resource,
    core::{Selector, SelectorExt},
    runtime::watcher::{self, Event},
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::{debug, warn};

use self::cache::{Cache, IndexFn};
use super::ObjectKey;

pub use factory::InformerFactory;
pub(crate) use source::{Backoff, WatchMode, watch_stream};

/// What happened to one object. The object itself is shared with the informer's store.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// It is there. The first list arrives as this, too.
    Added(&'a Arc<K>),
    /// It is different.
    Updated {
        /// As it was.
        old: &'a Arc<K>,
        /// As it is.
        new: &'a Arc<K>,
    },
    /// It is gone; this is the last state known.
    Deleted(&'a Arc<K>),
}

impl<'a, K> Change<'a, K> {
    /// The object as it is, or last was.
    pub fn object(&self) -> &'a Arc<K> {
        match self {
            Change::Added(object)
            | Change::Deleted(object)
            | Change::Updated { new: object, .. } => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(Change<'_, K>) + Send + Sync>;

/// A local, indexed, always current copy of all objects of one kind, fed by one watch.
///
/// Clones share one copy. Each watch event is decoded once, and readers get the decoded object
/// behind an [`Arc`]. `metadata.managedFields` is not kept.
///
/// Handlers run one after the other on the informer's task, each event after the store shows it.
/// They must be quick (queue a key) and must not add handlers to the same informer.
pub struct Informer<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    cache: RwLock<Cache<K>>,
    /// Held while an event is applied and told, so that a new handler misses nothing and sees
    /// nothing twice.
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer {
            inner: self.inner.clone(),
        }
    }
}

impl<K> fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer")
            .field("objects", &self.inner.cache.read().objects.len())
            .field("synced", &self.has_synced())
            .finish()
    }
}

impl<K> Default for Informer<K> {
    fn default() -> Self {
        let cache = Cache::default();
        Informer {
            inner: Arc::new(Inner {
                cache: RwLock::new(cache),
                handlers: Mutex::new(Vec::new()),
                synced: watch::Sender::new(false),
            }),
        }
    }
}

impl<K> Informer<K> {
    /// Whether the first list is complete.
    pub fn has_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Waits until the first list is complete. The future does not borrow the informer.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + use<K> {
        let mut synced = self.inner.synced.subscribe();
        async move {
            // An informer that is gone will never sync: whoever waits is being stopped.
            if synced.wait_for(|synced| *synced).await.is_err() {
                futures::future::pending::<()>().await;
            }
        }
    }

    /// The object with this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.inner.cache.read().objects.get(key).cloned()
    }

    /// The object with this namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(&ObjectKey::new(namespace, name))
    }

    /// All objects, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.inner.cache.read().objects.values().cloned().collect()
    }

    /// All objects of a namespace, ordered by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner
            .cache
            .read()
            .namespace(namespace)
            .cloned()
            .collect()
    }

    /// The objects with an owner reference to this UID, ordered by key.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.inner.cache.read().owned_by(uid)
    }

    /// The objects that an index of [`add_index`](Self::add_index) files under `value`, ordered by
    /// key. Empty if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.inner.cache.read().by_index(index, value)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.cache.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Resource> Informer<K> {
    /// All objects of a namespace whose labels match, ordered by name.
    pub fn list_matching(&self, namespace: &str, selector: &Selector) -> Vec<Arc<K>> {
        let empty = Default::default();
        self.inner
            .cache
            .read()
            .namespace(namespace)
            .filter(|object| selector.matches(object.meta().labels.as_ref().unwrap_or(&empty)))
            .cloned()
            .collect()
    }

    /// Files objects under the values that `values` gives for them. Adding an index of a name that
    /// is there does nothing, so that several users can each say that they need it.
    pub fn add_index(
        &self,
        name: &'static str,
        values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) {
        let values: IndexFn<K> = Box::new(values);
        self.inner.cache.write().add_index(name, values);
    }

    /// Calls `handler` for every change from now on, and at once for every object that is already
    /// there.
    pub fn add_handler(&self, handler: impl Fn(Change<'_, K>) + Send + Sync + 'static) {
        let mut handlers = self.inner.handlers.lock();
        for object in self.list() {
            handler(Change::Added(&object));
        }
        handlers.push(Box::new(handler));
    }

    /// Feeds the informer from a stream of watch events until that ends. Errors of the stream are
    /// logged, and the next poll is held back for an exponential time: 50 ms up to 30 s.
    ///
    /// [`InformerFactory`] calls this; call it yourself for a kind or a selection of your own, or
    /// in tests with a stream of your own.
    pub async fn run(&self, events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send) {
        let mut events = std::pin::pin!(events);
        let mut backoff = Backoff::default();
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(ObjectKey::of(object.meta()));
                    self.apply(object);
                }
                Ok(Event::InitDone) => {
                    self.retain(&std::mem::take(&mut listed));
                    self.inner.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.apply(object),
                Ok(Event::Delete(object)) => self.delete(object),
                Err(error) => {
                    let delay = backoff.next_delay();
                    if self.has_synced() {
                        debug!(error = %error, ?delay, "watch interrupted");
                    } else {
                        warn!(error = %error, ?delay, "watch cannot start yet");
                    }
                    tokio::time::sleep(delay).await;
                    continue;
                }
            }
            backoff.reset();
        }
    }

    fn apply(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let handlers = self.inner.handlers.lock();
        let new = Arc::new(object);
        let old = {
            let mut cache = self.inner.cache.write();
            let key = ObjectKey::of(new.meta());
            let known = cache.objects.get(&key);
            if known
                .is_some_and(|known| known.meta().resource_version == new.meta().resource_version)
            {
                return;
            }
            cache.insert(key, new.clone())
        };
        match old {
            // Deleted and created again while the watch was interrupted: another object.
            Some(old) if old.meta().uid != new.meta().uid => {
                handlers
                    .iter()
                    .for_each(|handler| handler(Change::Deleted(&old)));
                handlers
                    .iter()
                    .for_each(|handler| handler(Change::Added(&new)));
            }
            Some(old) => handlers.iter().for_each(|handler| {
                handler(Change::Updated {
                    old: &old,
                    new: &new,
                })
            }),
            None => handlers
                .iter()
                .for_each(|handler| handler(Change::Added(&new))),
        }
    }

    fn delete(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let handlers = self.inner.handlers.lock();
        let key = ObjectKey::of(object.meta());
        if self.inner.cache.write().remove(&key).is_some() {
            let last = Arc::new(object);
            handlers
                .iter()
                .for_each(|handler| handler(Change::Deleted(&last)));
        }
    }

    /// After a list: drops what it did not show.
    fn retain(&self, listed: &BTreeSet<ObjectKey>) {
        let handlers = self.inner.handlers.lock();
        let gone = self.inner.cache.write().retain(listed);
        for object in gone {
            handlers
                .iter()
                .for_each(|handler| handler(Change::Deleted(&object)));
        }
    }
}

#[cfg(test)]
mod tests;
