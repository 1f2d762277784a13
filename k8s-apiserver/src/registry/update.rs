//! Update: read, change, check, commit if nobody else was faster, or do it again.

use std::{borrow::Cow, future::Future};

use k8s_model::{Object, Strategy, field, field::Path, metadata, names};
use k8s_openapi::api::core::v1::Pod;
use k8s_store::{Expect, Op, Write};

use super::{
    Admitted, Managed, Outcome, Registry, Target, conversions::Conversions, create, not_found,
    owners, ownership, signing_requests, subresources, value::Stored,
};
use crate::{Error, Result, admission::Operation};

/// An object as it is when it is about to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    /// Its other versions.
    pub(crate) versions: &'a Conversions<'a>,
    /// The object, without its managed fields.
    pub(crate) object: &'a dyn Object,
    /// Its managed fields: JSON of a list, or nothing.
    pub(crate) managed: &'a [u8],
}

/// What an object is to become.
#[derive(Debug)]
pub(crate) struct Change {
    /// The object.
    pub(crate) object: Box<dyn Object>,
    /// Its managed fields, if the change itself says so. Else they follow from what it changes.
    pub(crate) managed: Option<Vec<u8>>,
    /// Whether its UID is a precondition, as it is in an update. A patch may not change it.
    pub(crate) checks_uid: bool,
}

/// What a change makes of an object, once it is clear who owns what of that.
struct Owned<'s> {
    object: Box<dyn Object>,
    managed: Cow<'s, [u8]>,
    checks_uid: bool,
}

/// Which of a kind's rules an update goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Those of the object itself.
    Object,
    /// Those of its `status` subresource.
    Status,
    /// Those of a subresource that is for one part of a pod.
    Part,
    /// None: the server itself says what changes.
    None,
}

impl Registry {
    /// Changes an object by a function of what it is now, which runs again whenever somebody
    /// else was faster.
    pub(crate) async fn update<F>(
        &self,
        target: &Target<'_>,
        rules: Rules,
        change: F,
    ) -> Result<Outcome>
    where
        F: Fn(&dyn Object) -> Result<Box<dyn Object>> + Sync,
    {
        self.modify(target, rules, |live| {
            let object = change(live.object)?;
            Ok(Change {
                object,
                managed: None,
                checks_uid: true,
            })
        })
        .await
    }

    /// As [`Registry::update`], by a function that sees to ownership too.
    pub(crate) async fn modify(
        &self,
        target: &Target<'_>,
        rules: Rules,
        change: impl Fn(&Live<'_>) -> Result<Change> + Sync,
    ) -> Result<Outcome> {
        self.modify_by(target, rules, &change).await
    }

    // By reference, so that there is one instance of this code.
    async fn modify_by(
        &self,
        target: &Target<'_>,
        rules: Rules,
        change: &(dyn Fn(&Live<'_>) -> Result<Change> + Sync),
    ) -> Result<Outcome> {
        let mut untracked = false;
        let key = self.key(target);
        let row = target.row;
        let mut entry = self.store.get(&key, None).await?;
        loop {
            let Some(found) = entry else {
                return Err(not_found(target));
            };
            let unconverted = Stored::of(&found)?;
            let stored = row.settle(unconverted.clone()).await?;
            let old = row.decode_bare(&stored, found.modified.0)?;
            let versions = Conversions::new(row);
            let live = Live {
                versions: &versions,
                object: &*old,
                managed: stored.managed(),
            };
            let Owned {
                object: mut new,
                mut managed,
                checks_uid,
            } = loop {
                let changed = change(&live);
                let changed = changed.and_then(|change| self.owned(target, &stored, &live, change));
                if !versions.made().await {
                    break changed?;
                }
            };
            if untracked {
                managed = Cow::Borrowed(&[]);
            }
            let operation = if target.subresource == "binding" || target.subresource == "eviction" {
                Operation::Create
            } else {
                Operation::Update
            };
            // The subresources with a kind of their own have been through admission in that kind.
            let own_kind = matches!(target.subresource, "binding" | "eviction" | "scale");
            if target.subresource == "scale" {
                new = Box::pin(self.admit_scale(target, new, &*old)).await?;
            }
            if !own_kind {
                let before = Managed {
                    new: &managed,
                    old: stored.managed(),
                };
                let Admitted {
                    object,
                    managed: changed,
                    ..
                } = self
                    .admit(target, operation, Some(new), Some(&*old), before)
                    .await?;
                new = dropped(object)?;
                owners::dedup(new.metadata_mut(), true, target.warnings);
                if let Some(changed) = changed {
                    managed = Cow::Owned(changed);
                }
            }
            self.check_preconditions(target, &mut *new, &*old, found.modified.0, checks_uid)?;

            let mut writes = Vec::new();
            if rules == Rules::Object && self.services.handles(row) {
                writes = Box::pin(
                    self.services
                        .on_update(self, &mut *new, &*old, target.dry_run),
                )
                .await?;
            }
            self.prepare_update(rules, target, &mut *new, &*old);
            self.check_update(rules, target, &*new, &*old)?;
            let strategy = &row.resource.strategy;
            target.warnings.extend(match rules {
                Rules::Object => strategy.update_warnings(&*new, &*old),
                Rules::Status => strategy.status_warnings(&*new, &*old),
                Rules::Part | Rules::None => Vec::new(),
            });
            if !own_kind {
                let with_managed = Managed {
                    new: &managed,
                    old: stored.managed(),
                };
                new = dropped(
                    self.validate(target, operation, Some(new), Some(&*old), with_managed)
                        .await?,
                )?;
            }
            if target.subresource == "scale" {
                Box::pin(self.validate_scale(target, &*new, &*old)).await?;
            }
            let mut _held = Vec::new();
            if rules != Rules::Status && !own_kind {
                let (same, more, companions) =
                    self.accompany(target, operation, new, Some(&*old)).await?;
                new = same;
                writes.extend(more);
                _held = companions;
            }

            if self.leaves_now(target, &*new, &*old) {
                ownership::show(&mut *new, &managed);
                if target.dry_run {
                    return Ok(Outcome {
                        object: new,
                        stored: None,
                        created: false,
                    });
                }
                match self.remove(target, &found, &*old).await? {
                    Ok(_) => {
                        return Ok(Outcome {
                            object: new,
                            stored: None,
                            created: false,
                        });
                    }
                    Err(actual) => {
                        entry = actual;
                        continue;
                    }
                }
            }

            let value = row.to_store(&mut new, &managed).await?;
            if value == found.value
                || ownership::changes_nothing(&unconverted, &Stored::parse(&value)?)
            {
                new.metadata_mut().resource_version = Some(found.modified.to_string());
                return Ok(Outcome {
                    object: new,
                    stored: Some((stored, found.modified.0)),
                    created: false,
                });
            }
            if target.dry_run {
                ownership::show(&mut *new, &managed);
                return Ok(Outcome {
                    object: new,
                    stored: None,
                    created: false,
                });
            }
            let op = Op::Put {
                value: value.clone(),
                ttl: super::time_to_live(row),
            };
            writes.insert(
                0,
                Write {
                    key: key.clone(),
                    expect: Expect::Modified(found.modified),
                    op,
                },
            );
            match self.commit(writes).await {
                Ok(revision) => {
                    new.metadata_mut().resource_version = Some(revision.to_string());
                    let stored = ownership::shown(row, &mut *new, &managed, &value, revision)?;
                    return Ok(Outcome {
                        object: new,
                        stored,
                        created: false,
                    });
                }
                Err(k8s_store::Error::Conflict {
                    key: lost, actual, ..
                }) if *lost == *key => entry = actual,
                // Better an object that nobody owns than the old one.
                Err(k8s_store::Error::ValueTooLarge { .. })
                    if target.manager.is_some() && !managed.is_empty() =>
                {
                    untracked = true;
                    entry = Some(found);
                }
                // An address or a port that somebody else took just now, or a companion that
                // somebody else changed.
                Err(k8s_store::Error::Conflict { .. }) => {
                    entry = self.store.get(&key, None).await?
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What a change makes of an object.
    fn owned<'s>(
        &self,
        target: &Target<'_>,
        stored: &'s Stored,
        live: &Live<'_>,
        change: Change,
    ) -> Result<Owned<'s>> {
        let Change {
            object: mut new,
            managed,
            checks_uid,
        } = change;
        create::match_namespace(target, &mut *new)?;
        create::match_name(target, &mut *new)?;
        let sent = new.metadata_mut().managed_fields.take();
        let (old, sent) = (live.object, sent.as_deref());
        let managed = match managed {
            Some(managed) => Cow::Owned(managed),
            None => self.own_changed(target, stored, old, &*new, sent, live.versions),
        };
        Ok(Owned {
            object: new,
            managed,
            checks_uid,
        })
    }

    /// The answer to an update that is meant for an object with another UID than there is; with any, where there is none.
    pub(crate) fn other_uid(&self, target: &Target<'_>, wanted: &str, found: &str) -> Error {
        let key = self.key(target);
        let key = String::from_utf8_lossy(&key);
        // A dry run does without the prefix of all keys.
        let key = match target.dry_run {
            true => key.strip_prefix("/registry").unwrap_or(&key),
            false => &key,
        };
        Error::conflict(
            &target.row.resource,
            target.name,
            &format!(
                "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
            ),
        )
    }

    /// UID and resource version must be those of the object, where they are given.
    fn check_preconditions(
        &self,
        target: &Target<'_>,
        new: &mut dyn Object,
        old: &dyn Object,
        revision: u64,
        checks_uid: bool,
    ) -> Result<()> {
        let resource = &target.row.resource;
        let old_uid = old.metadata().uid.as_deref().unwrap_or_default();
        let meta = new.metadata_mut();
        if let Some(uid) = meta
            .uid
            .as_deref()
            .filter(|uid| checks_uid && !uid.is_empty() && *uid != old_uid)
        {
            return Err(self.other_uid(target, uid, old_uid));
        }
        match meta.resource_version.as_deref().unwrap_or_default() {
            "" | "0" => {
                if !resource.strategy.allow_unconditional_update() {
                    let path = Path::new("metadata").child("resourceVersion");
                    let finding = field::invalid(path, 0, "must be specified for an update");
                    return Err(Error::invalid_kind(
                        resource.group,
                        resource.resource,
                        target.name,
                        &vec![finding],
                    ));
                }
                meta.resource_version = Some(revision.to_string());
                Ok(())
            }
            version => match version.parse::<u64>() {
                Ok(version) if version == revision => Ok(()),
                Ok(_) => Err(Error::stale(resource, target.name)),
                Err(_) => {
                    let path = Path::new("metadata").child("resourceVersion");
                    let text = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
                    let finding = field::invalid(path, version, text);
                    Err(Error::invalid(resource, target.name, &vec![finding]))
                }
            },
        }
    }

    fn prepare_update(
        &self,
        rules: Rules,
        target: &Target<'_>,
        new: &mut dyn Object,
        old: &dyn Object,
    ) {
        let strategy = &target.row.resource.strategy;
        metadata::prepare_for_update(new.metadata_mut(), old.metadata());
        new.metadata_mut().managed_fields = None;
        match rules {
            Rules::Object => {
                strategy.stamp("", new, Some(old), self.now());
                strategy.prepare_for_update(new, old);
                count_change(&**strategy, new, old);
            }
            Rules::Status => {
                strategy.prepare_for_subresource_update(target.subresource, new, old);
                strategy.stamp(target.subresource, new, Some(old), self.now());
            }
            // Nobody changes more than the part on this way, not even plugins.
            Rules::Part => {
                keep_part(target.subresource, new, old);
                count_change(&**strategy, new, old);
            }
            Rules::None => {}
        }
    }

    fn check_update(
        &self,
        rules: Rules,
        target: &Target<'_>,
        new: &dyn Object,
        old: &dyn Object,
    ) -> Result<()> {
        let resource = &target.row.resource;
        if rules == Rules::None {
            return Ok(());
        }
        if rules == Rules::Part {
            let name = target.subresource;
            let findings = resource
                .strategy
                .validate_subresource_update(name, new, old);
            return match findings.is_empty() {
                true => Ok(()),
                false => Err(Error::invalid(resource, target.name, &findings)),
            };
        }
        let path = Path::new("metadata");
        let as_any = metadata::validate(
            new.metadata(),
            target.row.is_namespaced(),
            &|n, p| names::path_segment(n, p),
            &path,
        );
        let as_changed = metadata::validate_update(new.metadata(), old.metadata(), &path);
        let mut findings = [as_any.as_slice(), &as_changed].concat();
        let strategy = &resource.strategy;
        let mut excused = Vec::new();
        if rules == Rules::Object {
            let (any, changed) = strategy.metadata_repeats();
            let again = |list: field::ErrorList, times| std::iter::repeat_n(list, times).flatten();
            findings.extend(again(as_any, any));
            findings.extend(again(as_changed, changed));
            findings.extend(strategy.check_update("", new, old, &mut excused));
        } else {
            let subresource = match target.subresource {
                "" => "status",
                subresource => subresource,
            };
            findings.extend(strategy.check_update(subresource, new, old, &mut excused));
            field::distinct(&mut findings);
            if findings.is_empty() {
                findings.extend(signing_requests::begins_now(new, old, self.now()));
            }
        }
        target.warnings.extend(excused);
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(resource, target.name, &findings))
        }
    }

    /// Whether an update is the last thing that kept an object alive.
    fn leaves_now(&self, target: &Target<'_>, new: &dyn Object, old: &dyn Object) -> bool {
        let (new_meta, old_meta) = (new.metadata(), old.metadata());
        new_meta
            .finalizers
            .as_deref()
            .unwrap_or_default()
            .is_empty()
            && old_meta.deletion_timestamp.is_some()
            && old_meta.deletion_grace_period_seconds.unwrap_or(0) == 0
            && !(target.row.is("", "namespaces") && super::delete::namespace_is_busy(new))
    }
}

/// Counts a change of what the generation counts.
fn count_change(strategy: &dyn Strategy, new: &mut dyn Object, old: &dyn Object) {
    if strategy.has_generation() && strategy.spec_changed(new, old) {
        new.metadata_mut().generation = Some(old.metadata().generation.unwrap_or(0) + 1);
    }
}

/// Of a pod that a subresource is to change, the part that it is for; the rest as it was.
fn keep_part(subresource: &str, new: &mut dyn Object, old: &dyn Object) {
    if let (Some(new), Some(old)) = (new.downcast_mut::<Pod>(), old.downcast_ref::<Pod>()) {
        let mut kept = old.clone();
        subresources::take_part(subresource, &mut kept, new);
        *new = kept;
    }
}

fn dropped(object: Option<Box<dyn Object>>) -> Result<Box<dyn Object>> {
    object.ok_or_else(|| Error::internal("an admission plugin dropped the object"))
}

const _: fn() = || {
    fn is_send<T: Send>(_: T) {}
    fn update_is_send<'a>(
        registry: &'a Registry,
        target: &'a Target<'a>,
    ) -> impl Future<Output = Result<Outcome>> + Send + 'a {
        registry.update(target, Rules::Object, |old| Ok(old.boxed_clone()))
    }
    let _ = is_send::<()>;
    let _ = update_is_send;
};
