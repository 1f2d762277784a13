//! [`Entry`]: a stored object, and what selectors ask of it. [`Event`]: a change of one.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use k8s_model::{Object, Resource};
use serde::Deserialize;

use crate::registry::value::{BadValue, Corrupt, Stored};

/// An object as it is stored, sharing the store's memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    pub(crate) revision: u64,
    pub(crate) stored: Stored,
    index: OnceLock<Box<Index>>,
}

/// What selectors ask of an object, in as little memory as can be: there may be one for each object. Read from its
/// bytes when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Keys and values of its labels, then the values of the fields that can be selected by.
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
    labels: usize,
    /// The names of the fields.
    names: Cow<'static, [&'static str]>,
    /// The object is not what it should be: nobody knows what is in it.
    unreadable: bool,
}

impl Index {
    fn new(
        labels: Option<&BTreeMap<String, String>>,
        fields: &[(&'static str, String)],
        names: &'static [&'static str],
    ) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        let mut add = |part: &str| {
            text.push_str(part);
            ends.push(text.len() as u32);
        };
        for (key, value) in labels.into_iter().flatten() {
            add(key);
            add(value);
        }
        fields.iter().for_each(|(_, value)| add(value));
        let found = fields.iter().map(|(name, _)| *name);
        Index {
            text: text.into(),
            ends: ends.into(),
            labels: labels.map_or(0, BTreeMap::len),
            names: match found.clone().eq(names.iter().copied()) {
                true => Cow::Borrowed(names),
                false => Cow::Owned(found.collect()),
            },
            unreadable: false,
        }
    }

    fn part(&self, at: usize) -> Option<&str> {
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start as usize..*self.ends.get(at)? as usize)
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let found = (0..self.labels).find(|at| self.part(at * 2) == Some(key))?;
        self.part(found * 2 + 1)
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.names.iter().position(|found| *found == name)?;
        self.part(self.labels * 2 + found)
    }
}

#[derive(Deserialize)]
struct OnlyLabels {
    #[serde(default)]
    metadata: Labels,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Entry {
    pub(crate) fn new(entry: &k8s_store::Entry) -> Result<Self, Corrupt> {
        Ok(Entry {
            key: entry.key.clone(),
            revision: entry.modified.0,
            stored: Stored::of(entry)?,
            index: OnceLock::new(),
        })
    }

    /// The same with the object in another version.
    pub(crate) fn with(&self, stored: Stored) -> Self {
        Entry {
            key: self.key.clone(),
            revision: self.revision,
            stored,
            index: OnceLock::new(),
        }
    }

    /// What selectors ask of it. `resource` is the row that it is stored under.
    pub(crate) fn index(&self, resource: &Resource) -> &Index {
        self.index
            .get_or_init(|| Box::new(self.read_index(resource)))
    }

    /// The same for who must not take an object that cannot be read for one that is not selected.
    pub(crate) fn readable_index(&self, resource: &Resource) -> Result<&Index, Corrupt> {
        match self.index(resource) {
            index if index.unreadable => {
                let why = BadValue("it cannot be decoded");
                Err(Corrupt::new(&self.key, self.revision, why))
            }
            index => Ok(index),
        }
    }

    fn read_index(&self, resource: &Resource) -> Index {
        let names = resource.strategy.selectable_field_names();
        let unreadable = |error: &dyn std::fmt::Display| {
            let key = self.key.escape_ascii();
            tracing::error!(%key, %error, "a stored object cannot be decoded");
            Index {
                unreadable: true,
                ..Index::default()
            }
        };
        if !resource.strategy.has_selectable_fields() {
            return match serde_json::from_slice::<OnlyLabels>(self.stored.json()) {
                Ok(only) => Index::new(only.metadata.labels.as_ref(), &[], names),
                Err(error) => unreadable(&error),
            };
        }
        match decode(resource, &self.stored.bare()) {
            Ok(object) => {
                let fields = resource.strategy.selectable_fields(&*object);
                Index::new(object.metadata().labels.as_ref(), &fields, names)
            }
            Err(error) => unreadable(&error),
        }
    }
}

fn decode(resource: &Resource, json: &[u8]) -> k8s_model::Decoded {
    match resource.strategy.custom() {
        Some(custom) => {
            let mut object = custom.decode_stored(json)?;
            // It is selected as it is read: with the defaults of today.
            if object.api_version() == custom.api_version() {
                custom.settle(&mut object);
            }
            Ok(Box::new(object))
        }
        None => (resource.codec.from_json)(json, &mut |_| {}),
    }
}

/// What a watcher is told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) current: Option<Arc<Entry>>,
    pub(crate) previous: Option<Arc<Entry>>,
    /// What was written is no object: its key, and why.
    unreadable: Option<Box<(Bytes, Corrupt)>>,
    encoded: [OnceLock<Bytes>; 3],
    /// The same in protobuf: nothing until somebody watches so.
    protobuf: OnceLock<Box<[OnceLock<Bytes>; 3]>>,
}

impl Event {
    pub(crate) fn new(
        revision: u64,
        current: Option<Arc<Entry>>,
        previous: Option<Arc<Entry>>,
    ) -> Self {
        Event {
            revision,
            current,
            previous,
            unreadable: None,
            encoded: Default::default(),
            protobuf: OnceLock::new(),
        }
    }

    /// That something was written which cannot be read.
    pub(crate) fn unreadable(revision: u64, key: Bytes, error: Corrupt) -> Self {
        Event {
            unreadable: Some(Box::new((key, error))),
            ..Event::new(revision, None, None)
        }
    }

    /// Why nobody can tell what was written.
    pub(crate) fn fault(&self) -> Option<&Corrupt> {
        self.unreadable.as_deref().map(|(_, error)| error)
    }

    pub(crate) fn key(&self) -> &Bytes {
        match (&self.current, &self.previous) {
            (Some(entry), _) | (None, Some(entry)) => &entry.key,
            (None, None) => {
                static EMPTY: Bytes = Bytes::new();
                self.unreadable.as_deref().map_or(&EMPTY, |(key, _)| key)
            }
        }
    }

    /// The object that an event of that type shows: what a deleted object last was, with the
    /// revision of its deletion.
    pub(crate) fn object(&self, event: EventType) -> Option<&Arc<Entry>> {
        match event {
            EventType::Added | EventType::Modified => self.current.as_ref(),
            EventType::Deleted => self.previous.as_ref(),
        }
    }

    /// The event in the stored version, as a line of JSON. Encoded once for all watchers.
    pub(crate) fn json(&self, event: EventType) -> Option<Bytes> {
        let entry = self.object(event)?;
        Some(
            self.encoded[event as usize]
                .get_or_init(|| event_json(event, &entry.stored, self.revision))
                .clone(),
        )
    }

    /// The event in the stored version as a frame of protobuf, which `encode` makes of an object and
    /// its revision. Encoded once for all watchers.
    pub(crate) fn protobuf(
        &self,
        event: EventType,
        encode: impl FnOnce(&Stored, u64) -> Bytes,
    ) -> Option<Bytes> {
        let entry = self.object(event)?;
        let frames = self.protobuf.get_or_init(Box::default);
        let frame = &frames[event as usize];
        Some(
            frame
                .get_or_init(|| encode(&entry.stored, self.revision))
                .clone(),
        )
    }
}

/// A watch event as a line of JSON.
fn event_json(event: EventType, stored: &Stored, revision: u64) -> Bytes {
    let mut out = Vec::with_capacity(stored.json().len() + 64);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    stored.write(0, revision, &mut out);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_fields_are_found_by_name() {
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let labels: BTreeMap<String, String> =
            [("a", "1"), ("b", ""), ("spec.x", "3")].map(pair).into();
        let fields = [("spec.x", "five".to_owned()), ("spec.y", String::new())];
        for names in [&["spec.x", "spec.y"][..], &["spec.y"]] {
            let index = Index::new(Some(&labels), &fields, names);
            let found = ["a", "b", "spec.x", "c"].map(|key| index.label(key));
            assert_eq!(found, [Some("1"), Some(""), Some("3"), None]);
            let found = ["spec.x", "spec.y", "a"].map(|name| index.field(name));
            assert_eq!(found, [Some("five"), Some(""), None]);
        }
        assert_eq!(Index::default().label("a"), None);
        assert_eq!(Index::default().field("a"), None);
    }
}
