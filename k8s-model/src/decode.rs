//! JSON to typed objects: [`codec`], and the findings that `fieldValidation` reports.

use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Codec, Object};

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
        /// What is wrong, with the path.
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
}

/// Decoding for a type of `k8s_openapi`, or one of your own that is like them.
pub fn codec<K>() -> Codec
where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone,
    K: std::fmt::Debug + Send + Sync + 'static,
{
    Codec {
        from_json: from_json::<K>,
        from_value: from_value::<K>,
    }
}

fn from_json<K>(
    bytes: &[u8],
    unknown: &mut dyn FnMut(String),
) -> Result<Box<dyn Object>, DecodeError>
where
    K: Object + Resource + DeserializeOwned,
{
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let decoded: Result<K, _> =
        serde_ignored::deserialize(&mut deserializer, |path| unknown(spell(&path)));
    match decoded.and_then(|object| deserializer.end().map(|()| object)) {
        Ok(object) => Ok(Box::new(object)),
        Err(error) => Err(explain(bytes, &error, K::API_VERSION, K::KIND)),
    }
}

fn from_value<K>(
    value: Value,
    unknown: &mut dyn FnMut(String),
) -> Result<Box<dyn Object>, DecodeError>
where
    K: Object + Resource + DeserializeOwned,
{
    from_json::<K>(
        &serde_json::to_vec(&value).expect("values serialise into memory"),
        unknown,
    )
}

fn explain(bytes: &[u8], error: &serde_json::Error, api_version: &str, kind: &str) -> DecodeError {
    if error.is_syntax() || error.is_eof() {
        return DecodeError::Syntax(error.to_string());
    }
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let field = |name: &str, default: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or(default)
                .to_owned()
        };
        let (found_version, found_kind) = (field("apiVersion", api_version), field("kind", kind));
        if found_version != api_version || found_kind != kind {
            return DecodeError::WrongKind {
                api_version: found_version,
                kind: found_kind,
                expected_api_version: api_version.to_owned(),
                expected_kind: kind.to_owned(),
            };
        }
    }
    DecodeError::Value {
        path: String::new(),
        message: error.to_string(),
    }
}

fn spell(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", spell(parent)),
        Path::Map { parent, key } => {
            let mut out = spell(parent);
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(key);
            out
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => spell(parent),
    }
}
