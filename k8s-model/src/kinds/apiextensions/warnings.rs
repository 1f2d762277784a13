//! Advice on schemas: what is taken, and does not do what it seems to.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionSpec, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::expressions::within;
use crate::{kinds::checks, structural::is_format};

/// What there is to say of all versions, each once.
pub(super) fn of(spec: &CustomResourceDefinitionSpec) -> Vec<String> {
    let (mut formats, mut sets) = (Vec::new(), BTreeSet::new());
    for version in &spec.versions {
        let schema = version.schema.as_ref();
        let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(schema) = schema {
            gather(schema, &mut formats, &mut sets);
        }
    }
    formats.extend(sets);
    formats
}

fn gather(props: &JSONSchemaProps, formats: &mut Vec<String>, sets: &mut BTreeSet<String>) {
    let format = checks::text(&props.format);
    if !format.is_empty() && !is_format(checks::text(&props.type_), format) {
        let warning = format!("unrecognized format {format:?}");
        if !formats.contains(&warning) {
            formats.push(warning);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &props.items
        && props.x_kubernetes_list_type.as_deref() == Some("set")
        && let of @ ("object" | "array") = checks::text(&items.type_)
    {
        sets.insert(format!(
            "x-kubernetes-list-type: set for items of type {of:?} is not supported by server-side apply or CEL validation rules"
        ));
    }
    within(props, &mut |inner| gather(inner, formats, sets));
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn formats_that_nobody_knows_and_sets_of_objects_are_told_of() {
        let schema = json!({"type": "object", "format": "shape", "properties": {
            "a": {"type": "string", "format": "date-time"},
            "b": {"type": "string", "format": "int-or-string"},
            "c": {"type": "integer", "format": "int32"},
            "d": {"type": "integer", "format": "uint8"},
            "e": {"anyOf": [{"format": "k8s-short-name"}, {"format": "colour"}]},
            "f": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "x-kubernetes-map-type": "atomic"}},
            "g": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "format": "colour"}},
        }});
        let spec = from_value(
            json!({"group": "example.com", "names": {"plural": "a", "kind": "A"}, "scope": "Cluster",
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}),
        );
        assert_eq!(
            of(&spec.unwrap()),
            [
                "unrecognized format \"shape\"",
                "unrecognized format \"int-or-string\"",
                "unrecognized format \"uint8\"",
                "unrecognized format \"colour\"",
                "x-kubernetes-list-type: set for items of type \"object\" is not supported by server-side apply or CEL validation rules",
            ]
        );
    }
}
