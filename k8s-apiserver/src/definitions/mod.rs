//! Custom resource definitions: follows them, and serves what they define.
//!
//! One task sees each change of a definition. It accepts the definition's names or says who has
//! them, puts its rows among those that are served, and only then writes `Established` into its
//! status: who waits for that condition finds the resource. A definition that is deleted keeps its
//! rows until its objects are gone; another task sees to that.

mod cleanup;
mod names;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use futures::StreamExt;
use k8s_model::{Resource, custom};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Time,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Result,
    admission::reader::{ObjectReader, RawEvent},
    registry::{Internal, Registry, update::Rules},
    retry::Retry,
};

const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";

/// Starts to follow the definitions, if they are served at all. Gives back what becomes true when
/// those that are there already are served.
pub(crate) fn start(
    registry: &Arc<Registry>,
    reader: &dyn ObjectReader,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> watch::Receiver<bool> {
    let (synced, receiver) = watch::channel(false);
    if registry.stored_row(GROUP, RESOURCE).is_none() {
        synced.send_replace(true);
        return receiver;
    }
    let mut events = reader.watch_raw(GROUP, RESOURCE);
    let mut follower = Follower {
        registry: Arc::downgrade(registry),
        base: registry.served.load().table.rows().to_vec(),
        known: BTreeMap::new(),
        rows: HashMap::new(),
        cleaning: HashMap::new(),
        unsaid: BTreeSet::new(),
        retry: Retry::default(),
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    let stop = stop.clone();
    tasks.spawn(async move {
        let following = async {
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => {
                            follower.take(event).await;
                            synced.send_replace(true);
                        }
                        None => return,
                    },
                    () = follower.retry.due() => follower.try_again().await,
                }
                follower.retry.after(follower.unsaid.is_empty());
            }
        };
        stop.run_until_cancelled(following).await;
    });
    receiver
}

/// What of a definition its rows are made from: a digest of that, since schemas are large.
type Made = [u8; 32];

fn made_from(definition: &CustomResourceDefinition) -> Made {
    let status = definition.status.as_ref();
    let names = status.and_then(|status| status.accepted_names.as_ref());
    let is_going = definition.metadata.deletion_timestamp.is_some();
    let mut digest = Sha256::new();
    let whole = (&definition.metadata.uid, &definition.spec, names, is_going);
    // What cannot be written has not been read either.
    let _ = serde_json::to_writer(&mut digest, &whole);
    digest.finalize().into()
}

struct Follower {
    registry: Weak<Registry>,
    /// The rows that are served whatever is defined.
    base: Vec<Arc<Resource>>,
    /// The definitions by name, as they were last seen or written.
    known: BTreeMap<String, CustomResourceDefinition>,
    /// The rows of those that are served, and what they were made from.
    rows: HashMap<String, (Made, Vec<Arc<Resource>>)>,
    /// Those whose objects are being deleted, with their UIDs. What a former server left unfinished is begun anew.
    cleaning: HashMap<String, (String, DropGuard)>,
    /// Those whose status could not be written.
    unsaid: BTreeSet<String>,
    retry: Retry,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Follower {
    async fn take(&mut self, event: RawEvent) {
        match event {
            RawEvent::Snapshot(objects) => {
                let before: Vec<String> = self.known.keys().cloned().collect();
                self.known = objects.iter().filter_map(decode).collect();
                for gone in before.iter().filter(|name| !self.known.contains_key(*name)) {
                    self.rows.remove(gone);
                }
                self.cleaning
                    .retain(|name, _| self.known.contains_key(name));
                let names: Vec<String> = self.known.keys().cloned().collect();
                for name in &names {
                    self.accept(name, false).await;
                }
                self.serve();
                for name in &names {
                    self.clean_up(name);
                }
            }
            RawEvent::Applied(object) => {
                let Some((name, definition)) = decode(&object) else {
                    return;
                };
                let names = definition.spec.names.clone();
                let group = definition.spec.group.clone();
                let before = self.known.insert(name.clone(), definition);
                self.accept(&name, true).await;
                self.clean_up(&name);
                if before.is_some_and(|before| before.spec.names != names) {
                    // It may have given up one that others wait for.
                    self.accept_waiting(&group).await;
                }
            }
            RawEvent::Deleted(object) => {
                let Some((name, definition)) = decode(&object) else {
                    return;
                };
                self.known.remove(&name);
                self.rows.remove(&name);
                self.cleaning.remove(&name);
                self.serve();
                // Its names are free now: others may have waited for them.
                self.accept_waiting(&definition.spec.group).await;
            }
        }
    }

    /// Says again what could not be written.
    async fn try_again(&mut self) {
        for name in std::mem::take(&mut self.unsaid) {
            self.accept(&name, true).await;
        }
    }

    /// Judges those of a group whose names were not good.
    async fn accept_waiting(&mut self, group: &str) {
        let waiting = self.known.iter().filter(|(_, other)| {
            other.spec.group == group && !custom::is_true(other, "NamesAccepted")
        });
        let waiting: Vec<String> = waiting.map(|(name, _)| name.clone()).collect();
        for name in waiting {
            self.accept(&name, true).await;
        }
    }

    /// Judges a definition's names, serves it if they are good, and says so in its status.
    async fn accept(&mut self, name: &str, serve: bool) {
        let (Some(registry), Some(definition)) = (self.registry.upgrade(), self.known.get(name))
        else {
            return;
        };
        let now = k8s_model::metadata::to_second(registry.now());
        let mut judged = definition.clone();
        let others = self.known.values().filter(|other| {
            other.spec.group == definition.spec.group
                && other.metadata.name != definition.metadata.name
        });
        let fixed = self.base.iter().map(|row| &**row);
        let fixed = fixed.filter(|row| row.group == definition.spec.group);
        let taken = names::Taken::of(others).and_of_rows(fixed);
        judge(&mut judged, &taken, now.clone());
        if custom::is_established(&judged) {
            let made = made_from(&judged);
            if self
                .rows
                .get(name)
                .is_none_or(|(before, _)| *before != made)
            {
                let rows = custom::rows(&judged).into_iter().map(Arc::new).collect();
                self.rows.insert(name.to_owned(), (made, rows));
                if serve {
                    self.serve();
                }
            }
        }
        self.unsaid.remove(name);
        if judged.status != definition.status {
            let written = update(&registry, name, |definition| {
                judge(definition, &taken, now.clone());
            })
            .await;
            match written {
                Ok(written) => {
                    self.known.insert(name.to_owned(), written);
                }
                Err(error) if error.code() == 404 => {}
                Err(error) => {
                    tracing::warn!(definition = name, %error, "the status of a custom resource definition cannot be written");
                    self.unsaid.insert(name.to_owned());
                }
            }
        }
    }

    /// Has the objects of a definition deleted, if it is to go when they are gone and nobody sees to that here yet.
    fn clean_up(&mut self, name: &str) {
        let known = self.known.get(name);
        let Some(going) = known.filter(|definition| cleanup::is_going(definition)) else {
            self.cleaning.remove(name);
            return;
        };
        let uid = going.metadata.uid.clone().unwrap_or_default();
        if matches!(self.cleaning.get(name), Some((of, _)) if *of == uid) {
            return;
        }
        let stop = self.stop.child_token();
        let cleaning = cleanup::run(self.registry.clone(), name.to_owned(), uid.clone());
        self.tasks
            .spawn(stop.clone().run_until_cancelled_owned(cleaning));
        let cleaning = (uid, stop.drop_guard());
        self.cleaning.insert(name.to_owned(), cleaning);
    }

    /// Serves the rows as they are now. Watches of those that changed or went end.
    fn serve(&self) {
        let Some(registry) = self.registry.upgrade() else {
            return;
        };
        let key = |row: &Resource| (row.group, row.version, row.resource);
        let base: HashSet<_> = self.base.iter().map(|row| key(row)).collect();
        let mut rows: Vec<&Arc<Resource>> = self
            .rows
            .values()
            .flat_map(|(_, rows)| rows)
            .filter(|row| !base.contains(&key(row)))
            .collect();
        rows.sort_by(|a, b| {
            (a.group.cmp(b.group))
                .then_with(|| custom::compare_versions(b.version, a.version))
                .then_with(|| a.resource.cmp(b.resource))
        });
        let all = self.base.iter().chain(rows).cloned().collect();
        let before = registry.served.load_full();
        let after = Arc::new(before.with(all));
        registry.served.store(after.clone());
        registry.served_changed.notify_one();
        registry.requests.keep(&after);
        for row in before.rows().filter(|row| row.custom().is_some()) {
            let resource = &row.resource;
            let stays = after
                .row(resource.group, resource.version, resource.resource)
                .is_some_and(|now| Arc::ptr_eq(now, row));
            if !stays {
                registry.caches.close(&row.prefix);
            }
        }
    }
}

/// Writes into a definition's status what there is to say of it.
fn judge(definition: &mut CustomResourceDefinition, taken: &names::Taken, now: Time) {
    names::judge(definition, taken, now.clone());
    custom::say_approval(definition, now);
}

fn decode(object: &Bytes) -> Option<(String, CustomResourceDefinition)> {
    match serde_json::from_slice::<CustomResourceDefinition>(object) {
        Ok(definition) => Some((
            definition.metadata.name.clone().unwrap_or_default(),
            definition,
        )),
        Err(error) => {
            tracing::error!(%error, "a stored custom resource definition cannot be decoded");
            None
        }
    }
}

/// Changes a definition, as the server itself.
async fn update(
    registry: &Registry,
    name: &str,
    change: impl Fn(&mut CustomResourceDefinition) + Sync,
) -> Result<CustomResourceDefinition> {
    let row = registry
        .stored_row(GROUP, RESOURCE)
        .ok_or_else(crate::Error::no_such_path)?;
    let internal = Internal::new();
    let target = internal.status(&row, name);
    let outcome = registry
        .update(&target, Rules::None, |old| {
            let mut new = old.boxed_clone();
            if let Some(definition) = new.downcast_mut::<CustomResourceDefinition>() {
                change(definition);
            }
            Ok(new)
        })
        .await?;
    let definition = outcome.object.downcast_ref::<CustomResourceDefinition>();
    definition
        .cloned()
        .ok_or_else(|| crate::Error::internal("not a CustomResourceDefinition"))
}
