//! The one path of all objects between a decoded request and the store.

mod conversion;
mod conversions;
pub(crate) mod create;
pub(crate) mod delete;
mod eviction;
mod internal;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod owners;
pub(crate) mod ownership;
pub(crate) mod patch;
pub(crate) mod reader;
mod recent;
pub(crate) mod row;
pub(crate) mod selection;
pub(crate) mod served;
mod signing_requests;
pub(crate) mod subresources;
pub(crate) mod update;
pub(crate) mod value;
pub(crate) mod watch;

#[cfg(feature = "__fuzz")]
pub(crate) use self::conversion::fuzz as fuzz_conversion;

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use k8s_model::Object;
use k8s_openapi::jiff::Timestamp;
use k8s_store::{Expect, Op, Revision, Store, Write};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::value::Stored;
pub(crate) use self::{internal::Internal, recent::Written, row::Row, served::Served};
use crate::{
    Error, Result,
    admission::{
        AdmissionPlugin, AdmissionRequest, Companions, Operation, Step, Warnings,
        metrics::{AdmissionMetrics, Stopwatch},
        more::{More, SentOptions},
    },
    auth::Identity,
    cache::Caches,
    metrics::Requests,
    services::Services,
};

/// What the time is. Handed in, so that a test's clock can be the server's.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// All that serves objects: the store, its caches, the table of resources and the rules on the way.
pub(crate) struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) caches: Caches,
    pub(crate) written: Written,
    /// The resources as they are now. Replaced as a whole.
    pub(crate) served: ArcSwap<Served>,
    /// Wakes who keeps an account of them.
    pub(crate) served_changed: Notify,
    /// The groups and versions of the rows that are served whatever is defined.
    pub(crate) fixed: HashSet<(&'static str, &'static str)>,
    pub(crate) admission: Vec<Arc<dyn AdmissionPlugin>>,
    pub(crate) admission_metrics: AdmissionMetrics,
    /// What is counted of requests, by resource.
    pub(crate) requests: Requests,
    pub(crate) services: Services,
    pub(crate) clock: Clock,
    pub(crate) random: Mutex<fastrand::Rng>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What a request is about, and who makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) row: &'a Row,
    pub(crate) user: &'a Identity,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) dry_run: bool,
    /// To whom what is written will belong; nobody's for what only passes through, such as a binding.
    pub(crate) manager: Option<&'a str>,
    /// Whether the server itself asks: plugins have no say in that.
    pub(crate) internal: bool,
    /// What the client is told besides the answer.
    pub(crate) warnings: &'a Warnings,
    /// The options that came with the request.
    pub(crate) options: SentOptions<'a>,
    /// Who says whether the object may come to be, where the request is not called a create.
    pub(crate) gate: Option<&'a dyn CreateGate>,
}

/// Says whether an object may come to be by a request that is not called a create. It is asked when the object is known
/// to be valid, and before anybody else may refuse it: upstream authorizes such a create as the first of validating
/// admission.
#[async_trait]
pub(crate) trait CreateGate: std::fmt::Debug + Send + Sync {
    /// Refuses the creation of an object of that name, or does not.
    async fn may_create(&self, name: &str) -> Result<()>;
}

/// The managed fields of an object on its way through admission: JSON of a list, or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Managed<'a> {
    /// As the object is to be.
    pub(crate) new: &'a [u8],
    /// As it is.
    pub(crate) old: &'a [u8],
}

/// An object that plugins have had their way with.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The object; nothing where a request has none.
    pub(crate) object: Option<Box<dyn Object>>,
    /// Its managed fields, if a plugin has changed them.
    pub(crate) managed: Option<Vec<u8>>,
    /// The options of a connection, if a plugin has changed them.
    pub(crate) connection: Option<serde_json::Value>,
}

impl Admitted {
    /// The object of a request that has one.
    pub(crate) fn object(self) -> Result<Box<dyn Object>> {
        self.object
            .ok_or_else(|| Error::internal("an admission plugin dropped the object"))
    }
}

/// An object as a request left it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// In the version of the request.
    pub(crate) object: Box<dyn Object>,
    /// Its bytes and revision, unless nothing was stored.
    pub(crate) stored: Option<(Stored, u64)>,
    /// Whether it is new.
    pub(crate) created: bool,
}

impl Registry {
    /// The row of a group, version and plural name.
    pub(crate) fn row(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Row>> {
        self.served.load().row(group, version, resource).cloned()
    }

    /// The row in whose version a resource is stored.
    pub(crate) fn stored_row(&self, group: &str, resource: &str) -> Option<Arc<Row>> {
        self.served.load().stored(group, resource).cloned()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// A random source of its own, so that nobody holds the shared one for long.
    pub(crate) fn fork_random(&self) -> fastrand::Rng {
        self.random.lock().fork()
    }

    pub(crate) fn key(&self, target: &Target<'_>) -> Bytes {
        key::object_key(
            &target.row.prefix,
            &target.row.resource,
            target.namespace,
            target.name,
        )
    }

    /// The plugins that are called for a step, and whether it may be that they have something to do.
    fn plugins(
        &self,
        target: &Target<'_>,
        operation: Operation,
        step: Step,
    ) -> impl Iterator<Item = (usize, &Arc<dyn AdmissionPlugin>, bool)> + use<'_> {
        let internal = target.internal;
        let (group, resource) = (target.row.resource.group, target.row.resource.resource);
        (self.admission.iter().enumerate())
            .filter(move |(_, plugin)| {
                !internal && plugin.handles(operation) && plugin.steps().contains(&step)
            })
            .map(move |(at, plugin)| (at, plugin, plugin.concerns(group, resource)))
    }

    fn stopwatch(&self, operation: Operation, step: Step) -> Stopwatch<'_> {
        self.admission_metrics.stopwatch(operation, step)
    }

    /// Lets the plugins change the object.
    pub(crate) async fn admit(
        &self,
        target: &Target<'_>,
        operation: Operation,
        object: Option<Box<dyn Object>>,
        old: Option<&dyn Object>,
        managed: Managed<'_>,
    ) -> Result<Admitted> {
        let mut request = admission_request(self, target, operation, object, old, managed);
        loop {
            let mut watch = self.stopwatch(operation, Step::Admit);
            for (at, plugin, concerned) in self.plugins(target, operation, Step::Admit) {
                if !concerned {
                    watch.pass(at);
                    continue;
                }
                let result = plugin.admit(&mut request).await;
                watch
                    .lap(at, result)
                    .map_err(|e| Error::admission(e, &target.row.resource, target.name))?;
            }
            let reinvocation = &mut request.more.reinvocation;
            if !reinvocation.wanted || reinvocation.again {
                break;
            }
            reinvocation.again = true;
        }
        Ok(Admitted {
            object: request.object,
            connection: request.more.connection,
            managed: match request.more.managed {
                Cow::Owned(managed) => Some(managed),
                Cow::Borrowed(_) => None,
            },
        })
    }

    /// Lets the plugins refuse the object.
    pub(crate) async fn validate(
        &self,
        target: &Target<'_>,
        operation: Operation,
        object: Option<Box<dyn Object>>,
        old: Option<&dyn Object>,
        managed: Managed<'_>,
    ) -> Result<Option<Box<dyn Object>>> {
        let request = admission_request(self, target, operation, object, old, managed);
        let mut watch = self.stopwatch(operation, Step::Validate);
        for (at, plugin, concerned) in self.plugins(target, operation, Step::Validate) {
            if !concerned {
                watch.pass(at);
                continue;
            }
            let result = plugin.validate(&request).await;
            watch
                .lap(at, result)
                .map_err(|e| Error::admission(e, &target.row.resource, target.name))?;
        }
        Ok(request.object)
    }

    /// Asks the plugins what is to be stored together with the object. Gives the object back,
    /// the writes, and what is to be kept until they are done.
    pub(crate) async fn accompany(
        &self,
        target: &Target<'_>,
        operation: Operation,
        object: Box<dyn Object>,
        old: Option<&dyn Object>,
    ) -> Result<(Box<dyn Object>, Vec<Write>, Vec<Companions>)> {
        let managed = Managed::default();
        let request = admission_request(self, target, operation, Some(object), old, managed);
        let mut writes = Vec::new();
        let mut all = Vec::new();
        for (_, plugin, concerned) in self.plugins(target, operation, Step::Accompany) {
            if !concerned {
                continue;
            }
            let mut companions = plugin
                .accompany(&request)
                .await
                .map_err(|e| Error::admission(e, &target.row.resource, target.name))?;
            for companion in std::mem::take(&mut companions.objects) {
                let (group, resource) = (companion.group, companion.resource);
                let row = self.stored_row(group, resource).ok_or_else(|| {
                    Error::internal(format_args!("no resource {resource:?} of group {group:?}"))
                })?;
                let mut object = companion.object;
                let managed = match object.metadata_mut().managed_fields.take() {
                    Some(managed) => serde_json::to_vec(&managed).map_err(Error::internal)?,
                    None => Vec::new(),
                };
                let meta = object.metadata();
                let version = meta.resource_version.as_deref().unwrap_or_default();
                let version = version.parse().map_err(Error::internal)?;
                let key = key::object_key(
                    &row.prefix,
                    &row.resource,
                    meta.namespace.as_deref().unwrap_or_default(),
                    meta.name.as_deref().unwrap_or_default(),
                );
                writes.push(Write {
                    key,
                    expect: Expect::Modified(Revision(version)),
                    op: Op::Put {
                        value: row.encode(&mut object, &managed)?,
                        ttl: time_to_live(&row),
                    },
                });
            }
            all.push(companions);
        }
        let object = request
            .object
            .ok_or_else(|| Error::internal("an admission plugin dropped the object"))?;
        Ok((object, writes, all))
    }

    /// Commits, and says at which revision.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<u64, k8s_store::Error> {
        let revision = self.store.commit(writes).await?.revision;
        self.written.note(revision);
        Ok(revision.0)
    }

    /// Reads an object as it is stored.
    pub(crate) async fn read(&self, target: &Target<'_>) -> Result<Option<k8s_store::Entry>> {
        Ok(self.store.get(&self.key(target), None).await?)
    }
}

fn admission_request<'a>(
    registry: &'a Registry,
    target: &Target<'a>,
    operation: Operation,
    object: Option<Box<dyn Object>>,
    old: Option<&'a dyn Object>,
    managed: Managed<'a>,
) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation,
        resource: &target.row.resource,
        subresource: target.subresource,
        namespace: target.namespace,
        name: target.name,
        user: target.user,
        object,
        old,
        dry_run: target.dry_run,
        warnings: target.warnings,
        more: More {
            row: Some(target.row),
            registry: Some(registry),
            options: target.options,
            managed: Cow::Borrowed(managed.new),
            old_managed: managed.old,
            ..More::default()
        },
    }
}

/// The 404 for a target.
pub(crate) fn not_found(target: &Target<'_>) -> Error {
    Error::not_found(
        target.row.resource.group,
        target.row.resource.resource,
        target.name,
    )
}

/// How long an object of the resource stays. Upstream keeps events for an hour.
pub(crate) fn time_to_live(row: &Row) -> Option<std::time::Duration> {
    is_event(row).then(|| std::time::Duration::from_secs(3600))
}

/// Whether the resource is that of events, in either group; one of somebody's own that is called so is none.
fn is_event(row: &Row) -> bool {
    row.custom().is_none() && (row.is("", "events") || row.is("events.k8s.io", "events"))
}
