//! Delete: preconditions, grace, finalizers, and what is left to do before an object can go.
//!
//! As upstream's `k8s.io/apiserver/pkg/registry/generic/registry.Store.Delete` and
//! `registry/rest.BeforeDelete`.

use std::sync::OnceLock;

use bytes::Bytes;
use futures::{StreamExt, stream};
use k8s_model::{
    Object, custom,
    metadata::{self, DELETE_DEPENDENTS, ORPHAN_DEPENDENTS},
};
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::{SignedDuration, Timestamp},
};
use k8s_store::{Entry, Expect, Op, Write};

use super::{
    Managed, Outcome, Registry, Row, Target, list::Listed, not_found, ownership, value::Stored,
};
use crate::{
    Error, Result,
    admission::Operation,
    http::options::{DeleteOptions, ListOptions, Propagation},
};

/// How many objects of a collection are deleted at a time.
const COLLECTION_WORKERS: usize = 16;

/// What became of an object that was to be deleted.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// It is on its way out; this is how it is now.
    Pending(Outcome),
    /// It is gone; this is how it last was.
    Gone(Outcome),
}

/// What the grace that an object has says about its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// It has none.
    None,
    /// It was changed to go after so many seconds.
    Seconds(i64),
    /// It is going already, and not to go sooner.
    Pending,
}

impl Registry {
    /// Deletes an object, or says that it is to go.
    pub(crate) async fn delete(
        &self,
        target: &Target<'_>,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        let row = target.row;
        let key = self.key(target);
        let mut entry = self.store.get(&key, None).await?;
        let mut revision_checked = false;
        loop {
            let Some(found) = entry else {
                return Err(not_found(target));
            };
            let stored = row.settle(Stored::of(&found)?).await?;
            let old = row.decode_bare(&stored, found.modified.0)?;
            check_preconditions(target, options, old.metadata(), revision_checked)?;
            let unchanged = |old: Box<dyn Object>| {
                Deleted::Pending(Outcome {
                    object: old,
                    stored: Some((stored.clone(), found.modified.0)),
                    created: false,
                })
            };
            let mut new = old.boxed_clone();
            let grace = self.grace(row, &mut *new, options);
            // Nobody is asked about what is on its way out already.
            let is_leaving = old.metadata().deletion_timestamp.is_some();
            let is_busy = is_leaving && row.is("", "namespaces") && namespace_is_busy(&*old);
            if is_busy || grace == Grace::Pending {
                return Ok(unchanged(old));
            }
            let managed = Managed {
                new: &[],
                old: stored.managed(),
            };
            self.admit(target, Operation::Delete, None, Some(&*old), managed)
                .await?;
            self.validate(target, Operation::Delete, None, Some(&*old), managed)
                .await?;

            if row.is("", "namespaces") && !is_leaving {
                terminate_namespace(&mut *new, options, self.now());
                match self.put(target, &key, &found, new).await? {
                    Ok((outcome, _)) => return Ok(Deleted::Pending(outcome)),
                    Err(actual) => {
                        entry = actual;
                        continue;
                    }
                }
            }

            if row.is("apiextensions.k8s.io", "customresourcedefinitions") && !is_leaving {
                terminate_definition(&mut *new, self.now());
                match self.put(target, &key, &found, new).await? {
                    Ok((outcome, _)) => return Ok(Deleted::Pending(outcome)),
                    Err(actual) => {
                        entry = actual;
                        continue;
                    }
                }
            }

            choose_finalizers(row, new.metadata_mut(), options);
            let finalizers = !new
                .metadata()
                .finalizers
                .as_deref()
                .unwrap_or_default()
                .is_empty();
            if grace == Grace::None && finalizers {
                mark_as_deleting(new.metadata_mut(), self.now());
            }
            let mut last = found;
            let mut object = old;
            if grace != Grace::None || finalizers {
                let waits = finalizers || matches!(grace, Grace::Seconds(s) if s > 0);
                match self.put(target, &key, &last, new).await? {
                    Ok((outcome, _)) if waits => return Ok(Deleted::Pending(outcome)),
                    Ok((outcome, _)) if target.dry_run => return Ok(Deleted::Gone(outcome)),
                    Ok((outcome, Some(entry))) => {
                        object = outcome.object;
                        last = entry;
                        revision_checked = true;
                    }
                    Ok((outcome, None)) => return Ok(Deleted::Gone(outcome)),
                    Err(actual) => {
                        entry = actual;
                        continue;
                    }
                }
            }
            if target.dry_run {
                ownership::show(&mut *object, stored.managed());
                return Ok(Deleted::Gone(Outcome {
                    object,
                    stored: None,
                    created: false,
                }));
            }
            match self.remove(target, &last, &*object).await? {
                Ok(revision) => {
                    object.metadata_mut().resource_version = Some(revision.to_string());
                    let last = Stored::of(&last)?;
                    let stored = ownership::shown_as(row, &mut *object, last, revision);
                    return Ok(Deleted::Gone(Outcome {
                        object,
                        stored,
                        created: false,
                    }));
                }
                // Somebody finished it off after it was marked; that is what was wanted.
                Err(None) if revision_checked => {
                    return Ok(Deleted::Gone(Outcome {
                        object,
                        stored: None,
                        created: false,
                    }));
                }
                Err(actual) => entry = actual,
            }
        }
    }

    /// Deletes what a list finds, and gives it back. After an error no more are begun, but those that are begun are
    /// finished: none is left marked by a request that nobody goes on with.
    pub(crate) async fn delete_collection(
        &self,
        target: &Target<'_>,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Listed> {
        let listed = self.list(target.row, target.namespace, list).await?;
        let first = OnceLock::new();
        let failed = &first;
        stream::iter(listed.entries.clone())
            .for_each_concurrent(COLLECTION_WORKERS, |entry| async move {
                if failed.get().is_some() {
                    return;
                }
                let (namespace, name) = super::key::split(&target.row.prefix, &entry.key);
                let target = Target {
                    namespace,
                    name,
                    ..*target
                };
                match self.delete(&target, options).await {
                    // The first is the answer; others are much the same.
                    Err(error) if error.code() != 404 => drop(failed.set(error)),
                    _ => {}
                }
            })
            .await;
        match first.into_inner() {
            Some(error) => Err(error),
            None => Ok(listed),
        }
    }

    /// Removes the entry, and with it what was allocated to the object. A conflict is one about the entry.
    pub(crate) async fn remove(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        object: &dyn Object,
    ) -> Result<Result<u64, Option<Entry>>> {
        loop {
            let mut writes = vec![Write {
                key: entry.key.clone(),
                expect: Expect::Modified(entry.modified),
                op: Op::Delete,
            }];
            if self.services.handles(target.row) {
                writes.extend(Box::pin(self.services.on_delete(self, object)).await?);
            }
            match self.commit(writes).await {
                Ok(revision) => return Ok(Ok(revision)),
                Err(k8s_store::Error::Conflict { key, actual, .. }) if *key == *entry.key => {
                    return Ok(Err(actual));
                }
                // Somebody has just changed what was allocated.
                Err(k8s_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes the object that is on its way out. The inner error is what somebody else wrote.
    #[allow(
        clippy::type_complexity,
        reason = "the two ways out are each used once"
    )]
    async fn put(
        &self,
        target: &Target<'_>,
        key: &Bytes,
        found: &Entry,
        mut new: Box<dyn Object>,
    ) -> Result<Result<(Outcome, Option<Entry>), Option<Entry>>> {
        let before = Stored::of(found)?;
        let value = target.row.to_store(&mut new, before.managed()).await?;
        if target.dry_run {
            ownership::show(&mut *new, before.managed());
            return Ok(Ok((
                Outcome {
                    object: new,
                    stored: None,
                    created: false,
                },
                None,
            )));
        }
        if value == found.value {
            let stored = Stored::parse(&value)?;
            let stored = ownership::shown_as(target.row, &mut *new, stored, found.modified.0);
            return Ok(Ok((
                Outcome {
                    object: new,
                    stored,
                    created: false,
                },
                Some(found.clone()),
            )));
        }
        let op = Op::Put {
            value: value.clone(),
            ttl: super::time_to_live(target.row),
        };
        let write = Write {
            key: key.clone(),
            expect: Expect::Modified(found.modified),
            op,
        };
        match self.commit(vec![write]).await {
            Ok(revision) => {
                new.metadata_mut().resource_version = Some(revision.to_string());
                let stored = Stored::parse(&value)?;
                let stored = ownership::shown_as(target.row, &mut *new, stored, revision);
                let entry = Entry {
                    modified: k8s_store::Revision(revision),
                    value,
                    ..found.clone()
                };
                Ok(Ok((
                    Outcome {
                        object: new,
                        stored,
                        created: false,
                    },
                    Some(entry),
                )))
            }
            Err(k8s_store::Error::Conflict { actual, .. }) => Ok(Err(actual)),
            Err(error) => Err(error.into()),
        }
    }

    /// Upstream's `rest.BeforeDelete`.
    fn grace(&self, row: &Row, object: &mut dyn Object, options: &DeleteOptions) -> Grace {
        let Some(period) = row
            .resource
            .strategy
            .grace_period(object, options.grace_period_seconds)
        else {
            return Grace::None;
        };
        let now = self.now();
        let meta = object.metadata_mut();
        if let Some(deadline) = meta.deletion_timestamp.clone() {
            let current = match meta.deletion_grace_period_seconds {
                None | Some(0) => return Grace::None,
                Some(seconds) => seconds.max(1),
            };
            return match options.grace_period_seconds {
                Some(seconds) if seconds < current => {
                    let sooner = SignedDuration::from_secs(current.saturating_sub(seconds));
                    let afresh = || now.checked_add(SignedDuration::from_secs(seconds));
                    let sooner = deadline.0.checked_sub(sooner).or_else(|_| afresh());
                    let sooner = sooner.unwrap_or(now);
                    meta.deletion_timestamp = Some(Time(sooner));
                    meta.deletion_grace_period_seconds = Some(seconds);
                    Grace::Seconds(seconds)
                }
                _ => Grace::Pending,
            };
        }
        let period = period.max(0);
        // A client may want to wait for longer than there is time.
        let deadline = now.checked_add(SignedDuration::from_secs(period));
        meta.deletion_timestamp = Some(metadata::to_second(deadline.unwrap_or(Timestamp::MAX)));
        meta.deletion_grace_period_seconds = Some(period);
        count_generation(meta);
        Grace::Seconds(period)
    }
}

fn count_generation(meta: &mut ObjectMeta) {
    if let Some(generation) = meta.generation.as_mut().filter(|g| **g > 0) {
        *generation += 1;
    }
}

/// An object without grace of its own waits for its finalizers.
pub(crate) fn mark_as_deleting(meta: &mut ObjectMeta, now: Timestamp) {
    if meta.deletion_timestamp.is_none() {
        count_generation(meta);
    }
    if meta.deletion_timestamp.as_ref().is_none_or(|t| t.0 > now) {
        meta.deletion_timestamp = Some(metadata::to_second(now));
    }
    meta.deletion_grace_period_seconds = Some(0);
}

/// The object must be the one, and in the state, that the options name.
pub(super) fn check_preconditions(
    target: &Target<'_>,
    options: &DeleteOptions,
    meta: &ObjectMeta,
    revision_checked: bool,
) -> Result<()> {
    let resource = &target.row.resource;
    let definitions = ("apiextensions.k8s.io", "customresourcedefinitions");
    let has_own_words =
        target.row.is("", "namespaces") || target.row.is(definitions.0, definitions.1);
    // Upstream names the kind here, where other conflicts name the resource; of namespaces and definitions it has words of
    // its own.
    let conflict = |text: String| {
        if has_own_words {
            return Err(Error::conflict(resource, target.name, &text));
        }
        let status = k8s_model::status::conflict(
            k8s_model::status::GroupResource::new(resource.group, resource.kind),
            target.name,
            &text,
        );
        Err(Error::from(status))
    };
    let uid = meta.uid.as_deref().unwrap_or_default();
    if let Some(wanted) = options
        .preconditions
        .uid
        .as_deref()
        .filter(|wanted| *wanted != uid)
    {
        if has_own_words {
            return conflict(format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
            ));
        }
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let version = meta.resource_version.as_deref().unwrap_or_default();
    match options.preconditions.resource_version.as_deref() {
        Some(wanted) if wanted != version && has_own_words && !revision_checked => {
            conflict(format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
            ))
        }
        Some(wanted) if wanted != version && !revision_checked => conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )),
        _ => Ok(()),
    }
}

/// Puts in or takes out the finalizers that say how dependents fare.
fn choose_finalizers(row: &Row, meta: &mut ObjectMeta, options: &DeleteOptions) {
    // What events own is nobody's concern: upstream's policy `Unsupported`.
    if super::is_event(row) {
        return;
    }
    let has = |name: &str| meta.finalizers.iter().flatten().any(|f| f == name);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (
            policy == Propagation::Orphan,
            policy == Propagation::Foreground,
        ),
        (None, None) if has(ORPHAN_DEPENDENTS) => (true, false),
        (None, None) if has(DELETE_DEPENDENTS) => (false, true),
        (None, None) => (orphans_by_default(row), false),
    };
    if orphan == has(ORPHAN_DEPENDENTS) && foreground == has(DELETE_DEPENDENTS) {
        return;
    }
    set_propagation(meta, orphan, foreground);
}

/// Leaves of the two finalizers that say how dependents fare those that are wanted.
fn set_propagation(meta: &mut ObjectMeta, orphan: bool, foreground: bool) {
    let finalizers = meta.finalizers.get_or_insert_default();
    finalizers.retain(|f| f != ORPHAN_DEPENDENTS && f != DELETE_DEPENDENTS);
    if orphan {
        finalizers.push(ORPHAN_DEPENDENTS.to_owned());
    }
    if foreground {
        finalizers.push(DELETE_DEPENDENTS.to_owned());
    }
    if finalizers.is_empty() {
        meta.finalizers = None;
    }
}

/// Kinds whose dependents stay unless a client says otherwise; older than garbage collection.
fn orphans_by_default(row: &Row) -> bool {
    row.is("batch", "jobs") || row.is("", "replicationcontrollers")
}

/// What those are told who delete and say nothing of dependents, which stay then.
pub(crate) fn advice(row: &Row, options: &DeleteOptions) -> Option<String> {
    let unsaid = options.orphan_dependents.is_none() && options.propagation.is_none();
    let text = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
                them or set propagationPolicy=Orphan to suppress this warning";
    (unsaid && row.is("batch", "jobs")).then(|| text.to_owned())
}

/// Refuses to delete by name what every cluster has.
pub(crate) fn check_deletable(row: &Row, name: &str) -> Result<()> {
    let system = matches!(name, "system-cluster-critical" | "system-node-critical");
    if !system || !row.is("scheduling.k8s.io", "priorityclasses") {
        return Ok(());
    }
    let (group, resource) = (row.resource.group, row.resource.resource);
    let text = "this is a system priority class and cannot be deleted";
    Err(Error::forbidden(group, resource, name, text))
}

/// Whether something still lives in a namespace, as its `spec.finalizers` say.
pub(crate) fn namespace_is_busy(namespace: &dyn Object) -> bool {
    namespace
        .downcast_ref::<Namespace>()
        .and_then(|n| n.spec.as_ref()?.finalizers.as_ref())
        .is_some_and(|f| !f.is_empty())
}

/// The first delete of a namespace only begins its end; the namespace controller does the rest.
fn terminate_namespace(namespace: &mut dyn Object, options: &DeleteOptions, now: Timestamp) {
    let Some(namespace) = namespace.downcast_mut::<Namespace>() else {
        return;
    };
    let meta = &mut namespace.metadata;
    meta.deletion_timestamp = Some(metadata::to_second(now));
    namespace.status.get_or_insert_default().phase = Some("Terminating".into());
    let has = |name: &str| meta.finalizers.iter().flatten().any(|f| f == name);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, !orphan),
        (None, Some(policy)) => (
            policy == Propagation::Orphan,
            policy == Propagation::Foreground,
        ),
        (None, None) => (has(ORPHAN_DEPENDENTS), has(DELETE_DEPENDENTS)),
    };
    set_propagation(meta, orphan, foreground);
}

/// The first delete of a custom resource definition only begins its end: its objects go first.
fn terminate_definition(definition: &mut dyn Object, now: Timestamp) {
    let Some(definition) = definition.downcast_mut::<CustomResourceDefinition>() else {
        return;
    };
    let now = metadata::to_second(now);
    definition.metadata.deletion_timestamp = Some(now.clone());
    let finalizers = definition.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == custom::CLEANUP_FINALIZER) {
        finalizers.push(custom::CLEANUP_FINALIZER.to_owned());
    }
    let why = (
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    );
    custom::set_condition(definition, "Terminating", true, why, now);
}
