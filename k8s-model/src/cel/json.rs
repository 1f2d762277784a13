//! Values as JSON.

use base64::Engine;
use serde_json::{Map, Value as Json};

use super::{Val, times};

impl Val<'_> {
    /// The value as JSON, as a field of an object has it: times as text, bytes in base64, numbers whole where they
    /// can be. Nothing for what has no such form: types, addresses, values that are not there, errors, keys that
    /// are no text.
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Val::Null => Json::Null,
            Val::Bool(b) => Json::Bool(*b),
            Val::Int(n) => (*n).into(),
            Val::Uint(n) => (*n).into(),
            Val::Double(n) => serde_json::Number::from_f64(*n)?.into(),
            Val::String(text) => text.to_string().into(),
            Val::Bytes(bytes) => base64::engine::general_purpose::STANDARD
                .encode(bytes)
                .into(),
            Val::List(list) => all(list)?,
            Val::Merged(list) => all(&list.elements)?,
            Val::Map(entries) => {
                let mut out = Map::new();
                for (key, value) in entries.iter() {
                    let Val::String(key) = key else {
                        return None;
                    };
                    out.insert(key.to_string(), value.to_json()?);
                }
                Json::Object(out)
            }
            Val::Timestamp(time, at) => times::time_text(*time, *at).into(),
            Val::Duration(nanos) => times::duration_text(*nanos).into(),
            Val::Quantity(amount) => amount.to_string().into(),
            Val::Json(json, _) => (*json).clone(),
            Val::Optional(Some(value)) => value.to_json()?,
            Val::Optional(None)
            | Val::Type(_)
            | Val::Url(_)
            | Val::Ip(_)
            | Val::Cidr(..)
            | Val::Format(_)
            | Val::Semver(_)
            | Val::Host(_)
            | Val::Error(_) => return None,
        })
    }
}

fn all(list: &[Val<'_>]) -> Option<Json> {
    let elements = list.iter().map(Val::to_json);
    Some(elements.collect::<Option<Vec<_>>>()?.into())
}
