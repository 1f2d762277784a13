//! Watch events in the shape and format that the watcher wants.

use bytes::Bytes;
use k8s_model::protobuf::{self, encode_as, watch_frame};

use super::{Call, render, table};
use crate::{
    Error, Result,
    cache::EventType,
    http::negotiate::{Format, MetaVersion, Shape},
    registry::{
        Row,
        watch::{Told, Want, Writer},
    },
};

/// Writes watch events in the shape and format that the watcher wants.
pub(crate) struct Events {
    shape: Shape,
    meta: MetaVersion,
    format: Format,
    table: table::Options,
    /// A table's columns are told once.
    columns_told: bool,
}

impl Writer for Events {
    /// Events as lines of JSON, or as frames of protobuf.
    fn write(&mut self, want: &Want, told: &[Told]) -> Bytes {
        if let [one] = told {
            return self.one(want, one);
        }
        let all: Vec<Bytes> = told.iter().map(|told| self.one(want, told)).collect();
        Bytes::from(all.concat())
    }

    fn manner(&self) -> Option<String> {
        match self.shape {
            Shape::Table => None,
            shape => Some(format!("{shape:?} {:?} {:?}", self.meta, self.format)),
        }
    }
}

impl Events {
    pub(crate) fn new(call: &Call) -> Self {
        Events {
            shape: call.wanted.shape,
            meta: call.wanted.meta,
            format: call.wanted.format,
            table: table::Options::new(call),
            columns_told: false,
        }
    }

    fn one(&mut self, want: &Want, told: &Told) -> Bytes {
        let row = &want.row;
        if self.shape == Shape::Object
            && let Told::Change(event, change) = told
            && let Some(entry) = change.object(*event)
            && row.serves_as_stored(&entry.stored)
        {
            // Encoded once for all watchers.
            let encoded = match self.format {
                Format::Protobuf => change.protobuf(*event, |stored, revision| {
                    self.finish(row, event.as_str(), &stored.with_revision(revision))
                }),
                _ => change.json(*event),
            };
            if let Some(encoded) = encoded {
                return encoded;
            }
        }
        match self.shaped(want, told) {
            Ok((name, json)) => self.finish(row, name, &json),
            Err(error) => self.finish(row, "ERROR", &error.to_json()),
        }
    }

    /// The event of that type, with an object that is JSON.
    fn finish(&self, row: &Row, event: &str, json: &[u8]) -> Bytes {
        if self.format != Format::Protobuf {
            let mut line = Vec::with_capacity(json.len() + 64);
            line.extend_from_slice(b"{\"type\":\"");
            line.extend_from_slice(event.as_bytes());
            line.extend_from_slice(b"\",\"object\":");
            line.extend_from_slice(json);
            line.extend_from_slice(b"}\n");
            return Bytes::from(line);
        }
        let own = self.shape == Shape::Object && event != "ERROR";
        let encoded = match row.protobuf().filter(|_| own) {
            Some(form) => {
                let api_version = row.resource.api_version();
                encode_as(form.object, &api_version, row.resource.kind, json)
            }
            None => protobuf::encode(json),
        };
        match encoded {
            Ok(object) => Bytes::from(watch_frame(event, &object)),
            Err(error) => {
                tracing::error!(%error, "a watch event cannot be encoded");
                let status = Error::internal(error).to_json();
                let status = protobuf::encode(&status).unwrap_or_default();
                Bytes::from(watch_frame("ERROR", &status))
            }
        }
    }

    /// The type of the event and its object, in the shape that is wanted.
    fn shaped(&mut self, want: &Want, told: &Told) -> Result<(&'static str, Vec<u8>)> {
        let row = &want.row;
        let (event, entry, revision) = match told {
            Told::Existing(entry) => (EventType::Added, entry, entry.revision),
            Told::Change(event, change) => {
                let gone = || Error::internal("a change of nothing");
                let entry = change.object(*event).ok_or_else(gone)?;
                (*event, entry, change.revision)
            }
            Told::Bookmark {
                revision,
                initial_end,
            } => return Ok(("BOOKMARK", self.bookmark(row, *revision, *initial_end))),
            Told::Failed(error) => return Ok(("ERROR", error.to_json())),
        };
        let json = match self.shape {
            Shape::Object => row.json(&entry.stored, revision)?.into(),
            Shape::Metadata => render::partial(&row.json(&entry.stored, revision)?, self.meta)?,
            Shape::Table => self.table_of(want, row.decode(&entry.stored, revision)?)?,
        };
        Ok((EventType::as_str(event), json))
    }

    fn table_of(&mut self, want: &Want, object: Box<dyn k8s_model::Object>) -> Result<Vec<u8>> {
        let version = object.metadata().resource_version.clone();
        let meta = table::ListMeta {
            resource_version: version.unwrap_or_default(),
            ..Default::default()
        };
        let columns = !std::mem::replace(&mut self.columns_told, true);
        let now = (want.registry.clock)();
        table::json(&want.row, &[object], &meta, self.table, columns, now)
    }

    /// Nothing but the kind and a resource version.
    fn bookmark(&self, row: &Row, revision: u64, initial_end: bool) -> Vec<u8> {
        let annotations = if initial_end {
            ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}"
        } else {
            ""
        };
        let own = row.resource.api_version();
        let (kind, api_version, close) = match self.shape {
            Shape::Object => (row.resource.kind, &*own, ""),
            Shape::Metadata => (render::PARTIAL, self.meta.api_version(), ""),
            Shape::Table => (
                "Table",
                self.meta.api_version(),
                ",\"columnDefinitions\":null,\"rows\":[]",
            ),
        };
        format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\"creationTimestamp\":null{annotations}}}{close}}}"
        )
        .into_bytes()
    }
}
