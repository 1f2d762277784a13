//! [`Entry`]: a stored object, and what selectors ask of it. [`Event`]: a change of one.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use k8s_model::Resource;
use serde::Deserialize;

use crate::registry::value::{BadValue, Stored};

/// An object as it is stored, sharing the store's memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    pub(crate) revision: u64,
    pub(crate) stored: Stored,
    index: OnceLock<Index>,
}

/// What selectors ask of an object. Read from its bytes when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) fields: Vec<(&'static str, String)>,
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
    pub(crate) fn new(entry: &k8s_store::Entry) -> Result<Self, BadValue> {
        Ok(Entry {
            key: entry.key.clone(),
            revision: entry.modified.0,
            stored: Stored::parse(&entry.value)?,
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
        self.index.get_or_init(|| {
            if resource.strategy.selectable_field_names().is_empty() {
                let labels = serde_json::from_slice::<OnlyLabels>(self.stored.json()).map(|o| o.metadata.labels);
                Index { labels: labels.ok().flatten().unwrap_or_default(), fields: Vec::new() }
            } else {
                match decode(resource, &self.stored.bare()) {
                    Ok(object) => Index {
                        labels: object.metadata().labels.clone().unwrap_or_default(),
                        fields: resource.strategy.selectable_fields(&*object),
                    },
                    Err(error) => {
                        tracing::error!(key = %self.key.escape_ascii(), %error, "a stored object cannot be decoded");
                        Index::default()
                    }
                }
            }
        })
    }
}

fn decode(resource: &Resource, json: &[u8]) -> k8s_model::Decoded {
    match resource.strategy.custom() {
        Some(custom) => Ok(Box::new(custom.decode_stored(json)?)),
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
            encoded: Default::default(),
            protobuf: OnceLock::new(),
        }
    }

    pub(crate) fn key(&self) -> &Bytes {
        match (&self.current, &self.previous) {
            (Some(entry), _) | (None, Some(entry)) => &entry.key,
            (None, None) => {
                static EMPTY: Bytes = Bytes::new();
                &EMPTY
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
