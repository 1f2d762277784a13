//! [`Correlated`]: a value, and the one that it takes the place of (KEP-4008).
//!
//! As upstream's `CorrelatedObject` (apiserver's `pkg/cel/common/equality.go`).

use std::{cell::OnceCell, collections::HashMap};

use serde_json::{Map, Value};

use super::{ListType, Schema};

/// A value that takes the place of another, as a schema sees both.
#[derive(Debug)]
pub(super) struct Correlated<'v> {
    schema: &'v Schema,
    value: &'v Value,
    old: &'v Value,
    /// Whether both are the same, once anybody asked.
    same: OnceCell<bool>,
}

impl<'v> Correlated<'v> {
    pub(super) fn new(schema: &'v Schema, value: &'v Value, old: &'v Value) -> Self {
        Correlated {
            schema,
            value,
            old,
            same: OnceCell::new(),
        }
    }

    /// A field of it: none if there was none, or the schema does not know it.
    pub(super) fn field(&self, name: &str) -> Option<Correlated<'v>> {
        let (value, old) = (self.value.get(name)?, self.old.get(name)?);
        Some(Correlated::new(self.schema.field(name)?, value, old))
    }

    /// What its elements take the place of.
    pub(super) fn elements(&self) -> Elements<'v> {
        Elements::of(self.schema, self.old)
    }

    /// One of its elements: none if it takes nothing's place. Only those of list maps ever do.
    pub(super) fn element(
        &self,
        elements: &Elements<'v>,
        element: &'v Value,
    ) -> Option<Correlated<'v>> {
        let old = elements.get(element)?;
        Some(Correlated::new(self.schema.items.as_deref()?, element, old))
    }

    /// Whether nothing has changed: elements of list maps may have moved, and what the schema does not know of counts as
    /// changed.
    pub(super) fn is_same(&self) -> bool {
        *self
            .same
            .get_or_init(|| is_same(self.schema, self.value, self.old))
    }
}

fn is_same(schema: &Schema, value: &Value, old: &Value) -> bool {
    match (value, old) {
        (Value::Array(elements), Value::Array(before)) => {
            if elements.len() != before.len() {
                return false;
            }
            if schema.list_type != Some(ListType::Map) {
                return elements == before;
            }
            let (before, items) = (Elements::of(schema, old), schema.items.as_deref());
            elements.iter().all(|element| {
                let both = items.zip(before.get(element));
                both.is_some_and(|(items, old)| is_same(items, element, old))
            })
        }
        (Value::Object(fields), Value::Object(before)) => {
            fields.len() == before.len()
                && fields.iter().all(|(name, value)| {
                    let both = schema.field(name).zip(before.get(name));
                    both.is_some_and(|(schema, old)| is_same(schema, value, old))
                })
        }
        _ => value == old,
    }
}

/// The elements of an old list map, by their keys; nothing of other lists.
#[derive(Debug, Default)]
pub(super) struct Elements<'v> {
    keys: &'v [String],
    by_key: HashMap<String, &'v Value>,
}

impl<'v> Elements<'v> {
    pub(super) fn of(schema: &'v Schema, old: &'v Value) -> Self {
        let Value::Array(elements) = old else {
            return Elements::default();
        };
        if schema.list_type != Some(ListType::Map) || schema.list_map_keys.is_empty() {
            return Elements::default();
        }
        let keys = schema.list_map_keys.as_slice();
        let mut by_key = HashMap::with_capacity(elements.len());
        for element in elements {
            if let Some(key) = key(keys, element) {
                by_key.entry(key).or_insert(element);
            }
        }
        Elements { keys, by_key }
    }

    /// The first with the same keys.
    pub(super) fn get(&self, element: &Value) -> Option<&'v Value> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&key(self.keys, element)?).copied()
    }
}

/// The values of the keys: nothing if one is not there, or is no scalar.
fn key(keys: &[String], element: &Value) -> Option<String> {
    let fields: &Map<String, Value> = element.as_object()?;
    let mut out = String::new();
    for key in keys {
        match fields.get(key)? {
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
            scalar => {
                out.push('\0');
                out.push_str(&scalar.to_string());
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_moved_is_the_same_and_what_nobody_knows_is_not() {
        let schema = Schema::new(&serde_json::from_value(json!({"type": "object", "properties": {
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "texts": {"type": "object", "additionalProperties": {"type": "string"}},
        }})).unwrap());
        for (value, old, expected) in [
            (
                json!({"map": [{"k": "a", "v": 1}, {"k": "b"}]}),
                json!({"map": [{"k": "b"}, {"k": "a", "v": 1}]}),
                true,
            ),
            (
                json!({"map": [{"k": "a", "v": 1}]}),
                json!({"map": [{"k": "a", "v": 2}]}),
                false,
            ),
            (json!({"map": [{}]}), json!({"map": [{}]}), false),
            (
                json!({"set": ["a", "b"]}),
                json!({"set": ["b", "a"]}),
                false,
            ),
            (
                json!({"texts": {"a": "b"}}),
                json!({"texts": {"a": "b"}}),
                true,
            ),
            (
                json!({"any": {"a": "b"}}),
                json!({"any": {"a": "b"}}),
                false,
            ),
            (json!({"any": {}}), json!({"any": {}}), true),
            (json!({"other": 1}), json!({"other": 1}), false),
        ] {
            let found = Correlated::new(&schema, &value, &old);
            assert_eq!(found.is_same(), expected, "{value} {old}");
        }
    }
}
