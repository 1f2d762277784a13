//! Lists in the shape and format that the client wants, written piece by piece as it reads them.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use k8s_model::{
    Object,
    protobuf::{ENVELOPE_END, MessageType, encode_as, envelope_start, item_length, item_start},
};

use super::{Call, render, table};
use crate::{
    Error, Result,
    cache::Entry,
    http::{
        Body,
        negotiate::{Format, MetaVersion, Shape},
        response,
    },
    registry::{Row, list::Listed},
};

/// How much of a list is written at a time.
const CHUNK: usize = 128 * 1024;
/// How much of a protobuf list is kept while its length is found out. What is beyond is encoded twice.
const KEPT: usize = 4 * 1024 * 1024;
/// How many objects are encoded before others get their turn.
const AT_ONCE: usize = 64;

const TAIL: &[u8] = b"]}\n";

/// A list.
pub(crate) async fn list(call: &Call, row: &Arc<Row>, listed: Listed) -> Result<Response<Body>> {
    let mut meta = format!("\"resourceVersion\":\"{}\"", listed.revision);
    if let Some(token) = &listed.continue_token {
        meta.push_str(&format!(",\"continue\":\"{token}\""));
    }
    if let Some(remaining) = listed.remaining {
        meta.push_str(&format!(",\"remainingItemCount\":{remaining}"));
    }
    let shape = call.wanted.shape;
    // Lists without a type of their own always say where they go on, if only nowhere.
    if listed.continue_token.is_none() && row.custom().is_some() && shape == Shape::Object {
        meta.push_str(",\"continue\":\"\"");
    }
    if call.wanted.format == Format::Protobuf && shape != Shape::Table {
        let body = protobuf(row, shape, call.wanted.meta, &meta, listed.entries).await?;
        return Ok(response::encoded(StatusCode::OK, &call.wanted, body));
    }
    let body = match shape {
        Shape::Object => {
            let head = [&row.list_head[..], meta.as_bytes(), b"},\"items\":["].concat();
            if row.serves_all_as_stored(listed.entries.iter().map(|e| &e.stored)) {
                stored_items(row.clone(), head, listed.entries)
            } else {
                let row = row.clone();
                items(head, listed.entries, move |entry, out| {
                    let json = row.json(&entry.stored, entry.revision)?;
                    out.push(b'{');
                    out.extend_from_slice(&json[row.type_meta..]);
                    Ok(())
                })?
            }
        }
        Shape::Metadata => {
            let version = call.wanted.meta;
            let api_version = version.api_version();
            let head = format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{api_version}\",\"metadata\":{{{meta}}},\"items\":["
            );
            let row = row.clone();
            items(head.into_bytes(), listed.entries, move |entry, out| {
                let json = row.json(&entry.stored, entry.revision)?;
                out.append(&mut render::partial(&json, version)?);
                Ok(())
            })?
        }
        Shape::Table => {
            let objects = listed
                .entries
                .iter()
                .map(|entry| row.decode(&entry.stored, entry.revision))
                .collect::<Result<Vec<_>>>()?;
            let meta = table::ListMeta {
                resource_version: listed.revision.to_string(),
                continue_token: listed.continue_token,
                remaining: listed.remaining,
            };
            return table::of_objects(call, row, StatusCode::OK, &objects, &meta);
        }
    };
    response::json(StatusCode::OK, &call.wanted, body)
}

/// A list of objects that are not stored; so it is of no version.
pub(crate) fn of_objects(
    call: &Call,
    row: &Row,
    objects: Vec<Box<dyn Object>>,
) -> Result<Response<Body>> {
    let (kind, api_version) = match call.wanted.shape {
        Shape::Table => {
            let meta = table::ListMeta::default();
            return table::of_objects(call, row, StatusCode::OK, &objects, &meta);
        }
        Shape::Metadata => ("PartialObjectMetadataList", call.wanted.meta.api_version()),
        Shape::Object => (row.resource.list_kind, row.api_version.as_str()),
    };
    let mut out = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{}},\"items\":["
    )
    .into_bytes();
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut json = Vec::new();
        object.write_json(&mut json);
        match call.wanted.shape {
            Shape::Metadata => out.append(&mut render::partial(&json, call.wanted.meta)?),
            _ => {
                out.push(b'{');
                out.extend_from_slice(&json[row.type_meta..]);
            }
        }
    }
    out.extend_from_slice(TAIL);
    if call.wanted.format == Format::Protobuf {
        let list = MessageType::of_kind(api_version, kind);
        let list = list.ok_or_else(|| Error::internal("a kind without a list"))?;
        let body = encode_as(list, api_version, kind, &out).map_err(Error::internal)?;
        return Ok(response::encoded(
            StatusCode::OK,
            &call.wanted,
            Body::from(body),
        ));
    }
    response::json(StatusCode::OK, &call.wanted, Body::from(out))
}

/// The items as they are stored, without their type.
fn stored_items(row: Arc<Row>, head: Vec<u8>, entries: Vec<Arc<Entry>>) -> Body {
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
    Body::from_chunks(Some(len as u64), move || {
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
        Some(Ok(Bytes::from(out)))
    })
}

/// The items as a function writes them. An error in the first piece is the answer; a later one cuts the
/// connection.
fn items(
    head: Vec<u8>,
    entries: Vec<Arc<Entry>>,
    write: impl Fn(&Entry, &mut Vec<u8>) -> Result<()> + Send + 'static,
) -> Result<Body> {
    let mut entries = entries.into_iter();
    let mut done = false;
    let mut is_first = true;
    let mut piece = move |mut out: Vec<u8>| -> Result<(Bytes, bool)> {
        while out.len() < CHUNK && !done {
            match entries.next() {
                Some(entry) => {
                    if !std::mem::take(&mut is_first) {
                        out.push(b',');
                    }
                    write(&entry, &mut out)?;
                }
                None => {
                    out.extend_from_slice(TAIL);
                    done = true;
                }
            }
        }
        Ok((Bytes::from(out), done))
    };
    let (first, ended) = piece(head)?;
    if ended {
        return Ok(Body::from(first));
    }
    let mut first = Some(first);
    Ok(Body::from_chunks(None, move || {
        if let Some(first) = first.take() {
            return Some(Ok(first));
        }
        match piece(Vec::with_capacity(CHUNK + 1024)) {
            Ok((bytes, _)) if bytes.is_empty() => None,
            Ok((bytes, _)) => Some(Ok(bytes)),
            Err(error) => {
                tracing::error!(%error, "an object of a list cannot be written");
                Some(Err(error.into()))
            }
        }
    }))
}

/// Writes one item of a list in protobuf.
struct Items {
    row: Arc<Row>,
    ty: MessageType,
    json: Vec<u8>,
}

impl Items {
    fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
        let encoded = if self.row.serves_as_stored(&entry.stored) {
            self.json.clear();
            entry.stored.write(0, entry.revision, &mut self.json);
            self.ty.encode(&self.json, out)
        } else {
            let json = self.row.json(&entry.stored, entry.revision)?;
            self.ty.encode(&json, out)
        };
        encoded.map_err(Error::internal)
    }
}

/// A list in protobuf. Its length stands at its beginning, so every item is encoded to know how long
/// it is; a long list's items are encoded again when they are sent, and memory does not grow with it.
async fn protobuf(
    row: &Arc<Row>,
    shape: Shape,
    version: MetaVersion,
    meta: &str,
    entries: Vec<Arc<Entry>>,
) -> Result<Body> {
    let form = row.protobuf().ok_or_else(|| Error::internal("no form"))?;
    let (api_version, kind, list, ty) = match shape {
        Shape::Metadata => {
            let kind = "PartialObjectMetadataList";
            let list = MessageType::of_kind(render::META, kind);
            let api_version = version.api_version().to_owned();
            (api_version, kind, list, render::partial_type()?)
        }
        _ => {
            let api_version = row.resource.api_version();
            (api_version, row.resource.list_kind, form.list, form.object)
        }
    };
    let list = list.ok_or_else(|| Error::internal("a kind without a list"))?;
    let mut kept = Vec::new();
    let head = format!("{{\"metadata\":{{{meta}}}}}");
    list.encode(head.as_bytes(), &mut kept)
        .map_err(Error::internal)?;
    let mut items = Items {
        row: row.clone(),
        ty,
        json: Vec::new(),
    };
    let mut length = kept.len();
    let mut item = Vec::new();
    // From here on, items are only measured.
    let mut beyond = entries.len();
    for (at, entry) in entries.iter().enumerate() {
        item.clear();
        items.write(entry, &mut item)?;
        length += item_length(item.len());
        if beyond == entries.len() {
            if kept.len() + item.len() > KEPT {
                beyond = at;
            } else {
                item_start(item.len(), &mut kept);
                kept.extend_from_slice(&item);
            }
        }
        if at % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    let start = envelope_start(&api_version, kind, length);
    let end = Bytes::from_static(ENVELOPE_END);
    let total = start.len() + length + end.len();
    let mut first = vec![Bytes::from(start), Bytes::from(kept)].into_iter();
    let mut rest = entries.into_iter().skip(beyond).peekable();
    let mut end = Some(end);
    Ok(Body::from_chunks(Some(total as u64), move || {
        if let Some(first) = first.next() {
            return Some(Ok(first));
        }
        if rest.peek().is_none() {
            return end.take().map(Ok);
        }
        let mut out = Vec::with_capacity(CHUNK + 1024);
        while out.len() < CHUNK
            && let Some(entry) = rest.next()
        {
            item.clear();
            if let Err(error) = items.write(&entry, &mut item) {
                return Some(Err(error.into()));
            }
            item_start(item.len(), &mut out);
            out.extend_from_slice(&item);
        }
        Some(Ok(Bytes::from(out)))
    }))
}
