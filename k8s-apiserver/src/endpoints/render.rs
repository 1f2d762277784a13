//! Objects in the shape and format that the client wants.

use bytes::Bytes;
use http::{Response, StatusCode};
use k8s_model::{
    Object,
    protobuf::{MessageType, encode_as},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Call;
use crate::{
    Error, Result,
    http::{
        Body,
        negotiate::{Format, MetaVersion, Shape},
        response,
    },
    registry::{Outcome, Row, value::Stored},
};

/// A stored object.
pub(crate) fn stored(
    call: &Call,
    row: &Row,
    code: StatusCode,
    stored: &Stored,
    revision: u64,
) -> Result<Response<Body>> {
    if let Some(body) = protobuf(call, row, || row.json(stored, revision))? {
        return Ok(response::encoded(code, &call.wanted, Body::from(body)));
    }
    let body = match call.wanted.shape {
        Shape::Object => {
            Body::from_slices([row.json(stored, revision)?, Bytes::from_static(b"\n")])
        }
        Shape::Metadata => {
            let mut out = partial(&row.json(stored, revision)?, call.wanted.meta)?;
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
    let encoded = protobuf(call, row, || {
        let mut json = Vec::new();
        object.write_json(&mut json);
        Ok(Bytes::from(json))
    })?;
    if let Some(body) = encoded {
        return Ok(response::encoded(code, &call.wanted, Body::from(body)));
    }
    match call.wanted.shape {
        Shape::Object => object.write_json(&mut out),
        Shape::Metadata => {
            let mut json = Vec::new();
            object.write_json(&mut json);
            out = partial(&json, call.wanted.meta)?;
        }
        Shape::Table => {
            let meta = super::table::ListMeta::default();
            return super::table::of_objects(call, row, code, &[object.boxed_clone()], &meta);
        }
    }
    out.push(b'\n');
    response::json(code, &call.wanted, Body::from(out))
}

/// An object in protobuf, if that is wanted and there is such a form.
fn protobuf(
    call: &Call,
    row: &Row,
    json: impl FnOnce() -> Result<Bytes>,
) -> Result<Option<Vec<u8>>> {
    if call.wanted.format != Format::Protobuf {
        return Ok(None);
    }
    let Some(form) = row.protobuf() else {
        return Ok(None);
    };
    let json = json()?;
    let encoded = match call.wanted.shape {
        Shape::Metadata => encode_as(
            partial_type()?,
            call.wanted.meta.api_version(),
            PARTIAL,
            &json,
        ),
        _ => {
            let api_version = row.resource.api_version();
            encode_as(form.object, &api_version, row.resource.kind, &json)
        }
    };
    encoded.map(Some).map_err(Error::internal)
}

/// The group and version of what has no kind of its own.
pub(crate) const META: &str = "meta.k8s.io/v1";
pub(crate) const PARTIAL: &str = "PartialObjectMetadata";

/// The form of an object's metadata: of what else the object has, it encodes nothing.
pub(crate) fn partial_type() -> Result<MessageType> {
    MessageType::of_kind(META, PARTIAL).ok_or_else(|| Error::internal("no metadata"))
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// An object's metadata as a `PartialObjectMetadata`.
pub(crate) fn partial(json: &[u8], version: MetaVersion) -> Result<Vec<u8>> {
    let only: OnlyMetadata<'_> = serde_json::from_slice(json).map_err(Error::internal)?;
    Ok(format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":{}}}",
        version.api_version(),
        only.metadata.get()
    )
    .into_bytes())
}
