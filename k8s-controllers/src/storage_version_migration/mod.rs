//! Storage version migration: all objects of a resource are written again, so that they lie in the
//! store as they would be written today.
//!
//! Mirrors upstream's `pkg/controller/storageversionmigrator`. See
//! [KEP-4192](https://kep.k8s.io/4192) and
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/storage-version-migration/>.

mod plan;

use futures::{StreamExt, stream};
use k8s_openapi::{
    api::storagemigration::v1::StorageVersionMigration,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::{DynamicObject, PartialObjectMeta},
};
use serde_json::json;

use self::plan::{Step, next, note_end, note_start, only_stored};
use crate::{
    Error,
    common::{
        context::Context,
        discovery::{Served, discover},
        owner,
        status::write_status,
    },
    error::{is_conflict, is_gone, is_nowhere},
    runtime::{Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// The controller's account, and the manager of its writes.
pub(crate) const NAME: &str = "storage-version-migrator-controller";

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Writes at the same time.
const WRITES: usize = 8;

pub(crate) struct Migrator {
    client: Client,
    clock: Clock,
    migrations: Informer<StorageVersionMigration>,
}

/// The controller, its handlers in place. Keys are migrations.
pub(crate) fn controller(context: &Context) -> Controller<Migrator> {
    let reconciler = Migrator {
        client: context.client.clone(),
        clock: context.clock,
        migrations: context.informers.informer(),
    };
    let queue = WorkQueue::new();
    let adds = queue.clone();
    reconciler.migrations.add_handler(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let ready = reconciler.migrations.synced();
    Controller::new(NAME, reconciler, queue)
        .with_workers(1)
        .wait_for(ready)
}

impl Reconciler for Migrator {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(migration) = self.migrations.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        match next(&migration) {
            Step::Nothing => Ok(Requeue::OnChange),
            Step::Start => self.start(&migration).await,
            Step::Run => self.run(&migration).await,
        }
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

impl Migrator {
    /// Notes the revision from which on new objects are written rightly anyway.
    async fn start(&self, migration: &StorageVersionMigration) -> Result<Requeue, Error> {
        let served = match self.served(migration).await? {
            Ok(served) => served,
            Err(why) => return self.end(migration, Some(&why)).await,
        };
        let one = ListParams::default().limit(1);
        let list = self.objects(&served).list_metadata(&one).await?;
        let revision = list.metadata.resource_version.unwrap_or_default();
        if revision.parse::<u64>().is_err() {
            let why = format!("the resource version {revision:?} is not a number");
            return self.end(migration, Some(&why)).await;
        }
        let now = self.clock.now();
        self.write(migration, |migration| {
            note_start(migration, &revision, now);
        })
        .await
    }

    async fn run(&self, migration: &StorageVersionMigration) -> Result<Requeue, Error> {
        let served = match self.served(migration).await? {
            Ok(served) => served,
            Err(why) => return self.end(migration, Some(&why)).await,
        };
        let definition = self.definition(&served).await?;
        let failed = self.rewrite_all(&served).await?;
        if let Some(error) = failed {
            return self.end(migration, Some(&error)).await;
        }
        if let Some(before) = definition {
            self.forget_old_versions(&before).await?;
        }
        self.end(migration, None).await
    }

    /// How the resource is served, or why it cannot be migrated.
    async fn served(
        &self,
        migration: &StorageVersionMigration,
    ) -> Result<Result<Served, String>, Error> {
        let wanted = migration.spec.as_ref().map(|spec| &spec.resource);
        let (group, resource) =
            wanted.map_or(("", ""), |r| (r.group.as_str(), r.resource.as_str()));
        let discovery = discover(&self.client).await?;
        let found = discovery
            .preferred
            .into_iter()
            .find(|served| served.resource.group == group && served.resource.plural == resource);
        Ok(match found {
            Some(served) if served.supports("list") && served.supports("patch") => Ok(served),
            Some(_) => Err(format!("{resource}.{group} cannot be listed and patched")),
            None if !discovery.failed.is_empty() => {
                let text = format!("{resource}.{group} is not served, or not at the moment");
                return Err(Error::NotYet(text));
            }
            None => Err(format!("{resource}.{group} is not served")),
        })
    }

    fn objects(&self, served: &Served) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &served.resource)
    }

    /// Writes each object as it is. Gives why one could not be.
    async fn rewrite_all(&self, served: &Served) -> Result<Option<String>, Error> {
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = match self.objects(served).list_metadata(&page).await {
                // The list took longer than the history lasts: from the beginning.
                Err(kube::Error::Api(status)) if status.code == 410 => {
                    page = ListParams::default().limit(PAGE);
                    continue;
                }
                list => list?,
            };
            let mut writes = stream::iter(list.items)
                .map(|object| self.rewrite(served, object))
                .buffer_unordered(WRITES);
            while let Some(done) = writes.next().await {
                if let Some(refused) = done? {
                    return Ok(Some(refused));
                }
            }
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() => {
                    page = ListParams::default().limit(PAGE).continue_token(&token);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Applies nothing to an object, for this very state of it. When another has written it or
    /// removed it meanwhile, it is as it should be.
    async fn rewrite(
        &self,
        served: &Served,
        object: PartialObjectMeta<DynamicObject>,
    ) -> Result<Option<String>, Error> {
        let meta = object.metadata;
        let name = owner::name(&meta);
        let api: Api<DynamicObject> = match meta.namespace.as_deref() {
            Some(namespace) if served.namespaced => {
                Api::namespaced_with(self.client.clone(), namespace, &served.resource)
            }
            _ => self.objects(served),
        };
        let patch = json!({
            "apiVersion": served.resource.api_version,
            "kind": served.resource.kind,
            "metadata": {
                "name": name,
                "namespace": meta.namespace,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
        });
        let params = PatchParams::apply(NAME);
        match api
            .patch_metadata(name, &params, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => Ok(None),
            Err(error) if is_conflict(&error) || is_gone(&error, name) => Ok(None),
            // The resource itself is not served for now: that says nothing of the object.
            Err(error) if is_nowhere(&error) => Err(error.into()),
            // It cannot be written as it is: no try will change that.
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                Ok(Some(format!("{name}: {}", status.message)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The definition of a custom resource.
    async fn definition(&self, served: &Served) -> Result<Option<CustomResourceDefinition>, Error> {
        // Built-in groups are without dots, or upstream's own.
        if !served.resource.group.contains('.') {
            return Ok(None);
        }
        let name = format!("{}.{}", served.resource.plural, served.resource.group);
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        Ok(api.get_opt(&name).await?)
    }

    /// Nothing is stored in other versions any more, unless the definition has changed meanwhile.
    async fn forget_old_versions(&self, before: &CustomResourceDefinition) -> Result<(), Error> {
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        let name = owner::name(&before.metadata);
        let Some(mut definition) = api.get_opt(name).await? else {
            return Ok(());
        };
        if definition.metadata.uid != before.metadata.uid || definition.spec != before.spec {
            return Err(Error::NotYet(format!("{name} has changed meanwhile")));
        }
        if only_stored(&mut definition) {
            api.replace_status(name, &PostParams::default(), &definition)
                .await?;
        }
        Ok(())
    }

    async fn end(
        &self,
        migration: &StorageVersionMigration,
        failure: Option<&str>,
    ) -> Result<Requeue, Error> {
        let now = self.clock.now();
        self.write(migration, |migration| note_end(migration, failure, now))
            .await
    }

    async fn write(
        &self,
        migration: &StorageVersionMigration,
        change: impl Fn(&mut StorageVersionMigration),
    ) -> Result<Requeue, Error> {
        let api = Api::<StorageVersionMigration>::all(self.client.clone());
        write_status(&api, migration, change).await?;
        Ok(Requeue::OnChange)
    }
}
