//! Defaulting: what a schema says where an object says nothing.

use serde_json::Value;

use super::{Additional, Schema};

impl Schema {
    /// Fills in the defaults of fields that are not there, and of those that are `null` and
    /// may not be.
    pub fn default_value(&self, value: &mut Value) {
        if !self.has_defaults() {
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, schema) in &self.properties {
                    let Some(default) = &schema.default else {
                        continue;
                    };
                    if fields.get(name).is_none_or(|v| schema.is_null_nothing(v)) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in fields.iter_mut() {
                    if let Some(schema) = self.properties.get(name) {
                        schema.default_value(value);
                    } else if let Additional::Schema(schema) = &self.additional {
                        schema.default_element(value);
                    }
                }
            }
            Value::Array(elements) => {
                if let Some(items) = &self.items {
                    elements
                        .iter_mut()
                        .for_each(|value| items.default_element(value));
                }
            }
            _ => {}
        }
    }

    fn default_element(&self, value: &mut Value) {
        if let Some(default) = &self.default
            && self.is_null_nothing(value)
        {
            *value = default.clone();
        }
        self.default_value(value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_reach_into_defaults_lists_and_maps() {
        let schema = Schema::new(&serde_json::from_value(json!({"type": "object", "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "string", "default": "x"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string", "default": "y"}},
            "n": {"type": "string", "nullable": true, "default": "z"},
            "m": {"type": "string", "default": "z"},
        }})).unwrap());
        let mut value = json!({"list": [{}, {"c": "q"}], "map": {"k": null}, "n": null, "m": null});
        schema.default_value(&mut value);
        assert_eq!(
            value,
            json!({"a": {"b": 1}, "list": [{"c": "x"}, {"c": "q"}], "map": {"k": "y"}, "n": null, "m": "z"})
        );
        let once = value.clone();
        schema.default_value(&mut value);
        assert_eq!(value, once);
    }
}
