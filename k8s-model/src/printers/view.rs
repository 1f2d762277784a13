//! [`View`]: an object as a printer sees it.

use jiff::Timestamp;
use serde_json::Value;

use super::duration::since;
use crate::Object;

/// An object's fields by path, whatever its version's Rust type says of them.
pub(super) struct View {
    value: Value,
    pub(super) now: Timestamp,
}

impl View {
    pub(super) fn new(object: &dyn Object, now: Timestamp) -> Self {
        View {
            value: object.to_value(),
            now,
        }
    }

    /// The field at a path such as `spec.replicas`.
    pub(super) fn get(&self, path: &str) -> &Value {
        get(&self.value, path)
    }

    pub(super) fn text(&self, path: &str) -> &str {
        self.get(path).as_str().unwrap_or_default()
    }

    pub(super) fn int(&self, path: &str) -> i64 {
        self.get(path).as_i64().unwrap_or_default()
    }

    pub(super) fn bool(&self, path: &str) -> bool {
        self.get(path).as_bool().unwrap_or_default()
    }

    pub(super) fn list(&self, path: &str) -> &[Value] {
        list(&self.value, path)
    }

    pub(super) fn len(&self, path: &str) -> i64 {
        let len = match self.get(path) {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        i64::try_from(len).unwrap_or(i64::MAX)
    }

    /// The text at a path, or another where there is none.
    pub(super) fn text_or<'a>(&'a self, path: &str, other: &'a str) -> &'a str {
        match self.text(path) {
            "" => other,
            text => text,
        }
    }

    pub(super) fn name(&self) -> Value {
        self.text("metadata.name").into()
    }

    pub(super) fn age(&self) -> Value {
        self.since("metadata.creationTimestamp").into()
    }

    /// How long ago the time at a path was.
    pub(super) fn since(&self, path: &str) -> String {
        since(self.time(path), self.now)
    }

    /// The time at a path.
    pub(super) fn time(&self, path: &str) -> Option<Timestamp> {
        self.text(path).parse().ok()
    }

    /// Whether a status condition is `True`.
    pub(super) fn has_condition(&self, sort: &str) -> bool {
        self.list("status.conditions")
            .iter()
            .any(|condition| text(condition, "type") == sort && text(condition, "status") == "True")
    }

    pub(super) fn is_deleted(&self) -> bool {
        !self.get("metadata.deletionTimestamp").is_null()
    }

    /// Names and images of the containers at a path.
    pub(super) fn containers(&self, path: &str) -> [Value; 2] {
        let containers = self.list(path);
        let joined = |field: &str| -> Value {
            containers
                .iter()
                .map(|container| text(container, field))
                .collect::<Vec<_>>()
                .join(",")
                .into()
        };
        [joined("name"), joined("image")]
    }
}

/// The field at a path such as `spec.replicas`.
pub(super) fn get<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

pub(super) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    get(value, path).as_str().unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    get(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// A number or text as a text.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Labels as `a=1,b=2`.
pub(super) fn labels(value: &Value) -> String {
    let Some(labels) = value.as_object().filter(|labels| !labels.is_empty()) else {
        return "<none>".to_owned();
    };
    labels
        .iter()
        .map(|(key, value)| format!("{key}={}", scalar(value)))
        .collect::<Vec<_>>()
        .join(",")
}

/// A label selector as `a=1,b in (2,3),!c`.
pub(super) fn selector(value: &Value) -> String {
    let mut parts: Vec<(String, String)> = value
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", scalar(value))))
        .collect();
    for requirement in list(value, "matchExpressions") {
        let key = text(requirement, "key");
        let mut values: Vec<_> = list(requirement, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(requirement, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        parts.push((key.to_owned(), part));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    // Of one key, labels come before expressions, as upstream has them.
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts
        .into_iter()
        .map(|(_, part)| part)
        .collect::<Vec<_>>()
        .join(",")
}

/// The first few of a list, and how many more there are.
pub(super) fn first_few(items: &[String], max: usize, separator: &str, empty: &str) -> String {
    if items.len() <= max {
        let all = items.join(separator);
        return match all.as_str() {
            "" => empty.to_owned(),
            _ => all,
        };
    }
    format!(
        "{} + {} more...",
        items[..max].join(separator),
        items.len() - max
    )
}
