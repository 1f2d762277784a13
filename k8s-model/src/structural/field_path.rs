//! The paths of `fieldPath`, by which a rule blames a field below it: `.spec.containers`, `['a key'].b`.

use super::{Additional, Schema};
use crate::field::Path;

/// The parts of a path: each delimiter, a text in single quotes, and what stands between.
fn tokens(mut text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    while !text.is_empty() {
        let bytes = text.as_bytes();
        let end = match bytes[0] {
            b'.' | b'[' | b']' => 1,
            b'\'' => {
                let closes = |at: &usize| bytes[*at] == b'\'' && bytes[*at - 1] != b'\\';
                (1..bytes.len())
                    .find(closes)
                    .map_or(bytes.len(), |at| at + 1)
            }
            _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at(end);
        out.push(token);
        text = rest;
    }
    out
}

/// A text without its quotes, and what is escaped in it.
fn unquoted(token: &str) -> Option<String> {
    let inner = token.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\x0b',
                c @ ('\'' | '\\') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

/// Where a path leads below the values of a schema, as errors tell it; nothing if the schema has no such field.
pub(crate) fn read(text: &str, schema: &Schema) -> Option<String> {
    resolve(text, schema, true).ok().map(|(_, path)| path)
}

/// The schema of what a path leads to, if it is said, and the path as errors tell it.
///
/// # Errors
/// With what is wrong with the path, as upstream's `ValidFieldPath` tells it.
pub(crate) fn resolve<'s>(
    text: &str,
    schema: &'s Schema,
    brackets: bool,
) -> Result<(Option<&'s Schema>, String), String> {
    const END: &str = "unexpected end of JSON path";
    const NONE: &str = "does not refer to a valid field";
    let mut path = Path::default();
    let mut schema = Some(schema);
    let mut rest = tokens(text).into_iter();
    while let Some(token) = rest.next() {
        let name = match token {
            "." => rest.next().ok_or(END)?.to_owned(),
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let token = rest.next().ok_or(END)?;
                if token.len() < 2 || !token.starts_with('\'') || !token.ends_with('\'') {
                    return Err(format!("expected single quoted string but got {token}"));
                }
                let name = unquoted(token).ok_or("invalid string literal")?;
                match rest.next().ok_or(END)? {
                    "]" => name,
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let owner = schema.ok_or(NONE)?;
        (path, schema) = match &owner.additional {
            _ if !owner.properties.is_empty() => {
                let found = owner.properties.get(&name).ok_or(NONE)?;
                (path.child(&name), Some(found))
            }
            Additional::Schema(values) => (path.key(&name), Some(&**values)),
            Additional::Allowed(_) => (path.key(&name), None),
            Additional::Unspecified => return Err(NONE.to_owned()),
        };
    }
    Ok((schema, path.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields_that_there_are() {
        let schema = json!({"type": "object", "properties": {
            "a.b": {"type": "string"},
            "it's": {"type": "string"},
            "spec": {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
        }});
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        for (text, path) in [
            (".spec", Some("spec")),
            (".spec.list", Some("spec.list")),
            ("['spec']['list']", Some("spec.list")),
            ("['a.b']", Some("a.b")),
            (r"['it\'s']", Some("it's")),
            (".map.k.x", Some("map[k].x")),
            ("['map']['a key'].x", Some("map[a key].x")),
            ("spec", None),
            (".", None),
            (".spec.", None),
            (".spec.list[0]", None),
            (".spec.list['0']", None),
            (".spec.other", None),
            ("['spec'", None),
            ("[spec]", None),
            (r"['\q']", None),
            ("['", None),
            ("[']", None),
        ] {
            assert_eq!(read(text, &schema).as_deref(), path, "{text}");
        }
    }
}
