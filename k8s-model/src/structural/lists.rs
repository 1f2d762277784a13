//! Lists that are sets or maps: nothing may be in them twice.

use serde_json::{Map, Value};

use super::{ListType, Schema};
use crate::field::{self, ErrorList, Path};

impl Schema {
    /// What is in a set or list map twice.
    pub fn validate_lists(&self, value: &Value) -> ErrorList {
        let mut out = ErrorList::new();
        walk(self, value, &Path::default(), &mut out);
        out
    }

    /// The fields of an element that tell it from others in a list map, with their defaults.
    pub(crate) fn keys_of(&self, element: &Value) -> Map<String, Value> {
        let items = self.items.as_deref();
        (self.list_map_keys.iter())
            .filter_map(|key| {
                let value = element
                    .get(key)
                    .or_else(|| items?.properties.get(key)?.default.as_ref());
                Some((key.clone(), value?.clone()))
            })
            .collect()
    }
}

fn walk(schema: &Schema, value: &Value, path: &Path, out: &mut ErrorList) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(field) = schema.properties.get(name) {
                    walk(field, value, &path.child(name), out);
                } else if let Some(field) = schema.field(name) {
                    walk(field, value, &path.key(name), out);
                }
            }
        }
        Value::Array(elements) => {
            match schema.list_type {
                Some(ListType::Set) => repeated(elements.iter().cloned(), path, out),
                // What is null is told elsewhere.
                Some(ListType::Map) if elements.iter().any(is_scalar) => {
                    let wrong = elements.iter().enumerate().filter(|(_, e)| is_scalar(e));
                    let text = "must be an object for an array of list-type map";
                    out.extend(
                        wrong.map(|(at, e)| field::invalid(path.index(at), e.clone(), text)),
                    );
                }
                Some(ListType::Map) => {
                    let keys = elements.iter().map(|e| Value::Object(schema.keys_of(e)));
                    repeated(keys, path, out);
                }
                _ => {}
            }
            if let Some(items) = &schema.items {
                for (at, element) in elements.iter().enumerate() {
                    walk(items, element, &path.index(at), out);
                }
            }
        }
        _ => {}
    }
}

fn is_scalar(element: &Value) -> bool {
    !element.is_object() && !element.is_null()
}

fn repeated(values: impl Iterator<Item = Value>, path: &Path, out: &mut ErrorList) {
    let mut seen = std::collections::HashMap::new();
    for (at, value) in values.enumerate() {
        let times = seen.entry(value.to_string()).or_insert(0);
        *times += 1;
        // Each is told once, however often it comes again.
        if *times == 2 {
            out.push(field::duplicate(path.index(at), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_twice_is_told_once() {
        let schema = Schema::new(&serde_json::from_value(json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}}},
        }})).unwrap());
        let found = schema.validate_lists(&json!({"set": ["a", "b", "a", "a"],
            "map": [{"port": 1}, {"port": 1, "protocol": "UDP"}, {"port": 1, "protocol": "TCP"}]}));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "map[2]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
                "set[2]: Duplicate value: \"a\"",
            ]
        );
        let found = schema.validate_lists(&json!({"map": [5, null, {"port": 1}, {"port": 1}]}));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["map[0]: Invalid value: 5: must be an object for an array of list-type map"]
        );
    }
}
