//! Why bytes were refused, in the words of upstream's decoder.

use serde_json::Value;

use super::{
    DecodeError, syntax,
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
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let given = |name: &str, default: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
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
        .and_then(|ty| mismatch(ty, &document, fault))
        .unwrap_or_else(|| plain(error));
    DecodeError::Value {
        path: spell(fault),
        message,
    }
}

/// The text without the line and column, which are of no use in a body that a program wrote.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// What Go says about the value at a path, if it is of another type than the schema's.
fn mismatch(ty: Type, document: &Value, fault: &[Step]) -> Option<String> {
    let mut shape = Shape::Type(ty);
    let mut value = document;
    let mut owner = None;
    let mut fields: Vec<&str> = Vec::new();
    for step in fault {
        match (step, shape) {
            (Step::Key(key), Shape::Type(ty)) => {
                let field = ty.field(key)?;
                owner = Some(ty);
                fields.push(field.name());
                shape = field.shape();
                value = value.get(key)?;
            }
            (Step::Key(key), Shape::Map(elements)) => {
                shape = elements.shape();
                value = value.get(key)?;
            }
            (Step::Index(index), Shape::List(elements)) => {
                shape = elements.shape();
                value = value.get(*index)?;
            }
            _ => return None,
        }
    }
    if fits(shape, value) {
        return special(shape, value);
    }
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if matches!(shape, Shape::Integer(_)) => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let simple = matches!(
        shape.resolved(),
        Shape::String("date-time") | Shape::IntOrString
    );
    let into = match owner {
        Some(_) if simple => "value".to_owned(),
        Some(owner) => format!("struct field {}.{}", owner.base_name(), fields.join(".")),
        None => "value".to_owned(),
    };
    Some(format!(
        "json: cannot unmarshal {found} into Go {into} of type {}",
        go_type(shape)
    ))
}

/// Whether a value is of a type at all, whatever its content.
fn fits(shape: Shape, value: &Value) -> bool {
    match shape.resolved() {
        Shape::String(_) => value.is_string(),
        Shape::Integer("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Shape::Integer(_) => value.is_i64(),
        Shape::Number => value.is_number(),
        Shape::Boolean => value.is_boolean(),
        Shape::Object | Shape::Map(_) | Shape::Type(_) => value.is_object(),
        Shape::List(_) => value.is_array(),
        Shape::IntOrString => value.is_string() || value.is_i64(),
        Shape::Any | Shape::Quantity => true,
    }
}

/// What the types with a text form of their own say.
fn special(shape: Shape, value: &Value) -> Option<String> {
    match (shape.resolved(), value) {
        (Shape::String("date-time"), Value::String(text)) => Some(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        )),
        (Shape::String("byte"), Value::String(text)) => {
            let allowed =
                |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'\r' | b'\n');
            let at = text.bytes().position(|b| !allowed(b)).unwrap_or(text.len());
            Some(format!("illegal base64 data at input byte {at}"))
        }
        (Shape::Quantity, other) if !other.is_string() && !other.is_number() => {
            Some(crate::quantity::ParseError::Format.to_string())
        }
        _ => None,
    }
}

fn go_type(shape: Shape) -> String {
    match shape {
        Shape::Type(ty) => match ty.special() {
            Some(Shape::String(_) | Shape::IntOrString) => "string".to_owned(),
            _ => format!("{}.{}", ty.package(), ty.base_name()),
        },
        Shape::String("byte") => "[]uint8".to_owned(),
        Shape::String(_) => "string".to_owned(),
        Shape::Integer(format) => format.to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Object | Shape::Any => "map[string]interface {}".to_owned(),
        Shape::IntOrString | Shape::Quantity => "string".to_owned(),
        Shape::List(elements) => format!("[]{}", go_type(elements.shape())),
        Shape::Map(elements) => format!("map[string]{}", go_type(elements.shape())),
    }
}
