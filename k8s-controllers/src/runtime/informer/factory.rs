//! [`InformerFactory`]: one informer per kind for all who ask.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt::{self, Debug},
    sync::Arc,
};

use futures::future::BoxFuture;
use kube::{Api, Client, Resource, runtime::watcher};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{Informer, WatchMode, watch_stream};

/// One [`Informer`] per kind for all who ask: many controllers, one watch each kind.
///
/// Clones share the informers. Nothing runs before [`start`](Self::start); informers that are
/// first asked for later need another `start`. When the last clone is dropped, all stop.
#[derive(Clone)]
pub struct InformerFactory {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    mode: Arc<WatchMode>,
    informers: Mutex<HashMap<Slot, Box<dyn Any + Send + Sync>>>,
    waiting: Mutex<Vec<BoxFuture<'static, ()>>>,
    unsynced: Mutex<Vec<BoxFuture<'static, ()>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// A kind, and the label and field selector of its watch.
type Slot = (TypeId, Option<String>, Option<String>);

impl Debug for InformerFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InformerFactory")
            .field("informers", &self.inner.informers.lock().len())
            .finish()
    }
}

impl InformerFactory {
    /// A factory whose watches are made with `client`, whose identity must be allowed to list and
    /// watch every kind that is asked for.
    pub fn new(client: Client) -> Self {
        let stop = CancellationToken::new();
        InformerFactory {
            inner: Arc::new(Inner {
                client,
                mode: Arc::default(),
                informers: Mutex::default(),
                waiting: Mutex::default(),
                unsynced: Mutex::default(),
                tasks: TaskTracker::new(),
                _stop_on_drop: stop.clone().drop_guard(),
                stop,
            }),
        }
    }

    /// The informer for all objects of a kind in the cluster.
    pub fn informer<K>(&self) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.informer_with(watcher::Config::default())
    }

    /// The informer for those objects of a kind that `config` selects by label and field.
    pub fn informer_with<K>(&self, config: watcher::Config) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let slot = (
            TypeId::of::<K>(),
            config.label_selector.clone(),
            config.field_selector.clone(),
        );
        let mut informers = self.inner.informers.lock();
        if let Some(known) = informers
            .get(&slot)
            .and_then(|known| known.downcast_ref::<Informer<K>>())
        {
            return known.clone();
        }
        let informer = Informer::<K>::default();
        informers.insert(slot, Box::new(informer.clone()));
        self.inner.unsynced.lock().push(Box::pin(informer.synced()));
        let client = self.inner.client.clone();
        let events = watch_stream(
            client.clone(),
            self.inner.mode.clone(),
            Api::<K>::all(client),
            config,
        );
        let running = informer.clone();
        self.inner
            .waiting
            .lock()
            .push(Box::pin(async move { running.run(events).await }));
        informer
    }

    /// Starts the informers that are not running yet, each on a task of its own.
    pub fn start(&self) {
        for informer in std::mem::take(&mut *self.inner.waiting.lock()) {
            let stop = self.inner.stop.clone();
            self.inner.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = informer => {}
                }
            });
        }
    }

    /// Waits until all informers that were asked for have their first list.
    pub async fn synced(&self) {
        let unsynced = std::mem::take(&mut *self.inner.unsynced.lock());
        futures::future::join_all(unsynced).await;
    }

    /// Stops all informers and waits until they are gone. Their stores stay as they are.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
