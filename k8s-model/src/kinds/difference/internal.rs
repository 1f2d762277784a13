//! How upstream's internal types are written as JSON, from their versioned form.
//!
//! `internal.txt` has a type a line, with its fields in their order: `Name=json:shape`, the name in the versioned form
//! where it is not the same but for its first letter. A `~` before it says that what is empty is not written. The path of
//! what stands elsewhere in the versioned form has dots, or begins with `/` if it is the whole object's. Shapes are `s`
//! for strings, `i` for integers, `b` for booleans, `q` for quantities and `v` for integers or strings, all of which are
//! zero if they are not there; `?` for what is `null` then; the name of a type; `*` and `[` before it for one that may be
//! `null` and for a list.

use std::{collections::HashMap, sync::LazyLock};

use serde_json::Value;

use crate::json::go_text;

static TYPES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = include_str!("internal.txt").lines().skip(1);
    let types = lines.map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        (name, words.filter_map(Field::read).collect())
    });
    types.collect()
});

struct Field {
    name: &'static str,
    path: String,
    shape: &'static str,
    omitted: bool,
}

impl Field {
    fn read(word: &'static str) -> Option<Field> {
        let (name, shape) = word.rsplit_once(':')?;
        let omitted = name.starts_with('~');
        let name = name.trim_start_matches('~');
        let (name, path) = match name.split_once('=') {
            Some((name, path)) => (name, path.to_owned()),
            None => {
                let mut letters = name.chars();
                let first = letters.next()?.to_ascii_lowercase();
                (name, format!("{first}{}", letters.as_str()))
            }
        };
        Some(Field {
            name,
            path,
            shape,
            omitted,
        })
    }

    fn of<'a>(&self, value: &'a Value, whole: &'a Value) -> &'a Value {
        let (start, path) = match self.path.strip_prefix('/') {
            Some(path) => (whole, path),
            None => (value, self.path.as_str()),
        };
        let step = |value: &'a Value, name: &str| value.get(name).unwrap_or(&Value::Null);
        path.split('.').fold(start, step)
    }
}

/// The lines of an object of that type, each with its end.
pub(super) fn lines(ty: &str, value: &Value) -> Vec<String> {
    let mut out = Out::default();
    object(&mut out, ty, value, value, 0);
    out.text.push('\n');
    out.text.split_inclusive('\n').map(str::to_owned).collect()
}

/// An object of that type in one line, with nothing that need not be there; or none.
pub(super) fn compact(ty: &str, value: &Value) -> String {
    if value.is_null() {
        return "null".to_owned();
    }
    let mut out = Out {
        is_compact: true,
        ..Out::default()
    };
    object(&mut out, ty, value, value, 0);
    out.text
}

/// What is written, and how.
#[derive(Default)]
struct Out {
    text: String,
    is_compact: bool,
}

impl Out {
    fn push(&mut self, c: char) {
        self.text.push(c);
    }

    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Begins a line, where there are more than one.
    fn line(&mut self, depth: usize) {
        if !self.is_compact {
            self.push('\n');
            self.text.extend(std::iter::repeat_n(' ', depth));
        }
    }

    /// Begins a field.
    fn name(&mut self, name: &str) {
        self.push_str(&go_text(&name.into()));
        self.push_str(if self.is_compact { ":" } else { ": " });
    }
}

fn object(out: &mut Out, ty: &str, value: &Value, whole: &Value, depth: usize) {
    let fields = TYPES.get(ty).map(Vec::as_slice).unwrap_or_default();
    // What a pod says of its network is said in its spec.
    let whole = if ty == "PodSpec" { value } else { whole };
    let mut before = '{';
    for field in fields {
        let value = field.of(value, whole);
        if field.omitted && is_empty(value) {
            continue;
        }
        out.push(before);
        before = ',';
        out.line(depth + 1);
        out.name(field.name);
        shaped(out, field.shape, value, whole, depth + 1);
    }
    if before == '{' {
        out.push_str("{}");
    } else {
        out.line(depth);
        out.push('}');
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn shaped(out: &mut Out, shape: &str, value: &Value, whole: &Value, depth: usize) {
    let zero = match shape {
        "s" => "\"\"",
        "i" | "v" => "0",
        "b" => "false",
        "q" => "\"0\"",
        "?" => "null",
        _ => "",
    };
    match (zero, value) {
        ("", _) => {}
        (_, Value::Null) => return out.push_str(zero),
        _ => return plain(out, value, depth),
    }
    if let Some(ty) = shape.strip_prefix('[') {
        match value {
            Value::Array(elements) => {
                let write = |out: &mut Out, element: &Value| {
                    object(out, ty, element, whole, depth + 1);
                };
                many(out, ['[', ']'], elements.iter(), depth, write);
            }
            _ => out.push_str("null"),
        }
        return;
    }
    match (shape.strip_prefix('*'), value) {
        (Some(_), Value::Null) => out.push_str("null"),
        (Some(ty), _) => object(out, ty, value, whole, depth),
        (None, _) => object(out, shape, value, whole, depth),
    }
}

fn many<T>(
    out: &mut Out,
    [start, end]: [char; 2],
    all: impl Iterator<Item = T>,
    depth: usize,
    write: impl Fn(&mut Out, T),
) {
    let mut before = start;
    for one in all {
        out.push(before);
        before = ',';
        out.line(depth + 1);
        write(out, one);
    }
    if before == start {
        out.push(start);
    } else {
        out.line(depth);
    }
    out.push(end);
}

/// A value that is written as it is, with the keys of maps in order.
fn plain(out: &mut Out, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            many(out, ['{', '}'], fields.into_iter(), depth, |out, field| {
                out.name(field.0);
                plain(out, field.1, depth + 1);
            });
        }
        Value::Array(elements) => {
            let write = |out: &mut Out, element: &Value| plain(out, element, depth + 1);
            many(out, ['[', ']'], elements.iter(), depth, write);
        }
        simple => out.push_str(&go_text(simple)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{MINOR, Shape, Type};

    /// What a pod says of these is told elsewhere inside.
    const MOVED: [&str; 6] = [
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "serviceAccount",
        "shareProcessNamespace",
    ];

    /// What claims in templates need not say of themselves, and is not kept.
    const UNSAID: [&str; 2] = ["apiVersion", "kind"];

    #[test]
    fn every_field_is_told() {
        for (name, fields) in TYPES.iter() {
            for field in fields {
                let ty = field.shape.trim_start_matches(['*', '[']);
                assert!(ty.len() == 1 || TYPES.contains_key(ty), "{name}: {ty}");
            }
            let Some(ty) = Type::named(&format!("api.core.v1.{name}")) else {
                continue;
            };
            for field in ty.fields() {
                let is_told = fields.iter().any(|told| {
                    told.path.split('.').next() == Some(field.name())
                        || (told.path.starts_with('/') && told.path[1..] == *field.name())
                });
                let is_elsewhere = match *name {
                    "PodSpec" => MOVED.contains(&field.name()),
                    "PersistentVolumeClaim" => UNSAID.contains(&field.name()),
                    _ => false,
                };
                assert!(is_told || is_elsewhere, "{name}.{}", field.name());
            }
            for told in fields.iter().filter(|told| !told.path.starts_with('/')) {
                let first = told.path.split('.').next().unwrap();
                let field = ty.field(first);
                assert!(field.is_some() || MINOR < 37, "{name}.{first}");
                let Some(field) = field else { continue };
                let fits = match field.shape() {
                    Shape::String(_) => matches!(told.shape, "s" | "?"),
                    Shape::Integer(_) => matches!(told.shape, "i" | "?"),
                    Shape::Boolean => matches!(told.shape, "b" | "?"),
                    _ => true,
                };
                assert!(fits, "{name}.{first}: {}", told.shape);
            }
        }
    }
}
