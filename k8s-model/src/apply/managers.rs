//! [`Managers`]: the entries of `metadata.managedFields`.

use std::{borrow::Cow, collections::HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    set::{BadFields, FieldSet},
    tape::{Tape, write_string},
};

/// How many managers may have an entry for updates; the oldest are thrown together.
pub const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager of what was thrown together.
const ANCIENT: &str = "ancient-changes";

/// What a manager did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Anything else: create, update, the other patches.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// One manager's fields.
#[derive(Clone, Debug)]
pub(super) struct Manager<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) operation: Operation,
    pub(super) api_version: Cow<'a, str>,
    pub(super) subresource: Cow<'a, str>,
    /// To the second, in UTC, as in `2006-01-02T15:04:05Z`; empty if it is not known.
    pub(super) time: Cow<'a, str>,
    pub(super) fields: Fields<'a>,
}

/// A set that is read only when someone must know.
#[derive(Clone, Debug)]
pub(super) enum Fields<'a> {
    Raw(&'a [u8]),
    Set(FieldSet),
}

impl Fields<'_> {
    pub(super) fn set(&self) -> FieldSet {
        match self {
            // What was stored was read once already.
            Fields::Raw(json) => FieldSet::parse(json).unwrap_or_default(),
            Fields::Set(set) => set.clone(),
        }
    }

    /// Whether a set and it have a top-level field in common.
    pub(super) fn may_touch(&self, set: &FieldSet) -> bool {
        match self {
            Fields::Set(ours) => set.entries.keys().any(|e| ours.entries.contains_key(e)),
            Fields::Raw(json) => Tape::new(json).is_none_or(|tape| {
                tape.root()
                    .children()
                    .any(|child| set.entries.contains_key(&*child.key()))
            }),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Fields::Raw(json) => out.extend_from_slice(json),
            Fields::Set(set) => set.write(out),
        }
    }
}

impl Manager<'_> {
    /// Whether this and that are one entry: appliers whatever their version.
    pub(super) fn is_same(&self, other: &Manager<'_>) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As upstream names it in conflicts.
    pub(super) fn spell(&self) -> String {
        let mut out = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Manager {
            name,
            operation,
            api_version,
            subresource,
            time,
            fields,
        } = self;
        write_entry(
            &Head {
                name,
                operation: *operation,
                api_version,
                subresource,
                time,
            },
            |out| fields.write(out),
            out,
        );
    }
}

/// An entry without its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) operation: Operation,
    pub(super) api_version: &'a str,
    pub(super) subresource: &'a str,
    pub(super) time: &'a str,
}

/// Appends an entry, its members in the order in which `k8s_openapi` writes them.
pub(super) fn write_entry(head: &Head<'_>, fields: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"apiVersion\":");
    write_string(head.api_version, out);
    out.extend_from_slice(b",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":");
    fields(out);
    out.extend_from_slice(b",\"manager\":");
    write_string(head.name, out);
    out.extend_from_slice(b",\"operation\":\"");
    out.extend_from_slice(head.operation.as_str().as_bytes());
    out.push(b'"');
    if !head.subresource.is_empty() {
        out.extend_from_slice(b",\"subresource\":");
        write_string(head.subresource, out);
    }
    if !head.time.is_empty() {
        out.extend_from_slice(b",\"time\":");
        write_string(head.time, out);
    }
    out.push(b'}');
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers<'a>(pub(super) Vec<Manager<'a>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default, rename = "fieldsV1")]
    fields: Option<&'a RawValue>,
    #[serde(borrow, default)]
    manager: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    subresource: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

impl<'a> Managers<'a> {
    /// The entries as they are stored: JSON of a list, or nothing at all.
    pub(super) fn stored(json: &'a [u8]) -> Managers<'a> {
        if json.is_empty() {
            return Managers::default();
        }
        let Ok(entries) = serde_json::from_slice::<Vec<WireEntry<'a>>>(json) else {
            return Managers::default();
        };
        let managers = entries.into_iter().map(|entry| Manager {
            name: entry.manager,
            operation: match &*entry.operation {
                "Apply" => Operation::Apply,
                _ => Operation::Update,
            },
            api_version: entry.api_version,
            subresource: entry.subresource,
            time: entry.time,
            fields: Fields::Raw(entry.fields.map_or(b"{}", |f| f.get().as_bytes())),
        });
        Managers(managers.collect())
    }

    /// The entries that a client sent.
    ///
    /// # Errors
    ///
    /// With upstream's text, where they are not valid.
    pub(super) fn sent(entries: &[ManagedFieldsEntry]) -> Result<Managers<'static>, BadFields> {
        let bad = |text: String| Err(BadFields(text));
        let mut out: Vec<Manager<'static>> = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let operation = match entry.operation.as_deref() {
                Some("Apply") => Operation::Apply,
                Some("Update") => Operation::Update,
                _ => return bad("operation must be `Apply` or `Update`".into()),
            };
            let api_version = entry.api_version.clone().unwrap_or_default();
            if api_version.is_empty() {
                return bad("apiVersion must not be empty".into());
            }
            match entry.fields_type.as_deref().unwrap_or_default() {
                "FieldsV1" => {}
                "" => return bad(format!("missing fieldsType in managed fields entry {i}")),
                other => {
                    return bad(format!(
                        "invalid fieldsType {other:?} in managed fields entry {i}"
                    ));
                }
            }
            let fields = match &entry.fields_v1 {
                Some(fields) => FieldSet::from_value(&fields.0)?,
                None => FieldSet::default(),
            };
            let time = entry.time.as_ref().map(|time| spell_time(time.0));
            let manager = Manager {
                name: Cow::Owned(entry.manager.clone().unwrap_or_default()),
                operation,
                api_version: Cow::Owned(api_version),
                subresource: Cow::Owned(entry.subresource.clone().unwrap_or_default()),
                time: Cow::Owned(time.unwrap_or_default()),
                fields: Fields::Set(fields),
            };
            match out.iter_mut().find(|m| m.is_same(&manager)) {
                Some(known) => *known = manager,
                None => out.push(manager),
            }
        }
        Ok(Managers(out))
    }

    /// Appends them as the JSON of a list, sorted as upstream sorts them; nothing if there is none.
    pub(super) fn write(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0.sort_by(|a, b| {
            a.operation
                .as_str()
                .cmp(b.operation.as_str())
                .then_with(|| a.time.cmp(&b.time))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let mut out = Vec::with_capacity(512);
        for (i, manager) in self.0.iter().enumerate() {
            out.push(if i == 0 { b'[' } else { b',' });
            manager.write(&mut out);
        }
        out.push(b']');
        out
    }

    /// Throws the oldest entries for updates together where there are too many.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<usize> = (0..self.0.len())
            .filter(|i| self.0[*i].operation == Operation::Update)
            .collect();
        let mut left = updaters.len();
        if left <= MAX_UPDATE_MANAGERS {
            return;
        }
        updaters.sort_by_key(|i| {
            let m = &self.0[*i];
            (
                m.time.clone().into_owned(),
                m.api_version.clone().into_owned(),
                m.name.clone().into_owned(),
            )
        });
        // By version: the first that was seen, which becomes the bucket when there is a second.
        let mut buckets: HashMap<String, usize> = HashMap::new();
        let mut dropped = Vec::new();
        for i in updaters {
            if left <= MAX_UPDATE_MANAGERS {
                break;
            }
            let version = self.0[i].api_version.clone().into_owned();
            let Some(first) = buckets.get(&version).copied() else {
                buckets.insert(version, i);
                continue;
            };
            let known = self.0.iter().position(|m| {
                m.name == ANCIENT
                    && m.operation == Operation::Update
                    && m.subresource.is_empty()
                    && m.api_version == version
            });
            let bucket = match known {
                Some(bucket) if !dropped.contains(&bucket) => bucket,
                _ => {
                    self.0[first].name = Cow::Borrowed(ANCIENT);
                    self.0[first].subresource = Cow::Borrowed("");
                    first
                }
            };
            if bucket == i {
                continue;
            }
            let union = self.0[bucket].fields.set().union(self.0[i].fields.set());
            self.0[bucket].fields = Fields::Set(union);
            // The one that was merged in is the more recent.
            self.0[bucket].time = self.0[i].time.clone();
            dropped.push(i);
            left -= 1;
        }
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            !dropped.contains(&(at - 1))
        });
    }
}

/// A moment as entries have it.
pub(super) fn spell_time(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updater(i: usize, version: &'static str) -> Manager<'static> {
        let mut fields = FieldSet::default();
        fields.insert(&["f:data", &format!("f:{i}")]);
        Manager {
            name: format!("m{i}").into(),
            operation: Operation::Update,
            api_version: version.into(),
            subresource: "".into(),
            time: format!("2026-01-01T00:00:{i:02}Z").into(),
            fields: Fields::Set(fields),
        }
    }

    #[test]
    fn the_oldest_updaters_are_thrown_together() {
        let mut managers = Managers((0..12).map(|i| updater(i, "v1")).collect());
        managers.cap();
        assert_eq!(managers.0.len(), MAX_UPDATE_MANAGERS);
        let bucket = &managers.0[0];
        assert_eq!(bucket.name, "ancient-changes");
        assert_eq!(bucket.fields.set().paths().len(), 3);
        assert_eq!(bucket.time, "2026-01-01T00:00:02Z");
        // And once more, into the bucket that is there.
        managers.0.push(updater(12, "v1"));
        managers.cap();
        assert_eq!(managers.0.len(), MAX_UPDATE_MANAGERS);
        assert_eq!(managers.0[0].fields.set().paths().len(), 4);
    }

    #[test]
    fn versions_are_not_thrown_together() {
        let mut managers = Managers(vec![updater(0, "a/v1"), updater(1, "a/v2")]);
        managers.0.extend((2..11).map(|i| updater(i, "a/v2")));
        managers.cap();
        assert_eq!(managers.0.len(), MAX_UPDATE_MANAGERS);
        assert_eq!(managers.0[0].name, "m0");
        assert_eq!(managers.0[1].name, "ancient-changes");
    }

    #[test]
    fn what_is_stored_is_read_and_written_again() {
        let mut managers = Managers(vec![updater(1, "v1"), updater(0, "v1")]);
        managers.0[0].subresource = "status".into();
        let json = managers.write();
        let text = String::from_utf8(json.clone()).unwrap();
        assert_eq!(
            text,
            r#"[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:0":{}}},"manager":"m0","operation":"Update","time":"2026-01-01T00:00:00Z"},{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:1":{}}},"manager":"m1","operation":"Update","subresource":"status","time":"2026-01-01T00:00:01Z"}]"#
        );
        assert_eq!(Managers::stored(&json).write(), json);
        let typed: Vec<ManagedFieldsEntry> = serde_json::from_slice(&json).unwrap();
        assert_eq!(Managers::sent(&typed).unwrap().write(), json);
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        let entry = |op: &str, version: &str, ty: &str| ManagedFieldsEntry {
            operation: Some(op.into()),
            api_version: Some(version.into()),
            fields_type: Some(ty.into()),
            ..Default::default()
        };
        let refused = |e: ManagedFieldsEntry| Managers::sent(&[e]).unwrap_err().0;
        assert_eq!(
            refused(entry("x", "v1", "FieldsV1")),
            "operation must be `Apply` or `Update`"
        );
        assert_eq!(
            refused(entry("Apply", "", "FieldsV1")),
            "apiVersion must not be empty"
        );
        assert_eq!(
            refused(entry("Apply", "v1", "")),
            "missing fieldsType in managed fields entry 0"
        );
    }
}
