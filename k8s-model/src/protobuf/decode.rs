//! [`decode`]: protobuf to the value tree of the same JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde_json::{Map, Value as Json};

use super::{
    table::{Field, Kind, Message, Ref, Special},
    wire::{Fields, Value},
};
use crate::duration;

/// The bytes before every object.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How deep messages may lie in each other.
const MAX_DEPTH: usize = 64;

/// Bytes that are no object in protobuf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not begin with [`MAGIC`].
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NotProtobuf,
    /// The bytes end in the middle of a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A tag, number or string that can't be.
    #[error("proto: illegal wire data")]
    Malformed,
    /// Messages lie in each other deeper than any object's do.
    #[error("proto: messages nested too deeply")]
    TooDeep,
    /// The kind has no protobuf encoding.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
}

/// Decodes an object, with its `apiVersion` and `kind` from the envelope.
///
/// Unknown fields are passed over, as clients' do.
///
/// # Errors
///
/// [`DecodeError`]; nothing is guessed.
pub fn decode(bytes: &[u8]) -> Result<Json, DecodeError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::NotProtobuf)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(rest) {
        match field? {
            (1, Value::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Value::Bytes(text)) => api_version = string(text)?,
                        (2, Value::Bytes(text)) => kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Value::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let same = || Ref::of_kind(crate::taken_for(&api_version, &kind)?, &kind);
    let Some(ty) = Ref::of_kind(&api_version, &kind).or_else(same) else {
        return Err(DecodeError::UnknownKind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    message(ty.get(), raw, 0, &mut object)?;
    Ok(Json::Object(object))
}

fn message(
    known: &Message,
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Json>,
) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    for item in Fields(bytes) {
        let (number, value) = item?;
        if let Some(field) = known.numbered(number) {
            take(field, value, depth, out)?;
        }
    }
    Ok(())
}

fn take(
    field: &Field,
    value: Value<'_>,
    depth: usize,
    out: &mut Map<String, Json>,
) -> Result<(), DecodeError> {
    match (field.kind, value) {
        (Kind::Message(inner), Value::Bytes(bytes)) if field.is_inlined() => {
            message(inner.get(), bytes, depth + 1, out)
        }
        (Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_), Value::Bytes(bytes)) => {
            let (mut key, mut entry) = (String::new(), &[][..]);
            for part in Fields(bytes) {
                match part? {
                    (1, Value::Bytes(text)) => key = string(text)?,
                    (2, Value::Bytes(bytes)) => entry = bytes,
                    _ => {}
                }
            }
            let entry = match field.kind {
                Kind::StringMap => string(entry)?.into(),
                Kind::BytesMap => STANDARD.encode(entry).into(),
                Kind::MessageMap(inner) => one(inner.get(), entry, depth)?,
                _ => return Err(DecodeError::Malformed),
            };
            match out.entry(field.name).or_insert_with(|| Map::new().into()) {
                Json::Object(map) => {
                    map.insert(key, entry);
                    Ok(())
                }
                _ => Err(DecodeError::Malformed),
            }
        }
        (Kind::Integer, Value::Bytes(packed)) if field.repeated => {
            let mut packed = Fields(packed);
            while !packed.0.is_empty() {
                let number = packed.varint()?;
                push(field, integer(number), out)?;
            }
            Ok(())
        }
        (kind, value) => {
            let json = match (kind, value) {
                (Kind::String, Value::Bytes(text)) => string(text)?.into(),
                (Kind::Bool, Value::Varint(number)) => Json::Bool(number != 0),
                (Kind::Integer, Value::Varint(number)) => integer(number),
                (Kind::Double, Value::Fixed64(bits)) => f64::from_bits(bits).into(),
                (Kind::Bytes, Value::Bytes(bytes)) => STANDARD.encode(bytes).into(),
                (Kind::Message(inner), Value::Bytes(bytes)) => one(inner.get(), bytes, depth)?,
                _ => return Err(DecodeError::Malformed),
            };
            if field.repeated {
                return push(field, json, out);
            }
            if !is_unset(field, &json) {
                out.insert(field.name.to_owned(), json);
            }
            Ok(())
        }
    }
}

fn push(field: &Field, json: Json, out: &mut Map<String, Json>) -> Result<(), DecodeError> {
    match out
        .entry(field.name)
        .or_insert_with(|| Json::Array(Vec::new()))
    {
        Json::Array(list) => {
            list.push(json);
            Ok(())
        }
        _ => Err(DecodeError::Malformed),
    }
}

/// Whether a value stands for nothing: the sender writes what is no pointer even if it is unset.
fn is_unset(field: &Field, json: &Json) -> bool {
    let zero = match json {
        Json::Null => return true,
        Json::String(text) => text.is_empty(),
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_i64() == Some(0),
        Json::Object(object) => return field.omit_zero && object.is_empty(),
        Json::Array(_) => false,
    };
    zero && !field.pointer && !field.always
}

/// A message as one value; some have a JSON of their own.
fn one(ty: &Message, bytes: &[u8], depth: usize) -> Result<Json, DecodeError> {
    match ty.special {
        Special::Time => time(bytes, 0),
        Special::MicroTime => time(bytes, 6),
        Special::Quantity => Ok(first_string(bytes)?.into()),
        Special::IntOrString => int_or_string(bytes),
        Special::Duration => {
            let mut nanos = 0;
            for field in Fields(bytes) {
                if let (1, Value::Varint(number)) = field? {
                    nanos = number as i64;
                }
            }
            Ok(duration::print(nanos).into())
        }
        Special::Raw => {
            let raw = first_bytes(bytes)?;
            if raw.is_empty() {
                return Ok(Json::Null);
            }
            serde_json::from_slice(raw).map_err(|_| DecodeError::Malformed)
        }
        Special::SchemaOr => schema_or(ty, bytes, depth),
        Special::Items => {
            let mut items = Vec::new();
            for field in Fields(bytes) {
                if let (1, Value::Bytes(text)) = field? {
                    items.push(string(text)?.into());
                }
            }
            Ok(Json::Array(items))
        }
        Special::No => {
            let mut object = Map::new();
            message(ty, bytes, depth + 1, &mut object)?;
            Ok(Json::Object(object))
        }
    }
}

/// A schema, or something simpler in its place.
fn schema_or(ty: &Message, bytes: &[u8], depth: usize) -> Result<Json, DecodeError> {
    let mut object = Map::new();
    message(ty, bytes, depth + 1, &mut object)?;
    if let Some(schema) = object.remove("schema") {
        return Ok(schema);
    }
    if let Some(list) = ty.fields.iter().find(|field| field.repeated) {
        let list = object.remove(list.name);
        return Ok(list.unwrap_or_else(|| Json::Array(Vec::new())));
    }
    Ok(Json::Bool(
        object
            .remove("allows")
            .and_then(|a| a.as_bool())
            .unwrap_or(false),
    ))
}

fn time(bytes: &[u8], digits: u8) -> Result<Json, DecodeError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(number)) => seconds = number as i64,
            (2, Value::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Json::Null);
    }
    let nanos = if digits == 0 { 0 } else { nanos };
    let at = Timestamp::new(seconds, nanos).map_err(|_| DecodeError::Malformed)?;
    Ok(DateTimePrinter::new()
        .precision(Some(digits))
        .timestamp_to_string(&at)
        .into())
}

fn int_or_string(bytes: &[u8]) -> Result<Json, DecodeError> {
    let (mut is_string, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(kind)) => is_string = kind == 1,
            (2, Value::Varint(value)) => number = value as i32,
            (3, Value::Bytes(value)) => text = string(value)?,
            _ => {}
        }
    }
    Ok(if is_string {
        text.into()
    } else {
        number.into()
    })
}

fn integer(number: u64) -> Json {
    // A negative number is sent as the 64 bits of its two's complement, of 32-bit fields too.
    (number as i64).into()
}

fn first_bytes(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    for field in Fields(bytes) {
        if let (1, Value::Bytes(found)) = field? {
            return Ok(found);
        }
    }
    Ok(&[])
}

fn first_string(bytes: &[u8]) -> Result<String, DecodeError> {
    string(first_bytes(bytes)?)
}

fn string(bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| DecodeError::Malformed)
}
