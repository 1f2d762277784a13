//! Objects, lists and events in the shape that the client wants.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use k8s_model::Object;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Call;
use crate::{
    Error, Result,
    cache::{Entry, EventType},
    http::{Body, negotiate::Shape, response},
    registry::{Outcome, Row, list::Listed, value::Stored, watch::Told},
};

/// How much of a list is written at a time.
const CHUNK: usize = 128 * 1024;

/// A stored object.
pub(crate) fn stored(
    call: &Call,
    row: &Row,
    code: StatusCode,
    stored: &Stored,
    revision: u64,
) -> Result<Response<Body>> {
    let body = match call.wanted.shape {
        Shape::Object => {
            Body::from_slices([row.json(stored, revision)?, Bytes::from_static(b"\n")])
        }
        Shape::Metadata => {
            let mut out = partial(&row.json(stored, revision)?)?;
            out.push(b'\n');
            Body::from(out)
        }
        Shape::Table => {
            let object = row.decode(stored, revision)?;
            return super::table::of_objects(
                call,
                row,
                code,
                &[object],
                &super::table::ListMeta::of(revision),
            );
        }
    };
    response::json(code, &call.wanted, body)
}

/// What a write left.
pub(crate) fn outcome(
    call: &Call,
    row: &Row,
    code: StatusCode,
    outcome: &Outcome,
) -> Result<Response<Body>> {
    match &outcome.stored {
        Some((bytes, revision)) => stored(call, row, code, bytes, *revision),
        None => object(call, row, code, &*outcome.object),
    }
}

/// An object that is not stored.
pub(crate) fn object(
    call: &Call,
    row: &Row,
    code: StatusCode,
    object: &dyn Object,
) -> Result<Response<Body>> {
    let mut out = Vec::new();
    match call.wanted.shape {
        Shape::Object => object.write_json(&mut out),
        Shape::Metadata => {
            let mut json = Vec::new();
            object.write_json(&mut json);
            out = partial(&json)?;
        }
        Shape::Table => {
            let meta = super::table::ListMeta::default();
            return super::table::of_objects(call, row, code, &[object.boxed_clone()], &meta);
        }
    }
    out.push(b'\n');
    response::json(code, &call.wanted, Body::from(out))
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// An object's metadata as a `PartialObjectMetadata`.
pub(crate) fn partial(json: &[u8]) -> Result<Vec<u8>> {
    let only: OnlyMetadata<'_> = serde_json::from_slice(json).map_err(Error::internal)?;
    Ok(format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{}}}",
        only.metadata.get()
    )
    .into_bytes())
}

/// A list.
pub(crate) fn list(call: &Call, row: &Arc<Row>, listed: Listed) -> Result<Response<Body>> {
    let mut meta = format!("\"resourceVersion\":\"{}\"", listed.revision);
    if let Some(token) = &listed.continue_token {
        meta.push_str(&format!(",\"continue\":\"{token}\""));
    }
    if let Some(remaining) = listed.remaining {
        meta.push_str(&format!(",\"remainingItemCount\":{remaining}"));
    }
    let body = match call.wanted.shape {
        Shape::Object => {
            let head = [&row.list_head[..], meta.as_bytes(), b"},\"items\":["].concat();
            if row.is_storage_version() {
                stored_items(row.clone(), head, listed.entries)
            } else {
                converted_items(row, head, &listed.entries)?
            }
        }
        Shape::Metadata => {
            let mut out = format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{{{meta}}},\"items\":["
            )
            .into_bytes();
            for (i, entry) in listed.entries.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&partial(&row.json(&entry.stored, entry.revision)?)?);
            }
            out.extend_from_slice(b"]}\n");
            Body::from(out)
        }
        Shape::Table => {
            let objects = listed
                .entries
                .iter()
                .map(|entry| row.decode(&entry.stored, entry.revision))
                .collect::<Result<Vec<_>>>()?;
            let meta = super::table::ListMeta {
                resource_version: listed.revision.to_string(),
                continue_token: listed.continue_token,
                remaining: listed.remaining,
            };
            return super::table::of_objects(call, row, StatusCode::OK, &objects, &meta);
        }
    };
    response::json(StatusCode::OK, &call.wanted, body)
}

/// The items as they are stored, without their type, written chunk by chunk as the client reads.
fn stored_items(row: Arc<Row>, head: Vec<u8>, entries: Vec<Arc<Entry>>) -> Body {
    const TAIL: &[u8] = b"]}\n";
    let digits = |n: u64| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let skip = row.type_meta;
    let items: usize = entries
        .iter()
        .map(|e| 1 + e.stored.json().len() - skip + digits(e.revision) + 1)
        .sum();
    let len = head.len() + items - usize::from(!entries.is_empty()) + TAIL.len();
    let mut next = 0;
    let mut head = Some(head);
    let mut done = false;
    Body::from_chunks(len as u64, move || {
        if done {
            return None;
        }
        let mut out = head.take().unwrap_or_default();
        out.reserve(CHUNK.min(len) + 1024);
        while out.len() < CHUNK {
            let Some(entry) = entries.get(next) else {
                out.extend_from_slice(TAIL);
                done = true;
                break;
            };
            out.extend_from_slice(if next == 0 { b"{" } else { b",{" });
            entry.stored.write(skip, entry.revision, &mut out);
            next += 1;
        }
        Some(Bytes::from(out))
    })
}

fn converted_items(row: &Row, mut out: Vec<u8>, entries: &[Arc<Entry>]) -> Result<Body> {
    for (i, entry) in entries.iter().enumerate() {
        let mut json = Vec::new();
        row.decode(&entry.stored, entry.revision)?
            .write_json(&mut json);
        out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
        out.extend_from_slice(&json[row.type_meta..]);
    }
    out.extend_from_slice(b"]}\n");
    Ok(Body::from(out))
}

/// Writes watch events in the shape that the watcher wants.
pub(crate) struct Events {
    row: Arc<Row>,
    shape: Shape,
    table: super::table::Options,
    /// A table's columns are told once.
    columns_told: bool,
    now: crate::registry::Clock,
}

impl Events {
    pub(crate) fn new(call: &Call, row: &Arc<Row>) -> Self {
        Events {
            row: row.clone(),
            shape: call.wanted.shape,
            table: super::table::Options::new(call.parts.uri.query()),
            columns_told: false,
            now: call.server.registry.clock.clone(),
        }
    }

    /// Events as lines of JSON.
    pub(crate) fn lines(&mut self, told: &[Told]) -> Bytes {
        if let [one] = told {
            return self.line(one);
        }
        let lines: Vec<Bytes> = told.iter().map(|told| self.line(told)).collect();
        Bytes::from(lines.concat())
    }

    fn line(&mut self, told: &Told) -> Bytes {
        if self.shape == Shape::Object && self.row.is_storage_version() {
            return told.stored_json(&self.row);
        }
        match self.shaped(told) {
            Ok(Some(line)) => line,
            Ok(None) => told.stored_json(&self.row),
            Err(error) => crate::registry::watch::error_json(&error),
        }
    }

    fn shaped(&mut self, told: &Told) -> Result<Option<Bytes>> {
        let (name, object) = match told {
            Told::Change {
                event,
                entry,
                revision,
                ..
            } => (name(*event), self.row.decode(&entry.stored, *revision)?),
            Told::Bookmark {
                revision,
                initial_end,
            } if self.shape != Shape::Object => {
                let annotations = if *initial_end {
                    ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}"
                } else {
                    ""
                };
                let (kind, close) = match self.shape {
                    Shape::Table => ("Table", ",\"columnDefinitions\":null,\"rows\":[]"),
                    _ => ("PartialObjectMetadata", ""),
                };
                return Ok(Some(Bytes::from(format!(
                    "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind}\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\"creationTimestamp\":null{annotations}}}{close}}}}}\n"
                ))));
            }
            _ => return Ok(None),
        };
        let mut json = Vec::new();
        match self.shape {
            Shape::Object => object.write_json(&mut json),
            Shape::Metadata => {
                let mut full = Vec::new();
                object.write_json(&mut full);
                json = partial(&full)?;
            }
            Shape::Table => {
                let meta = super::table::ListMeta {
                    resource_version: object
                        .metadata()
                        .resource_version
                        .clone()
                        .unwrap_or_default(),
                    ..Default::default()
                };
                let columns = !std::mem::replace(&mut self.columns_told, true);
                json = super::table::json(
                    &self.row,
                    &[object],
                    &meta,
                    self.table,
                    columns,
                    (self.now)(),
                )?;
            }
        }
        let mut line = format!("{{\"type\":\"{name}\",\"object\":").into_bytes();
        line.append(&mut json);
        line.extend_from_slice(b"}\n");
        Ok(Some(Bytes::from(line)))
    }
}

fn name(event: EventType) -> &'static str {
    event.as_str()
}
