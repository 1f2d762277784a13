//! Resources within resources: `x-kubernetes-embedded-resource`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, from_value};

use super::Schema;
use crate::{
    decode,
    field::{self, ErrorList, Path},
    metadata, names,
};

/// The name of metadata in OpenAPI documents.
const META: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl Schema {
    /// What is wrong with the types and metadata of the resources within a value.
    pub fn validate_embedded(&self, value: &Value) -> ErrorList {
        let mut out = ErrorList::new();
        walk(self, value, &Path::default(), &mut out);
        out
    }

    /// Brings the metadata of the resources within a value into its own form, as upstream does with what clients send.
    ///
    /// # Errors
    /// With the first that is none, or the first `apiVersion` or `kind` that is no text: that is no such object at all.
    pub(crate) fn coerce_embedded(&self, value: &mut Value) -> Result<(), field::Error> {
        match self.embeds {
            true => coerce(self, value, &Path::default()),
            false => Ok(()),
        }
    }
}

fn coerce(schema: &Schema, value: &mut Value, path: &Path) -> Result<(), field::Error> {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "apiVersion" | "kind" if schema.embedded && !value.is_string() => {
                        let path = path.child(name);
                        return Err(field::invalid(path, value.clone(), "must be a string"));
                    }
                    "metadata" if schema.embedded && value.is_null() => {
                        *value = Value::Object(Map::new());
                    }
                    "metadata" if schema.embedded => {
                        match from_value::<ObjectMeta>(value.clone()) {
                            Ok(known) => {
                                if let Ok(known) = serde_json::to_value(known) {
                                    *value = known;
                                }
                                if let Value::Object(fields) = value {
                                    fields.retain(|_, value| !is_zero(value));
                                }
                            }
                            Err(error) => {
                                let told = decode::misread::<ObjectMeta>(value, META, &error);
                                return Err(field::invalid(path.child(name), value.clone(), told));
                            }
                        }
                    }
                    _ => {}
                }
                if let Some(field) = schema.properties.get(name) {
                    coerce(field, value, &path.child(name))?;
                } else if let Some(field) = schema.field(name) {
                    coerce(field, value, &path.key(name))?;
                }
            }
            Ok(())
        }
        Value::Array(elements) => {
            let Some(items) = &schema.items else {
                return Ok(());
            };
            let mut elements = elements.iter_mut().enumerate();
            elements.try_for_each(|(at, element)| coerce(items, element, &path.index(at)))
        }
        _ => Ok(()),
    }
}

/// Whether a field of metadata is as good as not there.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What upstream says of metadata that is none.
pub(crate) fn metadata_fault(found: &Value) -> Option<String> {
    let error = from_value::<ObjectMeta>(found.clone()).err()?;
    Some(decode::misread::<ObjectMeta>(found, META, &error))
}

fn walk(schema: &Schema, value: &Value, path: &Path, out: &mut ErrorList) {
    match value {
        Value::Object(fields) => {
            if schema.embedded {
                resource(fields, path, out);
            }
            for (name, value) in fields {
                if let Some(field) = schema.properties.get(name) {
                    walk(field, value, &path.child(name), out);
                } else if let Some(field) = schema.field(name) {
                    walk(field, value, &path.key(name), out);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(items) = &schema.items {
                for (at, element) in elements.iter().enumerate() {
                    walk(items, element, &path.index(at), out);
                }
            }
        }
        _ => {}
    }
}

fn resource(fields: &Map<String, Value>, path: &Path, out: &mut ErrorList) {
    const EMPTY: &str = "must not be empty";
    for name in ["apiVersion", "kind"] {
        let path = path.child(name);
        match fields.get(name) {
            None => out.push(field::required(path, "")),
            Some(Value::String(text)) if text.is_empty() => {
                out.push(field::invalid(path, text.as_str(), EMPTY));
            }
            Some(Value::String(text)) if name == "kind" => {
                let texts = names::dns1035(&text.to_lowercase(), false);
                if !texts.is_empty() {
                    let detail = format!(
                        "may have mixed case, but should otherwise match: {}",
                        texts.join(",")
                    );
                    out.push(field::invalid(path, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                let detail = format!("unexpected GroupVersion string: {text}");
                out.push(field::invalid(path, text.as_str(), detail));
            }
            Some(Value::String(_)) => {}
            Some(other) => out.push(field::invalid(path, other.clone(), "must be a string")),
        }
    }
    let Some(found) = fields.get("metadata") else {
        return;
    };
    let path = path.child("metadata");
    match from_value::<ObjectMeta>(found.clone()) {
        Err(error) => {
            let told = decode::misread::<ObjectMeta>(found, META, &error);
            out.push(field::invalid(path, found.clone(), told));
        }
        Ok(mut meta) => {
            // A resource within another need not have a name.
            meta.name.get_or_insert_with(|| "fakename".to_owned());
            let namespaced = meta.namespace.as_deref().is_some_and(|n| !n.is_empty());
            out.extend(metadata::validate(
                &meta,
                namespaced,
                &names::path_segment,
                &path,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_that_is_none_is_told_of_in_the_words_of_built_in_kinds() {
        let inner = json!({"type": "object", "x-kubernetes-embedded-resource": true});
        let schema = json!({"type": "object", "properties": {"inner": inner}});
        let schema = Schema::new(&from_value(schema).unwrap());
        let told = |meta| {
            let inner = json!({"apiVersion": "v1", "kind": "A", "metadata": meta});
            let errors = schema.validate_embedded(&json!({"inner": inner}));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({"labels": {"a": "b"}})), [""; 0]);
        let errors = told(json!({"labels": 5}));
        assert!(errors[0].starts_with("inner.metadata: "), "{errors:?}");
        let text = "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type map[string]string";
        assert!(errors[0].ends_with(text), "{errors:?}");
    }

    #[test]
    fn what_clients_send_has_metadata_or_is_refused() {
        let inner = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
        let schema =
            json!({"type": "object", "properties": {"list": {"type": "array", "items": inner}}});
        let schema = Schema::new(&from_value(schema).unwrap());
        let mut value = json!({"list": [{"apiVersion": "v1", "kind": "A",
            "metadata": {"name": "a", "creationTimestamp": null, "finalizers": [], "labels": {"a": "b"}}}]});
        schema.coerce_embedded(&mut value).unwrap();
        let metadata = &value["list"][0]["metadata"];
        assert_eq!(*metadata, json!({"name": "a", "labels": {"a": "b"}}));
        let mut value = json!({"list": [{"metadata": null}]});
        schema.coerce_embedded(&mut value).unwrap();
        assert_eq!(value, json!({"list": [{"metadata": {}}]}));
        for (wrong, expected) in [
            (
                json!({"metadata": {"labels": 5}}),
                "list[0].metadata: Invalid value: {\"labels\":5}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type map[string]string",
            ),
            (
                json!({"kind": 5}),
                "list[0].kind: Invalid value: 5: must be a string",
            ),
        ] {
            let error = schema.coerce_embedded(&mut json!({"list": [wrong]}));
            assert_eq!(error.unwrap_err().to_string(), expected);
        }
    }
}
