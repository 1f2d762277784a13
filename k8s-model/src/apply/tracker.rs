//! [`Tracker`]: what becomes of ownership when someone writes.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::{
    BEFORE_FIRST_APPLY, Operation, UNKNOWN,
    conflict::{ApplyError, Conflict, slashed},
    created::Created,
    last_applied,
    managers::{Fields, Head, Manager, Managers, spell_time, write_entry},
    merge,
    schema::Shape,
    set::FieldSet,
    tape::Tape,
    validate,
    versions::{OtherVersions, Versions},
    walk::{self, Comparison},
};
use crate::Object;

/// The metadata that nobody owns, as upstream strips it.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// A writer of an object, and what must be known of the object's kind.
///
/// Objects are JSON as a serializer writes it, in the version of the request, without
/// `metadata.managedFields`; of a new one no text is needed. Managed fields are the JSON of the list, or nothing.
#[derive(Clone, Copy)]
pub struct Tracker<'a> {
    /// The shape of the kind in the version of the request.
    pub shape: &'a Shape,
    /// The version of the request.
    pub api_version: &'a str,
    /// The subresource that is written, or nothing.
    pub subresource: &'a str,
    /// The writer's name; none is [`UNKNOWN`].
    pub manager: &'a str,
    /// What the resource resets, see [`reset_fields`](super::reset_fields).
    pub reset: &'a [&'a [&'a str]],
    /// What the time is.
    pub now: Timestamp,
    /// The other versions of the kind.
    pub versions: &'a dyn Versions,
}

impl std::fmt::Debug for Tracker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker")
            .field("manager", &self.manager)
            .field("api_version", &self.api_version)
            .field("subresource", &self.subresource)
            .finish_non_exhaustive()
    }
}

/// What applying a configuration gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object as it is now, or `None` if nothing but ownership changed.
    pub object: Option<Value>,
    /// Its managed fields.
    pub managed: Vec<u8>,
}

/// Whether two objects' managed fields tell the same but for when it was: then a write that changes
/// nothing else changes nothing.
pub fn differ_only_in_time(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Managers::stored(a).0, Managers::stored(b).0);
    a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| {
            a.is_same(b) && a.api_version == b.api_version && a.fields.set() == b.fields.set()
        })
}

impl<'a> Tracker<'a> {
    fn name(&self) -> &'a str {
        if self.manager.is_empty() {
            UNKNOWN
        } else {
            self.manager
        }
    }

    /// The managed fields of an object that this writer makes: all that is set is its own.
    pub fn created(&self, object: &dyn Object) -> Vec<u8> {
        let mut told = true;
        let managed = self.all_new(|created| told = object.tell_json(created));
        if told {
            return managed;
        }
        let mut json = Vec::with_capacity(1024);
        object.write_json(&mut json);
        self.created_json(&json)
    }

    /// The same of an object that is JSON.
    pub fn created_json(&self, object: &[u8]) -> Vec<u8> {
        match Tape::new(object) {
            Some(tape) => self.all_new(|created| tape.root().tell(created)),
            None => Vec::new(),
        }
    }

    /// The managed fields of the creator of an object that is told so.
    fn all_new(&self, tell: impl FnOnce(&mut Created<'_>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.push(b'[');
        let mut any = false;
        write_entry(
            &self.head(Operation::Update, self.name(), &spell_time(self.now)),
            |out| {
                let skip = |path: &[&[u8]]| self.is_not_owned(path);
                let mut created = Created::new(self.shape, &skip, out);
                tell(&mut created);
                any = created.any();
            },
            &mut out,
        );
        out.push(b']');
        if any { out } else { Vec::new() }
    }

    /// Whether a creator does not own the field there: one of the object, or of its metadata.
    fn is_not_owned(&self, path: &[&[u8]]) -> bool {
        let is = |name: &str, other: &[u8]| name.as_bytes() == other;
        match path {
            [b"apiVersion" | b"kind"] => true,
            [b"metadata", name] => {
                UNOWNED_METADATA.iter().any(|n| is(n, name))
                    || (self.reset.iter()).any(|r| matches!(r, ["metadata", n] if is(n, name)))
            }
            [name] => self.reset.iter().any(|r| matches!(r, [n] if is(n, name))),
            _ => false,
        }
    }

    fn head<'h>(&'h self, operation: Operation, name: &'h str, time: &'h str) -> Head<'h> {
        Head {
            name,
            operation,
            api_version: self.api_version,
            subresource: self.subresource,
            time,
        }
    }

    fn entry(&self, operation: Operation, fields: FieldSet) -> Manager<'static> {
        Manager {
            name: Cow::Owned(self.name().to_owned()),
            operation,
            api_version: Cow::Owned(self.api_version.to_owned()),
            subresource: Cow::Owned(self.subresource.to_owned()),
            time: Cow::Owned(self.time()),
            fields: Fields::Set(fields),
        }
    }

    /// When it is. Nobody notes the time for a scale, as upstream passes its owners on without.
    fn time(&self) -> String {
        match self.subresource {
            "scale" => String::new(),
            _ => spell_time(self.now),
        }
    }

    /// The managed fields of an object after this writer changed it by anything but apply: what it
    /// added or changed becomes its own, and what it removed is nobody's.
    ///
    /// `sent` are the managed fields that the writer's object has, if it has any: a list that is
    /// empty or holds one empty entry ends all tracking.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Conversion`], if others own fields in a version that the object cannot be had in.
    pub fn updated<'m>(
        &self,
        old: &[u8],
        new: &[u8],
        managed: &'m [u8],
        sent: Option<&[ManagedFieldsEntry]>,
    ) -> Result<Cow<'m, [u8]>, ApplyError> {
        let sent = sent.filter(|_| self.subresource.is_empty());
        let mut managers = None;
        if let Some(sent) = sent {
            if sent.is_empty() || sent == [ManagedFieldsEntry::default()] {
                return Ok(Cow::Borrowed(&[]));
            }
            managers = Managers::sent(sent).ok();
        }
        let is_sent = managers.is_some();
        if !is_sent && managed.is_empty() {
            return Ok(Cow::Borrowed(managed));
        }
        if old == new && !is_sent {
            return Ok(Cow::Borrowed(managed));
        }
        let (Some(old), Some(new)) = (Tape::new(old), Tape::new(new)) else {
            return Ok(Cow::Borrowed(managed));
        };
        let mut comparison = walk::compare(old.root(), new.root(), self.shape);
        self.exclude(&mut comparison, true);
        if comparison.is_same() {
            return Ok(match managers {
                Some(sent) => Cow::Owned(sent.write()),
                None => Cow::Borrowed(managed),
            });
        }
        let mut managers = managers.unwrap_or_else(|| Managers::stored(managed));
        let gained = comparison.added.clone().union(comparison.modified.clone());
        let json = |tape: &Tape<'_>| serde_json::from_slice(tape.root().bytes()).ok();
        let mut other = OtherVersions::new(self, || Some((json(&old)?, json(&new)?)));
        managers.0.retain_mut(|manager| {
            let (gained, removed) = if manager.api_version == self.api_version {
                (&gained, &comparison.removed)
            } else {
                match other.comparison(&manager.api_version) {
                    Some(sets) => sets,
                    None => return false,
                }
            };
            if !manager.fields.may_touch(gained) && !manager.fields.may_touch(removed) {
                return true;
            }
            let mut set = manager.fields.set();
            set.subtract(gained);
            set.subtract(removed);
            let stays = !set.is_empty();
            manager.fields = Fields::Set(set);
            stays
        });
        other.failure()?;
        if !gained.is_empty() {
            let mut entry = self.entry(Operation::Update, FieldSet::default());
            match managers.0.iter_mut().find(|m| m.is_same(&entry)) {
                Some(known) => {
                    known.fields = Fields::Set(known.fields.set().union(gained));
                    known.time = entry.time;
                }
                None => {
                    entry.fields = Fields::Set(gained);
                    managers.0.push(entry);
                }
            }
        }
        managers.cap();
        Ok(Cow::Owned(managers.write()))
    }

    /// Takes out of sets what nobody owns and what the resource resets.
    pub(super) fn exclude(&self, comparison: &mut Comparison, unowned: bool) {
        for set in comparison.sets() {
            if unowned {
                strip(set);
            }
            set.subtract_below(&self.reset_set());
        }
    }

    fn reset_set(&self) -> FieldSet {
        let mut out = FieldSet::default();
        for path in self.reset {
            let path: Vec<String> = path.iter().map(|name| format!("f:{name}")).collect();
            out.insert(&path.iter().map(String::as_str).collect::<Vec<_>>());
        }
        out
    }

    /// Applies a configuration to an object: merges it in, takes out what this applier owned and
    /// applies no more if nobody else owns it, and makes what is applied its own.
    ///
    /// `live` is the object as it is, or what there is of one that does not exist: its `apiVersion`
    /// and `kind`. Without `force` nothing is applied if others own what would change.
    ///
    /// # Errors
    ///
    /// See [`ApplyError`].
    pub fn apply(
        &self,
        live: Value,
        config: &Value,
        managed: &[u8],
        force: bool,
    ) -> Result<Applied, ApplyError> {
        self.check(&live, config)?;
        let exists = live.pointer("/metadata/uid").is_some();
        let managed = if managed.is_empty() && exists {
            let before = Tracker {
                manager: BEFORE_FIRST_APPLY,
                ..*self
            };
            Cow::Owned(before.created_json(live.to_string().as_bytes()))
        } else {
            Cow::Borrowed(managed)
        };
        let live_copy = (self.manager == last_applied::KUBECTL).then(|| live.clone());
        let applied = match self.apply_once(live, config, &managed, force) {
            Err(ApplyError::Conflicts(conflicts)) => {
                let Some(live) = live_copy.clone() else {
                    return Err(ApplyError::Conflicts(conflicts));
                };
                match last_applied::remaining_conflicts(
                    &conflicts,
                    &live,
                    self.api_version,
                    self.shape,
                ) {
                    None => return Err(ApplyError::Conflicts(conflicts)),
                    Some(rest) if !rest.is_empty() => return Err(ApplyError::Conflicts(rest)),
                    Some(_) => self.apply_once(live, config, &managed, true),
                }
            }
            other => other,
        };
        let mut applied = applied?;
        if let Some(live) = live_copy {
            let mut object = applied.object.take().unwrap_or_else(|| live.clone());
            last_applied::sync(&mut object, config);
            applied.object = (object != live).then_some(object);
        }
        Ok(applied)
    }

    /// What is wrong with a configuration by itself.
    fn check(&self, live: &Value, config: &Value) -> Result<(), ApplyError> {
        let text = |value: &Value, name: &str| {
            let found = value.get(name).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let (version, kind) = (text(config, "apiVersion"), text(config, "kind"));
        if version != self.api_version || kind != text(live, "kind") {
            return Err(ApplyError::of_type(&version, &kind));
        }
        let null = json!(null);
        let meta = config.get("metadata").unwrap_or(&null);
        if meta.get("managedFields").is_some_and(|m| !m.is_null()) {
            return Err(ApplyError::ManagedFields);
        }
        let findings = validate::findings(config, self.shape);
        if findings.is_empty() {
            return Ok(());
        }
        Err(ApplyError::Typed {
            object: format!(
                "{}/{}; {}, Kind={kind}",
                text(meta, "namespace"),
                text(meta, "name"),
                slashed(&version)
            ),
            text: validate::text(&findings),
        })
    }

    fn apply_once(
        &self,
        live: Value,
        config: &Value,
        managed: &[u8],
        force: bool,
    ) -> Result<Applied, ApplyError> {
        let mut managers = Managers::stored(managed);
        for manager in &mut managers.0 {
            if let Some(shape) = self.shape_of(&manager.api_version) {
                manager.fields = Fields::Set(manager.fields.set().reconciled(&shape));
            }
        }
        let mut owned = fields_of(config, self.shape);
        owned.subtract_below(&self.reset_set());

        let mut entry = self.entry(Operation::Apply, FieldSet::default());
        let last = managers
            .0
            .iter()
            .position(|m| m.is_same(&entry))
            .map(|at| managers.0.remove(at));
        let merged = merge::merge(live.clone(), config, self.shape);
        let new = match &last {
            Some(last) => {
                let pruned = self.prune(merged, &managers, &owned, last)?;
                // What is applied as empty stays, though all that was in it goes.
                match has_empty(config) {
                    true => merge::merge(pruned, config, self.shape),
                    false => pruned,
                }
            }
            None => merged,
        };
        // Not before: a name keeps the metadata around it in place.
        strip(&mut owned);

        let mut comparison = compare(&live, &new, self.shape);
        self.exclude(&mut comparison, false);
        let same = comparison.is_same();
        self.exclude(&mut comparison, true);
        let gained = comparison.added.union(comparison.modified);
        let removed = comparison.removed;
        let mut other = OtherVersions::new(self, || Some((live.clone(), new.clone())));
        let mut conflicts = Vec::new();
        managers.0.retain_mut(|manager| {
            let (gained, removed) = if manager.api_version == self.api_version {
                (&gained, &removed)
            } else if gained.is_empty() && removed.is_empty() {
                // Then nothing changes in any version, and nobody is asked for one.
                return self.versions.shape(&manager.api_version).is_some();
            } else {
                match other.comparison(&manager.api_version) {
                    Some(sets) => sets,
                    None => return false,
                }
            };
            let mut set = manager.fields.set();
            let spelled = manager.spell();
            let lost = set.intersection(gained).paths();
            conflicts.extend(lost.into_iter().map(|path| Conflict {
                manager: spelled.clone(),
                path,
            }));
            set.subtract(gained);
            set.subtract(removed);
            let stays = !set.is_empty();
            manager.fields = Fields::Set(set);
            stays
        });
        other.failure()?;
        if !force && !conflicts.is_empty() {
            conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
            return Err(ApplyError::Conflicts(conflicts));
        }
        if !owned.is_empty() {
            entry.fields = Fields::Set(owned);
            if same {
                entry.time = last.map(|last| last.time).unwrap_or_default();
            }
            managers.0.push(entry);
        }
        Ok(Applied {
            object: (!same).then_some(new),
            managed: managers.write(),
        })
    }

    /// Takes out what was applied last, is not now, and nobody else owns.
    fn prune(
        &self,
        merged: Value,
        managers: &Managers<'_>,
        owned: &FieldSet,
        last: &Manager<'_>,
    ) -> Result<Value, ApplyError> {
        let last_set = last.fields.set();
        let Some(shape) = self.shape_of(&last.api_version) else {
            return Ok(merged);
        };
        if last_set.is_empty() {
            return Ok(merged);
        }
        let in_last = self.convert(merged, self.api_version, &last.api_version)?;
        let last_set = last_set.with_named_parents(&shape);
        let pruned = merge::remove(in_last.clone(), &last_set, &shape);
        let (pruned, version) =
            self.add_back_owned(&in_last, pruned, managers, owned, &last.api_version)?;
        let pruned = self.convert(pruned, &version, &last.api_version)?;
        // Nothing but what was applied last goes, not even what is left without a parent.
        let mut dangling = fields_of(&in_last, &shape).with_named_parents(&shape);
        dangling.subtract(&fields_of(&pruned, &shape).with_named_parents(&shape));
        let kept = merge::remove(in_last, &dangling.intersection(&last_set), &shape);
        self.convert(kept, &last.api_version, self.api_version)
    }

    /// The pruned object with what anybody owns put back, and in which version it is.
    fn add_back_owned(
        &self,
        merged: &Value,
        pruned: Value,
        managers: &Managers<'_>,
        owned: &FieldSet,
        version: &str,
    ) -> Result<(Value, String), ApplyError> {
        // What is owned in the version of the pruned object first: what goes for a moment may be what a
        // conversion needs.
        let mut by_version: Vec<(String, FieldSet)> =
            vec![(version.to_owned(), FieldSet::default())];
        let mut add = |version: &str, set: FieldSet| match by_version
            .iter_mut()
            .find(|(v, _)| v == version)
        {
            Some((_, all)) => *all = std::mem::take(all).union(set),
            None => by_version.push((version.to_owned(), set)),
        };
        add(self.api_version, owned.clone());
        for manager in &managers.0 {
            add(&manager.api_version, manager.fields.set());
        }
        let (mut merged, mut pruned) = (merged.clone(), pruned);
        let mut current = version.to_owned();
        for (version, managed) in by_version {
            if managed.is_empty() {
                continue;
            }
            let Some(shape) = self.shape_of(&version) else {
                continue;
            };
            // Both before either fails: who asks others for conversions asks for both at once.
            let merged_here = self.convert(merged.clone(), &current, &version);
            let pruned_here = self.convert(pruned.clone(), &current, &version)?;
            merged = merged_here?;
            let mut gone = fields_of(&merged, &shape).with_named_parents(&shape);
            gone.subtract(&fields_of(&pruned_here, &shape).with_named_parents(&shape));
            gone.subtract(&managed.with_named_parents(&shape));
            pruned = merge::remove(merged.clone(), &gone, &shape);
            current = version;
        }
        Ok((pruned, current))
    }

    /// The shape of a version, if there is that version.
    fn shape_of(&self, version: &str) -> Option<Cow<'_, Shape>> {
        match version == self.api_version {
            true => Some(Cow::Borrowed(self.shape)),
            false => self.versions.shape(version).map(Cow::Owned),
        }
    }

    fn convert(&self, object: Value, from: &str, to: &str) -> Result<Value, ApplyError> {
        if from == to {
            return Ok(object);
        }
        let converted = self.versions.convert(&object, to);
        converted.map_err(ApplyError::Conversion)
    }
}

/// Whether there is an empty list or map somewhere.
fn has_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty() || fields.values().any(has_empty),
        Value::Array(items) => items.is_empty() || items.iter().any(has_empty),
        _ => false,
    }
}

fn fields_of(value: &Value, shape: &Shape) -> FieldSet {
    let json = value.to_string();
    Tape::new(json.as_bytes()).map_or_else(FieldSet::default, |tape| {
        walk::fields_of(tape.root(), shape)
    })
}

pub(super) fn compare(old: &Value, new: &Value, shape: &Shape) -> Comparison {
    let (old, new) = (old.to_string(), new.to_string());
    match (Tape::new(old.as_bytes()), Tape::new(new.as_bytes())) {
        (Some(old), Some(new)) => walk::compare(old.root(), new.root(), shape),
        _ => Comparison::default(),
    }
}

/// Takes out what nobody owns.
fn strip(set: &mut FieldSet) {
    set.entries.remove("f:apiVersion");
    set.entries.remove("f:kind");
    if let Some(meta) = set.entries.get_mut("f:metadata") {
        meta.member = false;
        for name in UNOWNED_METADATA {
            meta.children.entries.remove(&format!("f:{name}"));
        }
        if meta.is_empty() {
            set.entries.remove("f:metadata");
        }
    }
}
