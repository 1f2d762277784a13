//! [`encode`]: JSON to protobuf, byte for byte as upstream writes it.
//!
//! Fields go out in the order of their numbers. What is no pointer in clients in Go is written even if
//! it is zero; maps are written in the order of their keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::{
    MAGIC,
    table::{Field, Kind, Message, Ref, Special},
    tree::{self, Node},
};
use crate::{duration, metadata::UNSET_TIME};

/// JSON that is no object of its kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The kind has no protobuf form: custom resources do not, nor do tables.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// The text is no JSON, or its shape is not that of the kind.
    #[error("no object: {0}")]
    Json(#[from] serde_json::Error),
    /// A field holds what its type cannot.
    #[error("field \"{field}\" holds no {expected}")]
    Mismatch {
        /// Its name.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
}

type Result<T, E = EncodeError> = std::result::Result<T, E>;

/// The protobuf form of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageType(Ref);

impl MessageType {
    /// The form of a kind, or of a list of it; nothing if it has none.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Self> {
        Ref::of_kind(api_version, kind).map(MessageType)
    }

    pub(super) fn table(self) -> &'static Message {
        self.0.get()
    }

    /// Appends an object without an envelope, as it lies in a list. Its `apiVersion` and `kind` are
    /// not in it. Members that the kind does not have are passed over.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the JSON is not one of the kind; `out` may then have more than before.
    pub fn encode(self, json: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match tree::read(self.0, json)? {
            Node::Message(values) => message(self.0.get(), &values, out),
            _ => Err(EncodeError::Mismatch {
                field: "",
                expected: "object",
            }),
        }
    }
}

/// Encodes an object, in the envelope that says its `apiVersion` and `kind`.
///
/// # Errors
///
/// [`EncodeError`] if its kind has no protobuf form or the JSON is not one of the kind.
pub fn encode(json: &[u8]) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TypeMeta {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
    }
    let TypeMeta {
        mut api_version,
        kind,
    } = serde_json::from_slice(json)?;
    if api_version.is_empty() {
        // What discovery says of the core group does not name its version.
        api_version.push_str("v1");
    }
    let Some(ty) = MessageType::of_kind(&api_version, &kind) else {
        return Err(EncodeError::UnknownKind { api_version, kind });
    };
    encode_as(ty, &api_version, &kind, json)
}

/// Encodes an object of a known kind, in the envelope.
///
/// # Errors
///
/// [`EncodeError`] if the JSON is not one of the kind.
pub fn encode_as(ty: MessageType, api_version: &str, kind: &str, json: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(json.len() + 64);
    out.extend_from_slice(MAGIC);
    type_meta(api_version, kind, &mut out);
    out.push(0x12);
    nested(&mut out, |out| ty.encode(json, out))?;
    out.extend_from_slice(ENVELOPE_END);
    Ok(out)
}

/// What follows an object in its envelope: no content encoding, no content type.
pub const ENVELOPE_END: &[u8] = &[0x1a, 0, 0x22, 0];

/// What comes before an object of so many bytes in its envelope.
pub fn envelope_start(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    type_meta(api_version, kind, &mut out);
    out.push(0x12);
    varint(length as u64, &mut out);
    out
}

/// How long an item of so many bytes is with what comes before it in a list.
pub fn item_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

/// Appends what comes before an item of so many bytes in a list.
pub fn item_start(length: usize, out: &mut Vec<u8>) {
    out.push(0x12);
    varint(length as u64, out);
}

/// A watch event as a frame of a stream: its length in four bytes, big end first, its type, and the
/// object in its envelope.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let raw = item_length(object.len());
    let mut out = Vec::with_capacity(object.len() + 32);
    out.extend_from_slice(&[0; 4]);
    string_field(1, event, &mut out);
    out.push(0x12);
    varint(raw as u64, &mut out);
    out.push(0x0a);
    varint(object.len() as u64, &mut out);
    out.extend_from_slice(object);
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn type_meta(api_version: &str, kind: &str, out: &mut Vec<u8>) {
    let string = |text: &str| item_length(text.len());
    out.push(0x0a);
    varint((string(api_version) + string(kind)) as u64, out);
    string_field(1, api_version, out);
    string_field(2, kind, out);
}

fn message(message: &Message, values: &[(u16, Node<'_>)], out: &mut Vec<u8>) -> Result<()> {
    let mut values = values.iter().peekable();
    for (at, field) in message.fields.iter().enumerate() {
        let value = values.next_if(|(there, _)| usize::from(*there) == at);
        match value {
            Some((_, Node::Null)) | None => zero(field, out)?,
            Some((_, value)) => present(field, value, out)?,
        }
    }
    Ok(())
}

/// What is written for a field that is not set.
fn zero(field: &Field, out: &mut Vec<u8>) -> Result<()> {
    if field.pointer || field.repeated {
        return Ok(());
    }
    match field.kind {
        Kind::String | Kind::Bool | Kind::Integer => {
            tag(field, out);
            out.push(0);
        }
        Kind::Double => {
            tag(field, out);
            out.extend_from_slice(&[0; 8]);
        }
        Kind::Message(inner) => {
            tag(field, out);
            nested(out, |out| match inner.get().special {
                Special::Quantity => {
                    string_field(1, "0", out);
                    Ok(())
                }
                Special::No | Special::IntOrString | Special::Duration | Special::SchemaOr => {
                    message(inner.get(), &[], out)
                }
                Special::Time | Special::MicroTime | Special::Raw | Special::Items => Ok(()),
            })?;
        }
        Kind::Bytes | Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_) => {}
    }
    Ok(())
}

fn present(field: &Field, value: &Node<'_>, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Node::List(items) if field.repeated => {
            for item in items {
                one(field, field.kind, item, out)?;
            }
            Ok(())
        }
        Node::Map(entries) => {
            let kind = match field.kind {
                Kind::StringMap => Kind::String,
                Kind::BytesMap => Kind::Bytes,
                Kind::MessageMap(inner) => Kind::Message(inner),
                _ => return Err(mismatch(field)),
            };
            let entry = Field {
                number: 2,
                kind,
                ..*field
            };
            for (key, value) in entries {
                tag(field, out);
                nested(out, |out| {
                    string_field(1, key, out);
                    one(&entry, kind, value, out)
                })?;
            }
            Ok(())
        }
        value => one(field, field.kind, value, out),
    }
}

/// One value with its tag.
fn one(field: &Field, kind: Kind, value: &Node<'_>, out: &mut Vec<u8>) -> Result<()> {
    match (kind, value) {
        (Kind::Bytes, Node::Null) => return Ok(()),
        (Kind::Double, value) => {
            let number = match value {
                Node::Double(number) => *number,
                Node::Integer(number) => *number as f64,
                Node::Null => 0.0,
                _ => return Err(mismatch(field)),
            };
            varint(u64::from(field.number) << 3 | 1, out);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
            return Ok(());
        }
        _ => tag_of(field.number, kind, out),
    }
    match (kind, value) {
        (Kind::String, Node::String(text)) => {
            varint(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        (Kind::Bytes, Node::String(text)) => {
            let bytes = STANDARD.decode(text.as_bytes());
            let bytes = bytes.map_err(|_| mismatch(field))?;
            varint(bytes.len() as u64, out);
            out.extend_from_slice(&bytes);
        }
        (Kind::Bool, Node::Bool(value)) => out.push(u8::from(*value)),
        (Kind::Integer, Node::Integer(number)) => varint(*number as u64, out),
        (Kind::Integer, Node::Double(number)) if number.fract() == 0.0 => {
            varint(*number as i64 as u64, out);
        }
        // An element of a list, or a value of a map, that is nothing.
        (Kind::String | Kind::Bool | Kind::Integer, Node::Null) => out.push(0),
        (Kind::Message(inner), value) => {
            nested(out, |out| content(field, inner.get(), value, out))?;
        }
        _ => return Err(mismatch(field)),
    }
    Ok(())
}

fn content(field: &Field, inner: &Message, value: &Node<'_>, out: &mut Vec<u8>) -> Result<()> {
    match (inner.special, value) {
        (Special::Time | Special::MicroTime, Node::String(text)) => {
            time(text, inner.special == Special::MicroTime, out).ok_or_else(|| mismatch(field))
        }
        (Special::Time | Special::MicroTime | Special::Raw, Node::Null) => Ok(()),
        (Special::Quantity, value) => {
            match value {
                Node::String(text) => {
                    let canonical = crate::quantity::canonical(text);
                    let canonical = canonical.as_deref().unwrap_or(text);
                    string_field(1, canonical, out);
                }
                Node::Integer(number) => string_field(1, &number.to_string(), out),
                Node::Double(number) => {
                    let text = number.to_string();
                    let canonical = crate::quantity::canonical(&text);
                    let canonical = canonical.as_deref().unwrap_or(&text);
                    string_field(1, canonical, out);
                }
                Node::Null => string_field(1, "0", out),
                _ => return Err(mismatch(field)),
            }
            Ok(())
        }
        (Special::IntOrString, value) => {
            let (is_string, number, text) = match value {
                Node::Integer(number) => (0, *number, ""),
                Node::String(text) => (1, 0, &**text),
                Node::Null => (0, 0, ""),
                _ => return Err(mismatch(field)),
            };
            out.extend_from_slice(&[0x08, is_string, 0x10]);
            varint(number as u64, out);
            string_field(3, text, out);
            Ok(())
        }
        (Special::Duration, Node::String(text)) => {
            let nanos = duration::parse(text).ok_or_else(|| mismatch(field))?;
            out.push(0x08);
            varint(nanos as u64, out);
            Ok(())
        }
        (Special::Raw, Node::Raw(json)) => {
            out.push(0x0a);
            nested(out, |out| {
                compact(json.as_bytes(), out);
                Ok(())
            })
        }
        (_, Node::Message(values)) => message(inner, values, out),
        (_, Node::Null) => message(inner, &[], out),
        _ => Err(mismatch(field)),
    }
}

/// Seconds and nanoseconds since 1970; nothing for the zero of clients in Go, which is in the year 1.
fn time(text: &str, micro: bool, out: &mut Vec<u8>) -> Option<()> {
    let at: Timestamp = text.parse().ok()?;
    if at == UNSET_TIME {
        return Some(());
    }
    // Rounded down, as the number of nanoseconds is never negative.
    let nanos = at.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    let rest = i64::try_from(nanos.rem_euclid(1_000_000_000)).ok()?;
    out.push(0x08);
    varint(seconds as u64, out);
    out.push(0x10);
    varint(if micro { rest / 1000 * 1000 } else { 0 } as u64, out);
    Some(())
}

/// JSON without white space between its parts.
fn compact(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(at) = memchr_any(rest) {
        out.extend_from_slice(&rest[..at]);
        if rest[at] != b'"' {
            rest = &rest[at + 1..];
            continue;
        }
        let mut end = at + 1;
        while let Some(&byte) = rest.get(end) {
            end += 1;
            match byte {
                b'"' => break,
                b'\\' => end += 1,
                _ => {}
            }
        }
        let end = end.min(rest.len());
        out.extend_from_slice(&rest[at..end]);
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
}

fn memchr_any(bytes: &[u8]) -> Option<usize> {
    bytes
        .iter()
        .position(|b| matches!(b, b'"' | b' ' | b'\n' | b'\r' | b'\t'))
}

fn mismatch(field: &Field) -> EncodeError {
    EncodeError::Mismatch {
        field: field.name,
        expected: match field.kind {
            Kind::String => "string",
            Kind::Bool => "boolean",
            Kind::Integer => "integer",
            Kind::Double => "number",
            Kind::Bytes => "base64",
            Kind::Message(inner) => match inner.get().special {
                Special::Time | Special::MicroTime => "time",
                Special::Duration => "duration",
                Special::Quantity => "quantity",
                Special::IntOrString => "integer or string",
                _ => "object",
            },
            Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_) => "map",
        },
    }
}

fn string_field(number: u8, text: &str, out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn tag(field: &Field, out: &mut Vec<u8>) {
    tag_of(field.number, field.kind, out);
}

fn tag_of(number: u32, kind: Kind, out: &mut Vec<u8>) {
    let wire = match kind {
        Kind::Bool | Kind::Integer => 0,
        Kind::Double => 1,
        _ => 2,
    };
    varint(u64::from(number) << 3 | wire, out);
}

/// Appends what `write` writes with its length before it.
fn nested(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return Ok(());
    }
    // The length takes more than the byte that was kept for it.
    let more = varint_length(length as u64) - 1;
    let end = out.len();
    out.resize(end + more, 0);
    out.copy_within(start + 1..end, start + 1 + more);
    let mut rest = length as u64;
    for byte in &mut out[start..=start + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start + more] &= 0x7f;
    Ok(())
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}
