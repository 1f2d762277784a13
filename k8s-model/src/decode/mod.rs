//! JSON to typed objects: [`codec`], and the findings that `fieldValidation` reports.
//!
//! Decoding goes straight from bytes to the Rust type, in one pass. It is upstream's in what a
//! client can see of it: fields that nobody knows are reported with their paths, quantities are
//! checked and brought into canonical form, and what does not fit is refused with the same text.

mod base64;
mod duplicates;
mod explain;
mod go_names;
mod numbers;
mod surrogates;
mod syntax;
mod time_text;
mod tracked;
mod tree;

use std::sync::{Arc, LazyLock};

use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::{
    base64::bytes as base64_bytes,
    duplicates::duplicate_fields,
    explain::{go_type_of, type_meta_fault},
    numbers::whole_numbers,
    surrogates::paired,
    syntax::syntax_error,
    tree::misfit,
};
pub(crate) use self::{
    duplicates::SPELLED, explain::go_kind, numbers::MAX_SAFE, time_text::is_time,
};
use crate::{
    Codec, Object,
    protobuf::{MessageType, without_unset},
};

/// Bytes that are not an object of the kind that was expected.
///
/// The texts are upstream's, as far as a client sees them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// JSON of the wrong shape, or a value that its type does not take.
    #[error("{message}")]
    Value {
        /// The field at fault, as in `spec.containers[0].image`; empty where it is not known.
        path: String,
        /// What is wrong, with the path where upstream tells it.
        message: String,
    },
    /// An object of another `apiVersion` or `kind`.
    #[error("{api_version}, Kind={kind} is not {expected_api_version}, Kind={expected_kind}")]
    WrongKind {
        /// The object's `apiVersion`.
        api_version: String,
        /// The object's `kind`.
        kind: String,
        /// The `apiVersion` that was expected.
        expected_api_version: String,
        /// The `kind` that was expected.
        expected_kind: String,
    },
    /// A custom resource without a `kind`.
    #[error("Object 'Kind' is missing")]
    NoKind,
    /// A custom resource of another `apiVersion` or `kind` than the one that is defined.
    #[error("{api_version}, Kind={kind} is not {expected_api_version}, Kind={expected_kind}")]
    Undefined {
        /// The object's `apiVersion`, or nothing.
        api_version: String,
        /// The object's `kind`.
        kind: String,
        /// The `apiVersion` that was expected.
        expected_api_version: String,
        /// The `kind` that was expected.
        expected_kind: String,
    },
}

impl DecodeError {
    /// The text of the answer to a client that sent `body` for an object of that kind: upstream's
    /// in full.
    pub fn answer(&self, body: &[u8], api_version: &str, kind: &str) -> String {
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        match self {
            DecodeError::Syntax(text) => unrecognized(
                kind,
                &format!("couldn't get version/kind; json parse error: {text}"),
                body,
            ),
            DecodeError::Value { message, .. } => {
                format!("{kind} in version {version:?} cannot be handled as a {kind}: {message}")
            }
            DecodeError::NoKind => unrecognized(kind, &missing_kind(body), body),
            DecodeError::Undefined {
                api_version: found, ..
            } => other_version(found, api_version),
            DecodeError::WrongKind {
                api_version: found,
                kind: found_kind,
                ..
            } => {
                if let Some(text) = unexpected(found) {
                    return unrecognized(kind, &text, body);
                }
                let (group, found_version) = found.split_once('/').unwrap_or(("", found));
                if found_kind == kind && is_known(group, found_version, found_kind) {
                    return other_version(found, api_version);
                }
                let reason = self.reason();
                format!(
                    "{found_kind} in version {found_version:?} cannot be handled as a {kind}: {reason}"
                )
            }
        }
    }

    /// What is wrong, without the object it is about, in upstream's words.
    pub fn reason(&self) -> String {
        match self {
            DecodeError::Syntax(text) => {
                format!("couldn't get version/kind; json parse error: {text}")
            }
            DecodeError::Value { message, .. } => message.clone(),
            DecodeError::NoKind | DecodeError::Undefined { .. } => self.to_string(),
            DecodeError::WrongKind {
                api_version,
                kind,
                expected_api_version,
                expected_kind,
            } => {
                if let Some(text) = unexpected(api_version) {
                    return text;
                }
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                if !is_known(group, version, kind) {
                    return format!(
                        "no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME:?}"
                    );
                }
                // Two groups have tables of their own.
                let own = SCHEMES.iter().find(|(of, _)| {
                    let has = |version: &str| version.starts_with(of);
                    has(expected_api_version) && !has(api_version)
                });
                if let Some((_, scheme)) = own {
                    return format!(
                        "no kind {kind:?} is registered for version {api_version:?} in scheme {scheme:?}"
                    );
                }
                let expected = match expected_api_version.split_once('/') {
                    // Events of either group are one type within.
                    _ if expected_kind == "Event" => "core",
                    Some((group, _)) => group.split('.').next().unwrap_or(group),
                    None => "core",
                };
                format!(
                    "converting ({version}.{kind}) to ({expected}.{expected_kind}): unknown conversion"
                )
            }
        }
    }
}

fn other_version(found: &str, expected: &str) -> String {
    format!(
        "the API version in the data ({found}) does not match the expected API version ({expected})"
    )
}

/// What upstream says of an object without a kind.
#[must_use]
pub fn missing_kind(object: &[u8]) -> String {
    let object = String::from_utf8_lossy(object);
    format!("Object 'Kind' is missing in '{object}'")
}

/// What upstream says of an `apiVersion` that is none.
fn unexpected(api_version: &str) -> Option<String> {
    let is_none = api_version.matches('/').count() > 1;
    is_none.then(|| format!("unexpected GroupVersion string: {api_version}"))
}

/// Whether a kind is built in, or the list of one.
fn is_known(group: &str, version: &str, kind: &str) -> bool {
    let table = crate::ResourceTable::builtin();
    let listed = || {
        let row = table.kind(group, version, kind.strip_suffix("List")?)?;
        row.verbs.contains(&"list").then_some(row)
    };
    (group, version, kind) == ("", "v1", "List")
        || table.kind(group, version, kind).or_else(listed).is_some()
}

/// Upstream calls the table of all types by the place where it is made.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// The tables of the groups that upstream serves by servers of their own.
const SCHEMES: [(&str, &str); 2] = [
    (
        "apiextensions.k8s.io/",
        "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:56",
    ),
    (
        "apiregistration.k8s.io/",
        "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
    ),
];

/// The text of the answer to a client that sent something that cannot be read at all; without a kind, the reason
/// alone.
pub fn unrecognized(kind: &str, why: &str, body: &[u8]) -> String {
    if kind.is_empty() {
        return why.to_owned();
    }
    let summary = summary(body);
    format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})")
}

/// The start of a body, as upstream quotes it: in hexadecimal if it is no JSON object.
fn summary(body: &[u8]) -> String {
    let head = &body[..body.len().min(30)];
    let dots = if body.len() > 30 { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(head)),
        Some(_) => {
            use std::fmt::Write;
            let mut out = String::with_capacity(64);
            for byte in head {
                let _ = write!(out, "{byte:02x}");
            }
            out + dots
        }
    }
}

/// Decoding for a type of `k8s_openapi`, or one of your own that is like them.
pub fn codec<K>() -> Codec
where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone,
    K: std::fmt::Debug + Send + Sync + 'static,
{
    // Looked for when it is first needed: most kinds are never sent.
    let message = Arc::new(LazyLock::new(|| {
        MessageType::of_kind(K::API_VERSION, K::KIND)
    }));
    let of_value = message.clone();
    Codec {
        from_json: Arc::new(move |bytes, unknown| from_json::<K>(bytes, **message, unknown)),
        from_value: Arc::new(move |value, unknown| {
            // By way of bytes, so that each type is decoded by one instance of its code: two would double
            // what the compiler has to do and what the program weighs.
            let bytes = serde_json::to_vec(&value).expect("values serialise into memory");
            from_json::<K>(&bytes, **of_value, unknown)
        }),
    }
}

/// Decodes an object, whose form in protobuf is that message if it has one.
fn from_json<K>(
    bytes: &[u8],
    message: Option<MessageType>,
    unknown: &mut dyn FnMut(String),
) -> Result<Box<dyn Object>, DecodeError>
where
    K: Object + Resource + DeserializeOwned,
{
    let without = message.and_then(|message| without_unset(message, bytes));
    let bytes = without.as_deref().unwrap_or(bytes);
    // All at once: text by text takes several times as long.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(explain::no_text(bytes));
    };
    let state = tracked::State::new(unknown).expecting(K::API_VERSION, K::KIND);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let decoded = K::deserialize(tracked::Tracked::root(&mut deserializer, &state));
    match decoded.and_then(|object| deserializer.end().map(|()| object)) {
        Ok(object) => Ok(Box::new(object)),
        Err(error) => Err(explain::explain(
            bytes,
            &error,
            &state.into_fault(),
            K::GROUP,
            K::VERSION,
            K::KIND,
        )),
    }
}

/// Where a value tree does not fit a type; empty where that is not known.
pub(crate) fn fault_of<K: DeserializeOwned>(value: &Value) -> String {
    let mut ignored = |_| {};
    let state = tracked::State::new(&mut ignored);
    let decoded = K::deserialize(tracked::Tracked::root(value, &state));
    match decoded {
        Ok(_) => String::new(),
        Err(_) => tracked::spell(&state.into_fault()),
    }
}

/// What upstream says of a value that is not of a type's shape, from what the decoder for the type in Rust said.
/// `name` is the type's in OpenAPI documents.
pub fn misread<K: DeserializeOwned>(
    value: &Value,
    name: &str,
    error: &serde_json::Error,
) -> String {
    let mut ignored = |_| {};
    let state = tracked::State::new(&mut ignored);
    let _ = K::deserialize(tracked::Tracked::root(value, &state));
    let ty = crate::schema::Type::named(name);
    ty.and_then(|ty| explain::mismatch(ty, value, &state.into_fault(), None))
        .unwrap_or_else(|| explain::plain(error))
}

/// Decodes an object's metadata. Calls `unknown` with the path of each unknown field.
pub(crate) fn metadata(
    value: &Value,
    unknown: &mut dyn FnMut(String),
) -> Result<ObjectMeta, DecodeError> {
    use serde::Deserialize;
    let mut below = |path: String| unknown(format!("metadata.{path}"));
    let state = tracked::State::new(&mut below);
    let decoded = ObjectMeta::deserialize(tracked::Tracked::root(value, &state));
    decoded.map_err(|error: serde_json::Error| {
        let path = tracked::spell(&state.into_fault());
        let whole = serde_json::json!({ "metadata": value });
        // Any kind tells what is wrong in the same words.
        let told = serde_json::to_vec(&whole).ok().and_then(|bytes| {
            let codec = codec::<k8s_openapi::api::core::v1::ConfigMap>();
            (codec.from_json)(&bytes, &mut |_| {}).err()
        });
        told.unwrap_or_else(|| DecodeError::Value {
            path: format!("metadata.{path}"),
            message: error.to_string(),
        })
    })
}

#[cfg(test)]
mod tests;
