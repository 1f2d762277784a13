//! Why bytes were refused, in the words of upstream's decoder.

use std::collections::HashMap;

use serde_json::{Value, value::RawValue};

use super::{
    DecodeError, base64, go_names, syntax, time_text,
    tracked::{Step, spell},
};
use crate::schema::{Shape, Type};

/// The error for a client, from that of the decoder and the place it came from.
pub(super) fn explain(
    bytes: &[u8],
    error: &serde_json::Error,
    fault: &[Step],
    group: &str,
    version: &str,
    kind: &str,
) -> DecodeError {
    if error.is_syntax() || error.is_eof() {
        return DecodeError::Syntax(syntax::syntax_error(bytes).unwrap_or_else(|| plain(error)));
    }
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else {
        return DecodeError::Syntax(syntax::syntax_error(bytes).unwrap_or_else(|| plain(error)));
    };
    if let Some(text) = type_meta_fault(&document) {
        return DecodeError::Syntax(text);
    }
    let api_version = crate::api_version(group, version);
    let given = |name: &str, default: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .unwrap_or(default)
            .to_owned()
    };
    let (found_version, found_kind) = (given("apiVersion", &api_version), given("kind", kind));
    if found_version != api_version || found_kind != kind {
        return DecodeError::WrongKind {
            api_version: found_version,
            kind: found_kind,
            expected_api_version: api_version,
            expected_kind: kind.to_owned(),
        };
    }
    let message = Type::of_kind(group, version, kind)
        .and_then(|ty| mismatch(ty, &document, fault, Some(bytes)))
        .unwrap_or_else(|| plain(error));
    DecodeError::Value {
        path: spell(fault),
        message,
    }
}

/// What Go calls the type of a value in an object whose kind it does not know, such as `map[string]interface {}`.
#[must_use]
pub fn go_type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What upstream says of a document whose `apiVersion` and `kind` cannot be read; nothing if they can.
#[must_use]
pub fn type_meta_fault(document: &Value) -> Option<String> {
    if !document.is_object() {
        let kind = go_kind(document);
        return Some(format!(
            "json: cannot unmarshal {kind} into Go value of type {TYPE_META}"
        ));
    }
    ["apiVersion", "kind"].into_iter().find_map(|name| {
        let value = document.get(name)?;
        (!value.is_string() && !value.is_null()).then(|| {
            let kind = go_kind(value);
            format!("json: cannot unmarshal {kind} into Go struct field .{name} of type string")
        })
    })
}

/// The error for a client whose bytes are not UTF-8.
pub(super) fn no_text(bytes: &[u8]) -> DecodeError {
    let other = || "invalid unicode code point".to_owned();
    DecodeError::Syntax(syntax::syntax_error(bytes).unwrap_or_else(other))
}

/// The type that upstream reads `apiVersion` and `kind` into before anything else.
const TYPE_META: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// The text without the line and column, which are of no use in a body that a program wrote.
pub(super) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.contains("expected JSONSchemaPropsOrBool") {
        return "boolean or JSON schema expected".to_owned();
    }
    let end = text.rfind(" at line ").unwrap_or(text.len());
    of_wrong_type(&text[..end]).unwrap_or_else(|| text[..end].to_owned())
}

/// What the decoder in Rust says of a value of another type than the one its place has, in Go's words.
fn of_wrong_type(text: &str) -> Option<String> {
    let (found, expected) = text
        .strip_prefix("invalid type: ")?
        .split_once(", expected ")?;
    let found = match found.split(' ').next()? {
        "integer" | "floating" => "number",
        "boolean" => "bool",
        "string" => "string",
        "sequence" => "array",
        "map" => "object",
        _ => "null",
    };
    let into = match expected {
        "a string" | "a borrowed string" => "string",
        "a sequence" => "[]interface {}",
        "a map" => "map[string]interface {}",
        "a boolean" => "bool",
        of if of.starts_with(['i', 'u']) && of[1..].bytes().all(|b| b.is_ascii_digit()) => {
            return Some(format!(
                "json: cannot unmarshal {found} into Go value of type int{}",
                &of[1..]
            ));
        }
        _ => return Some(format!("json: cannot unmarshal {found} into Go value")),
    };
    Some(format!(
        "json: cannot unmarshal {found} into Go value of type {into}"
    ))
}

/// What Go says about the value at a path, if it is of another type than the schema's. `source` is
/// what the document was read from, for numbers as they were written.
pub(super) fn mismatch(
    ty: Type,
    document: &Value,
    fault: &[Step],
    source: Option<&[u8]>,
) -> Option<String> {
    let mut shape = Shape::Type(ty);
    let mut value = document;
    let mut owner = None;
    let mut name = None;
    let mut fields: Vec<&str> = Vec::new();
    for step in fault {
        match (step, shape.read_from(value)) {
            (Step::Key(key), Shape::Type(ty)) => {
                let field = ty.field(key)?;
                owner = Some(ty);
                fields.extend(go_names::embedded(ty.base_name(), field.name()));
                name = go_names::of_field(ty.short_name(), field.name());
                fields.push(field.name());
                shape = field.shape();
                value = value.get(key)?;
            }
            (Step::Key(key), Shape::Map(elements)) => {
                name = name.and_then(go_names::element);
                shape = elements.shape();
                value = value.get(key)?;
            }
            (Step::Index(index), Shape::List(elements)) => {
                name = name.and_then(go_names::element);
                shape = elements.shape();
                value = value.get(*index)?;
            }
            _ => return None,
        }
    }
    shape = shape.read_from(value);
    if fits(shape, value) {
        return special(shape, value);
    }
    let found = match value {
        Value::Number(number)
            if matches!(shape.resolved(), Shape::Integer(_) | Shape::IntOrString) =>
        {
            let written = source.and_then(|source| written(source, fault));
            format!("number {}", written.unwrap_or(number.to_string()))
        }
        other => go_kind(other).to_owned(),
    };
    let into = match owner {
        Some(owner) => format!("struct field {}.{}", owner.base_name(), fields.join(".")),
        None => "value".to_owned(),
    };
    Some(format!(
        "json: cannot unmarshal {found} into Go {into} of type {}",
        name.map_or_else(|| go_type(shape), str::to_owned)
    ))
}

/// The text of the value at a path.
fn written(source: &[u8], path: &[Step]) -> Option<String> {
    let mut found: &RawValue = serde_json::from_slice(source).ok()?;
    for step in path {
        found = match step {
            Step::Key(key) => {
                let fields: HashMap<String, &RawValue> = serde_json::from_str(found.get()).ok()?;
                fields.get(key)?
            }
            Step::Index(index) => {
                let items: Vec<&RawValue> = serde_json::from_str(found.get()).ok()?;
                items.get(*index)?
            }
        };
    }
    Some(found.get().to_owned())
}

/// What Go's decoder calls a value.
pub(crate) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a value is of a type at all, whatever its content.
fn fits(shape: Shape, value: &Value) -> bool {
    match shape.resolved() {
        Shape::Any if shape.has_alternatives() => false,
        Shape::String(_) => value.is_string(),
        Shape::Integer("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Shape::Integer(_) => value.is_i64(),
        Shape::Number => value.is_number(),
        Shape::Boolean => value.is_boolean(),
        Shape::Object | Shape::Map(_) | Shape::Type(_) => value.is_object(),
        Shape::List(_) => value.is_array(),
        Shape::IntOrString => value.is_string() || fits(Shape::Integer("int32"), value),
        Shape::Any | Shape::Quantity => true,
    }
}

/// What the types with a text form of their own say.
fn special(shape: Shape, value: &Value) -> Option<String> {
    match (shape.resolved(), value) {
        (Shape::String("date-time"), Value::String(text)) => {
            let micro = matches!(shape, Shape::Type(ty) if ty.base_name() == "MicroTime");
            Some(time_text::fault(text, micro))
        }
        (Shape::String("byte"), Value::String(text)) => Some(base64::fault(text)),
        (Shape::Quantity, other) if !other.is_string() && !other.is_number() => {
            Some(crate::quantity::ParseError::Format.to_string())
        }
        _ => None,
    }
}

fn go_type(shape: Shape) -> String {
    match shape {
        Shape::Type(ty) => match ty.special() {
            Some(Shape::String(_)) => "string".to_owned(),
            Some(Shape::IntOrString) => "int32".to_owned(),
            _ => format!("{}.{}", ty.package(), ty.base_name()),
        },
        Shape::String("byte") => "[]uint8".to_owned(),
        Shape::String(_) => "string".to_owned(),
        Shape::Integer(format) => format.to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Object | Shape::Any => "map[string]interface {}".to_owned(),
        Shape::IntOrString => "int32".to_owned(),
        Shape::Quantity => "string".to_owned(),
        Shape::List(elements) => format!("[]{}", go_type(elements.shape())),
        Shape::Map(elements) => match go_type(elements.shape()).as_str() {
            "resource.Quantity" => "v1.ResourceList".to_owned(),
            element => format!("map[string]{element}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_in_rust_is_not_heard() {
        for (text, told) in [
            (
                "invalid type: integer `5`, expected a string",
                "number into Go value of type string",
            ),
            (
                "invalid type: floating point `5.5`, expected i64",
                "number into Go value of type int64",
            ),
            (
                "invalid type: sequence, expected a map",
                "array into Go value of type map[string]interface {}",
            ),
            (
                "invalid type: string \"a\", expected struct A",
                "string into Go value",
            ),
        ] {
            let error = serde::de::Error::custom(text);
            assert_eq!(plain(&error), format!("json: cannot unmarshal {told}"));
        }
    }
}
