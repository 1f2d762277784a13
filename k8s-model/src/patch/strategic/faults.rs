//! What upstream says of patches that cannot be carried out.

use serde_json::Value;

use super::{DIRECTIVE, Object};
use crate::patch::{PatchError, spell_go};

pub(super) fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

pub(super) fn refused(text: impl Into<String>) -> PatchError {
    PatchError::Refused(text.into())
}

/// A value that is no list where one must be, in the words of Go.
pub(super) fn no_list(value: &Value) -> PatchError {
    let kind = match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    refused(format!(
        "expected a []interface {{}}, but received a {kind}"
    ))
}

/// A `$patch` that is none of those there are.
pub(super) fn unknown_directive(patch: &Object) -> PatchError {
    let directive = match patch.get(DIRECTIVE).unwrap_or(&Value::Null) {
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Bool(value) => format!("%!s(bool={value})"),
        Value::Number(number) if number.is_f64() => format!("%!s(float64={number})"),
        Value::Number(number) => format!("%!s(int64={number})"),
        other => spell_go(other),
    };
    let map = spell_go(&Value::Object(patch.clone()));
    refused(format!("unknown patch type: {directive} in map: {map}"))
}

/// Two lists whose elements are not all of one type.
pub(super) fn mixed(old: Vec<Value>, new: Vec<Value>) -> PatchError {
    let lists = spell_go(&Value::Array(vec![Value::Array(old), Value::Array(new)]));
    refused(format!("list element types are not identical: {lists}"))
}
