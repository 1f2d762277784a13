//! Pruning: fields that a schema does not know are dropped.

use serde_json::Value;

use super::{Additional, Schema};
use crate::decode::{self, SPELLED};

impl Schema {
    /// Drops what the schema does not know, and calls `dropped` with the path of each such field.
    /// At the `root` of a resource, and of resources within it, `apiVersion`, `kind` and
    /// `metadata` stay. Of paths that are very long in all, not every one is told.
    pub fn prune(&self, value: &mut Value, root: bool, dropped: &mut dyn FnMut(String)) {
        let mut dropped = Dropped {
            tell: dropped,
            room: SPELLED,
        };
        prune(Some(self), value, root, &mut String::new(), &mut dropped);
    }

    /// The same of the metadata of resources within a value, which has a shape of its own.
    pub fn prune_metadata(&self, value: &mut Value, dropped: &mut dyn FnMut(String)) {
        if self.embeds {
            let mut dropped = Dropped {
                tell: dropped,
                room: SPELLED,
            };
            metadata(self, value, &mut String::new(), &mut dropped);
        }
    }

    /// Drops `null` where it is not a value and nothing stands in for it.
    pub fn prune_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| match self.field(name) {
                    Some(schema) => {
                        if schema.is_null_nothing(value) && schema.default.is_none() {
                            return false;
                        }
                        schema.prune_nulls(value);
                        true
                    }
                    None => true,
                });
            }
            Value::Array(elements) => {
                if let Some(items) = &self.items {
                    for element in elements {
                        items.prune_nulls(element);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Who is told what is dropped.
struct Dropped<'d> {
    tell: &'d mut dyn FnMut(String),
    /// How many bytes of paths are told yet.
    room: usize,
}

impl Dropped<'_> {
    fn tell(&mut self, path: &str, field: Option<&str>) {
        if self.room == 0 {
            return;
        }
        let path = match field {
            Some(field) if !path.is_empty() => format!("{path}.{field}"),
            Some(field) => field.to_owned(),
            None => path.to_owned(),
        };
        self.room = self.room.saturating_sub(path.len());
        (self.tell)(path);
    }
}

/// What a schema says of a field. Nothing if it does not know it; no schema if it may be there and there is none for it.
fn known<'s>(schema: &'s Schema, name: &str) -> Option<Option<&'s Schema>> {
    match (schema.properties.get(name), &schema.additional) {
        (Some(field), _) => Some(Some(field)),
        (None, Additional::Schema(field)) => Some(Some(field)),
        (None, Additional::Allowed(_)) => Some(None),
        (None, Additional::Unspecified) => None,
    }
}

/// Where there is no schema, scalars and lists stay, and objects lose all that is in them.
fn prune(
    schema: Option<&Schema>,
    value: &mut Value,
    root: bool,
    path: &mut String,
    dropped: &mut Dropped<'_>,
) {
    let keeps = schema.is_some_and(|schema| schema.preserve_unknown);
    walk(schema, value, (root, keeps), path, dropped);
}

/// The same of a value that `keeps` fields that are not known, or does not. A list hands that on to its elements.
fn walk(
    schema: Option<&Schema>,
    value: &mut Value,
    (root, keeps): (bool, bool),
    path: &mut String,
    dropped: &mut Dropped<'_>,
) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            let root = root || schema.is_some_and(|schema| schema.embedded);
            fields.retain(|name, value| {
                if root && is_head(name) {
                    return true;
                }
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                let stays = match schema.and_then(|schema| known(schema, name)) {
                    Some(field) => {
                        prune(field, value, false, path, dropped);
                        true
                    }
                    None if keeps => true,
                    None => {
                        dropped.tell(path, None);
                        false
                    }
                };
                path.truncate(length);
                stays
            });
        }
        Value::Array(elements) => {
            let items = schema.and_then(|schema| schema.items.as_deref());
            if keeps && items.is_none() {
                return;
            }
            for (at, element) in elements.iter_mut().enumerate() {
                path.push_str(&format!("[{at}]"));
                let keeps = keeps || items.is_some_and(|items| items.preserve_unknown);
                walk(items, element, (false, keeps), path, dropped);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Whether every resource has a field of that name.
fn is_head(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

fn metadata(schema: &Schema, value: &mut Value, path: &mut String, dropped: &mut Dropped<'_>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if schema.embedded && name == "metadata" {
                    prune_metadata(value, path, dropped);
                }
                if let Some(field) = schema.field(name) {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(name);
                    metadata(field, value, path, dropped);
                    path.truncate(length);
                }
            }
        }
        Value::Array(elements) => {
            let Some(items) = &schema.items else { return };
            for (at, element) in elements.iter_mut().enumerate() {
                path.push_str(&format!("[{at}]"));
                metadata(items, element, path, dropped);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Drops what no metadata has. What is not of its type stays: validation refuses it.
fn prune_metadata(value: &mut Value, parent: &str, dropped: &mut Dropped<'_>) {
    let mut unknown = Vec::new();
    let Ok(known) = decode::metadata(value, &mut |field| unknown.push(field)) else {
        return;
    };
    if unknown.is_empty() {
        return;
    }
    if let Ok(known) = serde_json::to_value(known) {
        *value = known;
        for field in unknown {
            dropped.tell(parent, Some(&field));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(value: Value) -> Schema {
        Schema::new(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn what_is_told_of_them_has_an_end() {
        let schema = schema(json!({"type": "object", "additionalProperties":
            {"type": "object", "properties": {"a": {"type": "string"}}}}));
        let long = "x".repeat(1 << 20);
        let unknown: serde_json::Map<_, _> =
            (0..1000).map(|i| (format!("k{i}"), 1.into())).collect();
        let mut value = json!({ &*long: unknown });
        let (mut told, mut bytes) = (0, 0);
        schema.prune(&mut value, false, &mut |path| {
            told += 1;
            bytes += path.len();
        });
        assert!(
            told > 0 && bytes <= SPELLED + 2 * long.len(),
            "{told} {bytes}"
        );
        assert_eq!(value[&long], json!({}));
    }

    #[test]
    fn unknown_fields_go_and_are_named() {
        let schema = schema(json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"known": {"type": "object"}}},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
                          "properties": {"spec": {"type": "object"}}},
            }},
        }}));
        let mut value = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"x": 1}, "status": {}, "spec": {
            "list": [{"a": "1", "b": 2}], "map": {"k": {"a": "1", "c": 3}},
            "any": {"x": {"y": 1}, "known": {"z": 1}},
            "inner": {"apiVersion": "v1", "kind": "B", "metadata": {"name": "b", "y": 2}, "data": 1, "spec": {"q": 1}},
        }});
        let mut dropped = Vec::new();
        schema.prune(&mut value, true, &mut |path| dropped.push(path));
        schema.prune_metadata(&mut value, &mut |path| dropped.push(path));
        assert_eq!(
            dropped,
            [
                "spec.any.known.z",
                "spec.inner.data",
                "spec.inner.spec.q",
                "spec.list[0].b",
                "spec.map.k.c",
                "status",
                "spec.inner.metadata.y"
            ]
        );
        assert_eq!(value["spec"]["any"], json!({"x": {"y": 1}, "known": {}}));
        assert_eq!(value["metadata"], json!({"x": 1}));
        assert_eq!(value["spec"]["inner"]["metadata"], json!({"name": "b"}));
    }
    /// A schema, a value, what stays of it, and the paths of what goes.
    fn check_all(table: Vec<(Value, Value, Value, &[&str])>) {
        for (schema_value, mut value, expected, gone) in table {
            let of = schema_value.to_string();
            let mut dropped = Vec::new();
            schema(schema_value).prune(&mut value, false, &mut |path| dropped.push(path));
            assert_eq!(value, expected, "{of}");
            assert_eq!(dropped, gone, "{of}");
        }
    }

    #[test]
    fn a_list_that_keeps_unknown_fields_keeps_those_of_its_elements() {
        let keeps = |items: Value| json!({"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": items});
        let known = json!({"type": "object", "properties": {"known": {"type": "object"}}});
        check_all(vec![
            (
                keeps(json!({"type": "object"})),
                json!([{"a": 1, "b": {"c": 2}}]),
                json!([{"a": 1, "b": {"c": 2}}]),
                &[],
            ),
            (
                keeps(json!({"type": "array", "items": known})),
                json!([[{"a": 1, "known": {"b": 1}}]]),
                json!([[{"a": 1, "known": {}}]]),
                &["[0][0].known.b"],
            ),
            (
                keeps(json!({"type": "object", "additionalProperties": known})),
                json!([{"a": {"b": 1, "known": {}}}]),
                json!([{"a": {"known": {}}}]),
                &["[0].a.b"],
            ),
            (
                json!({"type": "object", "properties": {"list": {"type": "array", "items": known}},
                    "x-kubernetes-preserve-unknown-fields": true}),
                json!({"other": [{"a": 1}], "list": [{"a": 1}]}),
                json!({"other": [{"a": 1}], "list": [{}]}),
                &["list[0].a"],
            ),
        ]);
    }

    #[test]
    fn what_may_be_there_without_a_schema_stays_and_the_objects_in_it_are_emptied() {
        for allowed in [true, false] {
            let of = json!({"type": "object", "additionalProperties": allowed});
            let mut preserving = of.clone();
            preserving["x-kubernetes-preserve-unknown-fields"] = true.into();
            for schema in [of, preserving] {
                check_all(vec![
                    (
                        schema.clone(),
                        json!({"a": 1, "b": [1, {"c": 2}], "d": {"e": {"f": 3}}}),
                        json!({"a": 1, "b": [1, {}], "d": {}}),
                        &["b[1].c", "d.e"],
                    ),
                    (schema, json!({}), json!({}), &[]),
                ]);
            }
        }
    }
}
