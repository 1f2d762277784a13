//! Create: names, defaults, admission, rules, and the commit that makes the object.

use k8s_model::{Object, custom::Version, field::Path, metadata};
use k8s_store::{Expect, Op, Write};

use super::{Managed, Outcome, Registry, Target, key, owners, ownership, signing_requests};
use crate::{Error, Result, admission::Operation};

/// How often another name is tried where one is generated; as upstream since 1.30.
const NAME_ATTEMPTS: usize = 8;
/// How often another address or port is tried when somebody else was faster.
const ALLOCATION_ATTEMPTS: usize = 64;

impl Registry {
    /// Makes an object. The target's name may be empty if the object has one or wants one.
    pub(crate) async fn create(
        &self,
        target: &Target<'_>,
        mut object: Box<dyn Object>,
    ) -> Result<Outcome> {
        match_namespace(target, &mut *object)?;
        match_name(target, &mut *object)?;
        let meta = object.metadata_mut();
        owners::dedup(meta, false, target.warnings);
        // Nobody comes to own what is not taken from them, nor is anybody shown it.
        meta.uid = None;
        meta.creation_timestamp = None;
        meta.self_link = None;
        meta.deletion_timestamp = None;
        meta.deletion_grace_period_seconds = None;
        let managed = self.own_new(target, &mut *object);
        self.create_owned(target, object, managed).await
    }

    /// As [`Registry::create`], with these managed fields.
    pub(crate) async fn create_owned(
        &self,
        target: &Target<'_>,
        mut object: Box<dyn Object>,
        mut managed: Vec<u8>,
    ) -> Result<Outcome> {
        let row = target.row;
        if row.custom().is_some_and(Version::is_terminating) {
            let name = object.metadata().name.as_deref().unwrap_or_default();
            let text = "create not allowed while custom resource definition is terminating";
            let (group, resource) = (row.resource.group, row.resource.resource);
            return Err(Error::forbidden(group, resource, name, text));
        }
        match_namespace(target, &mut *object)?;
        match_name(target, &mut *object)?;
        let strategy = &row.resource.strategy;
        strategy.stamp("", &mut *object, None, self.now());
        let named = object.metadata().name.clone().unwrap_or_default();
        let admitted = self
            .admit(
                &Target {
                    name: &named,
                    ..*target
                },
                Operation::Create,
                Some(object),
                None,
                Managed {
                    new: &managed,
                    old: &[],
                },
            )
            .await?;
        if let Some(changed) = &admitted.managed {
            managed.clone_from(changed);
        }
        let mut object = admitted.object()?;
        // Whoever changes an object does not take it to another place.
        match_namespace(target, &mut *object)?;
        match_name(target, &mut *object)?;

        let meta = object.metadata_mut();
        owners::dedup(meta, true, target.warnings);
        let version = meta
            .resource_version
            .take()
            .filter(|v| !v.is_empty() && v != "0");
        // Upstream's store is the one to say so, and does not get to see a dry run.
        if version.is_some() && !target.dry_run {
            return Err(Error::unknown(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        meta.managed_fields = None;
        if row.resource.strategy.has_generation() {
            meta.generation = Some(1);
        }
        let generated = named.is_empty();
        metadata::prepare_for_create(meta, self.now(), &mut self.fork_random());
        if meta.name.as_deref().is_none_or(str::is_empty) && row.resource.strategy.may_be_unnamed()
        {
            meta.name = Some(metadata::new_uid(&mut self.fork_random()));
        }

        let wanted = self.services.handles(row).then(|| object.boxed_clone());
        let mut names = 1;
        for _ in 0..ALLOCATION_ATTEMPTS {
            let mut writes = Vec::new();
            if let Some(wanted) = &wanted {
                let meta = object.metadata().clone();
                object = wanted.boxed_clone();
                *object.metadata_mut() = meta;
                // In a box: few objects are Services.
                writes =
                    Box::pin(self.services.on_create(self, &mut *object, target.dry_run)).await?;
            }
            let early = row.resource.strategy.early_warnings(&*object);
            target.warnings.extend(early);
            row.resource.strategy.prepare_for_create(&mut *object);
            signing_requests::say_who(&mut *object, target.user);
            self.check_new(target, &*object)?;
            target
                .warnings
                .extend(row.resource.strategy.warnings(&*object));
            let name = object.metadata().name.clone().unwrap_or_default();
            let target = Target {
                name: &name,
                ..*target
            };
            if let Some(gate) = target.gate {
                gate.may_create(&name).await?;
            }
            let with_managed = Managed {
                new: &managed,
                old: &[],
            };
            object = self
                .validate(&target, Operation::Create, Some(object), None, with_managed)
                .await?
                .ok_or_else(|| Error::internal("an admission plugin dropped the object"))?;
            let (same, more, _held) = self
                .accompany(&target, Operation::Create, object, None)
                .await?;
            object = same;
            writes.extend(more);

            let value = row.to_store(&mut object, &managed).await?;
            let key = key::object_key(&row.prefix, &row.resource, target.namespace, &name);
            let result = if target.dry_run {
                match self.store.get(&key, None).await? {
                    Some(entry) => Err(Some(entry)),
                    None => Ok(None),
                }
            } else {
                let op = Op::Put {
                    value: value.clone(),
                    ttl: super::time_to_live(row),
                };
                writes.insert(
                    0,
                    Write {
                        key: key.clone(),
                        expect: Expect::Absent,
                        op,
                    },
                );
                match self.commit(writes).await {
                    Ok(revision) => Ok(Some(revision)),
                    Err(k8s_store::Error::Conflict {
                        key: taken, actual, ..
                    }) if *taken == *key => Err(actual),
                    // Better an object that nobody owns than none.
                    Err(k8s_store::Error::ValueTooLarge { .. }) if !managed.is_empty() => {
                        managed.clear();
                        continue;
                    }
                    // An address or a port that somebody else took just now, or a companion
                    // that somebody else changed.
                    Err(k8s_store::Error::Conflict { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            match result {
                Ok(revision) => {
                    let stored = match revision {
                        Some(revision) => {
                            object.metadata_mut().resource_version = Some(revision.to_string());
                            ownership::shown(row, &mut *object, &managed, &value, revision)?
                        }
                        None => {
                            object.metadata_mut().resource_version = version;
                            ownership::show(&mut *object, &managed);
                            None
                        }
                    };
                    return Ok(Outcome {
                        object,
                        stored,
                        created: true,
                    });
                }
                Err(_) if generated && names < NAME_ATTEMPTS => {
                    names += 1;
                    let meta = object.metadata_mut();
                    let base = meta.generate_name.clone().unwrap_or_default();
                    meta.name = Some(metadata::generate_name(&base, &mut self.fork_random()));
                }
                Err(_) if generated => {
                    return Err(Error::generated_name_taken(&row.resource, &name));
                }
                Err(existing) => {
                    // Upstream asks whether a name could have been generated, not whether it was.
                    let base = object.metadata().generate_name.as_deref();
                    let error = match base.is_some_and(|base| !base.is_empty()) {
                        true => Error::generated_name_taken(&row.resource, &name),
                        false => Error::already_exists(&row.resource, &name),
                    };
                    let leaving = existing
                        .as_ref()
                        .and_then(|e| row.decode_entry(e).ok())
                        .is_some_and(|o| o.metadata().deletion_timestamp.is_some());
                    return Err(if leaving {
                        error.with_message(|m| format!("object is being deleted: {m}"))
                    } else {
                        error
                    });
                }
            }
        }
        Err(Error::internal("no address or port could be allocated"))
    }

    /// The rules of all metadata, then the kind's own.
    fn check_new(&self, target: &Target<'_>, object: &dyn Object) -> Result<()> {
        let resource = &target.row.resource;
        let name = object.metadata().name.as_deref().unwrap_or_default();
        let mut findings = metadata::validate(
            object.metadata(),
            target.row.is_namespaced(),
            &|name, prefix| resource.strategy.validate_new_name(object, name, prefix),
            &Path::new("metadata"),
        );
        findings.extend(resource.strategy.validate(object));
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(resource, name, &findings))
        }
    }
}

/// Fills in the namespace of the URL, or refuses another one.
pub(crate) fn match_namespace(target: &Target<'_>, object: &mut dyn Object) -> Result<()> {
    let meta = object.metadata_mut();
    let found = meta.namespace.as_deref().unwrap_or_default();
    if !target.row.is_namespaced() {
        meta.namespace = None;
        return Ok(());
    }
    if found.is_empty() {
        meta.namespace = Some(target.namespace.to_owned());
    } else if found != target.namespace {
        return Err(Error::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Fills in the name of the URL, or refuses another one.
pub(crate) fn match_name(target: &Target<'_>, object: &mut dyn Object) -> Result<()> {
    let meta = object.metadata_mut();
    let found = meta.name.as_deref().unwrap_or_default();
    if target.name.is_empty() {
        return Ok(());
    }
    if found.is_empty() {
        meta.name = Some(target.name.to_owned());
    } else if found != target.name {
        return Err(Error::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}
